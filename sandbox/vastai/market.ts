/**
 * The simulated vendor without its wire: offers, machines, keys, purchases, switches and the bill, put together over
 * one journal. The wire (routes.ts), the admin routes and the tests all act on this.
 */
import type { SandboxClock } from '../clock.ts';
import type { FaultBook } from '../faults.ts';
import { findGpuModel } from '../gpu-models.ts';
import { createRunningMachines } from '../running-machines.ts';
import type { ReportedGpus } from '../ssh/gpu-report.ts';
import { createSshFleet, type SshFleet, type SshMachine } from '../ssh/ssh-fleet.ts';
import type { RunningMachine, VendorWorld } from '../vendor.ts';
import { readMeter } from '../billing.ts';
import { createCreditWatch } from './credit.ts';
import { createFleet, type Fleet, type NewMachine } from './fleet.ts';
import { currentRate, isLive, type Machine } from './machine.ts';
import { createOfferBook, type OfferBook } from './offers.ts';
import { createPurchaseDesk, type PurchaseDesk } from './purchase.ts';
import { type AccountKeys, createAccountKeys } from './ssh-keys.ts';
import { DEFAULT_VASTAI_SWITCHES, type VastaiSwitches } from './switches.ts';

export interface VastaiMarket {
  readonly offers: OfferBook;
  readonly fleet: Fleet;
  readonly accountKeys: AccountKeys;
  readonly desk: PurchaseDesk;
  readonly clock: SandboxClock;
  readonly faults: FaultBook;
  switches(): VastaiSwitches;
  setSwitches(changes: Partial<VastaiSwitches>): void;
  /** What this machine has been charged so far. */
  chargedMicroUsd(machine: Machine): number;
  totalChargedMicroUsd(): number;
  /** What all machines cost per hour now. */
  burnMicroUsdPerHour(): number;
  /** Puts a machine there that nobody bought through the API. */
  placeMachine(input: { label: string; origin: 'foreign' | 'orphan'; isStopped: boolean }): Machine;
  /** Brings the restored machines back to life, or a new account's first foreign machines into being. */
  start(): Promise<void>;
  stop(): void;
}

const SWITCHES_KEY = 'vastai/switches';
const STARTED_KEY = 'vastai/started';
/** On the account from the first day, like a colleague's. The last looks like ours and is another deployment's. */
const FOREIGN_LABELS: readonly (readonly [label: string, isStopped: boolean])[] = [
  ['research-notebook', false],
  ['', true],
  ['muster-elsewhere-att_aaaaaaaaaaaaaaaa-0000000000', false],
];

