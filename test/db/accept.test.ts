import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { acceptCancel } from '../../db/accept-cancel.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { inTransaction } from '../../db/database.ts';
import { findInstance, measureFleet, setInstanceStatus } from '../../db/instances.ts';
import { newId } from '../../db/new-id.ts';
import { claimOperation, findOperation, finishOperation, withClaim, type Claim } from '../../db/operations.ts';
import type { MusterError } from '../../domain/error-table.ts';
import { ACTOR, createFleetDatabase, until, type FleetDatabase } from '../support/fleet-database.ts';

let fleet: FleetDatabase;
beforeAll(async () => {
  fleet = await createFleetDatabase({ poolSize: 16 });
});
afterAll(() => fleet?.close());

describe('accepting a provision', () => {
  it('keeps the caps under 30 requests at once: as many as fit, and not one more', async () => {
    const capped = await createFleetDatabase({ maxInstances: 7, poolSize: 16 });
    const outcomes = await settle(Array.from({ length: 30 }, () => capped.provision()));
    expect(outcomes.accepted).toHaveLength(7);
    for (const error of outcomes.refused) expect(error).toMatchObject({ code: 'cap_exceeded' });
    expect(await measureFleet(capped.db)).toMatchObject({ liveInstances: 7 });
    expect(await countRows(capped)).toEqual({ stacks: 7, operations: 7, instances: 7, audit_log: 7, job: 7 });
    await capped.close();
  });

  it('keeps the cap on burn the same way, counting the highest price of what is not bought yet', async () => {
    const capped = await createFleetDatabase({ maxBurnMicroUsdPerHour: 2_000_000n, poolSize: 16 });
    const outcomes = await settle(
      Array.from({ length: 12 }, () => capped.provision({ maxPriceMicroUsdPerHour: 600_000 })),
    );
    expect(outcomes.accepted).toHaveLength(3);
    expect(outcomes.refused[0]?.facts).toMatchObject({
      cap: 'burn',
      burnMicroUsdPerHour: 1_800_000,
      requestedMicroUsdPerHour: 600_000,
      maxBurnMicroUsdPerHour: 2_000_000,
    });
    expect(await measureFleet(capped.db)).toMatchObject({
      burnMicroUsdPerHour: 0n,
      committedMicroUsdPerHour: 1_800_000n,
    });
    await capped.close();
  });

  it('counts all racers of a race against the cap on burn, as far as what they may cost together allows', async () => {
    const capped = await createFleetDatabase({ maxBurnMicroUsdPerHour: 2_000_000n });
    const race = { strategy: 'race' as const, raceWidth: 4 };
    await expect(capped.provision(race)).rejects.toMatchObject({
      code: 'cap_exceeded',
      facts: { cap: 'burn', requestedMicroUsdPerHour: 2_400_000 },
    });
    await capped.provision({ ...race, maxRaceCostMicroUsd: 0 });
    expect((await measureFleet(capped.db)).committedMicroUsdPerHour).toBe(600_000n);
    await capped.close();
  });

  it('refuses a request for several as a whole', async () => {
    const capped = await createFleetDatabase({ maxInstances: 3 });
    await expect(capped.provision({}, ['a', 'b', 'c', 'd'])).rejects.toMatchObject({ code: 'cap_exceeded' });
    expect(await countRows(capped)).toEqual({ stacks: 0, operations: 0, instances: 0, audit_log: 0, job: 0 });
    await capped.provision({}, ['a', 'b', 'c']);
    await capped.close();
  });

  it('lets one of many have a name, and leaves nothing of the others', async () => {
    const before = await countRows(fleet);
    const outcomes = await settle(Array.from({ length: 6 }, () => fleet.provision({}, ['the-one'])));
    expect(outcomes.accepted).toHaveLength(1);
    for (const error of outcomes.refused) expect(error).toMatchObject({ code: 'conflict', errors: [{ path: 'name' }] });
    const after = await countRows(fleet);
    for (const table of Object.keys(after)) expect((after[table] ?? 0) - (before[table] ?? 0), table).toBe(1);
  });

  it('lets a name be used again when its instance is gone', async () => {
    const { instances } = await fleet.provision({}, ['again']);
    const id = instances[0]?.id as string;
    await setInstanceStatus(fleet.db, id, 'destroying');
    await expect(fleet.provision({}, ['again'])).rejects.toMatchObject({ code: 'conflict' });
    await setInstanceStatus(fleet.db, id, 'destroyed');
    await fleet.provision({}, ['again']);
  });

  it('ends the lifetime so long after the acceptance; without one it is marked unbounded', async () => {
    const { instances: bounded } = await fleet.provision({ maxLifetimeMs: 3_600_000 });
    expect((bounded[0]?.expires_at?.getTime() ?? 0) - (bounded[0]?.created_at.getTime() ?? 0)).toBeCloseTo(
      3_600_000,
      -2,
    );
    const { instances: unbounded } = await fleet.provision({ maxLifetimeMs: null });
    expect(unbounded[0]).toMatchObject({ expires_at: null, unbounded: true });
  });
});

