/** What a stack that people made holds, onto its row: how many resources, and their cost by the prices of now. The state itself is state-stacks.ts's. */
import { sql } from 'kysely';
import { priceState } from '../domain/prices/state-price.ts';
import type { StackState } from '../domain/state/stack-state.ts';
import type { Tx } from './database.ts';
import { resolveStackFindings } from './findings.ts';

/**
 * Whoever wrote the state: an operation of ours, a person's CLI, an import. A cluster that is stopped is priced as one. What it costs is recorded
 * anew, so that a price that had moved is no news any more. Nothing for a stack that no person made. Idempotent.
 * @param stackName the engine's name of it @param state null: it holds nothing
 */
export async function saveHoldings(
  tx: Tx,
  stackName: string,
  state: Pick<StackState, 'resources'> | null,
): Promise<void> {
  const stack = await tx
    .selectFrom('stacks')
    .leftJoin('clusters', 'clusters.stack_id', 'stacks.id')
    .select(['stacks.id', 'stacks.config', 'clusters.status as cluster_status'])
    .where('stacks.name', '=', stackName)
    .where('stacks.title', 'is not', null)
    .executeTakeFirst();
  if (!stack) return;
  const { resources, priceMicroUsdPerHour, unpriced } = priceState(
    stack.config,
    state,
    stack.cluster_status === 'stopped',
  );
  await tx
    .updateTable('stacks')
    .set({
      // Only their number is kept: what it holds is its state's to say.
      resource_count: resources.length,
      price_micro_usd_per_hour: priceMicroUsdPerHour,
      unpriced: JSON.stringify(unpriced),
      updated_at: sql<Date>`now()`,
    })
    .where('id', '=', stack.id)
    .execute();
  await resolveStackFindings(tx, stack.id, ['price_drift'], 'unseen');
}
