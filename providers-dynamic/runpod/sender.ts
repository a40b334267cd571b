/** Calls to RunPod: which are good answers, and what the headers of any answer say of the account's rate limit. */
import type { ProviderSettings, RateLimiter } from '../provider-client.ts';
import { createVendorSender, type Send, type VendorCall } from '../vendor-sender.ts';
import { classifyRunpodError } from './errors.ts';
import { RUNPOD_LANE, waitOfHeaders } from './rate-limits.ts';

export interface RunpodCall extends VendorCall {
  /** The statuses of a good answer; with a body that is JSON, except 204. */
  good: readonly number[];
}

/** @returns undefined for 204 */
export function createSender(settings: ProviderSettings, limiter: RateLimiter): Send<RunpodCall> {
  return createVendorSender<RunpodCall>(settings, limiter, {
    provider: 'runpod',
    title: 'RunPod',
    lanesOf: () => [RUNPOD_LANE],
    isAnswer: ({ good }, { status, json }) => good.includes(status) && (status === 204 || json !== undefined),
    classify: ({ kind }, reply) => classifyRunpodError(kind, reply),
    pauseAfter: ({ headers }) => waitOfHeaders(headers),
    rateLimitPauseMs: 1_000,
  });
}