describe('accepting a destroy', () => {
  it('is one operation, one audit entry and one ring however often and at once it is asked for', async () => {
    const { instances, operation } = await fleet.provision();
    const id = instances[0]?.id as string;
    const accepted = await Promise.all(Array.from({ length: 8 }, () => destroy(id)));
    expect(new Set(accepted.map((one) => one.operation.id)).size).toBe(1);
    expect(await findInstance(fleet.db, null, id)).toMatchObject({ status: 'destroying' });
    expect(await findOperation(fleet.db, null, operation.id)).toMatchObject({ status: 'canceled' });
    const audit = await fleet.db.selectFrom('audit_log').select('action').where('target_id', '=', id).execute();
    expect(audit).toEqual([{ action: 'instance.destroy' }]);
  });

  it('cancels a provision that was never claimed, and tells one that runs', async () => {
    const queued = await fleet.provision();
    const { operation } = await destroy(queued.instances[0]?.id as string);
    expect(await findOperation(fleet.db, null, queued.operation.id)).toMatchObject({
      status: 'canceled',
      cancel_reason: `superseded by ${operation.id}`,
    });
    const running = await fleet.provision();
    await claim(running.operation.id);
    await destroy(running.instances[0]?.id as string);
    const told = await findOperation(fleet.db, null, running.operation.id);
    expect(told).toMatchObject({ status: 'running' });
    expect(told?.cancel_requested_at).not.toBeNull();
  });

  it('leaves the provision to the other instances of the request until the last one goes', async () => {
    const { instances, operation } = await fleet.provision({}, ['one-of-two', 'two-of-two']);
    await destroy(instances[0]?.id as string);
    expect(await findOperation(fleet.db, null, operation.id)).toMatchObject({ status: 'queued' });
    await destroy(instances[1]?.id as string);
    expect(await findOperation(fleet.db, null, operation.id)).toMatchObject({ status: 'canceled' });
  });

  it('does not find what is not there or another org has, and refuses what is destroyed', async () => {
    const { instances } = await fleet.provision();
    const id = instances[0]?.id as string;
    await expect(destroy(newId('instance'))).rejects.toMatchObject({ code: 'not_found' });
    await expect(destroy(id, await fleet.makeOrg())).rejects.toMatchObject({ code: 'not_found' });
    expect(await findInstance(fleet.db, null, id)).toMatchObject({ status: 'requested' });
    await destroy(id, fleet.orgId);
    await setInstanceStatus(fleet.db, id, 'destroyed');
    await expect(destroy(id)).rejects.toMatchObject({ code: 'conflict' });
  });

  it('asked for by the provision itself lets it end in its own way', async () => {
    const { instances, operation } = await fleet.provision();
    const order = { orgId: null, instanceId: instances[0]?.id as string, actor: ACTOR, reason: 'nothing fits' };
    await inTransaction(fleet.db, (tx) => acceptDestroy(tx, fleet.queue, { ...order, askedBy: operation.id }));
    expect(await findOperation(fleet.db, null, operation.id)).toMatchObject({
      status: 'queued',
      cancel_requested_at: null,
    });
  });

  it('keeps the first reason of failure', async () => {
    const { instances } = await fleet.provision();
    const id = instances[0]?.id as string;
    await destroy(id, null, { code: 'expired', detail: 'first' });
    await destroy(id, null, { code: 'lost', detail: 'second' });
    expect(await findInstance(fleet.db, null, id)).toMatchObject({ failure_code: 'expired', failure_detail: 'first' });
  });

  it('goes through while the worker of the provision writes to the same instance: locks have one order', async () => {
    const { instances, operation } = await fleet.provision();
    const id = instances[0]?.id as string;
    const held = await claim(operation.id);
    let asked: Promise<unknown> = Promise.resolve();
    let runs = 0;
    await withClaim(fleet.db, held, async (tx) => {
      runs++;
      const order = { orgId: null, instanceId: id, actor: ACTOR, reason: 'asked' };
      asked = fleet.db.transaction().execute((other) => acceptDestroy(other, fleet.queue, order));
      await until(async () => (await countBlocked()) > 0, 'the destroy waits for the worker');
      await setInstanceStatus(tx, id, 'creating');
    });
    await asked;
    expect(runs, 'no deadlock made it run again').toBe(1);
    expect(await findInstance(fleet.db, null, id)).toMatchObject({ status: 'destroying' });
  });
});

