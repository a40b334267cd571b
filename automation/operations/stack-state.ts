/** What an update left of its stack, onto the stack's row: outputs, and what it costs by the prices of now. */
import { priceState } from '../../domain/prices/state-price.ts';
import { resolveStackFindings } from '../../db/findings.ts';
import type { Tx } from '../../db/database.ts';
import { saveStackState, type StackRow } from '../../db/stacks.ts';
import type { UpdateOutcome } from '../engine/stack-runner.ts';

/** After an update, whatever its end was. What it costs is recorded anew, so that a price that had moved is no news any more. */
export async function saveState(tx: Tx, stack: StackRow, outcome: UpdateOutcome): Promise<void> {
  await saveStackState(tx, stack.id, {
    ...(outcome.update === 'up' && outcome.isOk ? { outputs: outcome.outputs } : {}),
    ...priceState(stack.config, outcome.state),
  });
  await resolveStackFindings(tx, stack.id, ['price_drift'], 'unseen');
}
