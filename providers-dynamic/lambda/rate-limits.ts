/**
 * Lambda's documented limits: one request a second in all, and one launch in twelve seconds. A launch takes its turn in both lanes.
 * Nothing tells in the answers how much is left.
 */
import type { RateLimits } from '../provider-client.ts';

export type LambdaLane = 'api' | 'create';

export const LAMBDA_RATE_LIMITS: RateLimits & Record<LambdaLane, number> = { api: 1, create: 12 };
