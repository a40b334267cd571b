/**
 * Where cells of the crash matrix run: a real Muster, a sandbox whose machines have real agents, a kill at a named place, faults in
 * between. A fleet serves one cell after another; whatever was killed is started again, and nothing else.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Instance } from '../../api/contract/instances.ts';
import type { CrashPointName } from '../../domain/crash-points.ts';
import { createAgentRunner, type AgentRunner } from '../../sandbox/agent/agent-runner.ts';
import type { RentalMachineReport } from '../../sandbox/rental/report.ts';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import type { MachineReport } from '../../sandbox/vastai/report.ts';
import type { RunningMachine } from '../../sandbox/vendor.ts';
import { wantedOf, type CrashCell, type Scenario } from './crash-cells.ts';
import { failOverAndDestroy, standInAndDestroy } from './crash-failover.ts';
import type { Armed } from './crash-hook.ts';
import { judgeCell } from './crash-judge.ts';
import { rentAndDestroy } from './crash-rental.ts';
import { copyAndDestroy, sleepAndDestroy } from './crash-sleep.ts';
import { createMusterProcess, findFreePort, waitFor, type MusterProcess } from './muster-process.ts';

export interface CrashFleet {
  run(cell: CrashCell): Promise<CrashReport>;
  close(): Promise<void>;
}

export interface CrashReport {
  /** Places that were not passed, so that nobody was killed there. */
  missed: CrashPointName[];
  machinesBought: number;
  problems: string[];
}

export type MachineFacts = MachineReport | RentalMachineReport;

/** One cell on its fleet. */
export interface CrashScene {
  readonly cell: CrashCell;
  readonly sandbox: Sandbox;
  readonly dataDir: string;
  /** What is wrong; a scenario adds to it. */
  readonly problems: string[];
  /** Restarts what was killed, lets the vendor's time pass, and asks; what throws is asked again. */
  until(check: () => Promise<boolean>, what: string): Promise<void>;
  /** From here on the cell's places kill their victims. */
  arm(): void;
  isKilledAt(point: CrashPointName): boolean;
  missed(): CrashPointName[];
  /** Throws for any other status than 200. */
  get<T>(path: string): Promise<T>;
  /** Asked until it is accepted, once: each call has a key of its own. Throws what it is refused with. */
  ask<T>(method: 'POST' | 'DELETE', path: string, body?: unknown): Promise<T>;
  /** Accepts the cell's order; returns the ids of its instances. */
  order(more: Record<string, unknown>): Promise<string[]>;
  instance(id: string): Promise<Instance>;
  untilStatus(id: string, status: Instance['status']): Promise<Instance>;
  /** All that are not destroyed; each cell starts with none. */
  listInstances(): Promise<Instance[]>;
  /** Those of the cell at its vendor, the destroyed ones too; foreign ones are not among them. */
  machines(): MachineFacts[];
  alive(): MachineFacts[];
  /** The folder that is the workspace of that machine. */
  workspaceOf(machine: { provider: string | null; providerInstanceId: string | null }): string;
  /** By `provider/id`: when it ran no more, by our clock. */
  readonly stoppedAt: ReadonlyMap<string, number>;
}

const SCRIPTS: Record<Scenario, (scene: CrashScene) => Promise<void>> = {
  coldstart: rentAndDestroy,
  race: rentAndDestroy,
  serverless: rentAndDestroy,
  snapshots: copyAndDestroy,
  sleep: sleepAndDestroy,
  failover: failOverAndDestroy,
  standby: standInAndDestroy,
};

const BOUND_MS = 240_000;
const LOOK_MS = 50;
/** Of the vendors' time, at each look. */
const ADVANCE_MS = 2_000;
const USER_KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbcdefghijklmnopqrstuvwxyz0123456789ABCDEFG user';
const PORTS = 12;

interface Parts {
  dir: string;
  sandbox: Sandbox;
  agents: AgentRunner;
  muster: MusterProcess;
  stoppedAt: Map<string, number>;
  /** Problems of cells before: the database remembers them, too. */
  told: Set<string>;
}

