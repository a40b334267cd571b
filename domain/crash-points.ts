/**
 * The named places at which a process may die while it buys, copies, moves or destroys. Code marks each with `crashPoint(name)`; the crash
 * matrix iterates over this list, so a step that is added here is tested, and a mark that is not listed does not compile.
 */
export const CRASH_POINTS = [
  // worker, provision
  'operation_claimed',
  'attempts_committed',
  'engine_starting',
  'engine_finished',
  'purchase_applied',
  'wait_recorded',
  'instance_ready_applied',
  'losers_marked',
  // worker, hand-over of what a serverless request claimed
  'warm_claimed',
  'warm_entered',
  'warm_handed_over',
  'warm_given_up',
  // worker, hibernation and the way back
  'hibernate_claimed',
  'snapshot_ordered',
  'hibernate_released',
  'hibernate_applied',
  'restore_ordered',
  'restore_given_up',
  'restore_applied',
  // worker, snapshots
  'snapshot_taken',
  'snapshot_verified',
  'snapshot_removed',
  // worker, failover
  'failover_fenced',
  'failover_promoted',
  'failover_released',
  'failover_provisioned',
  'failover_switched',
  'failover_destroy_accepted',
  // operation child and dynamic provider, create
  'create_entered',
  'candidate_assigned',
  'purchase_sending',
  'purchase_answered',
  'purchase_read_back',
  'ssh_keys_attached',
  // worker and dynamic provider, destroy
  'destroy_claimed',
  'delete_entered',
  'delete_sending',
  'delete_answered',
  'delete_verified',
  'destroy_applied',
  'stack_removed',
  // worker, stacks of cloud resources
  'stack_updated',
  'stack_emptied',
] as const;
export type CrashPointName = (typeof CRASH_POINTS)[number];

/** Does nothing in production; the crash matrix gives one that kills a process here. */
export type CrashPoint = (name: CrashPointName) => void;
export const noCrash: CrashPoint = () => {};
