/**
 * The sandbox as one value: the simulated vendors, the control server, one clock, one journal and one book of faults.
 * Nothing is kept in modules, so a test can have several at once. The process around it is main.ts.
 */
import { join } from 'node:path';
import { type ClockPosition, createClock, type SandboxClock, type TimeMode } from './clock.ts';
import { startControlServer } from './control.ts';
import { createFaultBook, type Fault, type FaultBook, type FaultInput, isMachineFault } from './faults.ts';
import { type HttpListener, NotReadyError } from './http-listener.ts';
import { type Journal, openJournal } from './journal.ts';
import { describeState, type SandboxState } from './state-report.ts';
import { createVastaiMarket, type VastaiMarket } from './vastai/market.ts';
import { startVastaiServer, type VastaiServer } from './vastai/server.ts';
import type { VastaiSwitches } from './vastai/switches.ts';

export interface SandboxOptions {
  /** Where the state is kept; null keeps none. */
  dir: string | null;
  /** The control server's port; Vast.ai is on the next one. 0: free ports for both. */
  port: number;
  time?: TimeMode;
  /** explicit time: where it starts, when nothing is stored. */
  startMs?: number;
  /** Ignored when the stored state has one: the machines in it belong to that market. */
  seed?: number;
  offers?: number;
  latencyMs?: number;
  apiKey?: string;
  /** Where the vendor's switches start; those stored win. */
  vastai?: Partial<VastaiSwitches>;
  /** Whether a fresh account has three machines that are not ours (default: yes). */
  hasForeignMachines?: boolean;
}

export interface SandboxUrls {
  control: string;
  vastai: string;
}

export interface Sandbox {
  readonly urls: SandboxUrls;
  readonly ports: { control: number; vastai: number };
  readonly apiKey: string;
  /** The same as GET /__sandbox/state. */
  state(): SandboxState;
  /** A machine fault with match.instanceId happens at once and is used up. */
  addFault(fault: FaultInput): Promise<Fault>;
  removeFault(id: string): boolean;
  clearFaults(): void;
  listFaults(): Fault[];
  setVastaiSwitches(changes: Partial<VastaiSwitches>): void;
  vastaiSwitches(): VastaiSwitches;
  placeVastaiMachine(input: { label: string; origin: 'foreign' | 'orphan'; isStopped: boolean }): Promise<number>;
  now(): number;
  advance(ms: number): Promise<void>;
  /** Everything as on the first day, faults and switches included. */
  reset(): Promise<void>;
  close(): Promise<void>;
}

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
  const listeners: HttpListener[] = [];
  try {
    const vastaiPort = options.port === 0 ? 0 : options.port + 1;
    const vastai = await startVastaiServer(() => current().market, {
      port: vastaiPort,
      apiKey,
      latencyMs: options.latencyMs ?? 0,
    });
    listeners.push(vastai);
    const control = await startControlServer(currentSandbox, options.port);
    listeners.push(control);
    world = await openWorld(options);
    sandbox = createHandle({ options, apiKey, control, vastai, current, replace: (next) => (world = next) });
    return sandbox;
  } catch (error) {
    await Promise.all(listeners.map((listener) => listener.close()));
    throw error;
  }
}

interface World {
  clock: SandboxClock;
  journal: Journal;
  faults: FaultBook;
  market: VastaiMarket;
  seed: number;
}

async function openWorld(options: SandboxOptions): Promise<World> {
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
  const market = createVastaiMarket({
    seed,
    clock,
    journal,
    faults,
    offerCount: options.offers ?? DEFAULT_OFFER_COUNT,
    switches: options.vastai ?? {},
    hostKeyPath: options.dir === null ? null : join(options.dir, 'ssh_host_ed25519_key'),
    hasForeignMachines: options.hasForeignMachines ?? true,
  });
  journal.put([
    ['seed', seed],
    ['clock', clock.position()],
  ]);
  await market.start();
  return { clock, journal, faults, market, seed };
}

function closeWorld({ clock, journal, market }: World): void {
  clock.stop();
  market.stop();
  journal.close();
}

interface HandleParts {
  options: SandboxOptions;
  apiKey: string;
  control: HttpListener;
  vastai: VastaiServer;
  current: () => World;
  replace: (world: World) => void;
}

function createHandle({ options, apiKey, control, vastai, current, replace }: HandleParts): Sandbox {
  return {
    urls: { control: control.url, vastai: vastai.url },
    ports: { control: control.port, vastai: vastai.port },
    apiKey,
    state: () => describeState(current().market, vastai.callCounts()),
    async addFault(input) {
      const { faults, market, clock } = current();
      const machine = input.match?.instanceId === undefined ? undefined : market.fleet.find(input.match.instanceId);
      const fault = faults.add(input);
      if (machine === undefined || !isMachineFault(fault.kind)) return fault;
      market.fleet.applyFault(machine, fault);
      faults.remove(fault.id);
      await clock.settle();
      return { ...fault, hits: 1 };
    },
    removeFault: (id) => current().faults.remove(id),
    clearFaults: () => current().faults.clear(),
    listFaults: () => current().faults.list(),
    setVastaiSwitches: (changes) => current().market.setSwitches(changes),
    vastaiSwitches: () => current().market.switches(),
    async placeVastaiMachine(input) {
      const { market, clock } = current();
      const machine = market.placeMachine(input);
      await clock.settle();
      return machine.id;
    },
    now: () => current().clock.now(),
    async advance(ms) {
      const { clock, journal } = current();
      await clock.advance(ms);
      journal.put([['clock', clock.position()]]);
    },
    async reset() {
      const old = current();
      old.journal.clear();
      closeWorld(old);
      vastai.resetCounts();
      replace(await openWorld(options));
    },
    async close() {
      await Promise.all([control.close(), vastai.close()]);
      closeWorld(current());
    },
  };
}
