/** The vendor's rate limits: a minimum spacing per endpoint and caller, and one window for searches. No Retry-After. */
import type { HttpReply } from '../http-listener.ts';
import type { VastaiSwitches } from './switches.ts';

export interface RateLimiter {
  /** The 429 for this call, or null when it may pass. A refused call does not count against the next one. */
  check(endpoint: string, caller: string): HttpReply | null;
  /** The vendor's 429, unasked for. */
  reject(endpoint: string): HttpReply;
}

/** Seconds between two calls of one caller, by our endpoint names. */
const THRESHOLD_SECONDS: Record<string, number> = {
  create: 4.5,
  bulk_create: 4.5,
  launch: 5,
  read: 2,
  list: 1,
  destroy: 3,
  bulk_destroy: 3,
  state: 1,
  label: 1,
  reboot: 1,
  bulk_state: 2,
  bid: 5.5,
  execute: 1.5,
  account_ssh_key_create: 1,
  ssh_key_detach: 2,
};
const SEARCHES_PER_WINDOW = 10;
const WINDOW_MS = 60_000;

export function createRateLimiter(now: () => number, switches: () => VastaiSwitches): RateLimiter {
  const last = new Map<string, number>();
  const searches = new Map<string, number[]>();
  let rejected = 0;

  function reject(endpoint: string): HttpReply {
    const form = switches().rateLimitBody;
    const isText = form === 'text' || (form === 'both' && rejected++ % 2 === 1);
    if (isText) return { status: 429, body: 'API requests too frequent', headers: { 'content-type': 'text/plain' } };
    const threshold = THRESHOLD_SECONDS[endpoint] ?? 1;
    return { status: 429, body: { detail: `API requests too frequent endpoint threshold=${threshold.toFixed(1)}` } };
  }

  return {
    reject,
    check(endpoint, caller) {
      if (switches().rateLimits === 'off') return null;
      const key = `${endpoint} ${caller}`;
      const nowMs = now();
      if (endpoint === 'search') {
        const recent = (searches.get(key) ?? []).filter((atMs) => atMs > nowMs - WINDOW_MS);
        searches.set(key, recent);
        if (recent.length >= SEARCHES_PER_WINDOW) return reject(endpoint);
        recent.push(nowMs);
        return null;
      }
      const threshold = THRESHOLD_SECONDS[endpoint];
      if (threshold === undefined) return null;
      const before = last.get(key);
      if (before !== undefined && nowMs - before < threshold * 1000) return reject(endpoint);
      last.set(key, nowMs);
      return null;
    },
  };
}
