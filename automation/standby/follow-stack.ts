/** A standby follows the stack that makes its machine: what happens to the stack is told to its standby in the same transaction. */
import { isTakingOver, type StandbyStackConfig } from '../../domain/standby.ts';
import type { Tx } from '../../db/database.ts';
import { changeStandby, findStandbyOfStack, retireStandbyNode, type StandbyRow } from '../../db/standbys.ts';
import type { StackRow } from '../../db/stacks.ts';
import type { StackNews } from '../clusters/follow-stack.ts';

/** Nothing for a stack that makes no standby. Idempotent. */
export async function followStandbyStack(tx: Tx, stack: StackRow, news: StackNews): Promise<void> {
  if (stack.kind !== 'standby') return;
  const standby = await findStandbyOfStack(tx, stack.id);
  if (!standby || standby.status === 'destroyed') return;
  const { status, failure = null } = news;
  switch (status) {
    case 'up':
      return follow(tx, stack, standby, news);
    case 'destroying':
      return changeStandby(tx, standby.id, { status: 'destroying', failure: null });
    case 'destroyed':
      await retireStandbyNode(tx, standby.id);
      return changeStandby(tx, standby.id, { status: 'destroyed', failure: null });
    default:
      if (failure === null) return;
      // What was there before an update that failed is there still, as far as anybody knows; a takeover asks for itself.
      return changeStandby(tx, standby.id, {
        ...(standby.status === 'creating' || standby.status === 'destroying' ? { status: 'failed' as const } : {}),
        failure,
      });
  }
}

function follow(tx: Tx, stack: StackRow, standby: StandbyRow, { outputs = {} }: StackNews): Promise<void> {
  const { state = 'stopped' } = stack.config as StandbyStackConfig;
  const address = [outputs['publicAddress'], outputs['privateAddress']].find(
    (one) => typeof one === 'string' && one !== '',
  );
  return changeStandby(tx, standby.id, {
    ...(isTakingOver(standby.status) ? {} : { status: state }),
    address: typeof address === 'string' ? address : null,
    failure: null,
  });
}
