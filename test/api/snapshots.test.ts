import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { beginRestore } from '../../db/accept-snapshot.ts';
import { inTransaction } from '../../db/database.ts';
import { newId } from '../../db/new-id.ts';
import { recordRepository, setWriter } from '../../db/workspaces.ts';
import type { SnapshotStatus } from '../../domain/snapshots/snapshot.ts';
import { listOffers, ORDER, startApiServer, type ApiServer } from '../support/api-server.ts';

let server: ApiServer;
beforeAll(async () => {
  server = await startApiServer();
  await listOffers(server, [{}]);
});
afterAll(() => server?.stop());

interface Made {
  instanceId: string;
  nodeId: string;
}

/** A ready instance with a workspace and a node that writes it. Those before count as destroyed, because few are allowed at once. */
async function makeInstance(workspace: object = {}): Promise<Made> {
  const db = server.database.kysely;
  await db.updateTable('instances').set({ status: 'destroyed' }).where('status', '<>', 'destroyed').execute();
  const accepted = await server.call('POST', '/api/v1/instances', { body: { ...ORDER, workspace } });
  expect({ status: accepted.status, body: accepted.body.detail }).toEqual({ status: 202, body: undefined });
  const instanceId = accepted.body.instances[0].id as string;
  const { org_id: orgId, stack_id: stackId } = await db
    .updateTable('instances')
    .set({ status: 'ready' })
    .where('id', '=', instanceId)
    .returning(['org_id', 'stack_id'])
    .executeTakeFirstOrThrow();
  const attemptId = newId('attempt');
  const nodeId = newId('node');
  const place = { org_id: orgId, instance_id: instanceId };
  const attempt = { ...place, id: attemptId, stack_id: stackId, provider: 'vastai' as const, label: attemptId };
  await db.insertInto('attempts').values(attempt).execute();
  const keyHash = createHash('sha256').update(nodeId).digest();
  await db
    .insertInto('nodes')
    .values({ ...place, id: nodeId, attempt_id: attemptId, key_hash: keyHash })
    .execute();
  await inTransaction(db, (tx) => setWriter(tx, instanceId, { attemptId }));
  return { instanceId, nodeId };
}

async function addSnapshot({ instanceId, nodeId }: Made, status: SnapshotStatus, dataAt: Date): Promise<string> {
  const db = server.database.kysely;
  const { org_id: orgId } = await db
    .selectFrom('workspaces')
    .select('org_id')
    .where('instance_id', '=', instanceId)
    .executeTakeFirstOrThrow();
  const id = newId('snapshot');
  await db
    .insertInto('snapshots')
    .values({
      id,
      org_id: orgId,
      instance_id: instanceId,
      node_id: nodeId,
      epoch: 1,
      cause: 'request',
      status,
      data_at: dataAt,
      file_count: 3n,
      source_bytes: 9_000_000_000_000n,
      verified_files: 3n,
      verified_bytes: 9_000_000_000_000n,
      restic_id: 'a'.repeat(64),
      created_by: 'system',
    })
    .execute();
  return id;
}

describe('the workspace of an instance', () => {
  it('is made as asked for, and shows what is safe and what it costs', async () => {
    const made = await makeInstance({
      path: '/data/work',
      snapshotEvery: '5 minutes',
      keep: { last: 2 },
      excludes: ['*.tmp'],
      uploadLimitKib: 1_000,
    });
    const path = `/api/v1/instances/${made.instanceId}/workspace`;
    const fresh = await server.call('GET', path);
    expect(fresh.body).toMatchObject({
      path: '/data/work',
      epoch: 1,
      snapshotEveryMs: 300_000,
      keep: { last: 2, daily: 7, weekly: 4 },
      excludes: ['*.tmp'],
      uploadLimitKib: 1_000,
      store: null,
      storageMicroUsdPerMonth: null,
      recoveryPointAt: null,
    });
    const db = server.database.kysely;
    await inTransaction(db, (tx) =>
      recordRepository(tx, made.instanceId, { passwordSealed: 'x', storeUrl: 's3://bucket?region=eu-west-1' }),
    );
    await db
      .updateTable('workspaces')
      .set({ stored_bytes: 100_000_000_000n })
      .where('instance_id', '=', made.instanceId)
      .execute();
    const id = await addSnapshot(made, 'verified', new Date('2026-11-21T10:00:00Z'));
    const shown = await server.call('GET', path);
    expect(shown.body).toMatchObject({
      store: 's3',
      storageMicroUsdPerMonth: 2_300_000,
      lastVerifiedSnapshotId: id,
      recoveryPointAt: '2026-11-21T10:00:00.000Z',
    });
    expect(JSON.stringify(shown.body)).not.toContain('bucket');
    const changed = await server.call('PATCH', path, {
      body: { snapshotEvery: null, keep: { last: 9, daily: 0, weekly: 0 } },
    });
    expect(changed.body).toMatchObject({
      snapshotEveryMs: null,
      keep: { last: 9, daily: 0, weekly: 0 },
      excludes: ['*.tmp'],
    });
  });

  it.each<[string, object, string]>([
    ['a path that is not absolute', { path: 'work' }, 'workspace.path'],
    ['a path that leads elsewhere', { path: '/data/../etc' }, 'workspace.path'],
    ['an interval that is too short', { snapshotEvery: '1 second' }, 'workspace.snapshotEvery'],
    ['nothing kept', { keep: { last: 0 } }, 'workspace.keep.last'],
    ['an unknown field', { storeUrl: 'file:///etc' }, 'workspace.storeUrl'],
    ['a pattern with a line end', { excludes: ['a\nb'] }, 'workspace.excludes.0'],
  ])('refuses %s', async (_, workspace, field) => {
    const reply = await server.call('POST', '/api/v1/instances', { body: { ...ORDER, workspace } });
    expect([reply.status, reply.body.errors[0].path]).toEqual([422, field]);
  });

  it("is another org's secret", async () => {
    const { instanceId } = await makeInstance();
    const { key } = await server.makeKey('owner');
    for (const [method, path] of [
      ['GET', `/api/v1/instances/${instanceId}/workspace`],
      ['PATCH', `/api/v1/instances/${instanceId}/workspace`],
      ['POST', `/api/v1/instances/${instanceId}/snapshots`],
      ['POST', `/api/v1/instances/${instanceId}/restore`],
    ] as const)
      expect((await server.call(method, path, { key, ...(method === 'PATCH' ? { body: {} } : {}) })).status, path).toBe(
        404,
      );
  });
});

