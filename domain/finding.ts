/** A finding as people meet it: what may be done about it, and what its machine has cost. How findings come about is reconcile.ts's. */
import { accrue, type MicroUsd } from './money.ts';
import { totalCost, type UsageInterval } from './usage.ts';

export const FINDING_STATUSES = ['open', 'resolving', 'resolved', 'ignored'] as const;
export type FindingStatus = (typeof FINDING_STATUSES)[number];

/** Of stacks; those of machines are reconcile's (reconcile.ts). */
export const STACK_FINDING_CLASSES = ['drift', 'price_drift'] as const;
export type StackFindingClass = (typeof STACK_FINDING_CLASSES)[number];

export const FINDING_ACTIONS = ['destroy', 'adopt', 'repair', 'ignore'] as const;
export type FindingAction = (typeof FINDING_ACTIONS)[number];

/**
 * Only a machine with our signed label and no row of its own is ours to destroy. Only an orphan can be adopted: a duplicate shares
 * its label with a machine that is wanted, and what is destroyed by a label goes as a whole. What is ignored may still be ended. Drift is
 * repaired by an up of its stack; a price that has moved can only be known.
 */
export function allowedFindingActions(finding: {
  class: string;
  status: FindingStatus;
  /** Whether it names a machine by id and label. */
  hasMachine: boolean;
  priceMicroUsdPerHour: MicroUsd | null;
}): FindingAction[] {
  if (finding.status !== 'open' && finding.status !== 'ignored') return [];
  const isOurs = finding.hasMachine && (finding.class === 'orphan' || finding.class === 'duplicate');
  const actions: FindingAction[] = [];
  if (isOurs) actions.push('destroy');
  // Without a price the caps could not be checked.
  if (isOurs && finding.class === 'orphan' && finding.priceMicroUsdPerHour !== null) actions.push('adopt');
  if (finding.class === 'drift') actions.push('repair');
  if (finding.status === 'open') actions.push('ignore');
  return actions;
}

export interface FindingCost {
  class: string;
  priceMicroUsdPerHour: MicroUsd | null;
  firstSeenAt: number;
  /** null: not over. An ignored finding is not over: its machine bills on. */
  endedAt: number | null;
  /** Of the finding's own attempt, where a row accounts for the machine. */
  usage: readonly UsageInterval[];
  now: number;
}

/**
 * What the machine of a finding has cost: as far as usage of its attempt accounts for it, and since it was first seen where none does
 * (an orphan, a duplicate; what it cost before nobody saw). Where neither price nor purchase is known: 0.
 */
export function accrueFinding(cost: FindingCost): MicroUsd {
  const isUnaccounted = cost.class === 'orphan' || cost.class === 'duplicate';
  const seen = isUnaccounted
    ? accrue(cost.priceMicroUsdPerHour ?? 0n, (cost.endedAt ?? cost.now) - cost.firstSeenAt)
    : 0n;
  // A duplicate's attempt pays for the other machine with its label.
  return cost.class === 'duplicate' ? seen : seen + totalCost(cost.usage, cost.now);
}
