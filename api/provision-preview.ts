/** The preview of a provision: what a dry run answers. It reads, keeps its quotes, and buys nothing. */
import { createHash } from 'node:crypto';
import { per30Days } from '../domain/money.ts';
import { specOf } from '../domain/provision-request.ts';
import { previewPlan, type PreviewCandidate } from '../domain/provisioning/preview.ts';
import type { Quote } from '../domain/provisioning/quotes.ts';
import type { Executor } from '../db/database.ts';
import { findOfferIds } from '../db/inventory.ts';
import { readMarket } from '../db/market.ts';
import { newId } from '../db/new-id.ts';
import { savePlan } from '../db/plans.ts';
import { findWarm } from '../db/warm-instances.ts';
import type { ProvisionPlan } from './contract/instances.ts';
import type { OrderParts } from './provision-order.ts';
import { iso, micro } from './reply-values.ts';

const MIN_CANDIDATES = 20;

export async function previewOrder(
  executor: Executor,
  caller: { orgId: string; id: string },
  order: Pick<OrderParts, 'request' | 'names' | 'requestHash'>,
  notes: string[],
): Promise<ProvisionPlan> {
  const { request, names, requestHash } = order;
  const count = names.length;
  const market = await readMarket(executor, request);
  const warm = request.strategy === 'serverless' ? await findWarm(executor, caller.orgId, request, count) : [];
  // Each plan has a seed of its own, so that plans made at once do not all quote the same machine.
  const seed = newId('plan');
  const preview = previewPlan({
    spec: specOf(request),
    count: count - warm.length,
    ...market,
    seed,
    limit: Math.max(MIN_CANDIDATES, count),
    now: Date.now(),
  });
  const price = warm.reduce((sum, one) => sum + one.priceMicroUsdPerHour, preview.priceMicroUsdPerHour);
  const quotes = preview.candidates.map(quoteOf);
  const planHash = hashPlan(requestHash, seed, quotes);
  const expiresAt = await savePlan(executor, {
    planHash,
    orgId: caller.orgId,
    requestHash,
    seed,
    quotes,
    createdBy: caller.id,
  });
  const ids = await findOfferIds(
    executor,
    preview.candidates.map((candidate) => candidate.offer),
  );
  return {
    candidates: preview.candidates.map((candidate, index) =>
      candidateReply(candidate, ids, { quote: quotes[index] as Quote, expiresAt }),
    ),
    fittingOffers: preview.fittingOffers,
    fittingMachines: preview.fittingMachines,
    count,
    raceWidth: preview.effectiveRaceWidth,
    advisedRaceWidth: preview.advisedRaceWidth,
    priceMicroUsdPerHour: micro(price),
    priceMicroUsdPer30Days: micro(per30Days(price)),
    maxPriceMicroUsdPerHour: request.maxPriceMicroUsdPerHour * count,
    worstCaseRaceCostMicroUsd: micro(preview.worstCaseRaceCostMicroUsd),
    chanceOfSuccess: preview.chanceOfSuccess,
    expectedReadyMs: preview.p50ReadyMs,
    p50ReadyMs: preview.p50ReadyMs,
    p95ReadyMs: preview.p95ReadyMs,
    warm: warm.map(({ id, poolId, provider, region, priceMicroUsdPerHour }) => ({
      instanceId: id,
      poolId,
      provider,
      region,
      priceMicroUsdPerHour: micro(priceMicroUsdPerHour),
    })),
    shortage: preview.shortage,
    closedProviders: [...market.closed].map(([provider, { reason }]) => ({ provider, reason })),
    notes,
    planHash,
    expiresAt: iso(expiresAt),
  };
}

function quoteOf({ offer, priceMicroUsdPerHour, isFirstChoice }: PreviewCandidate): Quote {
  const { provider, providerOfferId, machineId } = offer;
  return { id: newId('quote'), provider, providerOfferId, machineId, priceMicroUsdPerHour, isFirstChoice };
}

/** Binds the request and every quote. */
function hashPlan(requestHash: string, seed: string, quotes: Quote[]): string {
  const quoted = quotes.map((one) => [one.id, one.provider, one.providerOfferId, String(one.priceMicroUsdPerHour)]);
  return createHash('sha256')
    .update(JSON.stringify([requestHash, seed, quoted]))
    .digest('hex');
}

function candidateReply(
  candidate: PreviewCandidate,
  ids: Map<string, string>,
  quoted: { quote: Quote; expiresAt: Date },
): ProvisionPlan['candidates'][number] {
  const { offer, outlook } = candidate;
  return {
    offerId: ids.get(`${offer.provider}/${offer.providerOfferId}`) ?? '',
    provider: offer.provider,
    providerOfferId: offer.providerOfferId,
    machineId: offer.machineId,
    gpu: offer.gpu,
    gpuCount: offer.gpuCount,
    gpuMemoryGib: offer.gpuMemoryGib,
    region: offer.region,
    reliability: offer.reliability,
    priceMicroUsdPerHour: micro(candidate.priceMicroUsdPerHour),
    priceMicroUsdPer30Days: micro(candidate.priceMicroUsdPer30Days),
    isFirstChoice: candidate.isFirstChoice,
    quote: {
      id: quoted.quote.id,
      priceMicroUsdPerHour: micro(quoted.quote.priceMicroUsdPerHour),
      expiresAt: iso(quoted.expiresAt),
    },
    chanceOfSuccess: outlook.chance,
    expectedReadyMs: outlook.p50ReadyMs,
    p50ReadyMs: outlook.p50ReadyMs,
    p95ReadyMs: outlook.p95ReadyMs,
    evidence: { machineAttempts: outlook.evidence.machine, providerAttempts: outlook.evidence.provider },
  };
}
