/** The routes of the simulated Lambda Cloud: method and path to a handler that answers at once. */
import type { HttpReply } from '../http-listener.ts';
import type { RentalCall, RentalRoute } from '../rental/api.ts';
import { toWireFileSystem, toWireRuleset } from './account.ts';
import { INSTANCE_TYPES, REGIONS } from './catalog.ts';
import { invalidParameters, notThere, notThereWithAdvice } from './errors.ts';
import {
  canTerminate,
  type LambdaMachine,
  statusOf,
  toWireInstance,
  toWireRegion,
  toWireType,
} from './instance-wire.ts';
import { launch } from './launch.ts';
import type { LambdaWorld } from './world.ts';

type Route = RentalRoute<LambdaWorld>;

const MAX_NAME_LENGTH = 64;
const EVENTS_PER_PAGE = 50;
const IMAGE_TIME = '2026-01-15T00:00:00.000Z';

export const LAMBDA_ROUTES: readonly Route[] = [
  route('GET', '/instances', 'list', listInstances),
  about('GET', '/instances/([^/]+)', 'read', (world, { ids }) => ok(toWireInstance(need(world, ids[0]!)))),
  about('POST', '/instances/([^/]+)', 'rename', rename),
  route('GET', '/instance-types', 'search', listTypes),
  {
    ...route('POST', '/instance-operations/launch', 'create', (world, { body }) => launch(world, body)),
    isPurchase: true,
  },
  { ...route('POST', '/instance-operations/terminate', 'destroy', terminate), instanceIds: idsOfBody },
  { ...route('POST', '/instance-operations/restart', 'restart', restart), instanceIds: idsOfBody },
  route('GET', '/ssh-keys', 'ssh_keys', ({ account }) => ok(account.keys())),
  route('POST', '/ssh-keys', 'ssh_key_create', ({ account }, { body }) => ok(account.addKey(body))),
  route('DELETE', '/ssh-keys/([^/]+)', 'ssh_key_delete', ({ account }, { ids }) => {
    account.removeKey(ids[0]!);
    return ok({});
  }),
  route('GET', '/file-systems', 'file_systems', (world) =>
    ok(world.account.fileSystems().map((one) => toWireFileSystem(one, isMounted(world, one.name)))),
  ),
  route('POST', '/filesystems', 'file_systems', ({ account }, { body }) =>
    ok(toWireFileSystem(account.addFileSystem(body), false)),
  ),
  route('DELETE', '/filesystems/([^/]+)', 'file_systems', (world, { ids }) => {
    const one = world.account.fileSystems().find(({ id }) => id === ids[0]);
    world.account.removeFileSystem(ids[0]!, one !== undefined && isMounted(world, one.name));
    return ok({ deleted_ids: ids });
  }),
  route('GET', '/images', 'images', () => ok(listImages())),
  route('GET', '/firewall-rules', 'firewall', ({ account }) => ok(account.rules())),
  route('PUT', '/firewall-rules', 'firewall', ({ account }, { body }) => ok(account.setRules(body))),
  route('GET', '/firewall-rulesets', 'firewall', (world) =>
    ok(world.account.rulesets().map((ruleset) => toWireRuleset(ruleset, usersOf(world, ruleset.id)))),
  ),
  route('POST', '/firewall-rulesets', 'firewall', ({ account }, { body }) =>
    ok(toWireRuleset(account.addRuleset(body), [])),
  ),
  route('GET', '/firewall-rulesets/global', 'firewall', ({ account }) => ok(globalRuleset(account.rules()))),
  route('PATCH', '/firewall-rulesets/global', 'firewall', ({ account }, { body }) =>
    ok(globalRuleset(account.setRules(body))),
  ),
  route('GET', '/firewall-rulesets/([^/]+)', 'firewall', (world, { ids }) => {
    const found = world.account.rulesets().find(({ id }) => id === ids[0]);
    if (found === undefined) throw notThereWithAdvice('firewall ruleset');
    return ok(toWireRuleset(found, usersOf(world, found.id)));
  }),
  route('PATCH', '/firewall-rulesets/([^/]+)', 'firewall', (world, { ids, body }) =>
    ok(toWireRuleset(world.account.changeRuleset(ids[0]!, body), usersOf(world, ids[0]!))),
  ),
  route('DELETE', '/firewall-rulesets/([^/]+)', 'firewall', (world, { ids }) => {
    world.account.removeRuleset(ids[0]!, usersOf(world, ids[0]!).length > 0);
    return ok({});
  }),
  route('GET', '/audit-events', 'audit_events', listEvents),
];

export const LAMBDA_ENDPOINTS: readonly string[] = [
  ...new Set(LAMBDA_ROUTES.map(({ endpoint }) => endpoint).filter((endpoint) => typeof endpoint === 'string')),
];

function route(method: string, path: string, endpoint: string, handle: Route['handle']): Route {
  return { method, pattern: new RegExp(`^/api/v1${path}$`), endpoint, handle };
}

function about(method: string, path: string, endpoint: string, handle: Route['handle']): Route {
  return { ...route(method, path, endpoint, handle), instanceIds: ({ ids }) => ids };
}

function listInstances({ market }: LambdaWorld, { query }: RentalCall): HttpReply {
  const { keepTerminatedMs, listLagMs, pageSize } = market.switches();
  const rows = market.fleet.listed(listLagMs, Math.max(keepTerminatedMs, listLagMs));
  if (pageSize === null) return ok(rows.map(toWireInstance));
  const from = Number(query.get('page_token') ?? 0);
  const next = from + pageSize < rows.length ? String(from + pageSize) : null;
  return { status: 200, body: { data: rows.slice(from, from + pageSize).map(toWireInstance), page_token: next } };
}

