/** Calls to Vast.ai: which are good answers (a 200 may say that it failed), and at which endpoint's turn they wait. */
import { isObject } from '../http.ts';
import type { ProviderSettings, RateLimiter } from '../provider-client.ts';
import { createVendorSender, type Send, type VendorCall } from '../vendor-sender.ts';
import { classifyVastError } from './errors.ts';
import type { VastaiEndpoint } from './rate-limits.ts';

export interface VastaiCall extends VendorCall {
  endpoint: VastaiEndpoint;
}

export type VastaiSend = Send<VastaiCall>;

export function createSender(settings: ProviderSettings, limiter: RateLimiter): VastaiSend {
  return createVendorSender<VastaiCall>(settings, limiter, {
    provider: 'vastai',
    title: 'Vast.ai',
    lanesOf: ({ endpoint }) => [endpoint],
    isAnswer: (_call, { status, json }) =>
      status === 200 && json !== undefined && !(isObject(json) && json.success === false),
    classify: ({ kind }, reply) => classifyVastError(kind, reply),
    rateLimitPauseMs: 1_000,
  });
}
