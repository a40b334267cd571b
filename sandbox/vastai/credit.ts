/**
 * The account's prepaid credit: when it is used up, everything that runs is stopped.
 * The bill itself is kept per machine (billing.ts); this only knows when to look.
 */
import type { SandboxClock } from '../clock.ts';
import { changeRate, readMeter, startMeter } from '../billing.ts';

export interface CreditWatch {
  /** The account costs this much more (or less) per hour from `atMs` on. */
  shiftRate(deltaMicroUsdPerHour: number, atMs: number): void;
  hasCredit(): boolean;
  /** The credit was changed, or the sandbox has just started: takes the exact figures. */
  recalculate(): void;
}

export interface CreditDependencies {
  clock: SandboxClock;
  creditMicroUsd: () => number;
  /** The exact sums over all machines. */
  charged: () => number;
  burn: () => number;
  onExhausted: () => void;
}

const MS_PER_HOUR = 3_600_000;

export function createCreditWatch(deps: CreditDependencies): CreditWatch {
  const { clock } = deps;
  // One meter for the account, so that a purchase need not add up the whole fleet.
  let account = startMeter(clock.now(), 0);
  let disarm: () => void = () => {};

  function arm(): void {
    disarm();
    const left = deps.creditMicroUsd() - readMeter(account, clock.now()).chargedMicroUsd;
    if (account.microUsdPerHour <= 0 || left <= 0) return;
    const lastsMs = Math.ceil((left / account.microUsdPerHour) * MS_PER_HOUR);
    disarm = clock.schedule(clock.now() + lastsMs, look);
  }

  function look(): void {
    watch.recalculate();
    if (!watch.hasCredit()) deps.onExhausted();
  }

  const watch: CreditWatch = {
    shiftRate(delta, atMs) {
      if (delta === 0) return;
      changeRate(account, atMs, account.microUsdPerHour + delta);
      arm();
    },
    hasCredit: () => readMeter(account, clock.now()).chargedMicroUsd < deps.creditMicroUsd(),
    recalculate() {
      account = { ...startMeter(clock.now(), deps.burn()), chargedMicroUsd: deps.charged() };
      arm();
    },
  };
  return watch;
}
