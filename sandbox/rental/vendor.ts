/**
 * A simulated vendor put together from what is its own (wire, offers, accounts) and what all share: machines, bills, SSH, faults,
 * switches, counts and the journal. One call of createRentalVendor is one vendor of one sandbox.
 */
import type { z } from 'zod';
import type { ProviderName } from '../../domain/provider.ts';
import type { SandboxClock } from '../clock.ts';
import { findGpuModel } from '../gpu-models.ts';
import { NotReadyError } from '../http-listener.ts';
import type { Journal } from '../journal.ts';
import { createPurchaseCounts, type PurchaseCounts } from '../purchase-counts.ts';
import type { Random } from '../random.ts';
import { createRunningMachines, type RunningMachines } from '../running-machines.ts';
import type { ReportedGpus } from '../ssh/gpu-report.ts';
import { createSshFleet, type SshFleet } from '../ssh/ssh-fleet.ts';
import type { PlacedMachine, SandboxVendor, VendorWorld } from '../vendor.ts';
import type { RentalApi } from './api.ts';
import { createRentalFleet, type NewRentalMachine, type RentalFleet } from './fleet.ts';
import type { RentalMachine } from './machine.ts';
import { RENTAL_MACHINE_FAULTS } from './machine-faults.ts';
import { describeRentals } from './report.ts';
import { type RentalServer, startRentalServer } from './server.ts';
import { type RentalTimings, timingsOf } from './timings.ts';

/** What a vendor's own world (its account, its offers) is built on. */
export interface RentalMarket<Details, Switches> {
  readonly seed: number;
  readonly offerCount: number;
  readonly clock: SandboxClock;
  readonly journal: Journal;
  readonly fleet: RentalFleet<Details>;
  readonly purchases: PurchaseCounts<string>;
  switches(): Switches;
}

/** Switches that every vendor has. */
export interface CommonSwitches {
  /** From purchase to running; null follows the time mode. */
  bootMs: [number, number] | null;
}

export interface RentalDefinition<Details, Switches extends CommonSwitches, World> {
  name: ProviderName;
  title: string;
  sshUser: string;
  endpoints: readonly string[];
  switchesSchema: z.ZodObject;
  defaultSwitches: Switches;
  /** Of `real` time. */
  realTimings: RentalTimings;
  makeId: (random: Random) => string;
  hostnameOf: (machine: RentalMachine<Details>) => string;
  api: RentalApi<World>;
  createWorld: (market: RentalMarket<Details, Switches>) => World;
  countOffers: (world: World) => number;
  /** A machine that nobody bought through the API. */
  describePlaced: (world: World, input: PlacedMachine) => NewRentalMachine<Details>;
  /** Labels of the machines that are not ours on a fresh account; whether each is stopped, where the vendor stops machines. */
  foreignMachines: readonly (readonly [label: string, isStopped: boolean])[];
  /** The vendor's word for a machine's state, for the page. */
  statusText: (world: World, machine: RentalMachine<Details>) => string;
}

const DRIVER = { driverVersion: '570.86.15', cudaVersion: '12.8' };

export function createRentalVendor<Details, Switches extends CommonSwitches, World>(
  definition: RentalDefinition<Details, Switches, World>,
): SandboxVendor {
  const { name } = definition;
  let opened: Opened<Details, Switches, World> | null = null;
  let server: RentalServer | null = null;
  const current = (): Opened<Details, Switches, World> => {
    if (opened === null) throw new NotReadyError();
    return opened;
  };
  const place = ({ fleet, world }: Opened<Details, Switches, World>, input: PlacedMachine): string => {
    const beginning = input.isStopped ? 'stopped' : 'running';
    return fleet.create(definition.describePlaced(world, input), input.origin, beginning, () => []).id;
  };

  return {
    name,
    title: definition.title,
    endpoints: definition.endpoints,
    machineFaults: RENTAL_MACHINE_FAULTS,
    switchesSchema: definition.switchesSchema,
    async listen(options) {
      server = await startRentalServer(name, definition.api, () => toServerWorld(current()), options);
      return server;
    },
    async open(input) {
      const { journal, clock } = input;
      opened = openWorld(definition, input);
      await opened.fleet.resume();
      if (journal.restored.get(`${name}/started`) === true) return;
      for (const [label, isStopped] of input.hasForeignMachines ? definition.foreignMachines : []) {
        place(opened, { label, origin: 'foreign', isStopped });
      }
      journal.put([[`${name}/started`, true]]);
      await clock.settle();
    },
    stop() {
      opened?.ssh.closeAll();
      opened?.running.endAll();
      opened = null;
    },
    state() {
      const { fleet, purchases, world } = current();
      const counts = server?.callCounts() ?? { perEndpoint: {}, changesPerInstance: {} };
      return {
        machines: describeRentals(fleet, counts, (machine) => definition.statusText(world, machine)),
        offersListed: definition.countOffers(world),
        purchases: purchases.all(),
        calls: counts.perEndpoint,
        totalChargedMicroUsd: fleet.totalChargedMicroUsd(),
        burnMicroUsdPerHour: fleet.burnMicroUsdPerHour(),
      };
    },
    switches: () => ({ ...current().switches }) as Record<string, unknown>,
    setSwitches(changes) {
      const { switches, journal } = current();
      Object.assign(switches, changes);
      journal.put([[`${name}/switches`, switches]]);
    },
    placeMachine: (input) => place(current(), input),
    applyFault(instanceId, fault) {
      const { fleet } = current();
      const machine = fleet.find(String(instanceId));
      if (machine !== undefined) fleet.applyFault(machine, fault);
      return machine !== undefined;
    },
    resetCounts: () => server?.resetCounts(),
  };
}

