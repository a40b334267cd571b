/**
 * The fleet of the failover world: the real workers, crons and handlers of agents over a real Postgres on a virtual clock, with machines
 * that carry the real agent, a GPU vendor, a cloud of standbys and a snapshot store that fail as the script says. It moves time and lets
 * everything settle.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { createCheckIdleCron } from '../../automation/cron/check-idle.ts';
import { createCheckNodesCron } from '../../automation/cron/check-nodes.ts';
import { createExpireOrdersCron } from '../../automation/cron/expire-orders.ts';
import { createKeepSnapshotsCron } from '../../automation/cron/keep-snapshots.ts';
import { createReapSilentCron } from '../../automation/cron/reap-silent.ts';
import { createReconcileCron } from '../../automation/cron/reconcile-fleet.ts';
import { createResolveStuckCron } from '../../automation/cron/resolve-stuck.ts';
import type { Cron } from '../../automation/cron/scheduler.ts';
import { createSyncOffersCron } from '../../automation/cron/sync-offers.ts';
import { createSyncStandbyCron } from '../../automation/cron/sync-standby.ts';
import { createTakeSnapshotsCron } from '../../automation/cron/take-snapshots.ts';
import { createKubernetesReader } from '../../automation/clusters/kubernetes-reader.ts';
import type { StepServices } from '../../automation/operations/step.ts';
import { createWorker, type Worker } from '../../automation/operations/worker.ts';
import { createReadinessCrons } from '../../automation/readiness/watch-readiness.ts';
import { createSlots } from '../../automation/snapshots/restic-port.ts';
import { openDatabase, type Database, type Db } from '../../db/database.ts';
import { registerDeployment } from '../../db/deployment.ts';
import { insertOrg } from '../../db/orgs.ts';
import { registerProvider } from '../../db/providers.ts';
import { beatPulse } from '../../db/pulses.ts';
import { createQueue, type Queue } from '../../db/queue.ts';
import { noCrash } from '../../domain/crash-points.ts';
import { createEnvelope } from '../../secrets/envelope.ts';
import { createSeededRandom, type SeededRandom } from '../support/seeded-random.ts';
import { SSH_KEY } from '../support/ssh-machine.ts';
import type { VirtualServer } from '../support/virtual-database.ts';
import { createAgentCalls } from './agent-calls.ts';
import { createMachineTime, type MachineTime } from './machine-time.ts';
import { createGpuVendor, createStandbyCloud, type GpuVendor, type StandbyCloud } from './machine-vendors.ts';
import { createMachine, type Machine, type MachineOrder } from './machine.ts';
import { createSnapshotStore, type SnapshotStore } from './snapshot-store.ts';
import { createWorldEngine, INSTANT } from './world-engine.ts';
import { CAPS, DEPLOYMENT_ID, labelMac } from './world-fleet.ts';

export const HEARTBEAT_MS = 10_000;
export const STORM_LIMIT = 3;

export interface FailoverFleet {
  database: Database;
  db: Db;
  queue: Queue;
  orgId: string;
  random: SeededRandom;
  time: MachineTime;
  store: SnapshotStore;
  vendor: GpuVendor;
  cloud: StandbyCloud;
  deadManMs: number;
  /** By the control plane's clock. */
  now(): Date;
  /** Every machine that ever was, those that are gone too. */
  machines(): Machine[];
  /** Time passes for everybody. */
  pass(ms: number): Promise<void>;
  /** The control plane's clock is set. */
  jumpClock(ms: number): Promise<void>;
  /** Nobody takes calls; with `all`, nobody works either. */
  goDown(all: boolean): Promise<void>;
  comeUp(): Promise<void>;
  readonly isUp: boolean;
  /** Agents live, crons look, and everything that follows from it is done. */
  live(): Promise<void>;
  readonly errors: string[];
  close(): Promise<void>;
}

/** A busy machine takes a thousand times as long as nothing, and that is little. */
const PACE = 0.001;
/** Agents flush each of their small files, which a disk that is busy takes long for. */
const MEMORY = '/dev/shm';
const MINUTE = 60_000;