export async function startCrashFleet(): Promise<CrashFleet> {
  const dir = mkdtempSync(join(tmpdir(), 'muster-crash-'));
  mkdirSync(join(dir, 'hook'));
  const sandboxPort = await findFreePort(PORTS);
  const agents = createAgentRunner(join(dir, 'agents'));
  const stoppedAt = new Map<string, number>();
  const machineWatch: AgentRunner = {
    ...agents,
    onGone(machine: RunningMachine) {
      stoppedAt.set(`${machine.provider}/${machine.instanceId}`, Date.now());
      agents.onGone(machine);
    },
  };
  const sandbox = await startSandbox({
    port: sandboxPort,
    dir: join(dir, 'sandbox'),
    time: 'explicit',
    offers: 400,
    machineWatch,
    clouds: 'none',
  });
  const hook = pathToFileURL(join(import.meta.dirname, 'crash-hook.ts'));
  hook.searchParams.set('dir', join(dir, 'hook'));
  const muster = await createMusterProcess({
    dataDir: join(dir, 'data'),
    sandboxPort,
    preload: hook.href,
    env: {
      MUSTER_AGENT: 'on',
      MUSTER_AGENT_INTERVAL: '1 seconds',
      MUSTER_READINESS_INTERVAL: '500 ms',
      MUSTER_OFFER_SYNC_INTERVAL: '5 seconds',
      MUSTER_FAILOVER_STORM_LIMIT: '1000',
      MUSTER_GCP_ENABLED: 'on',
    },
  });
  const parts: Parts = { dir, sandbox, agents, muster, stoppedAt, told: new Set() };
  await muster.start();
  await waitFor(async () => (await muster.request('GET', '/ready')).status === 200, BOUND_MS, '/ready');
  return {
    run: (cell) => runCell(parts, cell),
    async close() {
      await muster.kill('SIGTERM');
      agents.close();
      await sandbox.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function runCell(parts: Parts, cell: CrashCell): Promise<CrashReport> {
  const { sandbox } = parts;
  const scene = openScene(parts, cell);
  const foreign = () => sandbox.state()[cell.provider].machines.filter(({ origin }) => origin === 'foreign');
  const foreignBefore = foreign().length;
  for (const [kind, probability] of [
    ['lose_response', cell.lostResponses],
    ['stale_offer', cell.staleOffers],
  ] as const) {
    if (probability > 0) await sandbox.addFault({ provider: cell.provider, endpoint: 'create', kind, probability });
  }
  try {
    await SCRIPTS[cell.scenario](scene);
    for (const { id, label } of scene.alive()) {
      scene.problems.push(`orphan: machine ${id} (${label}) is alive though everything is destroyed`);
    }
    const isTouched = foreign().some((machine) => machine.destroyedAtMs !== null || machine.changeCalls > 0);
    if (foreign().length !== foreignBefore || isTouched) scene.problems.push('a foreign machine was touched');
    scene.problems.push(...(await judgeCell(scene)).filter((problem) => !parts.told.has(problem)));
    for (const problem of scene.problems) parts.told.add(problem);
  } finally {
    rmSync(join(parts.dir, 'hook', 'armed.json'), { force: true });
    sandbox.clearFaults();
  }
  return { missed: scene.missed(), machinesBought: scene.machines().length, problems: scene.problems };
}

function openScene({ dir, sandbox, muster, stoppedAt }: Parts, cell: CrashCell): CrashScene {
  const firedFile = (index: number) => join(dir, 'hook', `fired-${index}`);
  const before = new Set(sandbox.state()[cell.provider].machines.map(({ id }) => id));
  const name = `cell-${cell.seed}-${Math.random().toString(36).slice(2, 8)}`;
  let serial = 0;
  for (const index of cell.kills.keys()) rmSync(firedFile(index), { force: true });
  const scene: CrashScene = {
    cell,
    sandbox,
    dataDir: join(dir, 'data'),
    problems: [],
    stoppedAt,
    async until(check, what) {
      const deadline = performance.now() + BOUND_MS;
      for (;;) {
        if (!muster.isRunning()) await muster.start();
        await sandbox.advance(ADVANCE_MS);
        try {
          if (await check()) return;
        } catch {
          // killed, starting, or its database is: asked again
        }
        if (performance.now() > deadline)
          throw new Error(`${what} took more than ${BOUND_MS / 1000} s\n${muster.output().slice(-4000)}`);
        await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      }
    },
    arm() {
      const armed: Armed = {
        kills: cell.kills,
        postmasterPidFile: join(dir, 'data', 'postgres', 'cluster', 'postmaster.pid'),
      };
      writeFileSync(join(dir, 'hook', 'armed.json'), JSON.stringify(armed));
    },
    isKilledAt: (point) => cell.kills.some((kill) => kill.point === point),
    missed: () => cell.kills.flatMap(({ point }, index) => (existsSync(firedFile(index)) ? [] : [point])),
    async get<T>(path: string) {
      const reply = await muster.request<T>('GET', `/api/v1${path}`);
      if (reply.status !== 200) throw new Error(`GET ${path}: ${reply.status}`);
      return reply.body;
    },
    async ask<T>(method: 'POST' | 'DELETE', path: string, body?: unknown) {
      const key = `${name}-${serial++}`;
      let answer: T | undefined;
      let refusal: string | null = null;
      await scene.until(async () => {
        const wanted = method === 'POST' ? (body ?? {}) : undefined;
        const reply = await muster.request<T>(method, `/api/v1${path}`, wanted, { 'idempotency-key': key });
        if (reply.status >= 500) return false;
        // Its first answer may have been lost: it is being destroyed, or gone.
        if (method === 'DELETE' && (reply.status === 404 || reply.status === 409)) return true;
        if (reply.status >= 400) refusal = `${method} ${path} was refused: ${JSON.stringify(reply.body)}`;
        answer = reply.body;
        return true;
      }, `${method} ${path} is accepted`);
      if (refusal !== null) throw new Error(refusal);
      return answer as T;
    },
    async order(more) {
      const accepted = await scene.ask<{ instances?: { id: string }[] }>('POST', '/instances', {
        name,
        ...wantedOf(cell),
        raceWidth: 2,
        maxRaceCostUsd: '2',
        sshPublicKeys: [USER_KEY],
        ...more,
      });
      if (!accepted.instances) throw new Error(JSON.stringify(accepted));
      return accepted.instances.map(({ id }) => id);
    },
    instance: (id) => scene.get<Instance>(`/instances/${id}`),
    async untilStatus(id, status) {
      let seen: Instance | undefined;
      await scene.until(async () => (seen = await scene.instance(id)).status === status, `${id} is ${status}`);
      return seen as Instance;
    },
    async listInstances() {
      const { items } = await scene.get<{ items: Instance[] }>('/instances?limit=500');
      return items.filter(({ status }) => status !== 'destroyed');
    },
    machines: () =>
      [...sandbox.state()[cell.provider].machines].filter(({ id, origin }) => !before.has(id) && origin !== 'foreign'),
    alive: () => scene.machines().filter(({ destroyedAtMs }) => destroyedAtMs === null),
    workspaceOf: ({ provider, providerInstanceId }) =>
      join(dir, 'agents', `${provider}-${providerInstanceId}`.replaceAll('/', '_'), 'workspace'),
  };
  return scene;
}
