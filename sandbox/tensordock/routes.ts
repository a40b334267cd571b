/** The routes of TensorDock's API v2. A purchase is purchase.ts's; what bodies must be is requests.ts's. */
import type { HttpReply } from '../http-listener.ts';
import type { RentalCall, RentalRoute } from '../rental/api.ts';
import {
  describeList,
  describeMachine,
  statusOf,
  writeStatus,
  type Status,
  type TensordockMachine,
} from './machine.ts';
import { buyMachine, priceOf } from './purchase.ts';
import { NO_NODES, refusal } from './refusals.ts';
import { readModify, readSecret } from './requests.ts';
import type { Free } from './stock.ts';
import { findMachine, type TensordockWorld } from './world.ts';

type Route = RentalRoute<TensordockWorld>;

export const TENSORDOCK_ENDPOINTS = [
  'hostnodes',
  'locations',
  'create',
  'list',
  'show',
  'destroy',
  'start',
  'stop',
  'modify',
  'secrets',
] as const;

const ID = '([^/]+)';
const instanceIds = (call: RentalCall): string[] => call.ids.slice(0, 1);

export const TENSORDOCK_ROUTES: readonly Route[] = [
  {
    method: 'GET',
    pattern: path('/locations'),
    endpoint: 'locations',
    isPublic: true,
    handle: ({ stock }) => ok({ data: { locations: stock.describePlaces() } }),
  },
  {
    method: 'GET',
    pattern: path('/hostnodes'),
    endpoint: 'hostnodes',
    handle: ({ stock }, { query }) =>
      ok({
        data: { hostnodes: stock.describeHosts(query.get('gpu_model'), query.get('status') === 'available') },
      }),
  },
  { method: 'GET', pattern: path(`/hostnodes/${ID}`), endpoint: 'hostnodes', handle: showHost },
  {
    method: 'POST',
    pattern: path('/instances'),
    endpoint: 'create',
    isPurchase: true,
    handle: (world, { body }) => buyMachine(world, body),
  },
  { method: 'GET', pattern: path('/instances'), endpoint: 'list', handle: listMachines },
  { method: 'GET', pattern: path(`/instances/${ID}`), endpoint: 'show', instanceIds, handle: showMachine },
  { method: 'DELETE', pattern: path(`/instances/${ID}`), endpoint: 'destroy', instanceIds, handle: destroyMachine },
  { method: 'POST', pattern: path(`/instances/${ID}/start`), endpoint: 'start', instanceIds, handle: startMachine },
  { method: 'POST', pattern: path(`/instances/${ID}/stop`), endpoint: 'stop', instanceIds, handle: stopMachine },
  { method: 'PUT', pattern: path(`/instances/${ID}/modify`), endpoint: 'modify', instanceIds, handle: modifyMachine },
  {
    method: 'GET',
    pattern: path('/secrets'),
    endpoint: 'secrets',
    handle: ({ secrets }) => ok({ data: { secrets: secrets.all().map(({ id, name, type }) => ({ id, name, type })) } }),
  },
  {
    method: 'POST',
    pattern: path('/secrets'),
    endpoint: 'secrets',
    handle({ secrets }, { body }) {
      const { id, name, type } = secrets.add(readSecret(body));
      return { status: 201, body: { data: { id, name, type } } };
    },
  },
  { method: 'GET', pattern: path(`/secrets/${ID}`), endpoint: 'secrets', handle: showSecret },
  { method: 'DELETE', pattern: path(`/secrets/${ID}`), endpoint: 'secrets', handle: deleteSecret },
  {
    method: 'PATCH',
    pattern: path(`/secrets/${ID}`),
    endpoint: 'secrets',
    handle: () => {
      throw refusal(405, 'Method not allowed');
    },
  },
];

function showHost({ stock }: TensordockWorld, { ids }: RentalCall): HttpReply {
  const host = stock.findHost(ids[0] ?? '');
  if (host === undefined) throw refusal(404, 'Hostnode not found');
  return ok({ data: stock.describeHost(host) });
}

function listMachines(world: TensordockWorld): HttpReply {
  const switches = world.switches();
  return ok(describeList(world.fleet.listed(switches.listLagMs), switches, world.now()));
}

function showMachine(world: TensordockWorld, { ids }: RentalCall): HttpReply {
  return ok(describeMachine(findMachine(world, ids[0]), world.switches(), world.now()));
}

