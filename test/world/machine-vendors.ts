/**
 * Who rents machines out in this world: a vendor of GPU machines, spoken to by the contract of a provider's client, and a cloud whose
 * standbys are made by stacks. Both fail as the script says; what they have is the truth that promises are judged by.
 */
import type { StackRunner, UpdateHooks, UpdateOutcome, UpdateRequest } from '../../automation/engine/stack-runner.ts';
import type { UpdateKind } from '../../automation/engine/protocol.ts';
import type { ObservedInstance, ObservedStatus } from '../../domain/observed-instance.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { StandbyStackConfig } from '../../domain/standby.ts';
import type { ProviderClient } from '../../providers-dynamic/provider-client.ts';
import { makeOffer, PRICE } from '../support/fleet-database.ts';
import type { SeededRandom } from '../support/seeded-random.ts';
import type { Machine, MachineOrder } from './machine.ts';

export interface Rented {
  id: string;
  label: string;
  host: number;
  machine: Machine;
  /** What the vendor says of one that is dead; null: it says that it runs, because it has not noticed. */
  word: ObservedStatus | 'vanished' | null;
}

export interface GpuVendor {
  readonly client: ProviderClient;
  /** Machines that are there and billed. */
  rented(): Rented[];
  trouble: { isDown: boolean; isEmpty: boolean; isLying: boolean; isDestroyDeaf: boolean };
  readonly bought: number;
  readonly destroyed: number;
  /** Told before a machine is destroyed because we asked for it. */
  onDestroy: (rented: Rented) => void;
}

const HOSTS = 14;
const CLEAN = { isDown: false, isEmpty: false, isLying: false, isDestroyDeaf: false };
const BOOT_MS = 60_000;

export function createGpuVendor(random: SeededRandom, make: (order: MachineOrder) => Promise<Machine>): GpuVendor {
  const all = new Map<string, Rented>();
  let nextId = 1001;
  let destroyed = 0;
  const check = (): void => {
    if (vendor.trouble.isDown) throw new ProviderError('retryable', 'HTTP 503: the vendor is down');
  };

  function see({ id, label, machine, word, host }: Rented): ObservedInstance {
    const { ssh } = machine;
    const status: ObservedStatus =
      word !== null && word !== 'vanished'
        ? word
        : machine.power === 'booting'
          ? 'starting'
          : machine.power === 'off'
            ? 'stopped'
            : 'running';
    return {
      provider: 'vastai',
      providerInstanceId: id,
      label,
      status,
      statusDetail: null,
      machineId: `machine-${host}`,
      gpu: 'RTX 4090',
      gpuCount: 1,
      gpuMemoryGib: 24,
      priceMicroUsdPerHour: PRICE,
      interruptible: false,
      interrupted: false,
      ssh: status === 'running' ? { host: ssh.host, port: ssh.port, user: ssh.user } : null,
      image: null,
      region: 'SE',
      startedAt: null,
    };
  }
  const listed = (): ObservedInstance[] => [...all.values()].filter(({ word }) => word !== 'vanished').map(see);
  const tell = (seen: ObservedInstance[]): ObservedInstance[] =>
    vendor.trouble.isLying ? seen.slice(0, Math.floor(seen.length / 4)) : seen;

  const client: ProviderClient = {
    provider: 'vastai',
    capabilities: { interruptible: true, stop: true, attachKeys: true, relabel: true },
    async searchOffers() {
      check();
      const taken = new Set([...all.values()].map(({ host }) => host));
      const free = Array.from({ length: HOSTS }, (_, index) => index + 1).filter((host) => !taken.has(host));
      return vendor.trouble.isEmpty ? [] : free.map((host) => makeOffer(host));
    },
    async buy(order, signal, beforeSending) {
      check();
      if (signal?.aborted) throw new ProviderError('canceled', 'canceled');
      beforeSending?.();
      const host = Number(order.providerOfferId.replace('offer-', ''));
      const isTaken = [...all.values()].some((one) => one.host === host);
      if (isTaken || vendor.trouble.isEmpty) throw new ProviderError('no_capacity', 'no_such_ask', { httpStatus: 410 });
      const id = String(nextId++);
      const token = order.env['MUSTER_AGENT_TOKEN'] ?? null;
      const machine = await make({ name: `gpu-${id}`, kind: 'rented', token });
      all.set(id, { id, label: order.label, host, machine, word: null });
      machine.boot(BOOT_MS * (0.5 + random.next() * 2));
      return { providerInstanceId: id };
    },
    async readInstance(id) {
      check();
      const found = all.get(id);
      return found && found.word !== 'vanished' ? see(found) : null;
    },
    async listInstances() {
      check();
      return tell(listed());
    },
    async findByLabel(label) {
      check();
      return listed().filter((one) => one.label === label);
    },
    async destroy(id) {
      check();
      if (vendor.trouble.isDestroyDeaf) throw new ProviderError('retryable', 'HTTP 500');
      const found = all.get(id);
      if (!found) return;
      vendor.onDestroy(found);
      all.delete(id);
      destroyed++;
      await found.machine.destroy();
    },
    stop: () => Promise.resolve(),
    start: () => Promise.resolve(),
    setLabel: () => Promise.resolve(),
    changeBid: () => Promise.resolve(),
    attachSshKey: () => Promise.resolve(),
    listAccountSshKeys: () => Promise.resolve([]),
    addAccountSshKey: () => Promise.resolve(),
    readAccount: () => Promise.resolve({ accountId: '1', creditMicroUsd: null }),
  };
  const vendor: GpuVendor = {
    client,
    rented: () => [...all.values()].filter(({ word }) => word !== 'vanished'),
    trouble: { ...CLEAN },
    get bought() {
      return nextId - 1001;
    },
    get destroyed() {
      return destroyed;
    },
    onDestroy: () => {},
  };
  return vendor;
}

