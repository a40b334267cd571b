/** The automation without engine and vendor: real workers, handlers, crons and database over a scripted vendor and stack runner. */
import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import { createCheckIdleCron } from '../../automation/cron/check-idle.ts';
import { createInterruptibleCron } from '../../automation/cron/check-interruptible.ts';
import { createExpireCron } from '../../automation/cron/expire.ts';
import { createReconcileCron, type ReconcileOptions } from '../../automation/cron/reconcile-fleet.ts';
import { createSyncOffersCron } from '../../automation/cron/sync-offers.ts';
import type { Cron, TickCounts } from '../../automation/cron/scheduler.ts';
import { createKubernetesReader } from '../../automation/clusters/kubernetes-reader.ts';
import type { StepServices } from '../../automation/operations/step.ts';
import { createWorker, type Worker } from '../../automation/operations/worker.ts';
import { recordReady } from '../../automation/readiness/outcomes.ts';
import { createReadinessCrons } from '../../automation/readiness/watch-readiness.ts';
import { acceptCancel } from '../../db/accept-cancel.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import type { AttemptRow } from '../../db/attempts.ts';
import { inTransaction } from '../../db/database.ts';
import { findInstance, type InstanceRow } from '../../db/instances.ts';
import { findOperation, type OperationRow } from '../../db/operations.ts';
import { recordBelievable } from '../../db/providers.ts';
import { noCrash } from '../../domain/crash-points.ts';
import { createLabelMac, makeLabelKey } from '../../secrets/deployment-secrets.ts';
import { createEnvelope } from '../../secrets/envelope.ts';
import { ACTOR, createFleetDatabase, DEPLOYMENT_ID, makeOffer, until, type FleetDatabase } from './fleet-database.ts';
import {
  createScriptedRunner,
  createScriptedVendor,
  type ScriptedRunner,
  type ScriptedVendor,
} from './scripted-vendor.ts';
import { SSH_KEY } from './ssh-machine.ts';

type CronName = 'idle' | 'interruptible' | 'readiness' | 'reconcile' | 'sync' | 'expire';

export interface ScriptedAutomation extends FleetDatabase {
  vendor: ScriptedVendor;
  runner: ScriptedRunner;
  services: StepServices;
  /** Every worker that was started is drained at the close. */
  startWorker(name?: string): Promise<Worker>;
  tick(cron: CronName): Promise<TickCounts>;
  orphans: ReconcileOptions['orphans'];
  /** How far the processes' clock runs ahead of the database's. */
  clockAheadMs: number;
  /** Puts so many offers on the vendor's market and lists them. */
  openMarket(offers: number): Promise<void>;
  destroy(instanceId: string): Promise<OperationRow>;
  cancel(operationId: string): Promise<void>;
  operation(id: string): Promise<OperationRow>;
  instance(id: string): Promise<InstanceRow>;
  attempts(): Promise<AttemptRow[]>;
  /** As the readiness watcher does when a machine has shown itself ready. */
  recordReady(attempt: AttemptRow): Promise<{ losers: number } | null>;
  attempt(id: string): Promise<AttemptRow>;
  until: typeof until;
  untilGone(attemptId: string): Promise<AttemptRow>;
  untilDestroyed(instanceId: string): Promise<InstanceRow>;
  /** Until the operation waits, with nothing running; returns it. */
  untilWaiting(id: string): Promise<OperationRow>;
  untilFinished(id: string): Promise<OperationRow>;
  /** Until so many attempts are bought; returns those that are. */
  untilBought(count: number): Promise<AttemptRow[]>;
  /** Lets the operation's wait pass and rings for it; returns the milliseconds waited. */
  passWait(id: string): Promise<number>;
  /** Messages of level warn and above. */
  readonly troubles: string[];
}

