/**
 * A changed configuration of a standby's stack is what the standby is declared to be at rest: both are recorded together, so that a failover
 * brings it back to what its stack says.
 */
import type { FieldError } from '../domain/error-table.ts';
import { MusterError } from '../domain/error-table.ts';
import { isTakingOver, restConfig, withRunGuard, type StandbyStackConfig } from '../domain/standby.ts';
import type { Tx } from '../db/database.ts';
import type { StackRow } from '../db/stacks.ts';
import { declareStandby, findStandbyOfStack, lockStandby, type StandbyRow } from '../db/standbys.ts';

/** Before the stack's row is: takeovers lock in this order. null: the stack makes none, or it is gone. */
export async function lockStandbyOfStack(tx: Tx, stackId: string): Promise<StandbyRow | null> {
  const seen = await findStandbyOfStack(tx, stackId);
  const standby = seen && (await lockStandby(tx, seen.id));
  return standby && standby.removed_at === null ? standby : null;
}

/**
 * @param change `given` is what was sent, `wanted` the same with its defaults
 * @returns what the stack's configuration becomes: what is wanted, with the guard of a stopped one, in the zone where it is now. Throws
 * MusterError `conflict` while the standby takes over, and `invalid_request` for what is not the stack's to say.
 */
export async function changeStandbyConfig(
  tx: Tx,
  standby: StandbyRow,
  stack: StackRow,
  change: { wanted: unknown; given: Record<string, unknown> },
): Promise<StandbyStackConfig> {
  const wanted = change.wanted as StandbyStackConfig;
  const { given } = change;
  if (isTakingOver(standby.status)) {
    throw new MusterError('conflict', `${standby.name} is ${standby.status}: its stack is changed when it is at rest`, {
      facts: { state: standby.status, standbyId: standby.id },
    });
  }
  const present = stack.config as StandbyStackConfig;
  const errors: FieldError[] = [];
  if (wanted['agent'] !== true) errors.push({ path: 'config.agent', message: 'must be true: a standby has an agent' });
  if (given['runIn'] !== undefined && given['runIn'] !== (present.runIn ?? 'zone'))
    errors.push({ path: 'config.runIn', message: 'is changed by a failover' });
  if (errors.length > 0)
    throw new MusterError('invalid_request', 'the configuration of this standby is wrong', { errors });
  const { runIn: _where, ...declared } = wanted;
  const guarded = withRunGuard(declared);
  await declareStandby(tx, standby.id, guarded);
  return restConfig(guarded, present);
}