describe('snapshots', () => {
  it('are accepted once for each Idempotency-Key, with an operation to watch', async () => {
    const made = await makeInstance();
    const path = `/api/v1/instances/${made.instanceId}/snapshots`;
    const headers = { 'idempotency-key': 'one' };
    const first = await server.call('POST', path, { headers });
    expect(first.status).toBe(202);
    expect(first.headers.get('location')).toBe(`/api/v1/operations/${first.body.operation.id}`);
    expect(first.body.snapshot).toMatchObject({ status: 'taking', cause: 'request', nodeId: made.nodeId, epoch: 1 });
    const again = await server.call('POST', path, { headers });
    expect(again.body).toEqual(first.body);
    const list = await server.call('GET', `/api/v1/snapshots?instanceId=${made.instanceId}`);
    expect(list.body.items.map((one: { id: string }) => one.id)).toEqual([first.body.snapshot.id]);
  });

  it('are refused where there is no workspace, no writer, or nothing ready', async () => {
    const made = await makeInstance();
    const db = server.database.kysely;
    const path = `/api/v1/instances/${made.instanceId}/snapshots`;
    await inTransaction(db, (tx) => setWriter(tx, made.instanceId, null));
    expect((await server.call('POST', path)).body).toMatchObject({ status: 409, code: 'conflict' });
    await db.updateTable('instances').set({ status: 'booting' }).where('id', '=', made.instanceId).execute();
    expect((await server.call('POST', path)).body).toMatchObject({ status: 409, state: 'booting' });
    const plain = await server.call('POST', '/api/v1/instances', { body: ORDER });
    const instanceId = plain.body.instances[0].id as string;
    await db.updateTable('instances').set({ status: 'ready' }).where('id', '=', instanceId).execute();
    const refused = await server.call('POST', `/api/v1/instances/${instanceId}/snapshots`);
    expect(refused.body).toMatchObject({ status: 409, detail: expect.stringContaining('no workspace') as string });
  });

  it('are never deleted when they are the last verified one or in use', async () => {
    const made = await makeInstance();
    const old = await addSnapshot(made, 'verified', new Date('2026-11-20T10:00:00Z'));
    const last = await addSnapshot(made, 'verified', new Date('2026-11-21T10:00:00Z'));
    expect((await server.call('DELETE', `/api/v1/snapshots/${last}`)).body).toMatchObject({
      status: 409,
      detail: expect.stringContaining('last verified') as string,
    });
    const db = server.database.kysely;
    const operationId = await inTransaction(db, (tx) =>
      beginRestore(tx, server.queue, { snapshotId: old, nodeId: made.nodeId }),
    );
    expect((await server.call('DELETE', `/api/v1/snapshots/${old}`)).body).toMatchObject({
      status: 409,
      detail: expect.stringContaining('in use') as string,
    });
    await db.updateTable('operations').set({ status: 'succeeded' }).where('id', '=', operationId).execute();
    const deleted = await server.call('DELETE', `/api/v1/snapshots/${old}`);
    expect(deleted.body).toMatchObject({
      operation: { kind: 'delete_snapshot' },
      snapshot: { id: old, status: 'deleting', allowedActions: [] },
    });
    expect((await server.call('DELETE', `/api/v1/snapshots/${old}`)).status).toBe(409);
  });

  it('are restored and read back only when verified', async () => {
    const made = await makeInstance();
    const failed = await addSnapshot(made, 'failed', new Date());
    const restore = `/api/v1/instances/${made.instanceId}/restore`;
    expect((await server.call('POST', restore)).body).toMatchObject({ status: 409, detail: 'no snapshot is verified' });
    expect((await server.call('POST', restore, { body: { snapshotId: failed } })).status).toBe(409);
    expect((await server.call('POST', `/api/v1/snapshots/${failed}/verify`)).status).toBe(409);
    const good = await addSnapshot(made, 'verified', new Date());
    expect((await server.call('POST', restore)).body).toMatchObject({ operation: { kind: 'restore_workspace' } });
    expect((await server.call('POST', restore, { body: { nodeId: newId('node') } })).status).toBe(404);
    const verified = await server.call('POST', `/api/v1/snapshots/${good}/verify`);
    expect(verified.body).toMatchObject({
      operation: { kind: 'verify_snapshot' },
      snapshot: { id: good, bytes: 9_000_000_000_000 },
    });
    const other = await makeInstance();
    const foreign = await server.call('POST', `/api/v1/instances/${other.instanceId}/restore`, {
      body: { snapshotId: good },
    });
    expect(foreign.body).toMatchObject({ status: 409, detail: 'the snapshot is of another instance' });
  });
});
