/** The account: its SSH keys, what it has left to spend, and how often it may call. */
import type { HttpReply } from '../http-listener.ts';
import { createWindowLimiter, type Quota, type QuotaState } from '../rental/window-limiter.ts';
import type { RentalMarket } from '../rental/vendor.ts';
import type { PodDetails } from './pod.ts';
import { problem } from './problems.ts';
import type { RunpodSwitches } from './switches.ts';

export interface RunpodAccount {
  sshKeys(): readonly string[];
  /** Replaces them all. */
  setSshKeys(keys: readonly string[]): void;
  /** Nothing is left: running pods are stopped, purchases refused. */
  isBroke(): boolean;
  /** Whether further pods of this price would break the spend limit. */
  isOverLimit(microUsdPerHour: number): boolean;
  /** The 429, or null when the call may pass; counts it. */
  limit(): HttpReply | null;
  /** A 429 that nothing asked for. */
  rejectForRate(): HttpReply;
  /** `RateLimit` and its policy, where the account is limited. */
  headers(): Record<string, string>;
}

const KEYS = 'runpod/ssh-keys';
const ACCOUNT = 'account';
const WINDOWS: readonly (Quota & { name: string })[] = [
  { name: 'minute', calls: 60, windowMs: 60_000 },
  { name: 'hour', calls: 3000, windowMs: 3_600_000 },
  { name: 'day', calls: 50_000, windowMs: 86_400_000 },
];
const POLICY = WINDOWS.map(({ name, calls, windowMs }) => `"${name}";q=${calls};w=${windowMs / 1000}`).join(', ');

export function createRunpodAccount(market: RentalMarket<PodDetails, RunpodSwitches>): RunpodAccount {
  const { clock, fleet, journal } = market;
  const limiter = createWindowLimiter(() => clock.now());
  let keys = (journal.restored.get(KEYS) as string[] | undefined) ?? [];

  const describe = (states: readonly QuotaState[]): string =>
    states
      .map(({ left, resetMs }, index) => `"${WINDOWS[index]!.name}";r=${left};t=${Math.ceil(resetMs / 1000)}`)
      .join(', ');

  return {
    sshKeys: () => keys,
    setSshKeys(next) {
      keys = [...next];
      journal.put([[KEYS, keys]]);
    },
    isBroke: () => fleet.totalChargedMicroUsd() >= market.switches().creditUsd * 1e6,
    isOverLimit(microUsdPerHour) {
      const limitUsd = market.switches().spendLimitUsdPerHour;
      return limitUsd !== null && fleet.burnMicroUsdPerHour() + microUsdPerHour > limitUsd * 1e6;
    },
    limit() {
      if (market.switches().rateLimits === 'off' || limiter.take(ACCOUNT, WINDOWS)) return null;
      const states = limiter.look(ACCOUNT, WINDOWS);
      const used = states.findIndex(({ left }) => left === 0);
      const seconds = Math.max(1, Math.ceil(states[used]!.resetMs / 1000));
      return problem(429, `rate limit exceeded for the ${WINDOWS[used]!.name} window`, {
        headers: { 'retry-after': String(seconds) },
      });
    },
    rejectForRate: () =>
      problem(429, 'rate limit exceeded for the minute window', {
        headers: { 'retry-after': '1', ratelimit: '"minute";r=0;t=1', 'ratelimit-policy': POLICY },
      }),
    headers(): Record<string, string> {
      if (market.switches().rateLimits === 'off') return {};
      return { ratelimit: describe(limiter.look(ACCOUNT, WINDOWS)), 'ratelimit-policy': POLICY };
    },
  };
}
