/**
 * RunPod's documented limit is one for the whole account, whatever is called: 60 a minute, 3,000 an hour, 50,000 a day. So
 * there is one lane for all calls, at the pace of the hour; what is left is read from the headers of every answer.
 */
import type { RateLimits } from '../provider-client.ts';

export const RUNPOD_LANE = 'all';

export const RUNPOD_RATE_LIMITS: RateLimits & Record<typeof RUNPOD_LANE, number> = { [RUNPOD_LANE]: 1.2 };

/** A longer wait than this is asked for again after it: the day's window must not stop a destroy unseen for half a day. */
const MAX_WAIT_MS = 3_600_000;

/**
 * How long to stay away, by the headers of any answer: until every window that is used up begins again. 0: go on.
 * `RateLimit: "minute";r=0;t=12, "hour";r=2800;t=1812` (r: calls left, t: seconds until the window begins again).
 */
export function waitOfHeaders(headers: Headers): number {
  const waits = [...(headers.get('ratelimit') ?? '').matchAll(/;\s*r=(\d+)\s*;\s*t=(\d+)/g)]
    .filter(([, left]) => Number(left) === 0)
    .map(([, , seconds]) => Number(seconds) * 1000);
  return Math.min(Math.max(0, ...waits), MAX_WAIT_MS);
}

/** What a 429 asks for: whole seconds in `Retry-After`, else the windows above. Undefined where the vendor did not say. */
export function waitOfRefusal(headers: Headers): number | undefined {
  const seconds = /^\s*(\d{1,6})\s*$/.exec(headers.get('retry-after') ?? '')?.[1];
  const waitMs = Math.max(seconds === undefined ? 0 : Number(seconds) * 1000, waitOfHeaders(headers));
  return waitMs > 0 ? Math.min(waitMs, MAX_WAIT_MS) : undefined;
}
