/** Processor time of a process, which other programs on the machine stretch far less than its wall time. */
import { readFileSync } from 'node:fs';

/** The kernel's unit (USER_HZ), the same on every platform that Node runs on. */
const MS_PER_TICK = 10;

/** User and system time in milliseconds: of the process, and of its children that have ended (proc(5)). */
export function readProcessorMs(pid: number | 'self'): { own: number; children: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [user = 0, system = 0, childrenUser = 0, childrenSystem = 0] = fields.slice(11, 15).map(Number);
  return { own: (user + system) * MS_PER_TICK, children: (childrenUser + childrenSystem) * MS_PER_TICK };
}
