/**
 * The sandbox as one value: the simulated vendors, the control server, one clock, one journal and one book of faults.
 * Nothing is kept in modules, so a test can have several at once. The process around it is main.ts.
 */
import { join } from 'node:path';
import type { ProviderName } from '../domain/provider.ts';
import type { GpuTrouble } from './agent/fake-smi.ts';
import { type ClockPosition, createClock, type SandboxClock, type TimeMode } from './clock.ts';
import { startControlServer } from './control.ts';
import { createFaultBook, type Fault, type FaultBook, type FaultInput, isMachineFault } from './faults.ts';
import { type HttpListener, NotReadyError } from './http-listener.ts';
import { type Journal, openJournal } from './journal.ts';
import { makeAuthority, type StoredAuthority } from './kubernetes-api/certificates.ts';
import type { NodeSeats } from './kubernetes-api/daemon-sets.ts';
import type { KubernetesApi } from './kubernetes-api/server.ts';
import type { CloudTimings } from './pulumi/cloud-time.ts';
import type { SimulatedClouds } from './pulumi/clouds.ts';
import type { SandboxState, VendorReports } from './state-report.ts';
import type { AgentChange, AgentSeat, MachineWatch, PlacedMachine, SandboxVendor } from './vendor.ts';
import { createVendors, VENDOR_PORTS } from './vendors.ts';

export interface SandboxOptions {
  /** Where the state is kept; null keeps none. */
  dir: string | null;
  /** The control server's port; the vendors are on the next four (VENDOR_PORTS). 0: free ports for all. */
  port: number;
  time?: TimeMode;
  /** explicit time: where it starts, when nothing is stored. */
  startMs?: number;
  /** Ignored when the stored state has one: the machines in it belong to that market. */
  seed?: number;
  offers?: number;
  latencyMs?: number;
  apiKey?: string;
  /** Where the vendors' switches start; those stored win. */
  switches?: Partial<Record<ProviderName, Record<string, unknown>>>;
  /** Told which machines run, of all vendors. */
  machineWatch?: MachineWatch;
  /** Where agents of clusters' nodes run, wherever a program puts our agent's DaemonSet. Absent: nowhere. */
  nodeAgents?: NodeSeats;
  /** Whether each fresh account has three machines that are not ours (default: yes). */
  hasForeignMachines?: boolean;
  /** How long the simulated clouds take; absent: there are none. They are on the four ports after the vendors', their clusters on the fifth. */
  clouds?: CloudTimings;
}

/** Of the control server and of each vendor. */
export type SandboxUrls = Record<'control' | ProviderName, string>;

export interface Sandbox {
  readonly urls: SandboxUrls;
  readonly ports: Record<'control' | ProviderName, number>;
  /** In the order of their ports. */
  readonly vendors: readonly VendorFacts[];
  readonly apiKey: string;
  /** Null when they were not asked for. */
  readonly clouds: SimulatedClouds | null;
  /** The same as GET /__sandbox/state. */
  state(): SandboxState;
  /** A machine fault with match.instanceId happens at once and is used up. */
  addFault(fault: FaultInput): Promise<Fault>;
  removeFault(id: string): boolean;
  clearFaults(): void;
  listFaults(): Fault[];
  /** Throws a ZodError for an unknown switch. */
  setSwitches(provider: ProviderName, changes: Record<string, unknown>): void;
  switches(provider: ProviderName): Record<string, unknown>;
  /** Returns the vendor's id. */
  placeMachine(provider: ProviderName, input: PlacedMachine): Promise<number | string>;
  /** What the agent of a running machine sees of its GPUs; null: they work again. false: no agent runs there. */
  troubleGpus(provider: ProviderName, instanceId: number | string, trouble: GpuTrouble | null): boolean;
  /** The agents on machines that run. */
  agents(): AgentSeat[];
  /** null: no agent is on that machine. */
  changeAgent(machine: { provider: string; instanceId: number | string }, change: AgentChange): AgentSeat | null;
  now(): number;
  advance(ms: number): Promise<void>;
  /** Everything as on the first day, faults and switches included. */
  reset(): Promise<void>;
  close(): Promise<void>;
}

export type VendorFacts = Pick<SandboxVendor, 'name' | 'title' | 'endpoints' | 'machineFaults' | 'switchesSchema'>;

export const SANDBOX_API_KEY = 'sandbox';
export const DEFAULT_OFFER_COUNT = 240;
export const DEFAULT_SEED = 1;