export async function createScriptedAutomation(): Promise<ScriptedAutomation> {
  const fleet = await createFleetDatabase({ poolSize: 12 });
  const { db, queue } = fleet;
  const vendor = createScriptedVendor();
  const runner = createScriptedRunner(vendor);
  const troubles: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => void troubles.push(line) });
  const labelMac = createLabelMac(makeLabelKey().secret);
  const workers: Worker[] = [];
  const shared = {
    db,
    queue,
    client: () => vendor.client,
    providers: ['vastai' as const],
    listLagMs: () => 0,
    now: () => new Date(Date.now() + made.clockAheadMs),
    log,
    everyMs: 60_000,
  };
  const services: StepServices = {
    ...shared,
    runner,
    engineReady: () => true,
    enabledProviders: ['vastai'],
    limiter: { acquire: () => Promise.resolve(), slowDown: () => Promise.resolve() },
    envelope: createEnvelope(randomBytes(32)),
    kubernetes: createKubernetesReader(),
    agentUrl: null,
    labelMac,
    deploymentId: DEPLOYMENT_ID,
    deploymentSshPublicKey: SSH_KEY.public,
    deploymentSshPrivateKey: SSH_KEY.private,
    bootTimeoutMs: 900_000,
    crashPoint: noCrash,
  };
  const operation = async (id: string) => (await findOperation(db, null, id)) as OperationRow;
  const made: ScriptedAutomation = {
    ...fleet,
    vendor,
    runner,
    services,
    troubles,
    clockAheadMs: 0,
    orphans: { policy: 'destroy', graceMs: 300_000 },
    async startWorker(name = `worker-${workers.length + 1}`) {
      const worker = createWorker({ services, database: fleet.database, owner: name, concurrency: 6 });
      workers.push(worker);
      await worker.start();
      return worker;
    },
    tick(name) {
      const cron = {
        readiness: () => createReadinessCrons({ ...shared, sshPrivateKey: SSH_KEY.private })[0] as Cron,
        reconcile: () =>
          createReconcileCron({ ...shared, deploymentId: DEPLOYMENT_ID, labelMac, orphans: made.orphans }),
        sync: () => createSyncOffersCron(shared),
        interruptible: () => createInterruptibleCron(shared),
        idle: () => createCheckIdleCron(shared),
        expire: () => createExpireCron(db, queue, shared.now),
      }[name]();
      return cron.run(new AbortController().signal);
    },
    async openMarket(count) {
      vendor.offers = Array.from({ length: count }, (_, index) => makeOffer(index + 1));
      await made.tick('sync');
      await recordBelievable(db, 'vastai', { listing: 'instances', count: vendor.live().length });
    },
    destroy: async (instanceId) => {
      const order = { orgId: null, instanceId, actor: ACTOR, reason: 'asked' };
      return (await inTransaction(db, (tx) => acceptDestroy(tx, queue, order))).operation;
    },
    async cancel(operationId) {
      const order = { orgId: null, operationId, actor: ACTOR, reason: 'changed my mind' };
      await inTransaction(db, (tx) => acceptCancel(tx, queue, order));
    },
    operation,
    until,
    attempt: (id) => db.selectFrom('attempts').selectAll().where('id', '=', id).executeTakeFirstOrThrow(),
    untilGone: (id) =>
      until(async () => {
        const attempt = await made.attempt(id);
        return attempt.status === 'gone' && attempt;
      }, `${id} is gone`),
    untilDestroyed: (id) =>
      until(async () => {
        const instance = await made.instance(id);
        return instance.status === 'destroyed' && instance;
      }, `${id} is destroyed`),
    instance: async (id) => (await findInstance(db, null, id)) as InstanceRow,
    recordReady: (attempt) => recordReady(db, queue, attempt, new Date()),
    attempts: () => db.selectFrom('attempts').selectAll().orderBy('created_at').orderBy('id').execute(),
    untilWaiting: (id) =>
      until(async () => {
        const row = await operation(id);
        return row.wait_until !== null && row.lease_owner === null && row;
      }, `${id} waits`),
    untilFinished: (id) =>
      until(async () => {
        const row = await operation(id);
        return row.finished_at !== null && row;
      }, `${id} is finished`),
    untilBought: (count) =>
      until(async () => {
        const bought = (await made.attempts()).filter((attempt) => attempt.status === 'bought');
        return bought.length === count && bought;
      }, `${count} machines are bought`),
    async passWait(id) {
      const { wait_until: waitUntil, claim } = await made.untilWaiting(id);
      const waitMs = Math.max(0, (waitUntil?.getTime() ?? 0) - Date.now());
      await fleet.passTime(waitMs);
      await queue.dispatch(db, id);
      await until(async () => (await operation(id)).claim > claim, `${id} is claimed again`);
      return waitMs;
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.drain()));
      await fleet.close();
    },
  };
  return made;
}
