/** When a container that has ended is started again, and how long after. */
import type { DesiredPod } from '../../api/contract/pods.ts';

type Policy = Pick<DesiredPod['spec'], 'restartPolicy' | 'maxRestarts'>;

/** @param restarts that there were in this run */
export function isStartedAgain({ restartPolicy, maxRestarts }: Policy, hasFailed: boolean, restarts: number): boolean {
  if (restartPolicy === 'never' || (restartPolicy === 'on_failure' && !hasFailed)) return false;
  return maxRestarts === null || restarts < maxRestarts;
}

const FIRST_DELAY_MS = 1_000;
const LONGEST_DELAY_MS = 300_000;
/** What ran for so long ran well: the next delay is the first again. */
export const GOOD_RUN_MS = 600_000;

/** Doubled each time, so that what cannot run costs nothing much. */
export function restartDelayMs(inARow: number): number {
  return Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(inARow, 20));
}
