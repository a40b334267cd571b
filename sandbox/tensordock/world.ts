/** What one simulated TensorDock account consists of: its hosts and places, secrets and rate limit. */
import type { RentalFleet } from '../rental/fleet.ts';
import type { RentalMarket } from '../rental/vendor.ts';
import { createWindowLimiter, type Quota, type WindowLimiter } from '../rental/window-limiter.ts';
import type { PurchaseCounts } from '../purchase-counts.ts';
import { instanceNotFound } from './refusals.ts';
import type { TensordockDetails, TensordockMachine } from './machine.ts';
import { createSecrets, type Secrets } from './secrets.ts';
import { createStock, type Stock } from './stock.ts';
import type { TensordockSwitches } from './switches.ts';

export interface TensordockWorld {
  stock: Stock;
  secrets: Secrets;
  limiter: WindowLimiter;
  fleet: RentalFleet<TensordockDetails>;
  purchases: PurchaseCounts<string>;
  now: () => number;
  switches: () => TensordockSwitches;
}

/** For the whole organisation, whatever the endpoint. */
export const QUOTA: Quota = { calls: 100, windowMs: 60_000 };

export function createTensordockWorld(market: RentalMarket<TensordockDetails, TensordockSwitches>): TensordockWorld {
  const now = (): number => market.clock.now();
  return {
    stock: createStock(market),
    secrets: createSecrets(market.journal, market.seed),
    limiter: createWindowLimiter(now),
    fleet: market.fleet,
    purchases: market.purchases,
    now,
    switches: market.switches,
  };
}

/** Throws VendorRefusal 404 for a machine that is gone, or never was. */
export function findMachine(world: TensordockWorld, id: string | undefined): TensordockMachine {
  const machine = world.fleet.find(id ?? '');
  if (machine === undefined) throw instanceNotFound();
  return machine;
}
