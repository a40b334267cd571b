import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { beginSnapshot, cancelSnapshot } from '../../db/accept-snapshot.ts';
import { inTransaction } from '../../db/database.ts';
import { newId } from '../../db/new-id.ts';
import { insertRepositoryToken, openRepository } from '../../db/repository-tokens.ts';
import { findSnapshot, latestVerified } from '../../db/snapshots.ts';
import {
  beginGeneration,
  claimFirstWriter,
  ensureWorkspace,
  findWorkspace,
  findWriterNode,
  recordRepository,
  setWriter,
} from '../../db/workspaces.ts';
import { createFleetDatabase, type FleetDatabase } from '../support/fleet-database.ts';

let fleet: FleetDatabase;
beforeAll(async () => {
  fleet = await createFleetDatabase();
});
afterAll(() => fleet?.close());

async function makeInstance() {
  const { db, orgId } = fleet;
  const { instances } = await fleet.provision({ workspace: { snapshotEveryMs: 60_000 } });
  const [instance] = instances;
  if (!instance) throw new Error('no instance');
  const makeMachine = async () => {
    const attemptId = newId('attempt');
    const nodeId = newId('node');
    const place = { org_id: orgId, instance_id: instance.id };
    await db
      .insertInto('attempts')
      .values({ ...place, id: attemptId, stack_id: instance.stack_id, provider: 'vastai', label: attemptId })
      .execute();
    await db
      .insertInto('nodes')
      .values({ ...place, id: nodeId, attempt_id: attemptId, key_hash: Buffer.from(nodeId) })
      .execute();
    return { attemptId, nodeId };
  };
  return { instanceId: instance.id, first: await makeMachine(), second: await makeMachine() };
}

const write = (attemptId: string, instanceId: string) =>
  inTransaction(fleet.db, (tx) => setWriter(tx, instanceId, { attemptId }));

describe('a workspace', () => {
  it('is made with the request that asks for it, once', async () => {
    const { instanceId } = await makeInstance();
    const made = await findWorkspace(fleet.db, instanceId);
    expect(made).toMatchObject({ epoch: 0, snapshot_every_ms: 60_000n, keep: { last: 3, daily: 7, weekly: 4 } });
    const again = await inTransaction(fleet.db, (tx) =>
      ensureWorkspace(tx, { instanceId, orgId: fleet.orgId, wish: { path: '/elsewhere' } }),
    );
    expect(again).toEqual(made);
  });

  it('that an instance gets when it is ready already is written by its machine at once', async () => {
    const { instanceId, first } = await makeInstance();
    const { db, orgId } = fleet;
    await db.deleteFrom('workspaces').where('instance_id', '=', instanceId).execute();
    const ready = { status: 'ready', winner_attempt_id: first.attemptId } as const;
    await db.updateTable('instances').set(ready).where('id', '=', instanceId).execute();
    const made = await inTransaction(db, (tx) => ensureWorkspace(tx, { instanceId, orgId }));
    expect(made).toMatchObject({ epoch: 1, writer_attempt_id: first.attemptId });
    expect(made.writer_since).not.toBeNull();
  });

  it('has one writer: another one raises the epoch, the same one does not', async () => {
    const { instanceId, first, second } = await makeInstance();
    expect(await write(first.attemptId, instanceId)).toBe(1);
    expect(await write(first.attemptId, instanceId)).toBe(1);
    expect(await inTransaction(fleet.db, (tx) => setWriter(tx, instanceId, null))).toBe(2);
    expect(await inTransaction(fleet.db, (tx) => setWriter(tx, instanceId, null))).toBe(2);
    expect(await write(second.attemptId, instanceId)).toBe(3);
    expect(await write(first.attemptId, instanceId)).toBe(4);
    const workspace = await findWorkspace(fleet.db, instanceId);
    expect(workspace && (await findWriterNode(fleet.db, workspace))).toBe(first.nodeId);
  });

  it('takes its first machine as writer by itself, and no later one', async () => {
    const { instanceId, first, second } = await makeInstance();
    await inTransaction(fleet.db, (tx) => claimFirstWriter(tx, instanceId, first.attemptId));
    await inTransaction(fleet.db, (tx) => setWriter(tx, instanceId, null));
    await inTransaction(fleet.db, (tx) => claimFirstWriter(tx, instanceId, second.attemptId));
    expect(await findWorkspace(fleet.db, instanceId)).toMatchObject({ epoch: 2, writer_attempt_id: null });
  });

  it('ends the write tokens of the epoch before, and lets readers read on', async () => {
    const { instanceId, first } = await makeInstance();
    await write(first.attemptId, instanceId);
    await inTransaction(fleet.db, (tx) =>
      recordRepository(tx, instanceId, { passwordSealed: 'x', storeUrl: 'file:///nowhere' }),
    );
    const token = {
      instanceId,
      nodeId: first.nodeId,
      epoch: 1,
      generation: 1,
      operationId: newId('operation'),
      lifetimeMs: 60_000,
    };
    const [writes, reads] = await inTransaction(fleet.db, async (tx) => [
      await insertRepositoryToken(tx, { ...token, access: 'write' }),
      await insertRepositoryToken(tx, { ...token, access: 'read' }),
    ]);
    expect(await openRepository(fleet.db, writes, instanceId)).toMatchObject({ kind: 'open' });
    await inTransaction(fleet.db, (tx) => setWriter(tx, instanceId, null));
    expect(await openRepository(fleet.db, writes, instanceId)).toEqual({ kind: 'refused', reason: 'fenced' });
    expect(await openRepository(fleet.db, reads, instanceId)).toMatchObject({ kind: 'open' });
  });

  it('shows nothing of a writer that is fenced while it shows: one of the two waits for the other', async () => {
    const { instanceId, first } = await makeInstance();
    await write(first.attemptId, instanceId);
    await inTransaction(fleet.db, (tx) =>
      recordRepository(tx, instanceId, { passwordSealed: 'x', storeUrl: 'file:///nowhere' }),
    );
    const token = await inTransaction(fleet.db, (tx) =>
      insertRepositoryToken(tx, {
        instanceId,
        nodeId: first.nodeId,
        epoch: 1,
        generation: 1,
        access: 'write',
        operationId: newId('operation'),
        lifetimeMs: 60_000,
      }),
    );
    const order: string[] = [];
    let show = () => {};
    const showing = inTransaction(fleet.db, async (tx) => {
      await openRepository(tx, token, instanceId, { isLocked: true });
      await new Promise<void>((resolve) => (show = resolve));
      order.push('shown');
    });
    await new Promise<void>((resolve) => setImmediate(resolve));
    const fencing = inTransaction(fleet.db, (tx) => setWriter(tx, instanceId, null)).then(() => order.push('fenced'));
    // Until the fence waits for the row.
    for (let tries = 0; tries < 200; tries++) {
      const waiting = await fleet.asOwner(
        "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
      );
      if (waiting.length > 0) break;
    }
    show();
    await Promise.all([showing, fencing]);
    expect(order).toEqual(['shown', 'fenced']);
  });

  it('begins a new repository once for each that is damaged', async () => {
    const { instanceId } = await makeInstance();
    await inTransaction(fleet.db, (tx) => beginGeneration(tx, instanceId, 1));
    await inTransaction(fleet.db, (tx) => beginGeneration(tx, instanceId, 1));
    expect(await findWorkspace(fleet.db, instanceId)).toMatchObject({ generation: 2, initialized_at: null });
  });
});

