/**
 * Snapshots from end to end without machines: the real API with its gateway, a real worker, real restic, and nodes that are the agent's own
 * orders in this process. Time is real, stores are real.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { createOrders, type Orders } from '../../agent/orders.ts';
import { runRestic } from '../../agent/snapshots/run-restic.ts';
import { createSnapshotOrders } from '../../agent/snapshots/snapshot-orders.ts';
import { createFilesOpener } from '../../api/repository/open-files.ts';
import type { StepServices } from '../../automation/operations/step.ts';
import { createWorker, type Worker } from '../../automation/operations/worker.ts';
import {
  createSlots,
  type ResticPort,
  type SnapshotServices,
  type StoreKey,
} from '../../automation/snapshots/restic-port.ts';
import { acceptProvision } from '../../db/accept-provision.ts';
import { beginRestore, beginSnapshot } from '../../db/accept-snapshot.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import { newId } from '../../db/new-id.ts';
import { findOperation, type OperationRow } from '../../db/operations.ts';
import { listOpenOrders, recordOrderReports } from '../../db/orders.ts';
import { findSnapshot, type SnapshotRow } from '../../db/snapshots.ts';
import { ensureWorkspace, setWriter } from '../../db/workspaces.ts';
import { isSettled, type SnapshotCause, type WorkspaceWish } from '../../domain/snapshots/snapshot.ts';
import { startApiServer, type ApiServer } from './api-server.ts';
import { ACTOR, REQUEST, until } from './fleet-database.ts';
import { RESTIC } from './restic.ts';

export interface SnapshotNode {
  nodeId: string;
  attemptId: string;
  /** Its workspace's folder. */
  workspace: string;
  /** The agent's own. */
  directory: string;
  orders(): Orders;
  /** As SIGKILL does: nothing is told or tidied up; what restic does goes on. */
  kill(): void;
  /** A new agent on the same disk. */
  start(): void;
}

export interface SnapshotWorld {
  server: ApiServer;
  db: Db;
  orgId: string;
  /** Of the file store. */
  store: string;
  services: StepServices;
  startWorker(): Promise<Worker>;
  /** An instance with a workspace, its first machine being the writer. */
  makeInstance(wish?: WorkspaceWish): Promise<{ instanceId: string; node: SnapshotNode }>;
  /** Another machine of the instance; not its writer. */
  makeNode(instanceId: string): Promise<SnapshotNode>;
  begin(instanceId: string, cause?: SnapshotCause): Promise<string>;
  /** Until it is verified or failed. */
  settled(snapshotId: string, boundMs?: number): Promise<SnapshotRow>;
  take(instanceId: string): Promise<SnapshotRow>;
  restore(snapshotId: string, nodeId: string): Promise<OperationRow>;
  finished(operationId: string, boundMs?: number): Promise<OperationRow>;
  /** What the worker's restic is told before it runs: to break it in the middle. */
  beforeRestic: (args: readonly string[]) => Promise<void>;
  /** What nodes report at the end of an order: to let them lie. */
  alterResult: (result: Record<string, unknown>) => Record<string, unknown>;
  close(): Promise<void>;
}

export interface SnapshotWorldOptions {
  storeUrl?: string;
  storeKey?: StoreKey;
  access?: SnapshotServices['access'];
  issueKey?: SnapshotServices['issueKey'];
}

