/** Calls to Lambda Cloud: which are good answers, and in which lanes they wait. */
import type { ProviderSettings, RateLimiter } from '../provider-client.ts';
import { createVendorSender, type Send, type VendorCall } from '../vendor-sender.ts';
import { classifyLambdaError } from './errors.ts';

export type LambdaSend = Send<VendorCall>;

export function createSender(settings: ProviderSettings, limiter: RateLimiter): LambdaSend {
  return createVendorSender(settings, limiter, {
    provider: 'lambda',
    title: 'Lambda',
    lanesOf: ({ kind }) => (kind === 'purchase' ? ['create', 'api'] : ['api']),
    // A write may be answered with nothing: its effect is read back.
    isAnswer: ({ kind }, { status, json, text }) =>
      status === 200
        ? json !== undefined || (kind === 'write' && text.trim() === '')
        : status === 204 && kind === 'write',
    classify: ({ kind }, reply) => classifyLambdaError(kind, reply),
    rateLimitPauseMs: 1_000,
  });
}