export function createVastaiMarket(options: VendorWorld): VastaiMarket {
  const { clock, journal, faults, seed } = options;
  const stored = journal.restored.get(SWITCHES_KEY) as Partial<VastaiSwitches> | undefined;
  let switches: VastaiSwitches = {
    ...DEFAULT_VASTAI_SWITCHES,
    ...(options.switches as Partial<VastaiSwitches>),
    ...stored,
  };
  const readSwitches = (): VastaiSwitches => switches;
  const offers = createOfferBook(seed, options.offerCount, readSwitches, journal.restored);
  const accountKeys = createAccountKeys(journal, () => clock.now());
  const ssh: SshFleet = createSshFleet({
    hostKeyPath: options.hostKeyPath,
    now: () => clock.now(),
    describe: (id) => describeForSsh(fleet.find(Number(id)), offers, clock.now()),
  });
  const running = createRunningMachines(options.machineWatch, (id) => describeRunning(fleet.find(Number(id)), offers));
  const fleet = createFleet({
    seed,
    clock,
    journal,
    offers,
    ssh,
    running,
    switches: readSwitches,
    onRateChange: (delta, atMs) => credit.shiftRate(delta, atMs),
    takeMachineFaults: (subject) => faults.take('vastai', 'machine', subject),
  });
  const desk = createPurchaseDesk({
    offers,
    fleet,
    journal,
    switches: readSwitches,
    accountKeys: () => accountKeys.list().map((key) => key.public_key),
    hasCredit: () => credit.hasCredit(),
  });

  const credit = createCreditWatch({
    clock,
    creditMicroUsd: () => switches.creditUsd * 1_000_000,
    charged: () => market.totalChargedMicroUsd(),
    burn: () => market.burnMicroUsdPerHour(),
    onExhausted() {
      for (const machine of fleet.all()) if (machine.intended === 'running' && isLive(machine)) fleet.stop(machine);
    },
  });

  const market: VastaiMarket = {
    offers,
    fleet,
    accountKeys,
    desk,
    clock,
    faults,
    switches: readSwitches,
    setSwitches(changes) {
      switches = { ...switches, ...changes };
      journal.put([[SWITCHES_KEY, switches]]);
      credit.recalculate();
    },
    chargedMicroUsd: (machine) => readMeter(machine.meter, clock.now()).chargedMicroUsd,
    totalChargedMicroUsd() {
      let total = 0;
      for (const machine of fleet.all()) total += market.chargedMicroUsd(machine);
      return total;
    },
    burnMicroUsdPerHour() {
      let total = 0;
      for (const machine of fleet.all()) total += currentRate(machine);
      return total;
    },
    placeMachine({ label, origin, isStopped }) {
      const { slotId, records } = offers.takeUnlistedSlot();
      const input = newMachineAt(slotId, label, offers.slot(slotId).priceMicroUsdPerHour);
      return fleet.create(input, origin, isStopped ? 'stopped' : 'running', () => records);
    },
    async start() {
      credit.recalculate();
      await fleet.resume();
      if (journal.restored.get(STARTED_KEY) === true) return;
      if (options.hasForeignMachines) {
        for (const [label, isStopped] of FOREIGN_LABELS) market.placeMachine({ label, origin: 'foreign', isStopped });
      }
      journal.put([[STARTED_KEY, true]]);
      await clock.settle();
    },
    stop() {
      ssh.closeAll();
      running.endAll();
    },
  };
  return market;
}

function newMachineAt(slotId: number, label: string, gpuMicroUsdPerHour: number): NewMachine {
  return {
    slotId,
    label,
    gpuMicroUsdPerHour,
    image: 'pytorch/pytorch:2.5.1-cuda12.4-cudnn9-runtime',
    imageArgs: [],
    env: [],
    onstart: null,
    runtype: 'ssh_proxy',
    templateHashId: null,
    diskGb: 32,
    isBid: false,
    publicKeys: [],
  };
}

function describeForSsh(machine: Machine | undefined, offers: OfferBook, nowMs: number): SshMachine | undefined {
  if (machine === undefined) return undefined;
  return {
    user: 'root',
    answers: machine.faults.ssh,
    publicKeys: machine.keys.filter((key) => key.fromMs <= nowMs).map((key) => key.publicKey),
    facts: {
      hostname: `C.${machine.id}`,
      upSeconds: (nowMs - (machine.runningSinceMs ?? nowMs)) / 1000,
      gpus: toReportedGpus(machine, offers),
    },
  };
}

function describeRunning(machine: Machine | undefined, offers: OfferBook): RunningMachine | undefined {
  if (machine === undefined || machine.sshPort === null) return undefined;
  const { label, origin, boots, onstart, env, sshPort } = machine;
  return {
    provider: 'vastai',
    instanceId: machine.id,
    label,
    origin,
    boot: boots ?? 0,
    startupScript: onstart,
    env: Object.fromEntries(env.filter(([name]) => !name.startsWith('-'))),
    gpus: toReportedGpus(machine, offers),
    sshPort,
  };
}

function toReportedGpus(machine: Machine, offers: OfferBook): ReportedGpus {
  const slot = offers.slot(machine.slotId);
  const wrong = machine.faults.wrongGpu;
  const gpu = wrong === null ? slot.gpu : (findGpuModel(wrong.gpuName) ?? slot.gpu);
  return {
    smiName: gpu.smiName,
    memoryMib: gpu.memoryMib,
    count: wrong?.numGpus ?? slot.numGpus,
    powerWatts: gpu.powerWatts,
    computeCap: gpu.computeCap,
    driverVersion: slot.driverVersion,
    cudaVersion: slot.cudaMax.toFixed(1),
    uuidSeed: String(slot.slotId),
  };
}
