/** What of the catalogue can be had now: capacity less our machines, droughts, and what somebody else just took. */
import type { RentalMarket } from '../rental/vendor.ts';
import { createRandom } from '../random.ts';
import { capacityOf, INSTANCE_TYPES, type InstanceType, REGIONS } from './catalog.ts';
import type { LambdaDetails } from './instance-wire.ts';
import type { LambdaSwitches } from './switches.ts';

export interface Stock {
  /** Regions where the type can be had, as the vendor lists them. */
  regionsOf(type: InstanceType): string[];
  /** Whether a launch gets one: not always, even where it is listed. */
  canLaunch(typeName: string, region: string): boolean;
  /** Somebody else takes all that is left, for a while. */
  sellOut(typeName: string, region: string): void;
  /** Cents, for new instances. */
  priceOf(type: InstanceType): number;
  countOffers(): number;
}

const SOLD_OUT_FOR_MS = 300_000;
const SOLD_OUT_KEY = 'lambda/sold-out';

export function offerKey(typeName: string, region: string): string {
  return `${typeName}/${region}`;
}

export function createStock(market: RentalMarket<LambdaDetails, LambdaSwitches>): Stock {
  const { clock, fleet, journal, seed, switches } = market;
  const soldOut = (journal.restored.get(SOLD_OUT_KEY) as Record<string, number> | undefined) ?? {};
  let launches = 0;

  function left(typeName: string, region: string): number {
    const { drought, capacity } = switches();
    if (drought.includes('*') || drought.includes(typeName)) return 0;
    const key = offerKey(typeName, region);
    if ((soldOut[key] ?? 0) > clock.now()) return 0;
    const base = capacityOf(seed, typeName, region);
    return (base === 0 ? 0 : (capacity ?? base)) - fleet.occupied(key);
  }

  function regionsOf({ name }: InstanceType): string[] {
    return Object.keys(REGIONS).filter((region) => left(name, region) > 0);
  }

  return {
    regionsOf,
    canLaunch(typeName, region) {
      const isLost = createRandom(seed, `lambda launch ${launches++}`).next() < switches().raceShare;
      return !isLost && left(typeName, region) > 0;
    },
    sellOut(typeName, region) {
      soldOut[offerKey(typeName, region)] = clock.now() + SOLD_OUT_FOR_MS;
      journal.put([[SOLD_OUT_KEY, soldOut]]);
    },
    priceOf: ({ centsPerHour }) => Math.max(1, Math.round(centsPerHour * switches().priceFactor)),
    countOffers() {
      let count = 0;
      for (const type of INSTANCE_TYPES.values()) if (type.gpus > 0) count += regionsOf(type).length;
      return count;
    },
  };
}