export async function startFailoverFleet(seed: number, server: VirtualServer): Promise<FailoverFleet> {
  const virtual = await server.create(PACE);
  const database = openDatabase({ url: virtual.url, applicationName: 'failover-world', poolSize: 10 });
  const db = database.kysely;
  const queue = createQueue(db);
  await queue.start();
  await registerDeployment(db, { deploymentId: DEPLOYMENT_ID, mode: 'sandbox', ...CAPS });
  await registerProvider(db, 'vastai', 'sandbox');
  const orgId = (await db.transaction().execute((tx) => insertOrg(tx, 'world'))).id;
  const random = createSeededRandom(seed);
  const deadManMs = random.pick([5, 10, 20]) * MINUTE;
  const time = createMachineTime();
  const home = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'muster-failover-world-'));
  const errors: string[] = [];
  const failures: string[] = [];
  const log = pino({ level: 'error' }, { write: (line: string) => void errors.push(line) });
  const envelope = createEnvelope(Buffer.alloc(32, 7));
  const store = createSnapshotStore(db, createSeededRandom(seed + 3), () => virtual.now().getTime());
  const onFailure = (error: unknown): void => void failures.push(String(error));
  const calls = createAgentCalls({ database, queue, envelope, intervalMs: HEARTBEAT_MS, deadManMs, onFailure });
  const machines: Machine[] = [];
  let isListening = true;
  /** A heartbeat may have come in every second since the last look. */
  let isContinuous = false;
  const agentRandom = createSeededRandom(seed + 5);
  const isEndpoint = async ({ nodeId }: Machine): Promise<boolean> => {
    const query = db.selectFrom('endpoints').select('instance_id').where('node_id', '=', nodeId);
    return (await query.executeTakeFirst()) !== undefined;
  };
  async function make(order: MachineOrder): Promise<Machine> {
    const parts = {
      time,
      random: agentRandom,
      store,
      home,
      controlPlane: calls.forMachine,
      now: virtual.now,
      isEndpoint,
    };
    const machine = await createMachine({ ...parts, isListening: () => isListening }, order);
    machines.push(machine);
    return machine;
  }
  const vendor = createGpuVendor(agentRandom, make);
  const engine = createWorldEngine(
    () => vendor.client,
    () => false,
    0,
  );
  const cloud = createStandbyCloud(engine.runnerFor(noCrash), agentRandom, make);
  const shared = {
    db,
    queue,
    client: () => vendor.client,
    providers: ['vastai' as const],
    listLagMs: () => 0,
    now: virtual.now,
    log,
    everyMs: MINUTE,
  };
  const services: StepServices = {
    ...shared,
    runner: cloud.runner,
    engineReady: () => true,
    enabledProviders: ['vastai'],
    limiter: { acquire: () => Promise.resolve(), slowDown: () => Promise.resolve() },
    envelope,
    kubernetes: createKubernetesReader(),
    snapshots: {
      restic: () => Promise.resolve(store.restic),
      storeUrl: 'file:///world',
      storeKey: null,
      access: 'gateway',
      issueKey: null,
      readBacks: createSlots(4),
      resticDigests: () => Promise.resolve({}),
    },
    agentUrl: 'http://muster.invalid',
    bootTimeoutMs: 15 * MINUTE,
    labelMac,
    deploymentId: DEPLOYMENT_ID,
    deploymentSshPublicKey: SSH_KEY.public,
    deploymentSshPrivateKey: SSH_KEY.private,
    destroyTimings: INSTANT,
    crashPoint: noCrash,
  };
  let workers = 0;
  let worker: Worker | null = null;
  async function startWorker(): Promise<void> {
    worker = createWorker({ services, database, owner: `world-${workers++}|`, concurrency: 4 });
    await worker.start();
  }
  const crons = createCrons(services, { deadManMs, orphans: { policy: 'destroy', graceMs: 300_000 } });
  const lastRun = new Map<string, number>();

  async function runCrons(): Promise<void> {
    for (const { cron, everyMs } of crons) {
      const at = virtual.now().getTime();
      if (Math.abs(at - (lastRun.get(cron.name) ?? -Infinity)) < everyMs) continue;
      if (cron.hasWork && !(await cron.hasWork())) continue;
      lastRun.set(cron.name, at);
      await cron.run(new AbortController().signal);
    }
  }

  const fleet: FailoverFleet = {
    database,
    db,
    queue,
    orgId,
    random,
    time,
    store,
    vendor,
    cloud,
    deadManMs,
    errors,
    now: virtual.now,
    machines: () => machines,
    get isUp() {
      return isListening && worker !== null;
    },
    async pass(ms) {
      await virtual.advance(ms);
      time.pass(ms);
      for (const machine of machines) machine.work_(ms);
    },
    async jumpClock(ms) {
      await virtual.advance(ms);
      isContinuous = false;
    },
    async goDown(all) {
      isListening = false;
      isContinuous = false;
      if (!all) return;
      const ending = worker;
      worker = null;
      await ending?.drain();
    },
    async comeUp() {
      isListening = true;
      if (worker === null) await startWorker();
    },
    async live() {
      if (failures.length > 0) throw new Error(`a call of an agent failed: ${failures[0]}`);
      if (isListening) {
        if (isContinuous) await db.updateTable('pulses').set({ at: virtual.now() }).where('role', '=', 'api').execute();
        await beatPulse(db);
        isContinuous = true;
      }
      await time.wakeDue(calls.quiet);
      await settle();
      if (worker === null) return;
      await runCrons();
      await settle();
    },
    async close() {
      await worker?.drain();
      for (const machine of machines) await machine.destroy();
      await calls.quiet();
      await queue.stop();
      await database.close();
      await virtual.drop();
      rmSync(home, { recursive: true, force: true });
    },
  };

  /** Until no operation is due and no agent has anything to tell or to be told. */
  async function settle(): Promise<void> {
    for (let rounds = 0; rounds < MAX_ROUNDS; rounds++) {
      let isNews = worker !== null && (await settleOperations(fleet, worker));
      await calls.quiet();
      isNews = (await calls.answerWaiting()) || isNews;
      await calls.quiet();
      for (const machine of machines) isNews = (await machine.flush()) || isNews;
      if (!isNews) return;
    }
    throw new Error('agents and operations do not come to an end');
  }

  await startWorker();
  return fleet;
}