/** Resolves when everything listens. Throws PortInUseError. */
export async function startSandbox(options: SandboxOptions): Promise<Sandbox> {
  const apiKey = options.apiKey ?? SANDBOX_API_KEY;
  let world: World | null = null;
  const current = (): World => {
    if (world === null) throw new NotReadyError();
    return world;
  };
  let sandbox: Sandbox | null = null;
  const currentSandbox = (): Sandbox => {
    if (sandbox === null) throw new NotReadyError();
    return sandbox;
  };
  // Ports first: the second sandbox on one folder must fail here, before it touches the journal of the first.
  const listeners: { close(): unknown }[] = [];
  const vendors = createVendors();
  try {
    const at: Record<string, HttpListener> = {};
    for (const vendor of vendors) {
      const port = options.port === 0 ? 0 : options.port + VENDOR_PORTS[vendor.name];
      at[vendor.name] = await vendor.listen({ port, apiKey, latencyMs: options.latencyMs ?? 0 });
      listeners.push(at[vendor.name]!);
    }
    at['control'] = await startControlServer(currentSandbox, options.port);
    listeners.push(at['control']);
    const clouds = await listenToEngine(options);
    if (clouds) listeners.push(clouds);
    const clusters = clouds && (await listenToClusters(options, clouds));
    if (clusters) listeners.push({ close: () => clusters.stop() });
    world = await openWorld(options, vendors, clouds, clusters);
    sandbox = createHandle({
      options,
      apiKey,
      at,
      vendors,
      clouds,
      clusters,
      current,
      replace: (next) => (world = next),
    });
    return sandbox;
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.close()));
    throw error;
  }
}

/** After the vendors' ports. */
export const CLOUD_PORT_OFFSET = 1 + Object.keys(VENDOR_PORTS).length;

/** Loaded only when wanted: the engine's wire costs a quarter of a second and 30 MB. */
async function listenToEngine({ clouds, port }: SandboxOptions): Promise<SimulatedClouds | null> {
  if (clouds === undefined) return null;
  const { listenClouds } = await import('./pulumi/clouds.ts');
  return listenClouds(port === 0 ? 0 : port + CLOUD_PORT_OFFSET);
}

/** Where the clusters of the simulated clouds answer: after the clouds' ports. */
async function listenToClusters({ port }: SandboxOptions, clouds: SimulatedClouds): Promise<KubernetesApi> {
  const { startKubernetesApi } = await import('./kubernetes-api/server.ts');
  const { findCloudCluster } = await import('./kubernetes-api/cloud-clusters.ts');
  return startKubernetesApi({
    port: port === 0 ? 0 : port + CLOUD_PORT_OFFSET + Object.keys(clouds.ports).length,
    find: (name) => findCloudCluster(clouds, name),
  });
}

/** Their addresses and their authority are in what the clouds told, so they must be the same after a restart. */
function openClusters(clusters: KubernetesApi, journal: Journal) {
  const stored = journal.restored.get(AUTHORITY_KEY) as StoredAuthority | undefined;
  const authority = makeAuthority('kubernetes', stored);
  clusters.useAuthority(authority);
  if (!stored) journal.put([[AUTHORITY_KEY, authority.stored]]);
  return {
    urlOf: (name: string) => clusters.urlOf(name),
    authority: () => Buffer.from(authority.certificate).toString('base64'),
  };
}

const AUTHORITY_KEY = 'clusters-authority';

interface World {
  daemonSets: { close(): void } | null;
  clock: SandboxClock;
  journal: Journal;
  faults: FaultBook;
  seed: number;
}

async function openWorld(
  options: SandboxOptions,
  vendors: readonly SandboxVendor[],
  clouds: SimulatedClouds | null,
  clusters: KubernetesApi | null,
): Promise<World> {
  const journal = openJournal(options.dir);
  const seed = (journal.restored.get('seed') as number | undefined) ?? options.seed ?? DEFAULT_SEED;
  const stored = journal.restored.get('clock') as ClockPosition | undefined;
  const clock = createClock(options.time ?? 'auto', {
    explicitMs: stored?.explicitMs ?? options.startMs ?? Date.now(),
    offsetMs: stored?.offsetMs ?? 0,
  });
  const restoredFaults = (journal.restored.get('faults') as Fault[] | undefined) ?? [];
  const faults = createFaultBook(
    seed,
    () => clock.now(),
    restoredFaults,
    (list) => journal.put([['faults', list]]),
  );
  journal.put([
    ['seed', seed],
    ['clock', clock.position()],
  ]);
  for (const vendor of vendors) {
    await vendor.open({
      seed,
      clock,
      journal,
      faults,
      offerCount: options.offers ?? DEFAULT_OFFER_COUNT,
      switches: options.switches?.[vendor.name] ?? {},
      hostKeyPath: options.dir === null ? null : join(options.dir, 'ssh_host_ed25519_key'),
      hasForeignMachines: options.hasForeignMachines ?? true,
      machineWatch: options.machineWatch ?? NO_WATCH,
    });
  }
  const clusterApi = clusters && openClusters(clusters, journal);
  clouds?.open({ seed, clock, journal, timings: options.clouds ?? 'none', clusterApi, ...watchOf(options) });
  const { nodeAgents: seats } = options;
  const daemonSets = seats && clouds && clusters ? await openDaemonSets(clouds, clusters, seats) : null;
  return { clock, journal, faults, seed, daemonSets };
}