export async function startSnapshotWorld(options: SnapshotWorldOptions = {}): Promise<SnapshotWorld> {
  const home = mkdtempSync(join(tmpdir(), 'muster-snapshots-'));
  const store = join(home, 'store');
  const storeKey = options.storeKey ?? null;
  const server = await startApiServer({ openRepositoryFiles: createFilesOpener(storeKey) });
  const db = server.database.kysely;
  const { queue } = server;
  const nodes: { stop(): void }[] = [];
  const workers: Worker[] = [];
  const restic: ResticPort = {
    version: '0.14.0',
    async run(run) {
      await world.beforeRestic(run.args);
      return runRestic(RESTIC, run);
    },
  };
  const services = {
    db,
    queue,
    envelope: server.deps.envelope,
    now: () => new Date(),
    log: pino({ level: 'silent' }),
    crashPoint: () => {},
    snapshots: {
      restic: () => Promise.resolve(restic),
      storeUrl: options.storeUrl ?? `file://${store}`,
      storeKey,
      access: options.access ?? 'gateway',
      issueKey: options.issueKey ?? null,
      readBacks: createSlots(2),
      resticDigests: () => Promise.resolve({}),
    },
  } as unknown as StepServices;

  function addNode(attemptId: string, nodeId: string): SnapshotNode {
    const directory = join(home, nodeId, 'agent');
    const workspace = join(home, nodeId, 'workspace');
    mkdirSync(directory, { recursive: true });
    mkdirSync(workspace, { recursive: true });
    let agent = startAgent();
    nodes.push({ stop: () => agent.stop() });
    function startAgent() {
      let isLive = true;
      const orders = createOrders({
        directory,
        handlers: {
          ...createSnapshotOrders({ url: server.url, directory, workspace, searchPath: process.env['PATH'] ?? '' }),
        },
        changed: () => {},
        log: () => {},
      });
      void (async () => {
        while (isLive) {
          orders.apply((await listOpenOrders(db, server.deps.envelope, nodeId)).map((order) => ({ ...order })));
          const reports = orders.reports().map((report) => {
            const result = report.result as Record<string, unknown> | undefined;
            return result === undefined ? report : { ...report, result: world.alterResult(result) };
          });
          if (reports.length > 0 && isLive) {
            const acknowledged = await inTransaction(db, (tx) => recordOrderReports(tx, queue, nodeId, reports));
            orders.acknowledge(acknowledged);
          }
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      })().catch((error: unknown) => {
        if (isLive) throw error;
      });
      return {
        orders,
        stop: () => {
          isLive = false;
          void orders.stopAll('stopped', 'the test is over');
        },
        abandon: () => {
          isLive = false;
        },
      };
    }
    return {
      nodeId,
      attemptId,
      workspace,
      directory,
      orders: () => agent.orders,
      kill: () => agent.abandon(),
      start: () => {
        agent = startAgent();
      },
    };
  }

  async function insertMachine(instanceId: string): Promise<SnapshotNode> {
    const instance = await db
      .selectFrom('instances')
      .selectAll()
      .where('id', '=', instanceId)
      .executeTakeFirstOrThrow();
    const attemptId = newId('attempt');
    const nodeId = newId('node');
    const place = { org_id: instance.org_id, instance_id: instanceId };
    await db
      .insertInto('attempts')
      .values({
        ...place,
        id: attemptId,
        stack_id: instance.stack_id,
        provider: 'vastai',
        label: `label-${attemptId}`,
        status: 'bought',
      })
      .execute();
    await db
      .insertInto('nodes')
      .values({ ...place, id: nodeId, attempt_id: attemptId, key_hash: createHash('sha256').update(nodeId).digest() })
      .execute();
    return addNode(attemptId, nodeId);
  }

  const world: SnapshotWorld = {
    server,
    db,
    orgId: '',
    store,
    services,
    beforeRestic: () => Promise.resolve(),
    alterResult: (result) => result,
    async startWorker() {
      const owner = `worker-${randomBytes(3).toString('hex')}`;
      const worker = createWorker({ services, database: server.database, owner, concurrency: 4 });
      workers.push(worker);
      await worker.start();
      return worker;
    },
    async makeInstance(wish = {}) {
      const { id: org } = await db.selectFrom('orgs').select('id').executeTakeFirstOrThrow();
      const { instances } = await inTransaction(db, (tx) =>
        acceptProvision(tx, queue, {
          orgId: org,
          actor: ACTOR,
          names: [`box-${randomBytes(4).toString('hex')}`],
          request: REQUEST,
          consumer: null,
          overrideReason: null,
          stackId: newId('stack'),
        }),
      );
      const instanceId = (instances[0] as { id: string }).id;
      // Nobody provisions here.
      await db
        .updateTable('operations')
        .set({ status: 'succeeded' })
        .where('kind', '=', 'provision_instance')
        .execute();
      await db.updateTable('instances').set({ status: 'ready' }).where('id', '=', instanceId).execute();
      const { org_id: orgId } = await db
        .selectFrom('instances')
        .select('org_id')
        .where('id', '=', instanceId)
        .executeTakeFirstOrThrow();
      world.orgId = orgId;
      const node = await insertMachine(instanceId);
      await inTransaction(db, async (tx) => {
        await ensureWorkspace(tx, { instanceId, orgId, wish });
        await setWriter(tx, instanceId, { attemptId: node.attemptId });
      });
      return { instanceId, node };
    },
    makeNode: insertMachine,
    begin: (instanceId, cause = 'request') =>
      inTransaction(db, (tx) => beginSnapshot(tx, queue, { instanceId, cause })),
    settled: (snapshotId, boundMs = 45_000) =>
      until(
        async () => {
          const row = await findSnapshot(db, null, snapshotId);
          return row && isSettled(row.status) && row;
        },
        `${snapshotId} is settled`,
        boundMs,
      ),
    async take(instanceId) {
      return world.settled(await world.begin(instanceId));
    },
    async restore(snapshotId, nodeId) {
      return world.finished(await inTransaction(db, (tx) => beginRestore(tx, queue, { snapshotId, nodeId })));
    },
    finished: (operationId, boundMs = 45_000) =>
      until(
        async () => {
          const row = await findOperation(db, null, operationId);
          return row?.finished_at && row;
        },
        `${operationId} is finished`,
        boundMs,
      ),
    async close() {
      for (const node of nodes) node.stop();
      await Promise.all(workers.map((worker) => worker.drain()));
      await new Promise((resolve) => setTimeout(resolve, 50)); // the nodes' last look
      await server.stop();
      rmSync(home, { recursive: true, force: true });
    },
  };
  return world;
}
