/**
 * The world's fleet: two replicas of the real workers, the real crons and a real Postgres on a virtual clock, over the world's vendors
 * and engine. It moves time, lets everything settle, and crashes replicas at the crash points.
 */
import { createHash } from 'node:crypto';
import { pino } from 'pino';
import { createInterruptibleCron } from '../../automation/cron/check-interruptible.ts';
import { createExpireCron } from '../../automation/cron/expire.ts';
import { createMeterUsageCron } from '../../automation/cron/meter-usage.ts';
import { createReconcileCron } from '../../automation/cron/reconcile-fleet.ts';
import { createResolveStuckCron } from '../../automation/cron/resolve-stuck.ts';
import type { Cron, TickCounts } from '../../automation/cron/scheduler.ts';
import { createSyncOffersCron } from '../../automation/cron/sync-offers.ts';
import { createKubernetesReader } from '../../automation/clusters/kubernetes-reader.ts';
import type { StepServices } from '../../automation/operations/step.ts';
import { createWorker, type Worker } from '../../automation/operations/worker.ts';
import { createReadinessCrons } from '../../automation/readiness/watch-readiness.ts';
import { openDatabase, type Database } from '../../db/database.ts';
import { registerDeployment } from '../../db/deployment.ts';
import { StaleClaim } from '../../db/operations.ts';
import { insertOrg } from '../../db/orgs.ts';
import { registerProvider } from '../../db/providers.ts';
import { createQueue, type Queue } from '../../db/queue.ts';
import type { CrashPoint } from '../../domain/crash-points.ts';
import { LEASE_MS } from '../../domain/operation.ts';
import { PROVIDER_NAMES } from '../../domain/provider.ts';
import { createEnvelope } from '../../secrets/envelope.ts';
import { createSeededRandom, type SeededRandom } from '../support/seeded-random.ts';
import { SSH_KEY } from '../support/ssh-machine.ts';
import type { VirtualServer } from '../support/virtual-database.ts';
import { createWorldEngine, INSTANT, type WorldEngine } from './world-engine.ts';
import { startWorldVendors, type WorldVendors } from './world-vendor.ts';

export const DEPLOYMENT_ID = 'world';
export const CAPS = { maxInstances: 25, maxBurnMicroUsdPerHour: 40_000_000n };
export const labelMac = (text: string): string =>
  createHash('sha256')
    .update(text)
    .digest('hex')
    .replace(/[0189]/g, 'z')
    .slice(0, 13);

const CRONS = ['sync', 'readiness', 'reconcile', 'interruptible', 'expire', 'stuck', 'usage'] as const;
export type CronName = (typeof CRONS)[number];

/** One for the database, the processes and the vendors. */
export interface WorldClock {
  now(): Date;
  advance(ms: number): Promise<void>;
}

export interface WorldFleet {
  database: Database;
  queue: Queue;
  clock: WorldClock;
  engine: WorldEngine;
  vendors: WorldVendors;
  orgId: string;
  random: SeededRandom;
  /** Chance of a crash at each crash point. */
  crashChance: number;
  readonly crashes: number;
  /** What replicas logged as errors. */
  readonly errors: string[];
  tick(name: CronName): Promise<TickCounts>;
  /** Until no operation is due and none is held; leases of the crashed run out meanwhile. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

export async function startWorldFleet(seed: number, server: VirtualServer): Promise<WorldFleet> {
  const virtual = await server.create();
  const vendors = await startWorldVendors(seed, () => virtual.now().getTime());
  const clock: WorldClock = {
    now: virtual.now,
    async advance(ms) {
      await virtual.advance(ms);
      await vendors.advance(ms);
    },
  };
  const database = openDatabase({ url: virtual.url, applicationName: 'world', poolSize: 10 });
  const db = database.kysely;
  const queue = createQueue(db);
  await queue.start();
  await registerDeployment(db, { deploymentId: DEPLOYMENT_ID, mode: 'sandbox', ...CAPS });
  const random = createSeededRandom(seed);
  for (const provider of PROVIDER_NAMES) await registerProvider(db, provider, 'sandbox');
  const { client, listLagMs } = vendors;
  const engine = createWorldEngine(client, (error) => error instanceof StaleClaim, 2 * listLagMs);
  const orgId = (await db.transaction().execute((tx) => insertOrg(tx, 'world'))).id;
  const errors: string[] = [];
  const log = pino({ level: 'error' }, { write: (line: string) => void errors.push(line) });
  const crashRandom = createSeededRandom(seed + 7);
  let crashes = 0;
  /** Like a kill for the step: nothing of it is recorded any more, and its lease must run out. */
  const crashPoint: CrashPoint = (name) => {
    if (fleet.crashChance === 0 || !crashRandom.chance(fleet.crashChance)) return;
    crashes++;
    throw new StaleClaim({ operationId: `crash at ${name}`, claim: 0 } as ConstructorParameters<typeof StaleClaim>[0]);
  };
  const shared = {
    db,
    queue,
    client,
    providers: [...PROVIDER_NAMES],
    listLagMs: () => 2 * listLagMs,
    now: clock.now,
    log,
    everyMs: 60_000,
  };
  const services = {
    ...shared,
    runner: engine.runnerFor(crashPoint),
    engineReady: () => true,
    enabledProviders: [...PROVIDER_NAMES],
    limiter: { acquire: () => Promise.resolve(), slowDown: () => Promise.resolve() },
    envelope: createEnvelope(Buffer.alloc(32, 7)),
    kubernetes: createKubernetesReader(),
    agentUrl: null,
    bootTimeoutMs: 15 * 60_000,
    labelMac,
    deploymentId: DEPLOYMENT_ID,
    deploymentSshPublicKey: SSH_KEY.public,
    deploymentSshPrivateKey: SSH_KEY.private,
    destroyTimings: INSTANT,
    crashPoint,
  } satisfies StepServices & Record<string, unknown>;
  const workers: Worker[] = ['world-a|', 'world-b|'].map((owner) =>
    createWorker({ services, database, owner, concurrency: 4 }),
  );
  const orphans = { policy: 'destroy' as const, graceMs: 300_000 };
  const crons: Record<CronName, Cron> = {
    sync: createSyncOffersCron(shared),
    readiness: inTurn(createReadinessCrons({ ...shared, sshPrivateKey: SSH_KEY.private })),
    reconcile: createReconcileCron({ ...shared, deploymentId: DEPLOYMENT_ID, labelMac, orphans }),
    interruptible: createInterruptibleCron(shared),
    expire: createExpireCron(db, queue, clock.now),
    stuck: createResolveStuckCron(db, queue, log),
    usage: createMeterUsageCron(db),
  };

