/** Instances that are ready or asleep by our records, for tests of the API: no worker runs, and what one would do is done to the rows. */
import { randomBytes } from 'node:crypto';
import { insertAttempt, markAttemptReady, markGone, recordPurchase } from '../../db/attempts.ts';
import { findOpenHibernation, markAsleep, markReleasing, setSnapshot } from '../../db/hibernations.ts';
import { setInstanceStatus } from '../../db/instances.ts';
import { newId } from '../../db/new-id.ts';
import { finishOperation } from '../../db/operations.ts';
import { claimFirstWriter, ensureWorkspace, recordRepository, recordStoredBytes } from '../../db/workspaces.ts';
import { OFFER, ORDER, type ApiServer } from './api-server.ts';

const HOUR = 3_600_000;

interface Owner {
  key: string;
  orgId: string;
}

/** On a machine with an agent; with a workspace that it writes where `body` asks for what needs one. Needs an offer on the market. */
export async function recordReadyInstance(
  server: ApiServer,
  { key, orgId }: Owner,
  body: Record<string, unknown>,
): Promise<{ id: string; attemptId: string }> {
  const accepted = await server.call('POST', '/api/v1/instances', { key, body: { ...ORDER, ...body } });
  const { id, stackId, operationId } = accepted.body.instances[0] as Record<'id' | 'stackId' | 'operationId', string>;
  const attemptId = newId('attempt');
  await server.database.kysely.transaction().execute(async (tx) => {
    const offer = { ...OFFER, providerOfferId: attemptId };
    const label = `muster-${attemptId}`;
    const price = 400_000n;
    await insertAttempt(tx, {
      id: attemptId,
      orgId,
      instanceId: id,
      stackId,
      label,
      offer,
      priceMicroUsdPerHour: price,
    });
    const machine = { providerInstanceId: attemptId, machineId: null, priceMicroUsdPerHour: null };
    await recordPurchase(tx, attemptId, machine, 1);
    await markAttemptReady(tx, attemptId);
    await tx
      .insertInto('nodes')
      .values({
        id: newId('node'),
        org_id: orgId,
        attempt_id: attemptId,
        instance_id: id,
        key_hash: randomBytes(32),
        agent_version: 'test',
        heartbeat_at: new Date(),
      })
      .execute();
    await setInstanceStatus(tx, id, 'creating');
    await setInstanceStatus(tx, id, 'booting');
    await setInstanceStatus(tx, id, 'ready', { phase: 'active', winnerAttemptId: attemptId });
    await claimFirstWriter(tx, id, attemptId);
    await finishOperation(tx, server.queue, operationId, 'succeeded', {});
  });
  return { id, attemptId };
}

/** As the operation does it: copied, given up, gone; an hour ago, with a repository of 40 GB at Backblaze. */
export async function recordSleep(
  server: ApiServer,
  { key, orgId }: Owner,
  id: string,
  attemptId: string,
): Promise<void> {
  const body = { reason: 'over the weekend' };
  const accepted = await server.call('POST', `/api/v1/instances/${id}/hibernate`, { key, body });
  if (accepted.status !== 202) throw new Error(JSON.stringify(accepted.body));
  const snapshotId = newId('snapshot');
  await server.database.kysely.transaction().execute(async (tx) => {
    const sleepId = (await findOpenHibernation(tx, id))?.id as string;
    await ensureWorkspace(tx, { instanceId: id, orgId });
    await recordRepository(tx, id, { passwordSealed: 'sealed', storeUrl: 'b2://bucket?region=us-west-004' });
    await recordStoredBytes(tx, id, 40_000_000_000n, { isMeasured: true });
    await tx
      .insertInto('snapshots')
      .values({
        id: snapshotId,
        org_id: orgId,
        instance_id: id,
        node_id: 'nod_abcdefghijklmnop',
        epoch: 1,
        generation: 1,
        cause: 'hibernate',
        status: 'verified',
        source_bytes: 41_000_000_000n,
        data_at: new Date(),
        created_by: 'test',
      })
      .execute();
    await setSnapshot(tx, sleepId, snapshotId);
    await markReleasing(tx, sleepId);
    await markGone(tx, [attemptId]);
    await markAsleep(tx, sleepId, new Date(Date.now() + 2 * HOUR));
    const change = { phase: 'asleep' as const, winnerAttemptId: null, restoreSnapshotId: snapshotId };
    await setInstanceStatus(tx, id, 'hibernated', change);
    await finishOperation(tx, server.queue, accepted.body.operation.id as string, 'succeeded', {});
    await tx
      .updateTable('hibernations')
      .set({ slept_at: new Date(Date.now() - HOUR) })
      .where('id', '=', sleepId)
      .execute();
  });
}