function destroyMachine(world: TensordockWorld, { ids }: RentalCall): HttpReply {
  world.fleet.destroy(findMachine(world, ids[0]));
  const { deleteStatus } = world.switches();
  if (deleteStatus === 204) return { status: 204, body: '' };
  return ok({ data: { type: 'success', attributes: { message: 'Instance deleted successfully' } } });
}

function startMachine(world: TensordockWorld, { ids }: RentalCall): HttpReply {
  const machine = findMachine(world, ids[0]);
  const status = statusOf(machine, world.switches());
  if (status === 'running' || status === 'starting' || status === 'creating')
    throw refusal(409, 'Instance is already running');
  if (status !== 'stopped' && status !== 'stoppeddisassociated')
    throw refusal(400, 'Instance must be stopped before it can be started');
  const isGpuGone = status === 'stoppeddisassociated' && !hasRoomAgain(world, machine);
  if (world.switches().isStartRefused || isGpuGone) throw refusal(400, `${NO_NODES}: the GPU is no longer available`);
  world.fleet.start(machine);
  return powered(world, machine, 'starting');
}

/** Its GPU was released: somebody else may have it now. */
function hasRoomAgain({ stock }: TensordockWorld, machine: TensordockMachine): boolean {
  const host = stock.findHost(machine.offerKey);
  return host !== undefined && stock.canServe(host, sizeOf(machine));
}

function stopMachine(world: TensordockWorld, { ids }: RentalCall): HttpReply {
  const machine = findMachine(world, ids[0]);
  const status = statusOf(machine, world.switches());
  if (status === 'stoppeddisassociated')
    throw refusal(400, 'Machine is stoppeddisassociated, therefore it cannot be stopped');
  if (status === 'stopped' || status === 'stopping') throw refusal(400, 'Instance is already stopped');
  if (status === 'deleting' || status === 'error') throw refusal(400, `Instance is ${status} and cannot be stopped`);
  world.fleet.stop(machine);
  return powered(world, machine, 'stopping');
}

function modifyMachine(world: TensordockWorld, { ids, body }: RentalCall): HttpReply {
  const machine = findMachine(world, ids[0]);
  const change = readModify(body);
  const status = statusOf(machine, world.switches());
  if (status !== 'stopped' && status !== 'stoppeddisassociated')
    throw refusal(400, 'Instance must be stopped before it can be modified');
  const host = world.stock.findHost(machine.offerKey);
  const before = sizeOf(machine);
  if (change.diskGb !== undefined && change.diskGb < before.storageGb)
    throw refusal(400, 'Storage can only be increased');
  if (host === undefined || (change.gpus !== undefined && change.gpus.gpuV0Name !== machine.details.v0Name))
    throw refusal(400, NO_NODES);
  const after: Free = {
    gpus: change.gpus?.count ?? before.gpus,
    vcpus: change.cpuCores ?? before.vcpus,
    ramGb: change.ramGb ?? before.ramGb,
    storageGb: change.diskGb ?? before.storageGb,
  };
  Object.assign(machine, { gpuCount: after.gpus, ...priceOf(world.stock.gpuPrice(host), after) });
  const { vcpus, ramGb, storageGb } = after;
  world.fleet.update(machine, { details: { ...machine.details, vcpus, ramGb, storageGb } });
  return ok(describeMachine(machine, world.switches(), world.now()));
}

function showSecret({ secrets }: TensordockWorld, { ids }: RentalCall): HttpReply {
  const secret = secrets.find(ids[0] ?? '');
  if (secret === undefined) throw refusal(404, 'Secret not found');
  return ok({ data: secret });
}

function deleteSecret({ secrets }: TensordockWorld, { ids }: RentalCall): HttpReply {
  if (!secrets.remove(ids[0] ?? '')) throw refusal(404, 'Secret not found');
  return ok({ data: { type: 'success', attributes: { message: 'Secret deleted successfully' } } });
}

function sizeOf(machine: TensordockMachine): Free {
  const { vcpus, ramGb, storageGb } = machine.details;
  return { gpus: machine.gpuCount, vcpus, ramGb, storageGb };
}

function powered(world: TensordockWorld, machine: TensordockMachine, status: Status): HttpReply {
  const attributes = { status: writeStatus(status, world.switches()) };
  return ok({ data: { type: 'instance', id: machine.id, attributes } });
}

function path(pattern: string): RegExp {
  return new RegExp(`^/api/v2${pattern}$`);
}

function ok(body: unknown): HttpReply {
  return { status: 200, body };
}