describe('a snapshot', () => {
  it('begins at the writer only, and one that was never begun is failed when it is given up', async () => {
    const { instanceId, first, second } = await makeInstance();
    const begin = (nodeId?: string) =>
      inTransaction(fleet.db, (tx) =>
        beginSnapshot(tx, fleet.queue, { instanceId, cause: 'hibernate', ...(nodeId === undefined ? {} : { nodeId }) }),
      );
    await expect(begin()).rejects.toMatchObject({ code: 'conflict' });
    await write(first.attemptId, instanceId);
    await expect(begin(second.nodeId)).rejects.toMatchObject({ code: 'conflict' });
    const id = await begin();
    expect(await findSnapshot(fleet.db, fleet.orgId, id)).toMatchObject({
      status: 'taking',
      node_id: first.nodeId,
      epoch: 1,
    });
    expect(await findSnapshot(fleet.db, await fleet.makeOrg(), id)).toBeUndefined();
    await inTransaction(fleet.db, (tx) => cancelSnapshot(tx, fleet.queue, id, 'not needed'));
    expect(await findSnapshot(fleet.db, null, id)).toMatchObject({ status: 'failed', failure_code: 'canceled' });
  });

  it('is the latest by when its data is of, not by when it was read back', async () => {
    const { instanceId, first } = await makeInstance();
    const insert = async (status: 'verified' | 'taken' | 'failed', minute: number) => {
      const id = newId('snapshot');
      await fleet.db
        .insertInto('snapshots')
        .values({
          id,
          org_id: fleet.orgId,
          instance_id: instanceId,
          node_id: first.nodeId,
          epoch: 1,
          cause: 'schedule',
          status,
          data_at: new Date(Date.UTC(2026, 10, 21, 10, minute)),
          created_by: 'system',
        })
        .execute();
      return id;
    };
    const newer = await insert('verified', 5);
    await insert('verified', 1);
    await insert('taken', 7);
    await insert('failed', 9);
    expect((await latestVerified(fleet.db, instanceId))?.id).toBe(newer);
  });
});
