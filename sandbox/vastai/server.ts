/**
 * The simulated vendor's HTTP server: authentication, rate limits, faults and latency around the routes.
 * Order of a call: key, limit, faults before execution, the handler, faults after it. A handler never waits, so two
 * buyers of one offer are served one after the other, as by the vendor's database.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type CallOutcome,
  DEFAULT_FAULT_DELAY_MS,
  distortReply,
  toFaultReply,
  toHtmlReply,
  type VendorWords,
} from '../call-faults.ts';
import type { Fault, FaultSubject } from '../faults.ts';
import { type HttpListener, type HttpReply, listenHttp, readBody, sendReply, toErrorReply } from '../http-listener.ts';
import type { ListenOptions } from '../vendor.ts';
import { authReply, goneAsk, refusal, VastaiError } from './errors.ts';
import { createRateLimiter } from './limiter.ts';
import { countLabels } from './listing.ts';
import type { VastaiMarket } from './market.ts';
import type { WireObject } from './offer-wire.ts';
import { VASTAI_ROUTES, type VastaiCall, type VastaiRoute } from './routes.ts';

export interface VastaiServer extends HttpListener {
  /** Calls per endpoint, and calls that would change an instance per instance, since the start or the last reset. */
  callCounts(): CallCounts;
  resetCounts(): void;
}

export interface CallCounts {
  perEndpoint: Record<string, number>;
  changesPerInstance: Record<number, number>;
}

const WORDS: VendorWords = {
  outageBody: { success: false, error: 'server_error', msg: 'Simulated outage.' },
  keepRows,
};

/** `current` gives the market of the moment: a reset of the sandbox replaces it. */
export async function startVastaiServer(current: () => VastaiMarket, options: ListenOptions): Promise<VastaiServer> {
  const limiter = createRateLimiter(
    () => current().clock.now(),
    () => current().switches(),
  );
  let counts: CallCounts = { perEndpoint: {}, changesPerInstance: {} };

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://sandbox');
    const text = await readBody(request);
    if (options.latencyMs > 0) await sleep(options.latencyMs / 2);
    const reply = await answer(request, url, text);
    if (options.latencyMs > 0) await sleep(options.latencyMs / 2);
    if (reply === 'cut') request.socket.destroy();
    else if (reply !== 'silence') sendReply(response, reply);
  }

  async function answer(request: IncomingMessage, url: URL, text: string | null): Promise<CallOutcome> {
    const found = findRoute(request.method ?? 'GET', url.pathname);
    if (found === null) return { status: 404, body: { success: false, error: 'not_found', msg: 'Not found.' } };
    const { route, ids } = found;
    const key = readKey(request, url);
    if (route.isPublic !== true && key !== options.apiKey) return authReply(current().switches());
    const body = parseBody(request, text);
    if (body instanceof VastaiError) return body.reply;
    const endpoint = typeof route.endpoint === 'function' ? route.endpoint(body) : route.endpoint;
    countCall(endpoint, route, ids[0] ?? 0);
    const limited = limiter.check(endpoint, `${key} ${request.socket.remoteAddress}`);
    if (limited !== null) return countIfPurchase(endpoint, body, limited);
    const call: VastaiCall = {
      id: ids[0] ?? 0,
      subId: ids[1] ?? 0,
      query: url.searchParams,
      body,
      baseUrl: `http://${request.headers.host ?? `127.0.0.1:${options.port}`}`,
    };
    const market = current();
    const hits = market.faults.take('vastai', endpoint, readSubject(market, route, call));
    for (const fault of hits) if (fault.kind === 'delay') await sleep(fault.delayMs ?? DEFAULT_FAULT_DELAY_MS);
    const before = hits.map((fault) => insteadOf(fault, endpoint, call)).find((reply) => reply !== null);
    if (before !== undefined) return before;
    const reply = execute(route, call);
    return hits.reduce<CallOutcome>((outcome, fault) => distortReply(outcome, fault, WORDS), reply);
  }

  function countCall(endpoint: string, route: VastaiRoute, id: number): void {
    const { perEndpoint, changesPerInstance } = counts;
    perEndpoint[endpoint] = (perEndpoint[endpoint] ?? 0) + 1;
    if (route.isAboutInstance !== true || route.method === 'GET') return;
    changesPerInstance[id] = (changesPerInstance[id] ?? 0) + 1;
  }

  function execute(route: VastaiRoute, call: VastaiCall): HttpReply {
    try {
      return route.handle(current(), call);
    } catch (error) {
      if (error instanceof VastaiError) return error.reply;
      throw error;
    }
  }

  /** What a fault answers without the vendor doing anything; null when the call goes on. */
  function insteadOf(fault: Fault, endpoint: string, call: VastaiCall): CallOutcome | null {
    const label = typeof call.body['label'] === 'string' ? call.body['label'] : '';
    switch (fault.kind) {
      case 'stale_offer':
        return endpoint === 'create' ? current().desk.loseRace(call.id, label) : null;
      case 'refuse':
        return countIfPurchase(endpoint, call.body, toRefusal(fault, endpoint, call));
      case 'rate_limit':
        return countIfPurchase(endpoint, call.body, limiter.reject(endpoint));
      case 'status':
        return countIfPurchase(endpoint, call.body, toFaultReply(fault, WORDS));
      case 'html':
        return countIfPurchase(endpoint, call.body, toHtmlReply(fault));
      case 'drop':
        return countIfPurchase(endpoint, call.body, 'cut');
      case 'timeout':
        return countIfPurchase(endpoint, call.body, 'silence');
      default:
        return null;
    }
  }

  function countIfPurchase<T>(endpoint: string, body: Record<string, unknown>, reply: T): T {
    if (endpoint === 'create') current().desk.countRefused(typeof body['label'] === 'string' ? body['label'] : '');
    return reply;
  }

  function toRefusal(fault: Fault, endpoint: string, call: VastaiCall): HttpReply {
    if (fault.body !== undefined || fault.status !== undefined) return toFaultReply(fault, WORDS);
    if (endpoint === 'create') return goneAsk(call.id, current().switches().raceStatus);
    return refusal(400, 'invalid_request', 'Refused by a fault of the sandbox.').reply;
  }

  const listener = await listenHttp(options.port, (request, response) => {
    serve(request, response).catch((error: unknown) => {
      // A client that hangs up in the middle of its request is no error of ours.
      if (request.destroyed) return;
      sendReply(response, toErrorReply(error));
    });
  });
  return {
    ...listener,
    callCounts: () => structuredClone(counts),
    resetCounts() {
      counts = { perEndpoint: {}, changesPerInstance: {} };
    },
  };
}