function rename(world: LambdaWorld, { ids, body }: RentalCall): HttpReply {
  const machine = need(world, ids[0]!);
  const name = body['name'];
  if (typeof name !== 'string' || name.length > MAX_NAME_LENGTH) {
    throw invalidParameters(`name must have at most ${MAX_NAME_LENGTH} characters.`);
  }
  world.market.fleet.update(machine, { label: name, details: { ...machine.details, name } });
  return ok(toWireInstance(machine));
}

function listTypes({ stock }: LambdaWorld): HttpReply {
  const rows = [...INSTANCE_TYPES.values()].map((type) => [
    type.name,
    {
      instance_type: toWireType(type, stock.priceOf(type)),
      regions_with_capacity_available: stock.regionsOf(type).map(toWireRegion),
    },
  ]);
  return ok(Object.fromEntries(rows));
}

function terminate(world: LambdaWorld, call: RentalCall): HttpReply {
  const { fleet, switches } = world.market;
  const { terminateEarly, terminateReply } = switches();
  const machines = needMachines(world, call);
  const early = machines.filter((machine) => !canTerminate(machine));
  if (early.length > 0 && terminateEarly === 'refuse') {
    throw invalidParameters('The instance has not launched yet.');
  }
  const ready = terminateEarly === 'accept' ? machines : machines.filter(canTerminate);
  for (const machine of ready) fleet.destroy(machine);
  const isEmpty = terminateReply === 'empty' || (terminateReply === 'alternate' && world.terminates++ % 2 === 0);
  return ok({ terminated_instances: isEmpty ? [] : ready.map(toWireInstance) });
}

function restart(world: LambdaWorld, call: RentalCall): HttpReply {
  const machines = needMachines(world, call);
  for (const machine of machines) {
    if (statusOf(machine) === 'booting') throw invalidParameters('The instance has not launched yet.');
    if (machine.status === 'running') world.market.fleet.restart(machine);
    else world.market.fleet.start(machine);
  }
  return ok({ restarted_instances: machines.map(toWireInstance) });
}

/** Every launch and every end, newest first: what the account's machines tell. */
function listEvents({ market }: LambdaWorld, { query }: RentalCall): HttpReply {
  const events: Record<string, unknown>[] = [];
  for (const { id, createdAtMs, destroyedAtMs } of market.fleet.all()) {
    events.push(toEvent(id, 'launch', createdAtMs));
    if (destroyedAtMs !== null) events.push(toEvent(id, 'terminate', destroyedAtMs));
  }
  events.sort((a, b) => String(b['event_time']).localeCompare(String(a['event_time'])));
  const from = Number(query.get('page_token') ?? 0);
  const next = from + EVENTS_PER_PAGE < events.length ? String(from + EVENTS_PER_PAGE) : null;
  return ok({ events: events.slice(from, from + EVENTS_PER_PAGE), page_token: next });
}

function toEvent(id: string, action: string, atMs: number): Record<string, unknown> {
  return {
    service_name: 'cloud',
    resource_name: 'instance',
    action,
    catalog_version: '1',
    event_id: `${action}-${id}`,
    event_time: new Date(atMs).toISOString(),
    actor_lrn: null,
    resource_lrns: [`lrn:instance:${id}`],
    resource_owner_lrn: null,
    request_api_key_lrn: null,
    additional_details: {},
  };
}

function listImages(): Record<string, unknown>[] {
  return Object.keys(REGIONS).map((region, index) => ({
    id: `00000000-0000-4000-8000-${String(index).padStart(12, '0')}`,
    created_time: IMAGE_TIME,
    updated_time: IMAGE_TIME,
    name: 'lambda-stack-24-04-1',
    description: 'Ubuntu 24.04 with drivers and frameworks',
    family: 'lambda-stack-24-04',
    version: '24.4.1',
    architecture: 'x86_64',
    region: toWireRegion(region),
  }));
}

function globalRuleset(rules: unknown[]): Record<string, unknown> {
  return { id: 'global', name: 'Global Firewall Rules', rules };
}

function usersOf({ market }: LambdaWorld, rulesetId: string): string[] {
  const users = market.fleet
    .listed(0)
    .filter(({ details }) => details.firewallRulesets.some(({ id }) => id === rulesetId));
  return users.map(({ id }) => id);
}

function isMounted({ market }: LambdaWorld, name: string): boolean {
  return market.fleet.listed(0).some(({ details }) => details.fileSystemNames.includes(name));
}

/** A terminated one too, for as long as the vendor shows it. */
function need({ market }: LambdaWorld, id: string): LambdaMachine {
  const found = market.fleet.find(id) ?? findKept(market, id);
  if (found === undefined) throw notThere('instance');
  return found;
}

function findKept(market: LambdaWorld['market'], id: string): LambdaMachine | undefined {
  const kept = market.fleet.listed(0, market.switches().keepTerminatedMs);
  return kept.find((machine) => machine.id === id && machine.destroyedAtMs !== null);
}

function needMachines(world: LambdaWorld, call: RentalCall): LambdaMachine[] {
  const ids = idsOfBody(call);
  if (ids.length === 0) throw invalidParameters('instance_ids must be a list of ids.');
  return ids.map((id) => {
    const machine = world.market.fleet.find(id);
    if (machine === undefined) throw notThere('instance');
    return machine;
  });
}

function idsOfBody({ body }: RentalCall): string[] {
  const ids = body['instance_ids'];
  return Array.isArray(ids) ? ids.map(String) : [];
}

function ok(data: unknown): HttpReply {
  return { status: 200, body: { data } };
}
