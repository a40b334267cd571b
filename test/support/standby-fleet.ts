/** Standbys on record, and the moves of whatever a takeover waits for, made by hand: no worker runs. */
import { newId } from '../../db/new-id.ts';
import { findStandby, insertStandby, newStandbyId, type StandbyRow } from '../../db/standbys.ts';
import { insertStack } from '../../db/stacks.ts';
import { ensureWorkspace, setWriter } from '../../db/workspaces.ts';
import type { OperationStatus } from '../../domain/operation.ts';
import type { StandbyStackConfig, StandbyState } from '../../domain/standby.ts';
import type { Tx } from '../../db/database.ts';
import { listOffers, startApiServer, type ApiServer } from './api-server.ts';
import { recordMachine } from './node-token.ts';

export interface StandbyFleet {
  server: ApiServer;
  inTx<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  /** An instance that is ready, with a workspace that its machine writes, and its standby at rest. */
  make(state: StandbyState, config?: StandbyStackConfig): Promise<MadeStandby>;
  find(standbyId: string): Promise<StandbyRow>;
  /** Its agent was heard of so long ago. */
  hear(standbyId: string, agoMs?: number): Promise<void>;
  /** A snapshot as its end left it. */
  verified(instanceId: string, dataAt: Date): Promise<string>;
  end(operationId: string, status: OperationStatus, detail?: string): Promise<void>;
  /** Of an operation by which the same may be asked for. */
  operation(instanceId: string): Promise<string>;
  stop(): Promise<void>;
}

export interface MadeStandby {
  id: string;
  instanceId: string;
  attemptId: string;
  /** Of the instance's machine. */
  nodeId: string;
  stackId: string;
}

export async function startStandbyFleet(): Promise<StandbyFleet> {
  const server = await startApiServer();
  const db = server.database.kysely;
  await listOffers(
    server,
    Array.from({ length: 30 }, () => ({})),
  );
  let serial = 0;
  const inTx = <T>(work: (tx: Tx) => Promise<T>) => db.transaction().execute(work);
  const fleet: StandbyFleet = {
    server,
    inTx,
    async make(state, config = {}) {
      const { attemptId, instanceId } = await recordMachine(server);
      const { org_id: orgId } = await db
        .updateTable('instances')
        .set({ status: 'ready', winner_attempt_id: attemptId, ready_at: new Date() })
        .where('id', '=', instanceId)
        .returning('org_id')
        .executeTakeFirstOrThrow();
      await db
        .updateTable('attempts')
        .set({ status: 'ready', ssh_host: '127.0.0.1', ssh_port: 1, ssh_user: 'root' })
        .where('id', '=', attemptId)
        .execute();
      const nodeId = newId('node');
      await db
        .insertInto('nodes')
        .values({ id: nodeId, org_id: orgId, attempt_id: attemptId, instance_id: instanceId, heartbeat_at: new Date() })
        .execute();
      const id = newStandbyId();
      const declared = { project: 'a-project', zone: 'europe-west4-a', state, ...config };
      const stack = await inTx(async (tx) => {
        const made = await insertStack(tx, {
          orgId,
          kind: 'standby',
          title: `stand-${++serial}`,
          config: declared,
          owner: 'test',
          costCentre: 'test',
          ceilingMicroUsdPerHour: null,
          protect: false,
          onDrift: 'report',
          createdBy: 'test',
        });
        await insertStandby(tx, {
          id,
          orgId,
          instanceId,
          name: `stand-${serial}`,
          stackId: made!.id,
          state,
          rpoMs: 60_000,
          config: declared,
          drillEveryMs: null,
          drillPolicy: null,
          createdBy: 'test',
        });
        await ensureWorkspace(tx, { instanceId, orgId });
        await setWriter(tx, instanceId, { attemptId });
        const anHourAgo = new Date(Date.now() - 3_600_000);
        await tx
          .updateTable('workspaces')
          .set({ writer_since: anHourAgo })
          .where('instance_id', '=', instanceId)
          .execute();
        return made!;
      });
      await db.updateTable('stacks').set({ status: 'up' }).where('id', '=', stack.id).execute();
      await db.updateTable('standbys').set({ status: state, address: '10.62.0.2' }).where('id', '=', id).execute();
      if (state === 'warm') await fleet.hear(id);
      return { id, instanceId, attemptId, nodeId, stackId: stack.id };
    },
    find: async (standbyId) => (await findStandby(db, null, standbyId))!,
    async hear(standbyId, agoMs = 0) {
      await db
        .updateTable('nodes')
        .set({ heartbeat_at: new Date(Date.now() - agoMs), key_hash: Buffer.from(standbyId) })
        .where('standby_id', '=', standbyId)
        .execute();
    },
    async verified(instanceId, dataAt) {
      const id = newId('snapshot');
      const { org_id: orgId, epoch } = await db
        .selectFrom('workspaces')
        .select(['org_id', 'epoch'])
        .where('instance_id', '=', instanceId)
        .executeTakeFirstOrThrow();
      await db
        .insertInto('snapshots')
        .values({
          id,
          org_id: orgId,
          instance_id: instanceId,
          node_id: 'nod_aaaaaaaaaaaaaaaa',
          epoch,
          generation: 1,
          cause: 'standby',
          operation_id: null,
          waiting_operation_id: null,
          created_by: 'test',
          status: 'verified',
          data_at: dataAt,
          created_at: dataAt,
          taken_at: dataAt,
          verified_at: new Date(dataAt.getTime() + 1_000),
        })
        .execute();
      return id;
    },
    async end(operationId, status, detail) {
      await db
        .updateTable('operations')
        .set({
          status,
          started_at: new Date(Date.now() - 1_000),
          finished_at: new Date(),
          error_code: detail === undefined ? null : 'stack_failed',
          error_detail: detail ?? null,
        })
        .where('id', '=', operationId)
        .execute();
    },
    async operation(instanceId) {
      const { operation_id: id } = await db
        .selectFrom('instances')
        .select('operation_id')
        .where('id', '=', instanceId)
        .executeTakeFirstOrThrow();
      return id;
    },
    stop: () => server.stop(),
  };
  return fleet;
}
