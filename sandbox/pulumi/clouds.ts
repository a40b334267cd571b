/**
 * The simulated clouds as one value: four providers at the engine's wire on ports of their own, one store of what exists, one book of
 * faults. The sandbox opens them on its clock and journal; a test can have them alone.
 */
import { createClock, type SandboxClock } from '../clock.ts';
import { type Journal, openJournal } from '../journal.ts';
import { NotReadyError } from '../http-listener.ts';
import type { MachineWatch } from '../vendor.ts';
import { AWS_RULES } from './aws/rules.ts';
import { switchManagedCluster, type ArmAnswer } from './azure/power.ts';
import { AZURE_RULES } from './azure/rules.ts';
import { createCloud } from './cloud.ts';
import type { CloudWorld } from './cloud-outputs.ts';
import { createCloudFaultBook, type CloudFault, type CloudFaultInput } from './cloud-faults.ts';
import type { ClusterApi, PackageRules } from './cloud-rules.ts';
import { createCloudStore, propertiesOf, type CloudResource } from './cloud-store.ts';
import { createCloudWaits, type CloudTimings } from './cloud-time.ts';
import { createGcpMachineLife, type GcpMachineLife } from './gcp/machine-life.ts';
import { GCP_RULES } from './gcp/rules.ts';
import { KUBERNETES_RULES } from './kubernetes/rules.ts';
import { getPath, withPath, type Properties } from './properties.ts';
import { startCloudServer, type CloudServer } from './provider-server.ts';
import type { CloudPackage } from './tables/simulated-types.ts';
import { loadTable } from './tables/table.ts';

export type CloudPorts = Record<CloudPackage, number>;

/** What `GET /__sandbox/clouds` tells. */
export interface CloudsState {
  resources: CloudResourceReport[];
  faults: CloudFault[];
  /** Calls since the start, such as `aws create aws:ec2/vpc:Vpc`. */
  calls: Record<string, number>;
}

export interface CloudResourceReport {
  package: CloudPackage;
  type: string;
  id: string;
  scope: string;
  /** In the program that made it; '' for what none made. */
  logicalName: string;
  /** As the provider would read it now. */
  properties: Properties;
  createdAtMs: number;
  /** What is under way, and until when. */
  transition: { operation: string; untilMs: number } | null;
}

/** One resource: by type or its last part, and by id, cloud's name or name in the program. */
export interface ResourceSelector {
  package?: CloudPackage;
  type?: string;
  name: string;
}

export interface CloudDrift extends ResourceSelector {
  /** By path: `tags.owner`, `scalingConfig.desiredSize`; null removes it. */
  changes?: Record<string, unknown>;
  isDeleted?: boolean;
}

export interface PlacedResource {
  package: CloudPackage;
  type: string;
  id: string;
  /** A region for AWS's regional types, the server for Kubernetes; else ''. */
  scope?: string;
  inputs?: Properties;
  outputs?: Properties;
}

export interface SimulatedClouds {
  readonly ports: CloudPorts;
  state(): CloudsState;
  /** Those of a type (or its last part), as they are now. */
  resources(type?: string): CloudResourceReport[];
  fault(input: CloudFaultInput): CloudFault;
  removeFault(id: string): boolean;
  clearFaults(): void;
  faults(): CloudFault[];
  /** An outside hand changes or deletes a resource. Returns how many it met. */
  drift(change: CloudDrift): number;
  /** Whatever is under way is done now. */
  finish(): void;
  /** Azure's own actions on a whole managed cluster; null: there is none of that id. */
  switchPower(armId: string, to: 'start' | 'stop'): ArmAnswer | null;
  /** Something that no program made, such as a network to build in. */
  place(resource: PlacedResource): void;
  /** Opens a world: what the journal has is there again. A world that was open ends. */
  open(world: {
    seed: number;
    clock: SandboxClock;
    journal: Journal;
    timings: CloudTimings;
    /** Where the clusters answer. Absent: nowhere. */
    clusterApi?: ClusterApi | null;
    /** Told which machines run. Absent: nobody. */
    machineWatch?: MachineWatch;
  }): void;
  /** The world ends; the ports stay, calls are answered UNAVAILABLE. */
  stop(): void;
  close(): void;
}

const RULES: readonly PackageRules[] = [AWS_RULES, AZURE_RULES, GCP_RULES, KUBERNETES_RULES];
const FAULTS_KEY = 'cloud-faults';

