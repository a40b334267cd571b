/**
 * The routes of the simulated vendor: method and path to a handler that answers at once from the market.
 * Names of endpoints are ours; faults, rate limits and counts go by them.
 */
import type { HttpReply } from '../http-listener.ts';
import { isPublicKey } from '../public-keys.ts';
import { noSuchInstance, refusal } from './errors.ts';
import { SOLD_MODELS } from './hardware.ts';
import { toWireInstance } from './instance-wire.ts';
import { type ListContext, listAllInstances, listFilterValues, listInstances } from './listing.ts';
import type { Machine } from './machine.ts';
import type { VastaiMarket } from './market.ts';
import type { WireObject } from './offer-wire.ts';
import { searchOffers } from './search.ts';
import { ACCOUNT_ID } from './ssh-keys.ts';

export interface VastaiCall {
  /** The number in the path, where the route has one. */
  id: number;
  /** A second number in the path. */
  subId: number;
  query: URLSearchParams;
  body: Record<string, unknown>;
  /** Where this server is reached, for links in answers. */
  baseUrl: string;
}

export interface VastaiRoute {
  method: string;
  pattern: RegExp;
  /** The endpoint's name, which may depend on what the body asks for. */
  endpoint: string | ((body: Record<string, unknown>) => string);
  isPublic?: true;
  /** Whether the number in the path is an instance. */
  isAboutInstance?: true;
  handle: (market: VastaiMarket, call: VastaiCall) => HttpReply;
}

export const VASTAI_ENDPOINTS = [
  'search',
  'create',
  'bulk_create',
  'launch',
  'read',
  'list',
  'filters',
  'state',
  'label',
  'bulk_state',
  'reboot',
  'bid',
  'logs',
  'execute',
  'destroy',
  'bulk_destroy',
  'ssh_key',
  'ssh_key_detach',
  'account_ssh_key',
  'account_ssh_key_create',
  'user',
  'gpu_names',
] as const;

const LABEL_LIMIT = 1024;
const COMMAND_LIMIT = 512;
const MAX_BID_PER_GPU = 32;

/** Paths are matched without their trailing slash: official ones have it, the official client sometimes leaves it out. */
export const VASTAI_ROUTES: readonly VastaiRoute[] = [
  route('POST', '/bundles', 'search', (market, { body }) => answerSearch(market, body)),
  route('GET', '/bundles', 'search', (market, { query }) => answerSearch(market, parseQuery(query))),
  route('PUT', '/search/asks', 'search', (market, { body }) => answerSearch(market, asObject(body['q'], 'q'))),
  route('PUT', '/asks/(\\d+)', 'create', (market, { id, body }) => market.desk.buy(id, body)),
  route('POST', '/asks/bulk', 'bulk_create', buyMany),
  route('PUT', '/launch_instance', 'launch', launchBest),
  { ...route('GET', '/instances', 'list', answerOldList) },
  {
    ...route('GET', '/instances', 'list', (market, { query }) =>
      ok(listInstances(market.fleet.all(), query, listContext(market))),
    ),
    pattern: /^\/api\/v1\/instances$/,
  },
  route('GET', '/instances/filters', 'filters', (market) =>
    ok(listFilterValues(market.fleet.all(), listContext(market))),
  ),
  route('PUT', '/instances', 'bulk_state', changeMany),
  route('DELETE', '/instances', 'bulk_destroy', destroyMany),
  about('GET', '/instances/(\\d+)', 'read', (market, { id }) => {
    const machine = market.fleet.find(id);
    return ok({ instances: machine === undefined ? null : toWire(market, machine) });
  }),
  about('PUT', '/instances/(\\d+)', (body) => ('label' in body ? 'label' : 'state'), changeOne),
  about('DELETE', '/instances/(\\d+)', 'destroy', (market, call) => {
    market.fleet.destroy(need(market, call));
    return ok({ success: true });
  }),
  about('PUT', '/instances/reboot/(\\d+)', 'reboot', (market, call) => {
    market.fleet.reboot(need(market, call));
    return ok({ success: true });
  }),
  about('PUT', '/instances/recycle/(\\d+)', 'reboot', (market, call) => {
    market.fleet.recycle(need(market, call));
    return ok({ success: true });
  }),
  about('PUT', '/instances/bid_price/(\\d+)', 'bid', changeBid),
  about('PUT', '/instances/request_logs/(\\d+)', 'logs', (market, call) => {
    const machine = need(market, call);
    return ok({ success: true, result_url: `${call.baseUrl}/sandbox-results/logs-${machine.id}` });
  }),
  about('PUT', '/instances/command/(\\d+)', 'execute', (market, call) => {
    const machine = need(market, call);
    const command = call.body['command'];
    if (typeof command !== 'string' || command.length > COMMAND_LIMIT) {
      throw refusal(400, 'invalid_args', `command must be a string of at most ${COMMAND_LIMIT} characters`);
    }
    return ok({ success: true, result_url: `${call.baseUrl}/sandbox-results/command-${machine.id}` });
  }),
  about('POST', '/instances/(\\d+)/ssh', 'ssh_key', (market, call) => {
    const machine = need(market, call);
    market.fleet.attachKey(machine, needPublicKey(call.body));
    return ok({ success: true, msg: 'SSH key added to instance.' });
  }),
  about('GET', '/instances/(\\d+)/ssh', 'ssh_key', (market, call) => {
    const keys = need(market, call).keys.map((key) => ({ id: key.id, user_id: ACCOUNT_ID, public_key: key.publicKey }));
    return ok({ success: true, ssh_keys: keys });
  }),
  about('DELETE', '/instances/(\\d+)/ssh/(\\d+)', 'ssh_key_detach', (market, call) => {
    if (!market.fleet.detachKey(need(market, call), call.subId)) throw refusal(404, 'not_found', 'SSH key not found.');
    return ok({ success: true });
  }),
  route('GET', '/ssh', 'account_ssh_key', (market) => ok(market.accountKeys.list())),
  route('POST', '/ssh', 'account_ssh_key_create', (market, { body }) =>
    ok({ success: true, key: market.accountKeys.add(needPublicKey(body)) }),
  ),
  route('PUT', '/ssh/(\\d+)', 'account_ssh_key', (market, { id, body }) => {
    if (!market.accountKeys.replace(id, needPublicKey(body))) throw refusal(404, 'not_found', 'SSH key not found.');
    return ok({ success: true });
  }),
  route('DELETE', '/ssh/(\\d+)', 'account_ssh_key', (market, { id }) => {
    if (!market.accountKeys.remove(id)) throw refusal(404, 'not_found', 'SSH key not found.');
    return ok({ success: true });
  }),
  route('GET', '/users/current', 'user', answerUser),
  {
    ...route('GET', '/gpu_names/unique', 'gpu_names', () => ok({ gpu_names: SOLD_MODELS.map(({ name }) => name) })),
    isPublic: true,
  },
  {
    // What the vendor keeps in object storage: logs and the output of commands, readable by whoever has the link.
    ...route('GET', '', 'logs', (_market, { id }) => ({ status: 200, body: `instance ${id}: simulated output\n` })),
    pattern: /^\/sandbox-results\/(?:logs|command)-(\d+)$/,
    isPublic: true,
  },
];

