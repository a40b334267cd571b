/** The paths of RunPod's REST v2 that pods, the catalogue and the account need; everything else is 404, a wrong method 405. */
import type { IncomingMessage } from 'node:http';
import type { HttpReply } from '../http-listener.ts';
import { readBearer, type RentalApi, type RentalCall, type RentalRoute } from '../rental/api.ts';
import type { RentalMarket } from '../rental/vendor.ts';
import { createRunpodAccount, type RunpodAccount } from './account.ts';
import { billPods } from './bills.ts';
import { actionSchema, createPodSchema, parseBody, readBodyAs, sshKeysSchema, updatePodSchema } from './bodies.ts';
import { createCatalogue, type Catalogue } from './catalogue.ts';
import { toTime, type PodDetails } from './pod.ts';
import { createPods, type Pods } from './pods.ts';
import { podNotFound, problem, problemBody, refuse } from './problems.ts';
import { createStock, type Stock } from './stock.ts';
import type { RunpodSwitches } from './switches.ts';

export interface RunpodWorld {
  market: RentalMarket<PodDetails, RunpodSwitches>;
  account: RunpodAccount;
  stock: Stock;
  catalogue: Catalogue;
  pods: Pods;
}

export function createRunpodWorld(market: RentalMarket<PodDetails, RunpodSwitches>): RunpodWorld {
  const account = createRunpodAccount(market);
  const stock = createStock(market);
  return { market, account, stock, catalogue: createCatalogue(stock), pods: createPods(market, stock, account) };
}

const POD = /^\/v2\/pods\/([^/]+)$/;
const firstId = ({ ids }: RentalCall): string => ids[0] ?? '';
const podIds = (call: RentalCall): string[] => [firstId(call)];

const ROUTES: readonly RentalRoute<RunpodWorld>[] = [
  {
    method: 'GET',
    pattern: /^\/v2\/pods$/,
    endpoint: 'list',
    handle: ({ pods }, { query }) => ok(pods.list(readFlag(query, 'includeClusterPods'))),
  },
  {
    method: 'POST',
    pattern: /^\/v2\/pods$/,
    endpoint: 'create',
    isPurchase: true,
    handle: ({ pods }, { body }) => ok(pods.create(readBodyAs(createPodSchema, body)), 201),
  },
  {
    method: 'GET',
    pattern: POD,
    endpoint: 'read',
    instanceIds: podIds,
    handle: ({ pods }, call) => ok(pods.read(firstId(call))),
  },
  {
    method: 'PATCH',
    pattern: POD,
    endpoint: 'update',
    instanceIds: podIds,
    handle: ({ pods }, call) => ok(pods.update(firstId(call), readBodyAs(updatePodSchema, call.body))),
  },
  {
    method: 'DELETE',
    pattern: POD,
    endpoint: 'destroy',
    instanceIds: podIds,
    handle({ pods }, call) {
      pods.terminate(firstId(call));
      return NOTHING;
    },
  },
  {
    method: 'POST',
    pattern: /^\/v2\/pods\/([^/]+)\/action$/,
    endpoint: ({ body }) => (body['action'] === 'terminate' ? 'destroy' : 'action'),
    instanceIds: podIds,
    handle({ pods }, call) {
      const pod = pods.act(firstId(call), readBodyAs(actionSchema, call.body).action);
      return pod === null ? NOTHING : ok(pod);
    },
  },
  { method: 'GET', pattern: /^\/v2\/pods\/([^/]+)\/logs$/, endpoint: 'logs', instanceIds: podIds, handle: streamLogs },
  {
    method: 'GET',
    pattern: /^\/v2\/catalog\/gpus$/,
    endpoint: 'catalog',
    handle: ({ catalogue }, { query }) => ok(catalogue.gpus(query)),
  },
  {
    method: 'GET',
    pattern: /^\/v2\/catalog\/gpus\/([^/]+)$/,
    endpoint: 'catalog',
    handle: ({ catalogue }, call) => ok(catalogue.gpu(firstId(call), call.query)),
  },
  {
    method: 'GET',
    pattern: /^\/v2\/catalog\/datacenters$/,
    endpoint: 'catalog',
    handle: ({ catalogue }, { query }) => ok(catalogue.dataCenters(query)),
  },
  {
    method: 'GET',
    pattern: /^\/v2\/catalog\/datacenters\/([^/]+)$/,
    endpoint: 'catalog',
    handle: ({ catalogue }, call) => ok(catalogue.dataCenter(firstId(call), call.query)),
  },
  { method: 'GET', pattern: /^\/v2\/catalog\/cpus$/, endpoint: 'catalog', handle: () => ok({ cpus: [] }) },
  {
    method: 'GET',
    pattern: /^\/v2\/account\/ssh-keys$/,
    endpoint: 'ssh_keys',
    handle: ({ account }) => ok({ keys: account.sshKeys() }),
  },
  {
    method: 'PUT',
    pattern: /^\/v2\/account\/ssh-keys$/,
    endpoint: 'ssh_keys_replace',
    handle({ account }, { body }) {
      account.setSshKeys(readBodyAs(sshKeysSchema, body).keys);
      return ok({ keys: account.sshKeys() });
    },
  },
  {
    method: 'GET',
    pattern: /^\/v2\/billing\/pods$/,
    endpoint: 'billing',
    handle: ({ market }, { query }) => ok(billPods(market, query)),
  },
];

