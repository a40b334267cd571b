/**
 * Accepting a sourced instance: an ordinary provision with the rule as its actor. The cap of everything sourced and the rule's target
 * are checked in the same transaction, behind the lock that all acceptances take.
 */
import { randomBytes } from 'node:crypto';
import { MusterError } from '../domain/error-table.ts';
import { toBase32 } from '../domain/ids.ts';
import type { ProvisionRequest } from '../domain/provision-request.ts';
import { isTowardTarget } from '../domain/sourcing.ts';
import { acceptProvision } from './accept-provision.ts';
import type { Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';
import { countLiveSourced, listSourced, lockSourcingRule, type SourcingRuleRow } from './sourcing-rules.ts';

export interface SourcingBounds {
  maxInstances: number;
  maxLifetimeMs: number;
  bootTimeoutMs: number;
}

/**
 * One instance. Throws MusterError `cap_exceeded` where the deployment's caps or MUSTER_SOURCING_MAX_INSTANCES do not allow it,
 * `conflict` where the rule is gone, switched off or has its target.
 */
export async function acceptSourced(
  tx: Tx,
  queue: Queue,
  ruleId: string,
  bounds: SourcingBounds,
): Promise<OperationRow> {
  const rule = await lockSourcingRule(tx, ruleId);
  if (!rule?.enabled) throw new MusterError('conflict', 'the rule was switched off or deleted meanwhile');
  const { operation } = await acceptProvision(tx, queue, {
    orgId: rule.org_id,
    actor: { kind: 'system', id: rule.id },
    names: [`${rule.name}-${toBase32(randomBytes(4)).slice(0, 6)}`],
    request: sourcedRequest(rule, bounds),
    consumer: rule.consumer,
    overrideReason: null,
    stackId: newId('stack'),
  });
  // From here on no other acceptance runs beside this one: acceptProvision holds the deployment's row.
  const live = await countLiveSourced(tx);
  if (live > bounds.maxInstances) {
    throw new MusterError(
      'cap_exceeded',
      `${live - 1} sourced instances are live, and at most ${bounds.maxInstances} may be (MUSTER_SOURCING_MAX_INSTANCES)`,
      { facts: { cap: 'sourcing', liveInstances: live - 1, maxInstances: bounds.maxInstances } },
    );
  }
  const sourced = (await listSourced(tx, [rule.id])).get(rule.id) ?? [];
  if (sourced.filter(({ status }) => isTowardTarget(status)).length > rule.target)
    throw new MusterError('conflict', 'the rule has its target already');
  return operation;
}

/** What the rule asks for, as a provision: one machine at a time, the next from another provider. */
export function sourcedRequest(
  rule: SourcingRuleRow,
  bounds: Pick<SourcingBounds, 'maxLifetimeMs' | 'bootTimeoutMs'>,
): ProvisionRequest {
  return {
    ...rule.wanted,
    maxPriceMicroUsdPerHour: Number(rule.max_price_micro_usd_per_hour),
    strategy: 'round_robin',
    raceWidth: 1,
    maxRaceCostMicroUsd: 0,
    envNames: [],
    envSealed: null,
    onStart: null,
    maxLifetimeMs: bounds.maxLifetimeMs,
    bootTimeoutMs: bounds.bootTimeoutMs,
  };
}