/** Takes the ports: `port` and the three after it, or free ones for 0. Calls before `open` are answered UNAVAILABLE. Throws PortInUseError. */
export async function listenClouds(port: number): Promise<SimulatedClouds> {
  let world: OpenWorld | null = null;
  const current = (): OpenWorld => {
    if (world === null) throw new NotReadyError();
    return world;
  };
  const servers: CloudServer[] = [];
  const ports: Partial<CloudPorts> = {};
  try {
    for (const [index, rules] of RULES.entries()) {
      const server = await startCloudServer({
        port: port === 0 ? 0 : port + index,
        cloud: createCloud(rules, current),
        version: loadTable(rules.name).version,
        onCancel: (peer) => world?.waits.cancel(peer),
      });
      servers.push(server);
      ports[rules.name] = server.port;
    }
  } catch (error) {
    for (const server of servers) server.close();
    throw error;
  }
  function stop(): void {
    world?.waits.cancelAll();
    world?.machines.close();
    world = null;
  }
  const findOf = (type?: string): CloudResource[] =>
    current()
      .store.all()
      .filter((resource) => type === undefined || resource.type === type || resource.type.endsWith(`:${type}`));
  return {
    ports: ports as CloudPorts,
    state: () => ({
      resources: findOf().map(report),
      faults: current().faults.list(),
      calls: Object.fromEntries(current().calls),
    }),
    resources: (type) => findOf(type).map(report),
    fault: (input) => current().faults.add(input),
    removeFault: (id) => current().faults.remove(id),
    clearFaults: () => current().faults.clear(),
    faults: () => current().faults.list(),
    drift(change) {
      const met = findOf(change.type).filter((resource) => isMeant(resource, change));
      for (const resource of met) applyDrift(current(), resource, change);
      return met.length;
    },
    finish() {
      const { store, clock } = current();
      for (const resource of findOf()) {
        if (resource.transition)
          store.put({ ...resource, transition: { ...resource.transition, untilMs: clock.now() } });
      }
      store.all();
    },
    switchPower(armId, to) {
      const { store, clock, timings, seed } = current();
      return switchManagedCluster(armId, to, { store, now: clock.now(), timings, seed });
    },
    place({ scope, inputs, outputs, ...resource }) {
      const { store, clock } = current();
      store.put({
        ...resource,
        scope: scope ?? '',
        logicalName: '',
        inputs: inputs ?? {},
        outputs: outputs ?? {},
        createdAtMs: clock.now(),
        transition: null,
      });
    },
    open(opening) {
      stop();
      world = openWorld(opening);
    },
    stop,
    close() {
      stop();
      for (const server of servers) server.close();
    },
  };
}

export interface SimulatedCloudsOptions {
  /** Where the state is kept; null keeps none. */
  dir: string | null;
  timings: CloudTimings;
  seed?: number;
  /** The first of four ports; absent: free ones. */
  port?: number;
  /** Absent: the wall clock. */
  clock?: SandboxClock;
}

/** The clouds without the rest of the sandbox. */
export async function startSimulatedClouds(options: SimulatedCloudsOptions): Promise<SimulatedClouds> {
  const clouds = await listenClouds(options.port ?? 0);
  const journal = openJournal(options.dir);
  const clock = options.clock ?? createClock('auto', { explicitMs: 0, offsetMs: 0 });
  clouds.open({ seed: options.seed ?? 1, clock, journal, timings: options.timings });
  return {
    ...clouds,
    close() {
      clouds.close();
      if (options.clock === undefined) clock.stop();
      journal.close();
    },
  };
}

interface OpenWorld extends CloudWorld {
  machines: GcpMachineLife;
  calls: Map<string, number>;
}

function openWorld({
  seed,
  clock,
  journal,
  timings,
  clusterApi = null,
  machineWatch = { onRunning: () => {}, onGone: () => {} },
}: Parameters<SimulatedClouds['open']>[0]): OpenWorld {
  const calls = new Map<string, number>();
  const restored = (journal.restored.get(FAULTS_KEY) as CloudFault[] | undefined) ?? [];
  const machines = createGcpMachineLife(() => store, clock, machineWatch);
  const store = createCloudStore(
    journal,
    () => clock.now(),
    (key) => machines.onChange(key),
  );
  machines.open();
  return {
    seed,
    clock,
    timings,
    clusterApi,
    calls,
    machines,
    store,
    faults: createCloudFaultBook(seed, restored, (faults) => journal.put([[FAULTS_KEY, faults]])),
    waits: createCloudWaits(clock),
    count: (key) => calls.set(key, (calls.get(key) ?? 0) + 1),
  };
}

function report(resource: CloudResource): CloudResourceReport {
  const { inputs: _inputs, outputs: _outputs, transition, ...facts } = resource;
  return {
    ...facts,
    properties: propertiesOf(resource),
    transition: transition && { operation: transition.operation, untilMs: transition.untilMs },
  };
}

function isMeant(resource: CloudResource, { package: cloud, name }: ResourceSelector): boolean {
  const names = [
    resource.id,
    resource.logicalName,
    resource.inputs.name,
    getPath(resource.inputs, 'metadata.name'),
    resource.id.split(/[/:]/).at(-1),
  ];
  return (cloud === undefined || resource.package === cloud) && names.includes(name);
}

/** Outputs in which the provider shows an input once more. */
const COPIES: Record<string, readonly string[]> = { tags: ['tagsAll'], labels: ['effectiveLabels', 'pulumiLabels'] };

/** What the program can set is changed there; the rest is what the cloud tells. */
function applyDrift({ store }: CloudWorld, resource: CloudResource, { changes, isDeleted }: CloudDrift): void {
  if (isDeleted === true) return store.remove(resource);
  const takes = loadTable(resource.package).resources[resource.type]?.in ?? {};
  let changed = resource;
  for (const [path, value] of Object.entries(changes ?? {})) {
    const top = /^[^.[]+/.exec(path)?.[0] ?? path;
    const side = top in takes || `${top}!` in takes || top in resource.inputs ? 'inputs' : 'outputs';
    changed = { ...changed, [side]: withPath(changed[side], path, value ?? undefined) };
    for (const copy of COPIES[top] ?? []) {
      if (!(copy in changed.outputs)) continue;
      const copied = withPath(changed.outputs, copy + path.slice(top.length), value ?? undefined);
      changed = { ...changed, outputs: copied };
    }
  }
  store.put(changed);
}
