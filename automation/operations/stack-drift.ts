/** What looking at a stack's clouds comes to: drift and moved prices, kept on the stack and as findings. What looks is stack-update.ts's. */
import {
  describeDrift,
  describePriceDrift,
  driftAfterUp,
  mergeDrift,
  type Drift,
  type RecordedDrift,
} from '../../domain/stack.ts';
import { priceState } from '../../domain/prices/state-price.ts';
import { acceptDriftRepair } from '../../db/accept-drift-repair.ts';
import { SYSTEM } from '../../db/audit.ts';
import type { Tx } from '../../db/database.ts';
import { reopenFindingsOf, resolveStackFindings, sightFinding, type FindingRow } from '../../db/findings.ts';
import { findOperation } from '../../db/operations.ts';
import { findStack, saveDrift, type StackRow } from '../../db/stacks.ts';
import type { UpdateOutcome } from '../engine/stack-runner.ts';
import { record } from './stack-run.ts';
import type { StepContext } from './step.ts';

/**
 * After a look: records what it found, and asks for the repair where the stack says so and nobody said that it may stay as it is.
 * @returns all that is known of, also what an earlier refresh took into the state
 */
export async function judgeDrift(
  context: StepContext,
  stack: StackRow,
  outcome: UpdateOutcome,
): Promise<RecordedDrift[]> {
  let drift: RecordedDrift[] = [];
  await record(context, async (tx) => {
    const [known, finding] = await recordDrift(tx, stack, outcome.drift, false);
    drift = known;
    await recordPriceDrift(tx, stack, outcome);
    if (finding?.status !== 'open' || stack.on_drift !== 'repair') return;
    const order = { finding, stack, actor: SYSTEM, reason: finding.detail, follows: context.operation.id };
    await acceptDriftRepair(tx, context.queue, order);
  });
  return drift;
}

/** After a refresh that ended well: what it found the state knows from now on. */
export async function recordRefresh(tx: Tx, stack: StackRow, outcome: UpdateOutcome): Promise<void> {
  await recordDrift(tx, stack, outcome.drift, true);
}

/** After an up that ended well. */
export async function healDrift(tx: Tx, stack: StackRow, isRefreshedFirst: boolean): Promise<void> {
  const known = (await findStack(tx, null, stack.id))?.drift;
  if (!known) return;
  const left = driftAfterUp(known, isRefreshedFirst);
  await saveDrift(tx, stack.id, left, false);
  if (left.length === 0) await resolveStackFindings(tx, stack.id, ['drift'], 'repaired');
}

export async function endFindings(tx: Tx, stackId: string): Promise<void> {
  await resolveStackFindings(tx, stackId, ['drift', 'price_drift'], 'destroyed');
}

async function recordDrift(
  tx: Tx,
  stack: StackRow,
  found: readonly Drift[],
  isRefresh: boolean,
): Promise<[RecordedDrift[], FindingRow | undefined]> {
  const known = (await findStack(tx, null, stack.id))?.drift ?? [];
  const drift = mergeDrift(known, found, isRefresh);
  await saveDrift(tx, stack.id, drift, true);
  if (drift.length === 0) {
    await resolveStackFindings(tx, stack.id, ['drift'], 'unseen');
    return [drift, undefined];
  }
  const finding = await sight(tx, stack, 'drift', describeDrift(drift), null);
  return [drift, finding && (await reopenAbandoned(tx, finding))];
}

/** What the state has, by the prices of now. What an outside hand has made dearer is priced once a refresh has told the state. */
async function recordPriceDrift(tx: Tx, stack: StackRow, { state }: UpdateOutcome): Promise<void> {
  const recorded = stack.price_micro_usd_per_hour;
  if (state === null || recorded === null) return;
  const { priceMicroUsdPerHour: now } = priceState(stack.config, state);
  const detail = describePriceDrift(recorded, now, stack.ceiling_micro_usd_per_hour);
  if (detail === null) await resolveStackFindings(tx, stack.id, ['price_drift'], 'unseen');
  else await sight(tx, stack, 'price_drift', detail, now);
}

function sight(
  tx: Tx,
  stack: StackRow,
  findingClass: 'drift' | 'price_drift',
  detail: string,
  price: bigint | null,
): Promise<FindingRow | undefined> {
  return sightFinding(tx, {
    orgId: stack.org_id,
    class: findingClass,
    provider: null,
    providerInstanceId: null,
    attemptId: null,
    instanceId: null,
    stackId: stack.id,
    label: null,
    detail: `${stack.title}: ${detail}`.slice(0, 4000),
    priceMicroUsdPerHour: price,
  });
}

/** A repair that was canceled before it began has told nobody. */
async function reopenAbandoned(tx: Tx, finding: FindingRow): Promise<FindingRow> {
  if (finding.status !== 'resolving' || finding.operation_id === null) return finding;
  const repair = await findOperation(tx, null, finding.operation_id);
  if (repair?.finished_at == null) return finding;
  await reopenFindingsOf(tx, repair.id);
  return { ...finding, status: 'open' };
}