  const fleet: WorldFleet = {
    database,
    queue,
    clock,
    engine,
    vendors,
    orgId,
    random,
    crashChance: 0,
    get crashes() {
      return crashes;
    },
    errors,
    async tick(name) {
      const cron = crons[name];
      if (cron.hasWork && !(await cron.hasWork())) return {};
      return cron.run(new AbortController().signal);
    },
    settle: () => settle(fleet, workers),
    async close() {
      await Promise.all(workers.map((worker) => worker.drain()));
      await queue.stop();
      await database.close();
      await vendors.close();
      await virtual.drop();
    },
  };
  for (const worker of workers) await worker.start();
  return fleet;
}

/** Several crons as one, in an order that a seed gives again. */
function inTurn(crons: Cron[]): Cron {
  return {
    name: 'in-turn',
    everyMs: 60_000,
    async run(signal) {
      const counts: TickCounts = {};
      for (const cron of crons) {
        if (cron.hasWork && !(await cron.hasWork())) continue;
        for (const [name, count] of Object.entries(await cron.run(signal)))
          counts[name] = Number(counts[name] ?? 0) + Number(count);
      }
      return counts;
    },
  };
}

const SETTLE_MS = 60_000;
const POLL_MS = 6;
/** A step that was claimed begins to run within this. */
const QUIET_MS = 25;
/** A ring that nobody followed is repeated: it was for an operation whose stack was held. */
const RING_MS = 60;

async function settle(fleet: WorldFleet, workers: Worker[]): Promise<void> {
  const startedAt = performance.now();
  const rungAt = new Map<string, number>();
  let quietSince = startedAt;
  for (;;) {
    const { rows } = await fleet.database.pool.query<{ id: string; is_held: boolean; note: string | null }>(
      `select id, coalesce(lease_expires_at > now(), false) as is_held, note from operations
       where status in ('queued', 'running') and (lease_expires_at > now() or wait_until is null or wait_until <= now()
         or (cancel_requested_at is not null and wait_until is null))`,
    );
    const running = workers.reduce((sum, worker) => sum + worker.runningCount(), 0);
    if (rows.length === 0 && running === 0) return;
    const due = rows.filter((row) => !row.is_held);
    const at = performance.now();
    if (running > 0) quietSince = at;
    else if (due.length < rows.length && at - quietSince > QUIET_MS) {
      // The leases left are of the crashed: what is due on their stacks waits for them.
      await fleet.clock.advance(LEASE_MS + 1_000);
      quietSince = at;
    }
    for (const { id } of due) {
      if (at - (rungAt.get(id) ?? 0) < RING_MS) continue;
      rungAt.set(id, at);
      await fleet.queue.dispatch(fleet.database.kysely, id);
    }
    if (performance.now() - startedAt > SETTLE_MS) {
      throw new Error(`operations do not settle: ${rows.map((row) => `${row.id} (${row.note})`).join(', ')}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