function route(
  method: string,
  path: string,
  endpoint: VastaiRoute['endpoint'],
  handle: VastaiRoute['handle'],
): VastaiRoute {
  return { method, pattern: new RegExp(`^/api/v0${path}$`), endpoint, handle };
}

function about(
  method: string,
  path: string,
  endpoint: VastaiRoute['endpoint'],
  handle: VastaiRoute['handle'],
): VastaiRoute {
  return { ...route(method, path, endpoint, handle), isAboutInstance: true };
}

function answerSearch(market: VastaiMarket, query: Record<string, unknown>): HttpReply {
  const context = { nowMs: market.clock.now(), defaultLimit: market.switches().searchDefaultLimit };
  return ok({ offers: searchOffers(market.offers.list(), query, context) });
}

function buyMany(market: VastaiMarket, { body }: VastaiCall): HttpReply {
  const ids = needIds(body, 'ids');
  const { ids: _ids, ...rest } = body;
  const results: WireObject[] = ids.map((id) => ({ ask_id: id, ...(market.desk.buy(id, rest).body as WireObject) }));
  const bought = results.filter((result) => result['success'] === true);
  return ok({
    success: bought.length > 0,
    new_contracts: bought.map((result) => result['new_contract']),
    results,
  });
}

function launchBest(market: VastaiMarket, { body }: VastaiCall): HttpReply {
  const { q, ...rest } = body;
  const context = { nowMs: market.clock.now(), defaultLimit: 1 };
  const best = searchOffers(market.offers.list(), asObject(q, 'q'), context)[0];
  if (best === undefined) throw refusal(404, 'no_such_ask', 'no_such_ask No offers match the query.');
  return market.desk.buy(best['id'] as number, rest);
}

function answerOldList(market: VastaiMarket): HttpReply {
  if (market.switches().listV0 === 200) return ok(listAllInstances(market.fleet.all(), listContext(market)));
  const msg = '/api/v0/instances/ is deprecated. Use /api/v1/instances/ instead.';
  throw refusal(410, 'deprecated_endpoint', msg);
}

