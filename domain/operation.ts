/**
 * An operation: a durable unit of work. It is accepted in one transaction, runs in steps under a numbered claim, and may wait
 * between steps without holding a worker.
 *
 *   queued     accepted, never claimed → running | canceled
 *   running    claimed at least once: a step runs (lease held) or it waits (waitUntil set, no lease) → succeeded | failed | canceled
 *   succeeded, failed, canceled   the end
 */
export const OPERATION_STATUSES = ['queued', 'running', 'succeeded', 'failed', 'canceled'] as const;
export type OperationStatus = (typeof OPERATION_STATUSES)[number];

export const OPERATION_KINDS = [
  'provision_instance',
  'destroy_instance',
  'destroy_machine',
  'adopt_machine',
  'change_bid',
  'hibernate_instance',
  'wake_instance',
  'refresh_offers',
  'preview_stack',
  'up_stack',
  'refresh_stack',
  'destroy_stack',
  'check_stack_drift',
  'forget_dry_run',
  'register_cluster',
  'stop_cluster',
  'start_cluster',
  'take_snapshot',
  'verify_snapshot',
  'restore_workspace',
  'delete_snapshot',
  'fail_over',
  'run_drill',
] as const;
export type OperationKind = (typeof OPERATION_KINDS)[number];

export function isFinished(status: OperationStatus): boolean {
  return status === 'succeeded' || status === 'failed' || status === 'canceled';
}

/**
 * Which kinds a person may cancel. The destroy of a rented machine is never canceled: it is retried until the provider says not-found.
 * A stack's may be: what is left stays in its state, to be seen and decided upon. A hibernation goes on once it has begun to destroy.
 */
export function isCancelable(kind: OperationKind): boolean {
  return CANCELABLE.includes(kind) || isStackOperation(kind);
}

const CANCELABLE: readonly OperationKind[] = [
  'provision_instance',
  'hibernate_instance',
  'wake_instance',
  'take_snapshot',
  'verify_snapshot',
  'run_drill',
];

/** The target is a stack that people made. */
export function isStackOperation(kind: OperationKind): boolean {
  return kind.endsWith('_stack') || kind === 'check_stack_drift';
}

/** The whole of a cluster, by its cloud: no update of its stack may run beside it. */
export function isPowerOperation(kind: OperationKind): boolean {
  return kind === 'stop_cluster' || kind === 'start_cluster';
}

export const LEASE_MS = 10_000;
export const LEASE_RENEW_MS = 3_000;