/** A believable answer with fewer rows than there are. */
function keepRows(body: unknown, share: number): unknown {
  if (Array.isArray(body)) return body.slice(0, Math.floor(body.length * share));
  const result: Record<string, unknown> = { ...(body as Record<string, unknown>) };
  for (const field of ['instances', 'offers'] as const) {
    const rows = result[field];
    if (!Array.isArray(rows)) {
      if (field in result) result[field] = null;
      continue;
    }
    const kept = rows.slice(0, Math.floor(rows.length * share));
    result[field] = kept;
    if (field === 'instances' && 'total_instances' in result) {
      Object.assign(result, { instances_found: kept.length, total_instances: kept.length, next_token: null });
      result['label_counts'] = countLabels(kept as WireObject[]);
    }
  }
  return result;
}

function findRoute(method: string, pathname: string): { route: VastaiRoute; ids: number[] } | null {
  const path = pathname.replace(/\/+$/, '');
  for (const route of VASTAI_ROUTES) {
    if (route.method !== method) continue;
    const match = route.pattern.exec(path);
    if (match !== null) return { route, ids: match.slice(1).map(Number) };
  }
  return null;
}

function readKey(request: IncomingMessage, url: URL): string | null {
  const header = request.headers.authorization;
  if (header?.startsWith('Bearer ')) return header.slice('Bearer '.length);
  return url.searchParams.get('api_key');
}

/** The vendor wants exactly application/json. No body is an empty object. */
function parseBody(request: IncomingMessage, text: string | null): Record<string, unknown> | VastaiError {
  if (text === null) return refusal(413, 'invalid_request', 'The request body is too large.');
  if (text === '' || request.method === 'GET') return {};
  if (request.headers['content-type'] !== 'application/json') {
    return refusal(400, 'invalid_request', 'Content-Type must be application/json');
  }
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>;
  } catch {
    // Falls through.
  }
  return refusal(400, 'invalid_request', 'The request body is not a JSON object');
}

function readSubject(market: VastaiMarket, route: VastaiRoute, call: VastaiCall): FaultSubject {
  if (route.isAboutInstance === true) {
    return { instanceId: call.id, label: market.fleet.find(call.id)?.label };
  }
  return { label: typeof call.body['label'] === 'string' ? call.body['label'] : undefined };
}