interface Opened<Details, Switches, World> {
  world: World;
  fleet: RentalFleet<Details>;
  purchases: PurchaseCounts<string>;
  switches: Switches;
  ssh: SshFleet;
  running: RunningMachines;
  journal: Journal;
  faults: VendorWorld['faults'];
}

function openWorld<Details, Switches extends CommonSwitches, World>(
  definition: RentalDefinition<Details, Switches, World>,
  input: VendorWorld,
): Opened<Details, Switches, World> {
  const { clock, faults, journal, seed, offerCount } = input;
  const { name, sshUser } = definition;
  const stored = journal.restored.get(`${name}/switches`) as Partial<Switches> | undefined;
  const switches: Switches = { ...definition.defaultSwitches, ...(input.switches as Partial<Switches>), ...stored };
  const find = (id: number | string): RentalMachine<Details> | undefined => fleet.find(String(id));
  const ssh = createSshFleet({
    hostKeyPath: input.hostKeyPath,
    now: () => clock.now(),
    describe(id) {
      const machine = find(id);
      if (machine === undefined) return undefined;
      const upSeconds = (clock.now() - (machine.runningSinceMs ?? clock.now())) / 1000;
      const facts = { hostname: definition.hostnameOf(machine), upSeconds, gpus: toReportedGpus(machine) };
      return { user: sshUser, answers: machine.faults.ssh, publicKeys: machine.publicKeys, facts };
    },
  });
  const running = createRunningMachines(input.machineWatch, (id) => {
    const machine = find(id);
    if (machine === undefined || machine.sshPort === null) return undefined;
    const { label, origin, boots, startupScript, env, sshPort } = machine;
    const gpus = toReportedGpus(machine);
    return { provider: name, instanceId: machine.id, label, origin, boot: boots, startupScript, env, gpus, sshPort };
  });
  const fleet = createRentalFleet<Details>({
    provider: name,
    seed,
    clock,
    journal,
    ssh,
    running,
    timings: timingsOf(clock.mode, definition.realTimings),
    bootMs: () => switches.bootMs,
    makeId: definition.makeId,
    takeMachineFaults: (subject) => faults.take(name, 'machine', subject),
  });
  const purchases = createPurchaseCounts<string>(journal, `${name}/purchases/`);
  const market = { seed, offerCount, clock, journal, fleet, purchases, switches: () => switches };
  return { world: definition.createWorld(market), fleet, purchases, switches, ssh, running, journal, faults };
}

function toServerWorld<Details, Switches, World>(opened: Opened<Details, Switches, World>) {
  const { world, faults, fleet, journal, purchases } = opened;
  return {
    world,
    faults,
    labelOf: (id: string) => fleet.find(id)?.label,
    countRefused: (label: string) => journal.put(purchases.count(label, 'refused')),
  };
}

function toReportedGpus(machine: RentalMachine<unknown>): ReportedGpus {
  const wrong = machine.faults.wrongGpu;
  const gpu = (wrong === null ? undefined : findGpuModel(wrong.gpuName)) ?? findGpuModel(machine.gpuName);
  if (gpu === undefined) throw new Error(`no GPU model ${machine.gpuName}`);
  return {
    smiName: gpu.smiName,
    memoryMib: gpu.memoryMib,
    count: wrong?.numGpus ?? machine.gpuCount,
    powerWatts: gpu.powerWatts,
    computeCap: gpu.computeCap,
    ...DRIVER,
    uuidSeed: machine.id,
  };
}