describe('accepting a cancel', () => {
  it('of a queued provision ends it and hands its instances to destroys', async () => {
    const { instances, operation } = await fleet.provision({}, ['c-1', 'c-2']);
    expect(await cancel(operation.id)).toMatchObject({ status: 'canceled' });
    for (const { id } of instances) {
      expect(await findInstance(fleet.db, null, id)).toMatchObject({ status: 'destroying' });
      const destroys = await fleet.db
        .selectFrom('operations')
        .select(['kind', 'status'])
        .where('target_id', '=', id)
        .execute();
      expect(destroys).toEqual([{ kind: 'destroy_instance', status: 'queued' }]);
    }
  });

  it('of a running provision asks its worker, and asking twice is harmless', async () => {
    const { instances, operation } = await fleet.provision();
    await claim(operation.id);
    await cancel(operation.id);
    const again = await cancel(operation.id);
    expect(again).toMatchObject({ status: 'running', cancel_reason: 'changed my mind' });
    expect(await findInstance(fleet.db, null, instances[0]?.id as string)).toMatchObject({ status: 'requested' });
  });

  it('is refused for a destroy, for what is finished, and for another org', async () => {
    const { instances, operation } = await fleet.provision();
    const destroying = await destroy(instances[0]?.id as string);
    await expect(cancel(destroying.operation.id)).rejects.toMatchObject({
      code: 'conflict',
      facts: { kind: 'destroy_instance' },
    });
    await expect(cancel(operation.id)).rejects.toMatchObject({ code: 'conflict', facts: { state: 'canceled' } });
    const other = await fleet.provision();
    await expect(cancel(other.operation.id, await fleet.makeOrg())).rejects.toMatchObject({ code: 'not_found' });
    await expect(cancel(newId('operation'))).rejects.toMatchObject({ code: 'not_found' });
    expect(await findOperation(fleet.db, null, other.operation.id)).toMatchObject({ status: 'queued' });
  });

  it('of one that ends in the same moment has one outcome', async () => {
    const { operation } = await fleet.provision();
    const held = await claim(operation.id);
    const [ended, canceled] = await Promise.allSettled([
      withClaim(fleet.db, held, (tx) => finishOperation(tx, fleet.queue, operation.id, 'succeeded', {})),
      cancel(operation.id),
    ]);
    expect(ended.status).toBe('fulfilled');
    expect(await findOperation(fleet.db, null, operation.id)).toMatchObject({ status: 'succeeded' });
    if (canceled.status === 'rejected') expect(canceled.reason).toMatchObject({ code: 'conflict' });
  });
});

async function settle<T>(promises: Promise<T>[]): Promise<{ accepted: T[]; refused: MusterError[] }> {
  const results = await Promise.allSettled(promises);
  return {
    accepted: results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])),
    refused: results.flatMap((result) => (result.status === 'rejected' ? [result.reason as MusterError] : [])),
  };
}

async function countRows(of: FleetDatabase): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const table of ['stacks', 'operations', 'instances', 'audit_log', 'pgboss.job'] as const) {
    const row = await of.db
      .selectFrom(table as 'stacks')
      .select((eb) => eb.fn.countAll<bigint>().as('count'))
      .executeTakeFirstOrThrow();
    counts[table.replace('pgboss.', '')] = Number(row.count);
  }
  return counts;
}

function destroy(instanceId: string, orgId: string | null = null, failure?: { code: string; detail: string }) {
  const order = { orgId, instanceId, actor: ACTOR, reason: 'asked', ...(failure ? { failure } : {}) };
  return inTransaction(fleet.db, (tx) => acceptDestroy(tx, fleet.queue, order));
}

function cancel(operationId: string, orgId: string | null = null) {
  const order = { orgId, operationId, actor: ACTOR, reason: 'changed my mind' };
  return inTransaction(fleet.db, (tx) => acceptCancel(tx, fleet.queue, order));
}

async function claim(operationId: string): Promise<Claim> {
  const result = await claimOperation(fleet.db, operationId, 'worker');
  if (result.kind !== 'claimed') throw new Error(`${operationId} is ${result.kind}`);
  return result.claim;
}

async function countBlocked(): Promise<number> {
  const [row] = await fleet.asOwner<{ count: string }>(
    `select count(*) as count from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
  );
  return Number(row?.count);
}
