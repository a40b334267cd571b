/** Candidates: which offer an attempt tries now. Assigned under the claim and recorded before the child may use it. */
import { isWanted } from '../../domain/attempt.ts';
import { purchasePrice } from '../../domain/bid.ts';
import { specOf, type ProvisionRequest } from '../../domain/provision-request.ts';
import { nextCandidates } from '../../domain/provisioning/plan.ts';
import { offerKey } from '../../domain/provisioning/match.ts';
import type { PlanInput } from '../../domain/provisioning/planner.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { countPurchaseCall, findAttemptByLabel, recordRefusal, type AttemptRow } from '../../db/attempts.ts';
import type { WakeHold } from '../../db/accept-wake.ts';
import { claimProbe } from '../../db/circuits.ts';
import type { Executor } from '../../db/database.ts';
import { readMarket } from '../../db/market.ts';
import { hideOffer, reserveOffer } from '../../db/offers.ts';
import { withClaim } from '../../db/operations.ts';
import type { InstanceRow } from '../../db/instances.ts';
import { listBelievably } from '../readiness/list-instances.ts';
import type { Questions } from '../engine/protocol.ts';
import type { StackView } from './run-update.ts';
import { listedProvider, type StepContext } from './step.ts';

/** Everything the planner looks at, read now; null where the operation has no instance any more. */
export async function readPlanInput(
  context: StepContext,
  executor: Executor,
  operationId: string,
  instances: InstanceRow[],
  attempts: AttemptRow[],
): Promise<PlanInput | null> {
  // An instance that was given another machine belongs to the operation that finds it.
  const own = instances.filter((row) => row.operation_id === operationId);
  const ids = new Set(own.map((row) => row.id));
  const [first] = own;
  if (!first) return null;
  const request = { ...(first.request as ProvisionRequest), ...holdOf(context) };
  const market = await readMarket(executor, request, context.enabledProviders);
  return {
    spec: specOf(request),
    instances: own.map((row) => ({
      id: row.id,
      status: row.status,
      winnerAttemptId: row.winner_attempt_id,
      since: row.replaced_at?.getTime() ?? null,
    })),
    attempts: attempts.filter((attempt) => ids.has(attempt.instance_id)).map(plannedAttempt),
    ...market,
    seed: request.planSeed ?? operationId,
    requestedAt: (first.replaced_at ?? first.created_at).getTime(),
    now: context.now().getTime(),
  };
}

/** Of a wake that is held to its plan: for this purchase alone, the next one goes by the instance's own request again. */
function holdOf({ operation }: StepContext): Partial<WakeHold> {
  return operation.kind === 'wake_instance' ? ((operation.input as { hold?: WakeHold }).hold ?? {}) : {};
}

function plannedAttempt(row: AttemptRow): PlanInput['attempts'][number] {
  return {
    id: row.id,
    instanceId: row.instance_id,
    status: row.status,
    provider: row.provider as ProviderName,
    providerOfferId: row.provider_offer_id,
    machineId: row.machine_id,
    priceMicroUsdPerHour: row.price_micro_usd_per_hour,
    bidMicroUsdPerHour: row.bid_micro_usd_per_hour,
    purchasedAt: row.purchased_at?.getTime() ?? null,
    readyAt: row.ready_at?.getTime() ?? null,
    bootDeadline: row.boot_deadline?.getTime() ?? null,
    createdAt: row.created_at.getTime(),
    failureCode: row.failure_code,
    failureDetail: row.failure_detail,
  };
}

/** Answers a child: the same candidate until it is refused, then the next one that nobody else holds. */
export async function assignCandidate(
  context: StepContext,
  view: StackView,
  question: Questions['nextCandidate']['ask'],
): Promise<Questions['nextCandidate']['answer']> {
  await assertNotBoughtBefore(context, view, question.label);
  return withClaim(context.db, context.claim, async (tx) => {
    const attempt = await findAttemptByLabel(tx, question.label);
    if (!attempt) throw new Error(`no attempt has the label ${question.label}`);
    if (!isWanted(attempt.status)) return null; // a rival was ready before this was sent
    if (!(await claimProbe(tx, attempt.provider, attempt.id)))
      throw new ProviderError(
        'rate_limited',
        `nothing is bought from ${attempt.provider} now: its purchases failed lately`,
      );
    const isAlreadyRecorded = attempt.provider_offer_id !== question.refused?.providerOfferId;
    if (question.refused === null || isAlreadyRecorded) {
      await countPurchaseCall(tx, attempt.id);
      return candidateOf(attempt);
    }
    await hideOffer(tx, attempt.provider, question.refused.providerOfferId);
    const input = await readPlanInput(context, tx, context.operation.id, view.instances, view.attempts);
    const tried = new Set(
      [...attempt.refusals, question.refused].map((one) =>
        offerKey({ ...one, provider: attempt.provider as ProviderName }),
      ),
    );
    if (!input) return null;
    for (const offer of nextCandidates(input, attempt.id, tried)) {
      if (offer.provider !== attempt.provider || !(await reserveOffer(tx, offer, attempt.id))) continue;
      const price = purchasePrice(offer, {
        ...input.spec.requirements,
        bidMicroUsdPerHour: attempt.bid_micro_usd_per_hour,
      });
      await recordRefusal(tx, attempt, question.refused.reason, { offer, priceMicroUsdPerHour: price });
      await countPurchaseCall(tx, attempt.id);
      return {
        providerOfferId: offer.providerOfferId,
        machineId: offer.machineId,
        priceMicroUsdPerHour: price.toString(),
      };
    }
    await recordRefusal(tx, attempt, question.refused.reason, null);
    return null;
  });
}

/**
 * An earlier run may have bought for this label, and the child's own look-up found nothing: that counts only while the provider's
 * whole listing is believed and does not show the label either. A list that lies must not make us buy twice.
 */
async function assertNotBoughtBefore(context: StepContext, view: StackView, label: string): Promise<void> {
  const attempt = view.attempts.find((one) => one.label === label);
  if (!attempt || attempt.engine_runs <= 1) return;
  const provider = attempt.provider as ProviderName;
  const listing = await listBelievably(listedProvider(context, provider), context.cancel);
  if (listing === null)
    throw new ProviderError(
      'unknown',
      `${provider}'s listing is not believed: nothing is bought a second time for ${label}`,
    );
  if (listing.observed.some((instance) => instance.label === label)) {
    throw new ProviderError('unknown', `a machine with label ${label} exists: the next run adopts it`);
  }
}

function candidateOf(attempt: AttemptRow): Questions['nextCandidate']['answer'] {
  if (attempt.provider_offer_id === null) return null;
  return {
    providerOfferId: attempt.provider_offer_id,
    machineId: attempt.machine_id,
    priceMicroUsdPerHour: (attempt.price_micro_usd_per_hour ?? 0n).toString(),
  };
}