async function openDaemonSets(clouds: SimulatedClouds, clusters: KubernetesApi, seats: NodeSeats) {
  const { watchDaemonSets } = await import('./kubernetes-api/daemon-sets.ts');
  return watchDaemonSets(clouds, clusters, seats);
}

function watchOf({ machineWatch }: SandboxOptions): { machineWatch?: MachineWatch } {
  return machineWatch === undefined ? {} : { machineWatch };
}

const NO_WATCH: MachineWatch = { onRunning: () => {}, onGone: () => {} };

function closeWorld({ clock, journal, daemonSets }: World, vendors: readonly SandboxVendor[]): void {
  daemonSets?.close();
  clock.stop();
  for (const vendor of vendors) vendor.stop();
  journal.close();
}

interface HandleParts {
  options: SandboxOptions;
  apiKey: string;
  /** By the name of a vendor, or `control`. */
  at: Record<string, HttpListener>;
  vendors: readonly SandboxVendor[];
  clouds: SimulatedClouds | null;
  clusters: KubernetesApi | null;
  current: () => World;
  replace: (world: World) => void;
}

function createHandle({ options, apiKey, at, vendors, clouds, clusters, current, replace }: HandleParts): Sandbox {
  const find = (provider: string): SandboxVendor => {
    const vendor = vendors.find(({ name }) => name === provider);
    if (vendor === undefined) throw new Error(`the sandbox has no ${provider}`);
    return vendor;
  };
  options.machineWatch?.onPowerOff?.(({ provider, instanceId }) => {
    const fault = {
      id: 'power-off',
      provider,
      endpoint: 'machine',
      kind: 'power_off',
      hits: 1,
      untilMs: null,
    } as const;
    vendors.find(({ name }) => name === provider)?.applyFault(instanceId, fault);
  });
  return {
    urls: Object.fromEntries(Object.entries(at).map(([name, { url }]) => [name, url])) as SandboxUrls,
    ports: Object.fromEntries(Object.entries(at).map(([name, { port }]) => [name, port])) as Sandbox['ports'],
    vendors,
    apiKey,
    clouds,
    state() {
      const { clock } = current();
      const reports = Object.fromEntries(vendors.map((vendor) => [vendor.name, vendor.state()]));
      return { nowMs: clock.now(), timeMode: clock.mode, ...(reports as unknown as VendorReports) };
    },
    async addFault(input) {
      const { faults, clock } = current();
      const vendor = find(input.provider);
      const fault = faults.add(input);
      const instanceId = input.match?.instanceId;
      if (instanceId === undefined || !isMachineFault(fault.kind) || !vendor.applyFault(instanceId, fault))
        return fault;
      faults.remove(fault.id);
      await clock.settle();
      return { ...fault, hits: 1 };
    },
    removeFault: (id) => current().faults.remove(id),
    clearFaults: () => current().faults.clear(),
    listFaults: () => current().faults.list(),
    setSwitches(provider, changes) {
      const vendor = find(provider);
      vendor.setSwitches(vendor.switchesSchema.partial().parse(changes));
    },
    switches: (provider) => find(provider).switches(),
    async placeMachine(provider, input) {
      const id = find(provider).placeMachine(input);
      await current().clock.settle();
      return id;
    },
    troubleGpus: (provider, instanceId, trouble) =>
      options.machineWatch?.troubleGpus?.(`${provider}/${instanceId}`, trouble) ?? false,
    agents: () => options.machineWatch?.agents?.() ?? [],
    changeAgent: ({ provider, instanceId }, change) =>
      options.machineWatch?.changeAgent?.(`${provider}/${instanceId}`, change) ?? null,
    now: () => current().clock.now(),
    async advance(ms) {
      const { clock, journal } = current();
      await clock.advance(ms);
      journal.put([['clock', clock.position()]]);
    },
    async reset() {
      const old = current();
      old.journal.clear();
      clouds?.stop();
      closeWorld(old, vendors);
      for (const vendor of vendors) vendor.resetCounts();
      replace(await openWorld(options, vendors, clouds, clusters));
    },
    async close() {
      await Promise.all(Object.values(at).map((listener) => listener.close()));
      clouds?.close();
      await clusters?.stop();
      closeWorld(current(), vendors);
    },
  };
}