/** Our names for the calls: faults and counts go by them. */
export const RUNPOD_ENDPOINTS = [
  'list',
  'create',
  'read',
  'update',
  'destroy',
  'action',
  'logs',
  'catalog',
  'ssh_keys',
  'ssh_keys_replace',
  'billing',
];

export const RUNPOD_API: RentalApi<RunpodWorld> = {
  routes: ROUTES,
  authenticate: (request: IncomingMessage, _url: URL, apiKey: string) => {
    const token = readBearer(request);
    if (token === apiKey) return null;
    return problem(401, token === null ? 'missing bearer token' : 'invalid bearer token');
  },
  parseBody: (_request, text) => parseBody(text),
  labelOf: ({ body }) => (typeof body['name'] === 'string' ? body['name'] : ''),
  limit: ({ account }) => account.limit(),
  rejectForRate: ({ account }) => account.rejectForRate(),
  refuse: ({ market }, endpoint) =>
    endpoint === 'create'
      ? problem(400, market.switches().capacityDetail)
      : problem(400, 'request could not be processed'),
  loseOffer({ market, pods, stock }, { body }) {
    const pool = pods.poolOf(readBodyAs(createPodSchema, body));
    if (pool !== undefined) stock.empty(pool.key);
    return problem(400, market.switches().capacityDetail);
  },
  notFound(method, path) {
    const allowed = ROUTES.filter(({ pattern }) => pattern.test(path.replace(/\/+$/, ''))).map((route) => route.method);
    if (allowed.length === 0) return problem(404, `no route for ${method} ${path}`);
    return problem(405, 'The requested method is not allowed for this path.', {
      headers: { allow: allowed.join(', ') },
    });
  },
  tooLarge: problem(413, 'request body is too large'),
  headers: ({ account }) => account.headers(),
  outageBody: problemBody(503, 'upstream unavailable'),
  keepRows,
};

const NOTHING: HttpReply = { status: 204, body: '' };

function ok(body: unknown, status = 200): HttpReply {
  return { status, body };
}

function readFlag(query: URLSearchParams, name: string): boolean {
  const value = query.get(name) ?? 'false';
  if (value !== 'true' && value !== 'false')
    throw refuse(422, 'Request validation failed.', [`${name}: got ${JSON.stringify(value)}, want boolean`]);
  return value === 'true';
}

/** A stream of server-sent events that ends with what there is. */
function streamLogs({ market }: RunpodWorld, call: RentalCall): HttpReply {
  const pod = market.fleet.find(firstId(call));
  if (pod === undefined) throw podNotFound();
  const ts = toTime(pod.createdAtMs);
  const lines = [`create container ${pod.details.image}`, `pod ${pod.id} ${pod.status}`];
  const events = lines.map((line) => `id: ${ts}\ndata: ${JSON.stringify({ source: 'system', line, ts })}\n\n`);
  return { status: 200, body: events.join(''), headers: { 'content-type': 'text/event-stream' } };
}

/** Of whatever list the answer has. */
function keepRows(body: unknown, share: number): unknown {
  if (typeof body !== 'object' || body === null) return body;
  const entries = Object.entries(body).map(([name, value]) => [
    name,
    Array.isArray(value) ? value.slice(0, Math.floor(value.length * share)) : value,
  ]);
  return Object.fromEntries(entries);
}
