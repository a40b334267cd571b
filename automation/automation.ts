/**
 * The automation: what the worker and cron roles run. It puts the parts together and starts and stops them in order; each part's
 * own file says what it does.
 */
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { CrashPoint } from '../domain/crash-points.ts';
import type { LabelMac } from '../domain/label.ts';
import type { ProviderName } from '../domain/provider.ts';
import type { SourcingMode } from '../domain/sourcing.ts';
import type { SourcingBounds } from '../db/accept-sourced.ts';
import type { Database } from '../db/database.ts';
import { createSharedRateLimiter } from '../db/provider-rate-limiter.ts';
import { recordComponent } from '../db/processes.ts';
import { registerProvider } from '../db/providers.ts';
import type { Queue } from '../db/queue.ts';
import type { ProviderClient } from '../providers-dynamic/provider-client.ts';
import { createProviderClient } from '../providers-dynamic/provider-clients.ts';
import type { Envelope } from '../secrets/envelope.ts';
import { createAzureManagement } from './clusters/azure-management.ts';
import { azureAccess, createClusterTokens, type CloudCredentials } from './clusters/cloud-token.ts';
import { createKubernetesReader } from './clusters/kubernetes-reader.ts';
import { createCheckClustersCron } from './cron/check-clusters.ts';
import { createCheckDriftCron } from './cron/check-drift.ts';
import { createCheckNodesCron } from './cron/check-nodes.ts';
import { createDeliverWebhooksCron } from './cron/deliver-webhooks.ts';
import { createInterruptibleCron } from './cron/check-interruptible.ts';
import { createCheckIdleCron } from './cron/check-idle.ts';
import { createDrillCron } from './cron/drill.ts';
import { createExpireCron } from './cron/expire.ts';
import { createExpireOrdersCron } from './cron/expire-orders.ts';
import { createKeepSnapshotsCron } from './cron/keep-snapshots.ts';
import { createMeterUsageCron } from './cron/meter-usage.ts';
import { createNameEndpointsCron } from './cron/name-endpoints.ts';
import { createPruneCron } from './cron/prune.ts';
import { createReapSilentCron } from './cron/reap-silent.ts';
import { createReconcileCron } from './cron/reconcile-fleet.ts';
import { createPlacePodsCron } from './cron/place-pods.ts';
import { createRefillPoolsCron } from './cron/refill-pools.ts';
import { createResolveStuckCron } from './cron/resolve-stuck.ts';
import { createReviewJoinsCron } from './cron/review-joins.ts';
import { createScheduler, type Scheduler } from './cron/scheduler.ts';
import { createSourceCapacityCron } from './cron/source-capacity.ts';
import { createSyncOffersCron } from './cron/sync-offers.ts';
import { createSyncStandbyCron } from './cron/sync-standby.ts';
import { createTakeSnapshotsCron } from './cron/take-snapshots.ts';
import { createChildPool, type ChildPool } from './engine/child-pool.ts';
import type { CloudPorts } from './engine/protocol.ts';
import { createStackRunner, type StackRunner } from './engine/stack-runner.ts';
import { createStateBackend, type EngineStateService } from './engine/state-backend.ts';
import { createWorker, type Worker } from './operations/worker.ts';
import type { StepServices } from './operations/step.ts';
import type { SnapshotServices } from './snapshots/restic-port.ts';
import { hearRegistrations, type RegistrationListener } from './readiness/hear-registrations.ts';
import { createReadinessCrons, readinessCronName } from './readiness/watch-readiness.ts';

export interface ProviderAccount {
  mode: 'live' | 'sandbox';
  apiKey: string;
  baseUrl: string;
  listLagMs: number;
  /** Seconds between two calls per endpoint; empty: unlimited. */
  rateLimits: Record<string, number>;
}

export interface AutomationOptions {
  roles: readonly ('worker' | 'cron')[];
  database: Database;
  queue: Queue;
  envelope: Envelope;
  /** Where the agents of machines reach the API; null: machines carry none. */
  agentUrl: string | null;
  labelMac: LabelMac;
  deploymentId: string;
  sshKey: { privateKey: string; publicKey: string };
  /** Where engines of this process keep their states; null: it is no worker. */
  stateService: EngineStateService | null;
  /** Name of this process on leases and ticks. */
  owner: string;
  projectDir: string;
  dataDir: string;
  concurrency: number;
  providers: Partial<Record<ProviderName, ProviderAccount>>;
  /** Of the sandbox's control page. Absent: nothing is simulated. */
  sandboxUrl?: string;
  /** The sandbox's simulated clouds; absent: the official plugins. */
  cloudPorts?: CloudPorts;
  /** For short-lived tokens of clusters. @default none: clusters of clouds are made, but not looked into */
  cloudCredentials?: CloudCredentials;
  /** The clouds' own variables, for the engine's official plugins. */
  cloudEnvironment?: Record<string, string>;
  intervals: { offerSyncMs: number; readinessMs: number; reconcileMs: number };
  orphans: { policy: 'destroy' | 'alert'; graceMs: number };
  /** Between two heartbeats, and how many failovers may begin by themselves in ten minutes. @default 10 s, 10 */
  nodes?: { intervalMs: number; stormLimit: number; deadManMs?: number | null };
  /** How long a machine may take to become ready, where no request says it. */
  bootTimeoutMs: number;
  sourcing: { mode: SourcingMode } & SourcingBounds;
  /** Absent: no snapshot can be taken by this process. */
  snapshots?: SnapshotServices;
  /** Where webhooks may lead: public addresses only, or anywhere. */
  webhookTargets: 'public' | 'any';
  log: Logger;
  now?: () => Date;
  crashPoint: CrashPoint;
}

