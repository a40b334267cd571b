/**
 * The HTTP server of a simulated vendor: key, rate limits, faults and latency around its routes.
 * Order of a call: key, limit, faults before execution, the handler, faults after it. A handler never waits, so two buyers of one
 * offer are served one after the other, as by the vendor's database.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CallOutcome, DEFAULT_FAULT_DELAY_MS, distortReply, toFaultReply, toHtmlReply } from '../call-faults.ts';
import type { Fault, FaultBook, FaultSubject } from '../faults.ts';
import { type HttpListener, type HttpReply, listenHttp, readBody, sendReply, toErrorReply } from '../http-listener.ts';
import type { ListenOptions } from '../vendor.ts';
import { type RentalApi, type RentalCall, type RentalRoute, VendorRefusal } from './api.ts';

export interface RentalServer extends HttpListener {
  callCounts(): RentalCallCounts;
  resetCounts(): void;
}

/** Since the start or the last reset. */
export interface RentalCallCounts {
  perEndpoint: Record<string, number>;
  /** Calls that would change a machine, by its id. */
  changesPerInstance: Record<string, number>;
}

/** What the server asks of the vendor's world of the moment. */
export interface RentalServerWorld<World> {
  world: World;
  faults: FaultBook;
  labelOf: (instanceId: string) => string | undefined;
  /** Counts a purchase that never reached the vendor. */
  countRefused: (label: string) => void;
}

/** `current` gives the world of the moment: a reset of the sandbox replaces it. */
export async function startRentalServer<World>(
  provider: string,
  api: RentalApi<World>,
  current: () => RentalServerWorld<World>,
  options: ListenOptions,
): Promise<RentalServer> {
  let counts: RentalCallCounts = { perEndpoint: {}, changesPerInstance: {} };

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
    const { world } = current();
    const method = request.method ?? 'GET';
    const found = findRoute(api.routes, method, url.pathname);
    if (found === null) return api.notFound(method, url.pathname);
    const { route, ids } = found;
    const refused = route.isPublic === true ? null : api.authenticate(request, url, options.apiKey);
    if (refused !== null) return refused;
    if (text === null) return api.tooLarge;
    const body = method === 'GET' ? {} : api.parseBody(request, text);
    if (body instanceof VendorRefusal) return body.reply;
    const call: RentalCall = { ids, query: url.searchParams, body };
    const endpoint = typeof route.endpoint === 'function' ? route.endpoint(call) : route.endpoint;
    const outcome = await answerCall(route, endpoint, call);
    const headers = api.headers?.(world, endpoint);
    if (headers === undefined || typeof outcome === 'string') return outcome;
    return { ...outcome, headers: { ...headers, ...outcome.headers } };
  }

  async function answerCall(route: RentalRoute<World>, endpoint: string, call: RentalCall): Promise<CallOutcome> {
    const instanceIds = route.instanceIds?.(call) ?? [];
    countCall(endpoint, route.method, instanceIds);
    const limited = api.limit(current().world, endpoint);
    if (limited !== null) return countIfPurchase(route, call, limited);
    const hits = current().faults.take(provider, endpoint, readSubject(route, call, instanceIds));
    for (const fault of hits) if (fault.kind === 'delay') await sleep(fault.delayMs ?? DEFAULT_FAULT_DELAY_MS);
    for (const fault of hits) {
      const instead = insteadOf(fault, route, endpoint, call);
      if (instead !== null) return countIfPurchase(route, call, instead);
    }
    return hits.reduce<CallOutcome>((outcome, fault) => distortReply(outcome, fault, api), execute(route, call));
  }

  function countCall(endpoint: string, method: string, instanceIds: readonly string[]): void {
    const { perEndpoint, changesPerInstance } = counts;
    perEndpoint[endpoint] = (perEndpoint[endpoint] ?? 0) + 1;
    if (method === 'GET') return;
    for (const id of instanceIds) changesPerInstance[id] = (changesPerInstance[id] ?? 0) + 1;
  }

  function execute(route: RentalRoute<World>, call: RentalCall): HttpReply {
    try {
      return route.handle(current().world, call);
    } catch (error) {
      if (error instanceof VendorRefusal) return countIfPurchase(route, call, error.reply);
      throw error;
    }
  }

  /** What a fault answers without the vendor doing anything; null when the call goes on. */
  function insteadOf(fault: Fault, route: RentalRoute<World>, endpoint: string, call: RentalCall): CallOutcome | null {
    const { world } = current();
    switch (fault.kind) {
      case 'stale_offer':
        return route.isPurchase === true ? api.loseOffer(world, call) : null;
      case 'refuse':
        if (fault.body !== undefined || fault.status !== undefined) return toFaultReply(fault, api);
        return api.refuse(world, endpoint, call);
      case 'rate_limit':
        return api.rejectForRate(world, endpoint);
      case 'status':
        return toFaultReply(fault, api);
      case 'html':
        return toHtmlReply(fault);
      case 'drop':
        return 'cut';
      case 'timeout':
        return 'silence';
      default:
        return null;
    }
  }

  function countIfPurchase<T>(route: RentalRoute<World>, call: RentalCall, reply: T): T {
    if (route.isPurchase === true) current().countRefused(api.labelOf(call));
    return reply;
  }

  function readSubject(route: RentalRoute<World>, call: RentalCall, instanceIds: readonly string[]): FaultSubject {
    if (route.isPurchase === true) return { label: api.labelOf(call) };
    const [instanceId] = instanceIds;
    return instanceId === undefined ? {} : { instanceId, label: current().labelOf(instanceId) };
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

function findRoute<World>(
  routes: readonly RentalRoute<World>[],
  method: string,
  pathname: string,
): { route: RentalRoute<World>; ids: string[] } | null {
  const path = pathname.replace(/\/+$/, '');
  for (const route of routes) {
    if (route.method !== method) continue;
    const match = route.pattern.exec(path);
    if (match !== null) return { route, ids: match.slice(1).map((text) => decodeURIComponent(text)) };
  }
  return null;
}
