/**
 * The rate limiter of one process, for plain `pulumi up`, where nobody else is known to use the account. Under the control
 * plane the limits are shared by all processes; that limiter is in db/. What the limits are stands in each provider's folder.
 */
import { ProviderError } from '../domain/provider-error.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { RateLimiter, RateLimits } from './provider-client.ts';

/** Callers get their turn in the order of asking; an aborted one leaves the queue and costs no turn. */
export function createRateLimiter(limits: Partial<Record<ProviderName, RateLimits>>): RateLimiter {
  const lanes = new Map<string, Lane>();
  const laneOf = (provider: ProviderName, endpoint: string): Lane => {
    const key = `${provider}/${endpoint}`;
    let lane = lanes.get(key);
    if (!lane) lanes.set(key, (lane = new Lane((limits[provider]?.[endpoint] ?? 0) * 1000)));
    return lane;
  };
  return {
    acquire: (provider, endpoint, signal) => laneOf(provider, endpoint).acquire(signal),
    slowDown: (provider, endpoint, forMs) => Promise.resolve(laneOf(provider, endpoint).slowDown(forMs)),
  };
}

/** The queue of one endpoint. */
class Lane {
  readonly #spacingMs: number;
  #freeAtMs = 0;
  readonly #waiting: (() => void)[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(spacingMs: number) {
    this.#spacingMs = spacingMs;
  }

  acquire(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const turn = (): void => {
        signal?.removeEventListener('abort', leave);
        resolve();
      };
      const leave = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(turn), 1);
        reject(new ProviderError('canceled', 'canceled while waiting for the rate limit'));
      };
      if (signal?.aborted) return reject(new ProviderError('canceled', 'canceled before the call'));
      signal?.addEventListener('abort', leave, { once: true });
      this.#waiting.push(turn);
      this.#serve();
    });
  }

  slowDown(forMs: number): void {
    this.#freeAtMs = Math.max(this.#freeAtMs, performance.now() + forMs);
    this.#serve();
  }

  #serve(): void {
    clearTimeout(this.#timer);
    while (this.#waiting.length > 0) {
      const waitMs = this.#freeAtMs - performance.now();
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.#serve(), Math.ceil(waitMs));
        return;
      }
      this.#freeAtMs = performance.now() + this.#spacingMs;
      this.#waiting.shift()?.();
    }
  }
}