const MAX_ROUNDS = 60;

function createCrons(
  services: StepServices,
  { deadManMs, orphans }: { deadManMs: number; orphans: { policy: 'destroy'; graceMs: number } },
): { cron: Cron; everyMs: number }[] {
  const { db, queue, now, log } = services;
  const shared = {
    db,
    queue,
    client: services.client,
    providers: services.enabledProviders,
    listLagMs: services.listLagMs,
    now,
    log,
    everyMs: MINUTE,
  };
  const sshPrivateKey = SSH_KEY.private;
  const quick = [
    ...createReadinessCrons({ ...shared, sshPrivateKey }),
    createCheckNodesCron({
      ...shared,
      everyMs: 2_000,
      intervalMs: HEARTBEAT_MS,
      sshPrivateKey,
      stormLimit: STORM_LIMIT,
    }),
    createSyncStandbyCron({ db, queue, now, log }),
    createTakeSnapshotsCron(db, queue, now),
  ].map((cron) => ({ cron, everyMs: 0 }));
  const slow = [
    createReconcileCron({ ...shared, deploymentId: DEPLOYMENT_ID, labelMac, orphans }),
    createReapSilentCron({ ...shared, everyMs: MINUTE, deadManMs }),
    createCheckIdleCron(shared),
    createExpireOrdersCron(db, queue),
    createResolveStuckCron(db, queue, log),
  ].map((cron) => ({ cron, everyMs: 4 * MINUTE }));
  const offers = createSyncOffersCron(shared);
  return [
    // Looked at by nobody while nothing is to be bought.
    { cron: { ...offers, hasWork: () => isAnyBought(db) }, everyMs: 30_000 },
    ...quick,
    ...slow,
    { cron: createKeepSnapshotsCron(db, queue, now), everyMs: 10 * MINUTE },
  ];
}

async function isAnyBought(db: Db): Promise<boolean> {
  const statuses = ['requested', 'creating', 'booting', 'waking'] as const;
  const row = await db.selectFrom('instances').select('id').where('status', 'in', statuses).limit(1).executeTakeFirst();
  return row !== undefined;
}

const SETTLE_MS = 240_000;
const POLL_MS = 5;
/** A ring that nobody followed is repeated: it was for an operation whose stack was held. */
const RING_MS = 150;

/** @returns whether any was due */
async function settleOperations({ database, db, queue }: FailoverFleet, worker: Worker): Promise<boolean> {
  const startedAt = performance.now();
  const rungAt = new Map<string, number>();
  for (;;) {
    while (worker.runningCount() > 0) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    const { rows } = await database.pool.query<{ id: string; is_held: boolean; note: string | null }>(
      `select id, coalesce(lease_expires_at > now(), false) as is_held, note from operations
       where status in ('queued', 'running') and (lease_expires_at > now() or wait_until is null or wait_until <= now())`,
    );
    if (rows.length === 0 && worker.runningCount() === 0) return rungAt.size > 0;
    const at = performance.now();
    for (const { id, is_held: isHeld } of rows) {
      if (isHeld || at - (rungAt.get(id) ?? -RING_MS) < RING_MS) continue;
      rungAt.set(id, at);
      await queue.dispatch(db, id);
    }
    if (at - startedAt > SETTLE_MS)
      throw new Error(`operations do not settle: ${rows.map((row) => `${row.id} (${row.note})`).join(', ')}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
