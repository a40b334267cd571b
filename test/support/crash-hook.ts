/**
 * The crash matrix's hook, given to node by --import and inherited by operation children. Its URL carries `?dir=…`: whenever a crash
 * point is passed and `<dir>/armed.json` names it, the file is consumed and the named process is killed with SIGKILL.
 */
import { readdirSync, readFileSync, renameSync, appendFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CrashPointName } from '../../domain/crash-points.ts';
import type { Victim } from './crash-cells.ts';

export interface Armed {
  point: CrashPointName;
  victim: Victim;
  controlPid: number;
  postmasterPidFile: string;
}

const dir = new URL(import.meta.url).searchParams.get('dir') as string;

(globalThis as { musterCrashPoint?: (name: CrashPointName) => void }).musterCrashPoint = (name) => {
  let armed: Armed;
  try {
    armed = JSON.parse(readFileSync(join(dir, 'armed.json'), 'utf8')) as Armed;
    if (armed.point !== name) return;
    renameSync(join(dir, 'armed.json'), join(dir, 'fired.json'));
  } catch {
    return; // not armed, or somebody else fired
  }
  const victims = findVictims(armed);
  appendFileSync(join(dir, 'kills.log'), `${name} ${armed.victim} ${victims.join(',')}\n`);
  for (const pid of victims) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // gone already
    }
  }
};

function findVictims(armed: Armed): number[] {
  switch (armed.victim) {
    case 'control':
      return [armed.controlPid];
    case 'postgres':
      return [Number(readFileSync(armed.postmasterPidFile, 'utf8').split('\n')[0])];
    case 'child':
      return descendants(armed.controlPid).filter((pid) => commandOf(pid).includes('engine/child/main.ts'));
    case 'engine':
      return descendants(armed.controlPid).filter((pid) => /^[^ ]*\/pulumi(\0| )/.test(commandOf(pid)));
  }
}

function descendants(root: number): number[] {
  const parents = new Map<number, number>();
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) continue;
    try {
      parents.set(pid, Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[1]));
    } catch {
      // gone meanwhile
    }
  }
  const found: number[] = [];
  for (const [pid] of parents) {
    for (let at: number | undefined = pid; at && at > 1; at = parents.get(at)) {
      if (at === root && pid !== root) {
        found.push(pid);
        break;
      }
    }
  }
  return found;
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
