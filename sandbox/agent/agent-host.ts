/**
 * The process that the agents of all simulated machines run in: each is the whole agent, the file that a machine would have downloaded,
 * in a thread of its own with an environment of its own. That takes 11 MB where a process takes 55. Started by agent-runner.ts, and
 * leaves with it.
 */
import { Worker } from 'node:worker_threads';

/** What the runner says. */
export type HostOrder =
  { kind: 'start'; key: string; program: string; env: Record<string, string> } | { kind: 'stop'; key: string };

/** What the host answers: the agent of `key` has ended by itself. */
export interface HostReport {
  ended: string;
}

const LIMITS = { maxOldGenerationSizeMb: 24, maxYoungGenerationSizeMb: 2 };

const threads = new Map<string, Worker>();

process.on('message', (order: HostOrder) => {
  void threads.get(order.key)?.terminate(); // a machine that is switched off says no goodbye
  threads.delete(order.key);
  if (order.kind === 'start') start(order);
});
process.on('disconnect', () => process.exit(0));

function start({ key, program, env }: Extract<HostOrder, { kind: 'start' }>): void {
  const thread = new Worker(program, { env, resourceLimits: LIMITS, stdout: true, stderr: true });
  threads.set(key, thread);
  const end = () => {
    if (threads.get(key) !== thread) return;
    threads.delete(key);
    process.send?.({ ended: key } satisfies HostReport);
  };
  thread.on('error', end);
  thread.on('exit', end);
}
