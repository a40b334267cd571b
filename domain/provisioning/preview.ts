/** A preview: what a request would buy and cost if it were made now. It buys, reserves and promises nothing. */
import { chanceOfSuccess, type MachineRecord } from '../machine-history.ts';
import { per30Days, type MicroUsd } from '../money.ts';
import type { Offer } from '../offer.ts';
import { explainNoMatch, machineKey, recordKey, sortOut } from './match.ts';
import { WAVE_PLANNERS } from './plan.ts';
import { MAX_CANDIDATES, type ProvisionSpec } from './planner.ts';
import { worstCaseCost } from './race.ts';
import { groupByPlace, rankOffers, type RankedOffer } from './rank.ts';
import { countRoom } from './wave.ts';

export interface PreviewCandidate {
  offer: Offer;
  /** With the requested disk. */
  priceMicroUsdPerHour: MicroUsd;
  priceMicroUsdPer30Days: MicroUsd;
  /** 0..1; null without history of the machine. */
  chanceOfSuccess: number | null;
  /** From purchase to ready; null without a success on the machine. */
  expectedReadyMs: number | null;
}

export interface PlanPreview {
  /** Best first; at most `limit`. */
  candidates: PreviewCandidate[];
  /** All offers that fit, beyond `limit` too. */
  fittingOffers: number;
  /** Distinct machines among them. */
  fittingMachines: number;
  /** Machines bought at once for each instance; 0 where nothing fits. */
  effectiveRaceWidth: number;
  /** At most so much is spent beyond the winners, for the whole request. */
  worstCaseRaceCostMicroUsd: MicroUsd;
  /** Why nothing, or too little, can be bought; null where there is enough. */
  shortage: string | null;
}

export function previewPlan(input: {
  spec: ProvisionSpec;
  count: number;
  offers: readonly Offer[];
  machines: readonly MachineRecord[];
  reserved: ReadonlySet<string>;
  seed: string;
  /** @default MAX_CANDIDATES */
  limit?: number;
  now: number;
}): PlanPreview {
  const { spec, count, offers, machines, reserved, seed, now } = input;
  const { requirements, bootTimeoutMs } = spec;
  const market = { requirements, offers, machines, reserved, used: new Set<string>(), bootTimeoutMs, now };
  const { fitting, tally } = sortOut(market);
  const ranked = rankOffers(fitting, { diskGib: requirements.diskGib, machines, seed });
  const places = groupByPlace(ranked);
  const { width, ceilingMicroUsdPerHour: ceiling } = WAVE_PLANNERS[spec.strategy]({
    spec,
    instanceCount: count,
    earlier: [],
    places,
    maxWidth: Math.min(spec.maxAttemptsPerInstance, Math.floor(countRoom(places, null) / Math.max(1, count)) || 1),
  });
  const losers = BigInt(Math.max(0, width - 1) * count);
  const dearest = ranked.reduce((most, { price }) => (price > most && price <= ceiling ? price : most), 0n);
  const history = new Map(machines.map((record) => [recordKey(record), record]));
  return {
    candidates: ranked.slice(0, input.limit ?? MAX_CANDIDATES).map((one) => describeCandidate(one, history)),
    fittingOffers: ranked.length,
    fittingMachines: places.length,
    effectiveRaceWidth: width,
    worstCaseRaceCostMicroUsd: losers * worstCaseCost(spec, dearest),
    shortage: describeShortage(places.length, count, () => explainNoMatch(tally, requirements)),
  };
}

function describeCandidate({ offer, price }: RankedOffer, history: Map<string, MachineRecord>): PreviewCandidate {
  const key = machineKey(offer);
  const record = key === null ? undefined : history.get(key);
  return {
    offer,
    priceMicroUsdPerHour: price,
    priceMicroUsdPer30Days: per30Days(price),
    chanceOfSuccess: chanceOfSuccess(record),
    expectedReadyMs: record?.meanReadyMs ?? null,
  };
}

function describeShortage(machines: number, count: number, explain: () => string): string | null {
  if (machines >= count) return null;
  if (machines === 0) return explain();
  return `${machines} fitting machine${machines === 1 ? ' is' : 's are'} listed, ${count} are asked for.`;
}
