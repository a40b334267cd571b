/**
 * TensorDock's documented limit: 100 requests a minute for the whole organisation, whatever the endpoint. So there is one lane
 * for all calls; separate lanes would add up to more than is allowed.
 */
import type { RateLimits } from '../provider-client.ts';

export const TENSORDOCK_ENDPOINTS = ['api'] as const;
export type TensordockEndpoint = (typeof TENSORDOCK_ENDPOINTS)[number];

export const TENSORDOCK_RATE_LIMITS: RateLimits & Record<TensordockEndpoint, number> = {
  api: 0.6,
};
