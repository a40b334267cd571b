/**
 * An instance: what the user asked for and gets. It points to its winning attempt; what is rented, where and at what price
 * stands on the attempts (attempt.ts).
 *
 * States, how each is entered and left:
 *   requested   accepted, nothing bought → creating (candidate reserved) | destroying
 *   creating    a purchase may be under way → booting (bought) | requested (every candidate refused, nothing bought) | destroying
 *   booting     a machine is ours and starting → ready (running, SSH answers, promised GPUs) | creating (next candidate) | destroying | lost
 *   ready       usable → hibernating | creating (its machine was taken away or died, another is bought) | destroying | lost
 *   hibernating a snapshot is taken and verified, then its machine is destroyed → hibernated (not-found) | ready (nothing was destroyed) | destroying | lost
 *   hibernated  nothing is rented, its snapshot stays → waking | destroying
 *   waking      a machine is bought, booted and restored → ready | hibernated (none could be had or restored) | destroying
 *   lost        the provider says not-found though nobody destroyed it → destroying (lost hardware may still bill)
 *   destroying  accrues and is retried for ever → destroyed (the provider said not-found for every attempt)
 *   destroyed   the end
 */
export const INSTANCE_STATUSES = [
  'requested',
  'creating',
  'booting',
  'ready',
  'hibernating',
  'hibernated',
  'waking',
  'lost',
  'destroying',
  'destroyed',
] as const;
export type InstanceStatus = (typeof INSTANCE_STATUSES)[number];

export const INSTANCE_NEXT: Record<InstanceStatus, readonly InstanceStatus[]> = {
  requested: ['creating', 'destroying'],
  creating: ['booting', 'requested', 'destroying'],
  booting: ['ready', 'creating', 'requested', 'destroying', 'lost'],
  ready: ['hibernating', 'creating', 'destroying', 'lost'],
  hibernating: ['hibernated', 'ready', 'destroying', 'lost'],
  hibernated: ['waking', 'destroying'],
  waking: ['ready', 'hibernated', 'destroying'],
  lost: ['destroying'],
  destroying: ['destroyed'],
  destroyed: [],
};

export const PHASES = [
  'queued',
  'purchasing',
  'starting',
  'installing',
  'waiting_registration',
  'verifying',
  // Its machine is as promised and gets the files of its last one.
  'restoring',
  'active',
  'snapshotting',
  // Copied and verified: its machine is destroyed, until the provider says not-found.
  'releasing',
  'asleep',
] as const;
export type Phase = (typeof PHASES)[number];

export const INSTANCE_ACTIONS = ['destroy', 'ssh', 'extend', 'hibernate', 'wake', 'failover'] as const;
export type InstanceAction = (typeof INSTANCE_ACTIONS)[number];

const ACTION_FROM: Record<InstanceAction, readonly InstanceStatus[]> = {
  destroy: ['requested', 'creating', 'booting', 'ready', 'hibernating', 'hibernated', 'waking', 'lost'],
  ssh: ['ready'],
  extend: ['requested', 'creating', 'booting', 'ready', 'hibernating', 'waking'],
  hibernate: ['ready'],
  wake: ['hibernated'],
  failover: ['ready'],
};

/** What else decides, beside its status. */
export interface ActionCircumstances {
  /** Only with a workspace anything of it is kept. */
  hasWorkspace: boolean;
  /** The pool decides what it keeps. */
  isWarmInPool: boolean;
  /** The snapshot that it would wake with. */
  hasRestorePoint: boolean;
  /** It is being failed over: to fail it back is the standby's action. */
  isFailingOver: boolean;
}

/** What may be done to an instance in `status`; the API returns it, so that no client derives it again. @param known absent: nothing is in the way */
export function allowedActions(status: InstanceStatus, known?: ActionCircumstances): InstanceAction[] {
  return INSTANCE_ACTIONS.filter(
    (action) => ACTION_FROM[action].includes(status) && (known === undefined || isOpen(action, known)),
  );
}

function isOpen(action: InstanceAction, known: ActionCircumstances): boolean {
  if (action === 'hibernate') return known.hasWorkspace && !known.isWarmInPool && !known.isFailingOver;
  if (action === 'wake') return known.hasRestorePoint;
  if (action === 'failover') return !known.isFailingOver;
  return true;
}

/** Whether an instance in this status counts against caps and burn: everything until it is proven gone. */
export function isLive(status: InstanceStatus): boolean {
  return status !== 'destroyed';
}

/** Whether a machine is bought for it now; a waking one is waking until it has its files back. */
export function isProvisioning(status: InstanceStatus): boolean {
  return status === 'requested' || status === 'creating' || status === 'booting' || status === 'waking';
}