type Zone = 'zone' | 'fallback_zone';

interface Vm {
  machine: Machine;
  zone: Zone;
}

export interface StandbyCloud {
  readonly runner: StackRunner;
  /** Zones that have no room for a machine that is started. */
  full: Set<Zone>;
  /** By the stack's name. */
  vms(): Map<string, Vm>;
  readonly refusals: number;
}

const STANDBY_BOOT_MS = 20_000;

/** Stacks of kind `standby`; everything else is `other`'s. */
export function createStandbyCloud(
  other: StackRunner,
  random: SeededRandom,
  make: (order: MachineOrder) => Promise<Machine>,
): StandbyCloud {
  const vms = new Map<string, Vm>();
  const known = new Set<string>();
  let refusals = 0;

  async function up({ stackName, program }: UpdateRequest, hooks: UpdateHooks): Promise<string | null> {
    const { config } = (program as { args: unknown }).args as { config: StandbyStackConfig };
    const zone: Zone = config.runIn ?? 'zone';
    let vm = vms.get(stackName);
    if (!vm) {
      const join = await hooks.answer('joinStandby', {});
      const machine = await make({ name: stackName, kind: 'standby', token: join?.token ?? null });
      vm = { machine, zone };
      vms.set(stackName, vm);
    }
    const { machine } = vm;
    const runs = machine.power === 'on' || machine.power === 'booting' || machine.power === 'dead';
    // Made anew in the other zone, on the same disk.
    if (vm.zone !== zone && runs) machine.switchOff();
    vm.zone = zone;
    const runsHere = machine.power === 'on' || machine.power === 'booting' || machine.power === 'dead';
    if (config.state !== 'warm') {
      if (runsHere) machine.switchOff();
      return null;
    }
    if (runsHere) return null;
    if (cloud.full.has(zone)) {
      refusals++;
      return `The zone does not have enough resources available to fulfill the request (ZONE_RESOURCE_POOL_EXHAUSTED)`;
    }
    machine.boot(STANDBY_BOOT_MS * (0.5 + random.next()));
    return null;
  }

  async function run(update: UpdateKind, request: UpdateRequest, hooks: UpdateHooks): Promise<UpdateOutcome> {
    known.add(request.stackName);
    const reason = update === 'up' ? await up(request, hooks) : null;
    if (update === 'destroy') await vms.get(request.stackName)?.machine.destroy();
    if (update === 'destroy') vms.delete(request.stackName);
    return {
      update,
      isOk: reason === null,
      error: reason === null ? null : { kind: 'resource_failed', detail: reason },
      failures: reason === null ? {} : { machine: { errorKind: 'no_capacity', reason } },
      changes: {},
      outputs: { publicAddress: '127.0.0.77' },
      steps: [],
      drift: [],
      state: { resources: [], pendingCreates: [] },
      engineMs: 0,
    };
  }

  const route =
    (update: UpdateKind, name: 'preview' | 'previewDestroy' | 'detectDrift' | 'up' | 'refresh' | 'destroy') =>
    (...[request, hooks, signals]: Parameters<StackRunner['up']>): Promise<UpdateOutcome> =>
      request.program?.kind === 'standby' ? run(update, request, hooks) : other[name](request, hooks, signals);

  const cloud: StandbyCloud = {
    full: new Set(),
    vms: () => vms,
    get refusals() {
      return refusals;
    },
    runner: {
      preview: route('preview', 'preview'),
      previewDestroy: route('preview_destroy', 'previewDestroy'),
      detectDrift: route('detect_drift', 'detectDrift'),
      up: route('up', 'up'),
      refresh: route('refresh', 'refresh'),
      destroy: route('destroy', 'destroy'),
      readState: (name) =>
        known.has(name) ? Promise.resolve({ resources: [], pendingCreates: [] }) : other.readState(name),
      remove: (name) => (known.has(name) ? Promise.resolve() : other.remove(name)),
      extendLease() {},
    },
  };
  return cloud;
}
