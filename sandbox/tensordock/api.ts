/** TensorDock's words around its routes: who may call, how often, and what a refusal looks like. */
import type { IncomingMessage } from 'node:http';
import type { HttpReply } from '../http-listener.ts';
import { parseJsonObject, readBearer, type RentalApi } from '../rental/api.ts';
import { loseHost } from './purchase.ts';
import { NO_NODES, toError, toRefusedPurchase } from './refusals.ts';
import { nameIn, toValidation } from './requests.ts';
import { TENSORDOCK_ROUTES } from './routes.ts';
import { QUOTA, type TensordockWorld } from './world.ts';

const ORGANISATION = 'organisation';

export const TENSORDOCK_API: RentalApi<TensordockWorld> = {
  routes: TENSORDOCK_ROUTES,
  outageBody: { error: 'Service temporarily unavailable' },
  tooLarge: toError(413, 'Payload too large'),

  authenticate(request: IncomingMessage, _url, apiKey) {
    return readBearer(request) === apiKey ? null : toError(401, 'Unauthorized');
  },
  parseBody(_request, text) {
    return parseJsonObject(text, (message) => toValidation([{ code: 'invalid_type', message, path: [] }]));
  },
  labelOf: ({ body }) => nameIn(body),
  limit(world, endpoint) {
    if (world.switches().rateLimits === 'off' || world.limiter.take(ORGANISATION, [QUOTA])) return null;
    return this.rejectForRate(world, endpoint);
  },
  rejectForRate(world): HttpReply {
    const [quota] = world.limiter.look(ORGANISATION, [QUOTA]);
    const seconds = Math.max(1, Math.ceil((quota?.left === 0 ? quota.resetMs : 1_000) / 1_000));
    const headers = world.switches().hasRateLimitHeaders ? { 'retry-after': String(seconds) } : undefined;
    return toError(429, 'Too many requests', headers);
  },
  refuse: (world, endpoint) =>
    endpoint === 'create' ? toRefusedPurchase(NO_NODES, world.switches()) : toError(400, 'Request refused'),
  loseOffer: (world, { body }) => loseHost(world, body),
  notFound: (method, path) => toError(404, `Route ${method} ${path} not found`),
  headers(world): Record<string, string> {
    const { rateLimits, hasRateLimitHeaders } = world.switches();
    const [quota] = world.limiter.look(ORGANISATION, [QUOTA]);
    if (rateLimits === 'off' || !hasRateLimitHeaders || quota === undefined) return {};
    return {
      'x-ratelimit-limit': String(quota.calls),
      'x-ratelimit-remaining': String(quota.left),
      'x-ratelimit-reset': String(Math.ceil((world.now() + quota.resetMs) / 1_000)),
    };
  },
  keepRows,
};

/** A listing of hosts, places or instances in any shape, with this share of its rows. */
function keepRows(body: unknown, share: number): unknown {
  if (Array.isArray(body)) return body.slice(0, Math.floor(body.length * share));
  if (typeof body !== 'object' || body === null) return body;
  const kept = Object.entries(body).map(([name, value]) => [
    name,
    ['data', 'attributes', 'instances', 'hostnodes', 'locations', 'secrets'].includes(name)
      ? keepRows(value, share)
      : value,
  ]);
  return Object.fromEntries(kept);
}