export interface Automation {
  /** Crons and workers run; what needs the engine waits for {@link engineFound}. */
  start(): Promise<void>;
  /** The engine is there (the `pulumi` program): warms the children. */
  engineFound(engine: { path: string; version: string }): Promise<void>;
  engineMissing(reason: string): Promise<void>;
  scheduler: Scheduler | null;
  worker: Worker | null;
  /** Winds down within seconds: steps are interrupted and given back, children end. */
  stop(): Promise<void>;
}

/** Parallel resource operations of one update: purchases wait for the vendor, not for the processor. */
const PARALLEL = 64;
const STATUS_MS = 15_000;
/** Steps that may wait for an engine child while those that need none go on. */
const WAITING_STEPS = 14;
const NODES = { intervalMs: 10_000, stormLimit: 10 };
const NO_CREDENTIALS: CloudCredentials = { aws: null, azure: null, sandboxToken: null };
/** What Vast.ai's users report for the longest lag of its list. */
const DEFAULT_LIST_LAG_MS = 15_000;

export async function createAutomation(options: AutomationOptions): Promise<Automation> {
  const { database, queue, owner, log } = options;
  const db = database.kysely;
  const now = options.now ?? (() => new Date());
  const limits = Object.fromEntries(
    Object.entries(options.providers).map(([name, account]) => [name, account.rateLimits]),
  );
  const limiter = createSharedRateLimiter(db, limits);
  const clients = new Map<ProviderName, ProviderClient>();
  for (const [name, account] of Object.entries(options.providers)) {
    clients.set(name as ProviderName, createProviderClient(name as ProviderName, account, limiter));
  }
  const client = (provider: ProviderName): ProviderClient => {
    const found = clients.get(provider);
    if (!found) throw new Error(`provider ${provider} is off`);
    return found;
  };
  const listLagMs = (provider: ProviderName) => options.providers[provider]?.listLagMs ?? DEFAULT_LIST_LAG_MS;
  const enabledProviders = [...clients.keys()];
  const engine = createEngineHolder(options);
  const kubernetes = createKubernetesReader();
  const clusterTokens = createClusterTokens(options.cloudCredentials ?? NO_CREDENTIALS, now);
  const isWorker = options.roles.includes('worker');
  const worker = isWorker
    ? createWorker({
        services: makeServices(),
        database,
        owner,
        concurrency: options.concurrency + WAITING_STEPS,
      })
    : null;
  const scheduler = options.roles.includes('cron') ? createScheduler(makeCrons(), { db, owner, log }) : null;
  let statusTimer: NodeJS.Timeout | undefined;
  let registrations: RegistrationListener | undefined;
  let engineStatus = { ready: false, reason: 'looking for the engine' };

  function makeServices(): StepServices {
    return {
      db,
      queue,
      runner: engine.openRunner(),
      engineReady: () => engine.isReady(),
      client,
      enabledProviders,
      limiter,
      envelope: options.envelope,
      kubernetes,
      azure: createAzureManagement(azureAccess(options.cloudCredentials ?? NO_CREDENTIALS, now)),
      ...(options.snapshots ? { snapshots: options.snapshots } : {}),
      ...(options.sandboxUrl === undefined ? {} : { sandboxUrl: options.sandboxUrl }),
      agentUrl: options.agentUrl,
      labelMac: options.labelMac,
      deploymentId: options.deploymentId,
      deploymentSshPublicKey: options.sshKey.publicKey,
      deploymentSshPrivateKey: options.sshKey.privateKey,
      bootTimeoutMs: options.bootTimeoutMs,
      listLagMs,
      now,
      crashPoint: options.crashPoint,
      log,
    };
  }

  function makeCrons() {
    const shared = { db, queue, client, providers: enabledProviders, listLagMs, now, log };
    return [
      createSyncOffersCron({ ...shared, everyMs: options.intervals.offerSyncMs }),
      ...createReadinessCrons({
        ...shared,
        everyMs: options.intervals.readinessMs,
        sshPrivateKey: options.sshKey.privateKey,
        crashPoint: options.crashPoint,
      }),
      createReconcileCron({
        ...shared,
        everyMs: options.intervals.reconcileMs,
        deploymentId: options.deploymentId,
        labelMac: options.labelMac,
        orphans: options.orphans,
      }),
      createInterruptibleCron(shared),
      createCheckIdleCron(shared),
      createCheckNodesCron({ ...shared, ...(options.nodes ?? NODES), sshPrivateKey: options.sshKey.privateKey }),
      createReapSilentCron({ ...shared, deadManMs: options.nodes?.deadManMs ?? null }),
      createExpireCron(db, queue, now),
      createExpireOrdersCron(db, queue),
      createResolveStuckCron(db, queue, log),
      createMeterUsageCron(db),
      createDeliverWebhooksCron({ db, envelope: options.envelope, targets: options.webhookTargets, now, log }),
      createSourceCapacityCron({ ...options.sourcing, db, queue, now, log }),
      createPlacePodsCron({ db, intervalMs: (options.nodes ?? NODES).intervalMs }),
      createRefillPoolsCron({ db, queue, bootTimeoutMs: options.bootTimeoutMs, now }),
      createCheckDriftCron(db, queue),
      createCheckClustersCron({ db, envelope: options.envelope, kubernetes, clusterTokens, now, log }),
      createReviewJoinsCron({ db, envelope: options.envelope, kubernetes, clusterTokens, now, log }),
      createTakeSnapshotsCron(db, queue, now),
      createKeepSnapshotsCron(db, queue, now),
      createSyncStandbyCron({ db, queue, now, log }),
      createDrillCron({ db, queue, now, log }),
      createNameEndpointsCron({ db, queue, log }),
      createPruneCron(db, queue),
    ];
  }

  async function reportEngine(ready: boolean, reason: string): Promise<void> {
    engineStatus = { ready, reason };
    await recordComponent(db, 'engine', owner, ready, reason);
  }

  async function reportSnapshots(snapshots: SnapshotServices): Promise<void> {
    const found = await snapshots.restic().then(
      ({ version }) => ({ ready: true, reason: `restic ${version}` }),
      (error: unknown) => ({ ready: false, reason: error instanceof Error ? error.message : String(error) }),
    );
    await recordComponent(db, 'snapshots', owner, found.ready, found.reason);
  }

  return {
    scheduler,
    worker,
    async start() {
      for (const [name, account] of Object.entries(options.providers)) {
        await registerProvider(db, name as ProviderName, account.mode);
      }
      if (worker) {
        await reportEngine(engineStatus.ready, engineStatus.reason);
        statusTimer = setInterval(() => {
          recordComponent(db, 'engine', owner, engineStatus.ready, engineStatus.reason).catch(() => {});
          if (options.snapshots) reportSnapshots(options.snapshots).catch(() => {});
        }, STATUS_MS);
        if (options.snapshots) await reportSnapshots(options.snapshots);
        await worker.start();
      }
      if (scheduler) {
        scheduler.start();
        const ring = (provider: string, at: Date) => scheduler.ring(readinessCronName(provider), at);
        registrations = await hearRegistrations(database, ring, log);
        // What a person waits for after a start: offers to rent from.
        scheduler
          .runNow('sync-offers')
          .catch((error: unknown) => log.warn({ err: error }, 'the first listing of offers failed'));
      }
    },
    async engineFound(found) {
      if (!worker) return;
      engine.use(found);
      await reportEngine(true, `pulumi ${found.version}`);
    },
    engineMissing: (reason) => (worker ? reportEngine(false, reason) : Promise.resolve()),
    async stop() {
      clearInterval(statusTimer);
      await registrations?.close();
      await Promise.all([scheduler?.stop(), worker?.drain()]);
      await engine.close();
    },
  };
}

