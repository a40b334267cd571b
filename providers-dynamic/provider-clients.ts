/** The client of each marketplace by its name: the one place that knows them all. What a client must do stands in provider-client.ts. */
import type { ProviderName } from '../domain/provider.ts';
import { createLambdaClient } from './lambda/client.ts';
import { LAMBDA_RATE_LIMITS } from './lambda/rate-limits.ts';
import type { ProviderClient, ProviderSettings, RateLimiter, RateLimits } from './provider-client.ts';
import { createRunpodClient } from './runpod/client.ts';
import { RUNPOD_RATE_LIMITS } from './runpod/rate-limits.ts';
import { createTensordockClient } from './tensordock/client.ts';
import { TENSORDOCK_RATE_LIMITS } from './tensordock/rate-limits.ts';
import { createVastaiClient } from './vastai/client.ts';
import { VASTAI_RATE_LIMITS } from './vastai/rate-limits.ts';

type ClientFactory = (settings: ProviderSettings, limiter: RateLimiter) => ProviderClient;

const CLIENTS: Record<ProviderName, { create: ClientFactory; rateLimits: RateLimits }> = {
  vastai: { create: createVastaiClient, rateLimits: VASTAI_RATE_LIMITS },
  tensordock: { create: createTensordockClient, rateLimits: TENSORDOCK_RATE_LIMITS },
  runpod: { create: createRunpodClient, rateLimits: RUNPOD_RATE_LIMITS },
  lambda: { create: createLambdaClient, rateLimits: LAMBDA_RATE_LIMITS },
};

export function createProviderClient(
  provider: ProviderName,
  settings: ProviderSettings,
  limiter: RateLimiter,
): ProviderClient {
  return CLIENTS[provider].create(settings, limiter);
}

/** What the vendor documents, or its users report where it does not. */
export function documentedRateLimits(provider: ProviderName): RateLimits {
  return CLIENTS[provider].rateLimits;
}
