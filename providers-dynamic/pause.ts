/** A pause that a cancel ends at once. */
import { ProviderError } from '../domain/provider-error.ts';

/** Resolves after `ms`; rejects with ProviderError `canceled` as soon as `signal` is aborted. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(canceled());
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(canceled());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

function canceled(): ProviderError {
  return new ProviderError('canceled', 'canceled while waiting');
}