/** The runner exists from the start; its children only once the engine is there. */
function createEngineHolder(options: AutomationOptions) {
  let pool: ChildPool | undefined;
  const lazyPool: ChildPool = {
    run: (...args) => {
      if (!pool) throw new Error('the engine is not there yet');
      return pool.run(...args);
    },
    extendLease: (runId, validForMs) => pool?.extendLease(runId, validForMs),
    warm: () => pool?.warm(),
    close: async () => pool?.close(),
  };
  return {
    isReady: () => pool !== undefined,
    openRunner(): StackRunner {
      const { database, envelope, stateService: service } = options;
      const backend = createStateBackend({ db: database.kysely, envelope, service });
      // Simulated clouds tell at once what they have.
      const absenceSettlesMs = Object.keys(options.cloudPorts ?? {}).length > 0 ? 0 : undefined;
      return createStackRunner(lazyPool, backend, absenceSettlesMs);
    },
    use(engine: { path: string; version: string }) {
      pool ??= createChildPool({
        size: options.concurrency,
        scratchDir: join(options.dataDir, 'engine', `children-${process.pid}`),
        settings: {
          enginePath: engine.path,
          engineVersion: engine.version,
          projectRoot: options.projectDir,
          parallel: PARALLEL,
          cloudPorts: options.cloudPorts ?? {},
          cloudEnvironment: options.cloudEnvironment ?? {},
          providers: Object.fromEntries(
            Object.entries(options.providers).map(([name, { apiKey, baseUrl, listLagMs }]) => [
              name,
              { apiKey, baseUrl, listLagMs },
            ]),
          ),
        },
        onChildError: (message) => options.log.error({ message }, 'an operation child failed'),
      });
      pool.warm();
    },
    close: () => lazyPool.close(),
  };
}