function changeOne(market: VastaiMarket, call: VastaiCall): HttpReply {
  const machine = need(market, call);
  const { label } = call.body;
  if (label !== undefined) {
    if (typeof label !== 'string') throw refusal(400, 'invalid_args', 'label must be a string');
    if (label.length > LABEL_LIMIT) {
      throw refusal(400, 'label_too_long', `label is longer than ${LABEL_LIMIT} characters`);
    }
    market.fleet.setLabel(machine, label);
  }
  if (call.body['state'] !== undefined) setState(market, machine, call.body['state']);
  else if (label === undefined) throw refusal(400, 'invalid_args', 'state or label is required');
  return ok({ success: true });
}

function changeMany(market: VastaiMarket, { body }: VastaiCall): HttpReply {
  for (const id of needIds(body, 'ids')) {
    const machine = market.fleet.find(id);
    if (machine === undefined) throw noSuchInstance(id);
    setState(market, machine, body['state']);
  }
  return ok({ success: true });
}

function destroyMany(market: VastaiMarket, { body }: VastaiCall): HttpReply {
  for (const id of needIds(body, 'instance_ids')) {
    const machine = market.fleet.find(id);
    if (machine !== undefined) market.fleet.destroy(machine);
  }
  return ok({ success: true });
}

function setState(market: VastaiMarket, machine: Machine, state: unknown): void {
  if (state === 'running') market.fleet.start(machine);
  else if (state === 'stopped') market.fleet.stop(machine);
  else throw refusal(400, 'invalid_args', 'state must be running or stopped');
}

function changeBid(market: VastaiMarket, call: VastaiCall): HttpReply {
  const machine = need(market, call);
  if (!machine.isBid) throw refusal(400, 'invalid_args', `Instance ${machine.id} is not interruptible.`);
  const { price } = call.body;
  if (price === undefined || price === null) {
    // "Winning bid": just enough.
    market.fleet.setBid(machine, market.offers.bidFloor(machine.slotId));
    return ok({ success: true });
  }
  const usd = Number(price);
  if (!Number.isFinite(usd) || usd < 0.001) throw refusal(400, 'invalid_price', 'Please set a bid price >= 0.001.');
  const max = MAX_BID_PER_GPU * market.offers.slot(machine.slotId).numGpus;
  if (usd > max) throw refusal(400, 'invalid_price', `Please set a bid price <= ${max}.`);
  market.fleet.setBid(machine, Math.round(usd * 1_000_000));
  return ok({ success: true });
}

function answerUser(market: VastaiMarket): HttpReply {
  const creditMicroUsd = market.switches().creditUsd * 1_000_000 - market.totalChargedMicroUsd();
  return ok({
    id: ACCOUNT_ID,
    email: 'sandbox@example.com',
    username: 'sandbox',
    credit: Math.round(creditMicroUsd) / 1_000_000,
    balance: 0,
    ssh_key: market.accountKeys.list()[0]?.public_key ?? null,
  });
}

function need(market: VastaiMarket, { id }: VastaiCall): Machine {
  const machine = market.fleet.find(id);
  if (machine === undefined) throw noSuchInstance(id);
  return machine;
}

function needIds(body: Record<string, unknown>, field: string): number[] {
  const ids = body[field];
  if (!Array.isArray(ids) || ids.length === 0) throw refusal(400, 'invalid_args', `${field} must be a list of ids`);
  return ids.map((id) => {
    if (!Number.isSafeInteger(Number(id))) throw refusal(400, 'invalid_args', `${field} must be a list of ids`);
    return Number(id);
  });
}

function needPublicKey(body: Record<string, unknown>): string {
  const key = body['ssh_key'];
  if (!isPublicKey(key)) throw refusal(400, 'invalid_args', 'ssh_key is not a valid public key');
  return key.trim();
}

function parseQuery(query: URLSearchParams): Record<string, unknown> {
  try {
    return asObject(JSON.parse(query.get('q') ?? '{}'), 'q');
  } catch (error) {
    if (error instanceof SyntaxError) throw refusal(400, 'invalid_request', 'q is not valid JSON');
    throw error;
  }
}

function asObject(value: unknown, name: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refusal(400, 'invalid_request', `${name} must be an object`);
  }
  return value as Record<string, unknown>;
}

function listContext(market: VastaiMarket): ListContext {
  return {
    nowMs: market.clock.now(),
    lagMs: market.switches().listLagMs,
    slotOf: (machine) => market.offers.slot(machine.slotId),
    toWire: (machine) => toWire(market, machine),
  };
}

function toWire(market: VastaiMarket, machine: Machine): WireObject {
  return toWireInstance(machine, {
    slot: market.offers.slot(machine.slotId),
    bidFloorMicroUsdPerHour: market.offers.bidFloor(machine.slotId),
    nowMs: market.clock.now(),
    hasIpSpace: market.switches().hasIpSpace,
  });
}

function ok(body: unknown): HttpReply {
  return { status: 200, body };
}
