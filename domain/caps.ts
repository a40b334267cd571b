/** Caps: the hard bounds of the deployment on live instances and on burn. A request that would exceed one is refused as a whole. */
import { formatUsd, type MicroUsd } from './money.ts';

export interface CapsInput {
  /** Live now: everything that is not proven gone, without this request. */
  liveInstances: number;
  /** What the live may cost an hour, without this request. */
  burnMicroUsdPerHour: MicroUsd;
  requestedInstances: number;
  /** Per instance and hour, racers included. */
  requestedMaxPrice: MicroUsd;
  maxInstances: number;
  /** Per hour. */
  maxBurn: MicroUsd;
}

/** The numbers for the problem document; money as JSON numbers of micro-dollars. */
export interface CapsExceeded {
  detail: string;
  facts: Record<string, number | string>;
}

/** null where the request fits; reaching a cap exactly is allowed. Facts for `cap_exceeded` otherwise. */
export function checkCaps(input: CapsInput): CapsExceeded | null {
  const { liveInstances, requestedInstances, maxInstances, maxBurn } = input;
  const instances = liveInstances + requestedInstances;
  const requestedBurn = input.requestedMaxPrice * BigInt(requestedInstances);
  const burn = input.burnMicroUsdPerHour + requestedBurn;
  const tooMany = instances > maxInstances;
  const tooDear = burn > maxBurn;
  if (!tooMany && !tooDear) return null;
  const reasons = [
    tooMany
      ? `${liveInstances} live and ${requestedInstances} requested instances are more than the maximum of ${maxInstances} (MUSTER_MAX_INSTANCES)`
      : null,
    tooDear
      ? `$${formatUsd(input.burnMicroUsdPerHour)} of burn and up to $${formatUsd(requestedBurn)} requested an hour are more than the maximum of $${formatUsd(maxBurn)} (MUSTER_MAX_BURN_USD_PER_HOUR)`
      : null,
  ];
  return {
    detail: reasons.filter((reason) => reason !== null).join('; '),
    facts: {
      cap: tooMany ? 'instances' : 'burn',
      liveInstances,
      requestedInstances,
      maxInstances,
      burnMicroUsdPerHour: Number(input.burnMicroUsdPerHour),
      requestedMicroUsdPerHour: Number(requestedBurn),
      maxBurnMicroUsdPerHour: Number(maxBurn),
    },
  };
}
