/** The simulated Lambda Cloud's manners: its key, its limits, its words. */
import type { IncomingMessage } from 'node:http';
import { parseJsonObject, readBearer, type RentalApi, type RentalCall } from '../rental/api.ts';
import type { Quota } from '../rental/window-limiter.ts';
import {
  ACCOUNT_INACTIVE,
  errorReply,
  INVALID_API_KEY,
  invalidParameters,
  NO_CAPACITY,
  OUTAGE,
  TOO_MANY_REQUESTS,
} from './errors.ts';
import { LAMBDA_ROUTES } from './routes.ts';
import type { LambdaWorld } from './world.ts';

const ALL_CALLS: readonly Quota[] = [{ calls: 1, windowMs: 1_000 }];
const LAUNCHES: readonly Quota[] = [{ calls: 1, windowMs: 12_000 }];

export const LAMBDA_API: RentalApi<LambdaWorld> = {
  routes: LAMBDA_ROUTES,
  authenticate: (request, _url, apiKey) => (readKey(request) === apiKey ? null : INVALID_API_KEY),
  // A client of theirs sends JSON as text/plain: the content type is not looked at.
  parseBody: (_request, text) => parseJsonObject(text, invalidParameters),
  labelOf: (call) => (typeof call.body['name'] === 'string' ? call.body['name'] : ''),
  limit({ limiter, market }, endpoint) {
    const { rateLimits, isAccountInactive } = market.switches();
    if (isAccountInactive) return ACCOUNT_INACTIVE;
    if (rateLimits === 'off') return null;
    if (!limiter.take('all', ALL_CALLS)) return TOO_MANY_REQUESTS;
    return endpoint === 'create' && !limiter.take('launch', LAUNCHES) ? TOO_MANY_REQUESTS : null;
  },
  rejectForRate: () => TOO_MANY_REQUESTS,
  refuse: (_world, endpoint) =>
    endpoint === 'create'
      ? NO_CAPACITY
      : errorReply(400, 'global/invalid-parameters', 'Refused by a fault of the sandbox.'),
  loseOffer({ stock }, { body }: RentalCall) {
    stock.sellOut(String(body['instance_type_name']), String(body['region_name']));
    return NO_CAPACITY;
  },
  notFound: () => errorReply(404, 'global/object-does-not-exist', 'The requested path does not exist.'),
  tooLarge: errorReply(413, 'global/invalid-parameters', 'The request body is too large.'),
  outageBody: OUTAGE.body,
  keepRows,
};

/** Bearer, or Basic with the key as user name and no password. */
function readKey(request: IncomingMessage): string | null {
  const header = request.headers.authorization;
  if (!header?.startsWith('Basic ')) return readBearer(request);
  return Buffer.from(header.slice('Basic '.length), 'base64').toString('utf8').replace(/:$/, '');
}

/** Rows are in `data`: a list, or an object by name. */
function keepRows(body: unknown, share: number): unknown {
  const { data, page_token: token } = body as { data?: unknown; page_token?: unknown };
  const rest = token === undefined ? {} : { page_token: null };
  if (Array.isArray(data)) return { data: data.slice(0, Math.floor(data.length * share)), ...rest };
  const rows = Object.entries((data ?? {}) as Record<string, unknown>);
  return { data: Object.fromEntries(rows.slice(0, Math.floor(rows.length * share))), ...rest };
}
