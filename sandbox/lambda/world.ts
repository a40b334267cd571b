/** The simulated vendor without its wire: its account, its stock and the machines rented there. */
import type { RentalMarket } from '../rental/vendor.ts';
import { createWindowLimiter, type WindowLimiter } from '../rental/window-limiter.ts';
import { createAccount, type LambdaAccount } from './account.ts';
import type { LambdaDetails } from './instance-wire.ts';
import { createStock, type Stock } from './stock.ts';
import type { LambdaSwitches } from './switches.ts';

export interface LambdaWorld {
  market: RentalMarket<LambdaDetails, LambdaSwitches>;
  account: LambdaAccount;
  stock: Stock;
  limiter: WindowLimiter;
  /** How many terminates were answered, for the replies that alternate. */
  terminates: number;
}

export function createLambdaWorld(market: RentalMarket<LambdaDetails, LambdaSwitches>): LambdaWorld {
  return {
    market,
    account: createAccount(market.seed, market.clock, market.journal),
    stock: createStock(market),
    limiter: createWindowLimiter(() => market.clock.now()),
    terminates: 0,
  };
}
