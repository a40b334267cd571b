/** The preview of a provision: what a dry run answers. It reads, and buys nothing. */
import { per30Days } from '../domain/money.ts';
import { MAX_ATTEMPTS_PER_INSTANCE, requirementsOf } from '../domain/provision-request.ts';
import { previewPlan, type PreviewCandidate } from '../domain/provisioning/preview.ts';
import type { Db } from '../db/database.ts';
import { findOfferIds } from '../db/inventory.ts';
import { listMachines, machineRecordFromRow } from '../db/machines.ts';
import { listOffersFor, listReservedKeys } from '../db/offers.ts';
import type { ProvisionPlan } from './contract/instances.ts';
import type { OrderParts } from './provision-order.ts';
import { micro } from './reply-values.ts';

/** Bounds the history that a preview weighs; the most recent are the telling ones. */
const MAX_MACHINES = 5_000;

export async function previewOrder(db: Db, order: OrderParts): Promise<ProvisionPlan> {
  const { request, names, planHash } = order;
  const count = names.length;
  const [offers, machines, reserved] = await Promise.all([
    listOffersFor(db, request),
    listMachines(db, { limit: MAX_MACHINES }),
    listReservedKeys(db),
  ]);
  const preview = previewPlan({
    spec: {
      strategy: request.strategy,
      raceWidth: request.raceWidth,
      maxRaceCostMicroUsd: BigInt(request.maxRaceCostMicroUsd),
      requirements: requirementsOf(request),
      bootTimeoutMs: request.bootTimeoutMs,
      maxAttemptsPerInstance: MAX_ATTEMPTS_PER_INSTANCE,
    },
    count,
    offers,
    machines: machines.map(machineRecordFromRow),
    reserved,
    seed: planHash,
    limit: Math.max(20, count),
    now: Date.now(),
  });
  const ids = await findOfferIds(
    db,
    preview.candidates.map((candidate) => candidate.offer),
  );
  const best = preview.candidates.slice(0, count);
  const price = best.reduce((sum, candidate) => sum + candidate.priceMicroUsdPerHour, 0n);
  return {
    candidates: preview.candidates.map((candidate) => candidateReply(candidate, ids)),
    fittingOffers: preview.fittingOffers,
    fittingMachines: preview.fittingMachines,
    count,
    raceWidth: preview.effectiveRaceWidth,
    priceMicroUsdPerHour: micro(price),
    priceMicroUsdPer30Days: micro(per30Days(price)),
    maxPriceMicroUsdPerHour: request.maxPriceMicroUsdPerHour * count,
    worstCaseRaceCostMicroUsd: micro(preview.worstCaseRaceCostMicroUsd),
    chanceOfSuccess: chanceOfAny(preview.candidates.slice(0, Math.max(1, preview.effectiveRaceWidth))),
    expectedReadyMs: fastest(best),
    shortage: preview.shortage,
    planHash,
  };
}

/** The chance that one of the first wave becomes ready; null where any of them has no history. */
function chanceOfAny(wave: PreviewCandidate[]): number | null {
  if (wave.length === 0) return null;
  let failing = 1;
  for (const { chanceOfSuccess } of wave) {
    if (chanceOfSuccess === null) return null;
    failing *= 1 - chanceOfSuccess;
  }
  return 1 - failing;
}

function fastest(candidates: PreviewCandidate[]): number | null {
  const known = candidates.flatMap(({ expectedReadyMs }) =>
    expectedReadyMs === null ? [] : [Math.round(expectedReadyMs)],
  );
  return known.length === 0 ? null : Math.min(...known);
}

function candidateReply(candidate: PreviewCandidate, ids: Map<string, string>): ProvisionPlan['candidates'][number] {
  const { offer } = candidate;
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
    chanceOfSuccess: candidate.chanceOfSuccess,
    expectedReadyMs: candidate.expectedReadyMs === null ? null : Math.round(candidate.expectedReadyMs),
  };
}
