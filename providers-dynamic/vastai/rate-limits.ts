/**
 * Vast.ai's documented limits: the least seconds between two calls of an endpoint, counted by the vendor per key, user and
 * address. From the vendor's page "rate limits and errors"; the names are those that client.ts acquires.
 */
import type { RateLimits } from '../provider-client.ts';

export const VASTAI_ENDPOINTS = [
  'search',
  'create',
  'read',
  'list',
  'destroy',
  'change',
  'bid',
  'ssh_key',
  'account',
] as const;
export type VastaiEndpoint = (typeof VASTAI_ENDPOINTS)[number];

export const VASTAI_RATE_LIMITS: RateLimits & Record<VastaiEndpoint, number> = {
  // Ten a minute and address.
  search: 6,
  create: 4.5,
  read: 2,
  list: 1,
  destroy: 3,
  // State and label of one instance.
  change: 1,
  bid: 5.5,
  ssh_key: 1,
  // Not documented; the general advice is one request a second.
  account: 1,
};
