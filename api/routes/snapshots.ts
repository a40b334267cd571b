/** Routes of workspaces and snapshots. What takes time is done by operations; nodes come in by repositories.ts. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { beginDeletion, beginRestore, beginSnapshot, beginVerification } from '../../db/accept-snapshot.ts';
import { appendAudit } from '../../db/audit.ts';
import { inTransaction, type Executor, type Tx } from '../../db/database.ts';
import { findInstance } from '../../db/instances.ts';
import { findNode } from '../../db/nodes.ts';
import { findOperation, type OperationRow } from '../../db/operations.ts';
import {
  findSnapshot,
  latestVerified,
  listSnapshots,
  listSnapshotsInUse,
  type SnapshotRow,
} from '../../db/snapshots.ts';
import { changeWorkspace, findWorkspace, findWriterNode, type WorkspaceRow } from '../../db/workspaces.ts';
import { operationAccepted } from '../contract/operations.ts';
import {
  changeWorkspaceBody,
  restoreBody,
  snapshot,
  snapshotAccepted,
  snapshotListQuery,
  snapshotPage,
  workspace,
} from '../contract/snapshots.ts';
import { id } from '../contract/values.ts';
import { pageByTime, type PageOfTime } from '../cursor.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { snapshotReply, workspaceReply } from '../replies/snapshot-reply.ts';
import { route, type Answer, type Route } from '../route.ts';
import { readWorkspaceWish } from '../workspace-wish.ts';

const AREA = 'snapshots';
const snapshotParams = z.object({ id: id('snapshot') });
const instanceParams = z.object({ id: id('instance') });

export const snapshotRoutes: Route[] = [
  route({
    method: 'get',
    path: '/snapshots',
    access: 'read',
    area: AREA,
    summary: 'List snapshots, newest first',
    query: snapshotListQuery,
    replies: { 200: snapshotPage },
    handle: async ({ query, caller, deps }) => {
      const wanted = {
        orgId: caller.orgId,
        ...(query.instanceId === undefined ? {} : { instanceId: query.instanceId }),
        ...(query.status === undefined ? {} : { status: query.status }),
      };
      const list = (page: PageOfTime) => listSnapshots(deps.database.kysely, { ...wanted, ...page });
      return { status: 200, body: await pageByTime(query, list, (rows) => rows.map(snapshotReply)) };
    },
  }),
  route({
    method: 'get',
    path: '/snapshots/:id',
    access: 'read',
    area: AREA,
    summary: 'Get a snapshot',
    params: snapshotParams,
    replies: { 200: snapshot },
    handle: async ({ params, caller, deps }) => {
      const row = await requireSnapshot(deps.database.kysely, caller.orgId, params.id);
      return { status: 200, body: snapshotReply(row) };
    },
  }),
  route({
    method: 'post',
    path: '/instances/:id/snapshots',
    access: 'change',
    area: AREA,
    summary: "Take a snapshot of an instance's workspace",
    description: 'Its operation succeeds only when every byte was read back from the store.',
    params: instanceParams,
    isIdempotent: true,
    replies: { 202: snapshotAccepted },
    problems: ['conflict'],
    handle: ({ params, caller, actor, deps, once }) =>
      once(async (tx) => {
        await requireReady(tx, caller.orgId, params.id);
        const snapshotId = await beginSnapshot(tx, deps.queue, { instanceId: params.id, cause: 'request', actor });
        return acceptedSnapshot(tx, caller.orgId, snapshotId);
      }),
  }),
  route({
    method: 'delete',
    path: '/snapshots/:id',
    access: 'change',
    area: AREA,
    summary: 'Delete a snapshot and its data',
    description: 'Refused for the last verified one of an instance that is not destroyed, and for one in use.',
    params: snapshotParams,
    isIdempotent: true,
    replies: { 202: snapshotAccepted },
    problems: ['conflict'],
    handle: ({ params, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = await requireSnapshot(tx, caller.orgId, params.id);
        await assertDeletable(tx, row);
        const order = { instanceId: row.instance_id, snapshotIds: [row.id], actor };
        const operation = await beginDeletion(tx, deps.queue, order);
        if (operation === null) throw refused(row, `${row.id} is ${row.status}`);
        const after = await requireSnapshot(tx, caller.orgId, row.id);
        return accepted(operation, { snapshot: snapshotReply(after) });
      }),
  }),
  route({
    method: 'post',
    path: '/snapshots/:id/verify',
    access: 'change',
    area: AREA,
    summary: 'Read a snapshot back once more, every byte',
    params: snapshotParams,
    isIdempotent: true,
    replies: { 202: snapshotAccepted },
    problems: ['conflict'],
    handle: ({ params, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = await requireSnapshot(tx, caller.orgId, params.id);
        const operation = await beginVerification(tx, deps.queue, { snapshotId: row.id, actor });
        return accepted(operation, { snapshot: snapshotReply(row) });
      }),
  }),
  route({
    method: 'post',
    path: '/instances/:id/restore',
    access: 'change',
    area: AREA,
    summary: 'Make the workspace of a machine what a snapshot was',
    description: 'What the machine has there now is replaced once the whole snapshot has arrived and was checked.',
    params: instanceParams,
    body: restoreBody,
    isBodyOptional: true,
    isIdempotent: true,
    replies: { 202: operationAccepted },
    problems: ['conflict'],
    handle: ({ params, body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const owner = await requireWorkspace(tx, caller.orgId, params.id);
        const row = body.snapshotId
          ? await requireSnapshot(tx, caller.orgId, body.snapshotId)
          : await latestVerified(tx, params.id);
        if (row?.instance_id !== params.id) {
          throw new MusterError(
            'conflict',
            body.snapshotId ? 'the snapshot is of another instance' : 'no snapshot is verified',
          );
        }
        const nodeId = await findTarget(tx, caller.orgId, owner, body.nodeId);
        const operationId = await beginRestore(tx, deps.queue, { snapshotId: row.id, nodeId, actor });
        return accepted((await findOperation(tx, null, operationId)) as OperationRow, {});
      }),
  }),
  route({
    method: 'get',
    path: '/instances/:id/workspace',
    access: 'read',
    area: AREA,
    summary: "An instance's workspace: who writes it, what is safe, and what it costs",
    params: instanceParams,
    replies: { 200: workspace },
    handle: async ({ params, caller, deps }) => {
      const db = deps.database.kysely;
      const row = await requireWorkspace(db, caller.orgId, params.id);
      return { status: 200, body: workspaceReply(row, await latestVerified(db, params.id)) };
    },
  }),
  route({
    method: 'patch',
    path: '/instances/:id/workspace',
    access: 'change',
    area: AREA,
    summary: 'Change how often snapshots are taken and which are kept',
    params: instanceParams,
    body: changeWorkspaceBody,
    replies: { 200: workspace },
    handle: async ({ params, body, caller, actor, deps }) => {
      const changed = await inTransaction(deps.database.kysely, async (tx) => {
        await requireWorkspace(tx, caller.orgId, params.id);
        await changeWorkspace(tx, params.id, readWorkspaceWish(body));
        await appendAudit(tx, {
          orgId: caller.orgId,
          actor,
          action: 'workspace.change',
          targetKind: 'instance',
          targetId: params.id,
          detail: body,
        });
        const row = await requireWorkspace(tx, caller.orgId, params.id);
        return workspaceReply(row, await latestVerified(tx, params.id));
      });
      return { status: 200, body: changed };
    },
  }),
];

function accepted(operation: OperationRow, rest: Record<string, unknown>): Answer {
  return {
    status: 202,
    body: { operation: operationRefReply(operation), ...rest },
    location: operationLocation(operation),
  };
}

async function acceptedSnapshot(tx: Tx, orgId: string, snapshotId: string): Promise<Answer> {
  const row = await requireSnapshot(tx, orgId, snapshotId);
  const operation = (await findOperation(tx, orgId, row.operation_id as string)) as OperationRow;
  return accepted(operation, { snapshot: snapshotReply(row) });
}

async function requireSnapshot(executor: Executor, orgId: string, snapshotId: string): Promise<SnapshotRow> {
  const row = await findSnapshot(executor, orgId, snapshotId);
  if (!row) throw new MusterError('not_found', `there is no snapshot ${snapshotId}`);
  return row;
}

async function requireWorkspace(executor: Executor, orgId: string, instanceId: string): Promise<WorkspaceRow> {
  const row = await findWorkspace(executor, instanceId);
  if (row?.org_id !== orgId)
    throw new MusterError('not_found', `${instanceId} has no workspace, or there is no such instance`);
  return row;
}

async function requireReady(tx: Tx, orgId: string, instanceId: string): Promise<void> {
  const instance = await findInstance(tx, orgId, instanceId);
  if (!instance) throw new MusterError('not_found', `there is no instance ${instanceId}`);
  if (instance.status === 'ready') return;
  const detail = `${instanceId} is ${instance.status}: only a ready one has files to be copied`;
  throw new MusterError('conflict', detail, { facts: { state: instance.status } });
}

async function findTarget(tx: Tx, orgId: string, owner: WorkspaceRow, asked: string | undefined): Promise<string> {
  const nodeId = asked ?? (await findWriterNode(tx, owner));
  if (nodeId === undefined)
    throw new MusterError('conflict', `no machine writes the workspace of ${owner.instance_id} now`);
  if ((await findNode(tx, orgId, nodeId)) === undefined)
    throw new MusterError('not_found', `there is no node ${nodeId}`);
  return nodeId;
}

/** The last one that can be relied upon stays as long as there is something that may need it. */
async function assertDeletable(tx: Tx, row: SnapshotRow): Promise<void> {
  if ((await listSnapshotsInUse(tx, row.instance_id)).has(row.id)) throw refused(row, `${row.id} is in use`);
  const last = await latestVerified(tx, row.instance_id);
  const instance = await findInstance(tx, null, row.instance_id);
  if (last?.id === row.id && instance?.status !== 'destroyed') {
    throw refused(row, `${row.id} is the last verified snapshot of an instance that is ${instance?.status ?? 'there'}`);
  }
}

function refused(row: SnapshotRow, detail: string): MusterError {
  return new MusterError('conflict', detail, { facts: { state: row.status } });
}
