/** Leaving a node: what becomes of its pods when it is lost for good, and when a person drains it. */
import type { NodeLossPolicy, PodDesiredState, PodStatus } from './pod.ts';

export interface PodOnNode {
  id: string;
  status: PodStatus;
  desired: PodDesiredState;
  onNodeLost: NodeLossPolicy;
  /** It may run on that node only. */
  isPinned: boolean;
}

/**
 *   removed   it was to be deleted: nothing is left to wait for
 *   stopped   it was to be stopped, which it is now
 *   pending   it is placed anew, as another run
 *   lost      it stays so until a person starts it
 *   kept      it had ended by itself: its result stands
 */
export type LossOutcome = { podId: string; outcome: 'removed' | 'stopped' | 'pending' | 'lost' | 'kept' };

/** Its machine is gone, or fenced and given up. Each pod once, whatever was under way with it. */
export function planLoss(pods: readonly PodOnNode[]): LossOutcome[] {
  return pods.map((pod) => ({ podId: pod.id, outcome: outcomeOfLoss(pod) }));
}

function outcomeOfLoss({ status, desired, onNodeLost, isPinned }: PodOnNode): LossOutcome['outcome'] {
  if (desired === 'removed') return 'removed';
  if (desired === 'stopped') return 'stopped';
  if (status === 'exited' || status === 'failed') return 'kept';
  return onNodeLost === 'reschedule' && !isPinned ? 'pending' : 'lost';
}

/**
 *   move      it ends there, and only when its agent says so is it placed elsewhere: never in two places at once
 *   stop      it ends there and stays stopped
 *   none      it does not run there, or is on its way out already
 */
export type DrainAction = { podId: string; action: 'move' | 'stop' | 'none' };

export function planDrain(pods: readonly PodOnNode[]): DrainAction[] {
  return pods.map((pod) => ({ podId: pod.id, action: actionOfDrain(pod) }));
}

function actionOfDrain({ status, desired, onNodeLost, isPinned }: PodOnNode): DrainAction['action'] {
  if (desired === 'removed' || status === 'removed' || status === 'lost') return 'none';
  if (desired === 'stopped' || status === 'exited' || status === 'failed') return 'none';
  return onNodeLost === 'reschedule' && !isPinned ? 'move' : 'stop';
}
