import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createMeterUsageCron } from '../../automation/cron/meter-usage.ts';
import { insertAttempt, markGone, recordObservation, recordPurchase } from '../../db/attempts.ts';
import { listCosts, readBurn, sumCosts } from '../../db/costs.ts';
import { newId } from '../../db/new-id.ts';
import { meterAttempts, readUsage } from '../../db/usage.ts';
import type { ObservedInstance } from '../../domain/observed-instance.ts';
import { COST_GROUPS, EVER, unprovenCost, usageCost, type Period } from '../../domain/usage.ts';
import { createFleetDatabase, makeOffer, type FleetDatabase } from '../support/fleet-database.ts';

const HOUR = 3_600_000;
const PRICE = 400_000n;

let fleet: FleetDatabase;
beforeAll(async () => {
  fleet = await createFleetDatabase();
});
afterAll(() => fleet?.close());

let counter = 0;
/** An attempt bought now. */
async function buy(orgId = fleet.orgId, consumer: string | null = null): Promise<{ id: string; instanceId: string }> {
  const { instances } = await fleet.provision();
  const instance = instances[0] as { id: string; stack_id: string };
  if (consumer !== null || orgId !== fleet.orgId) {
    await fleet.db.updateTable('instances').set({ consumer, org_id: orgId }).where('id', '=', instance.id).execute();
  }
  const id = newId('attempt');
  await fleet.db.transaction().execute(async (tx) => {
    await insertAttempt(tx, {
      id,
      orgId,
      instanceId: instance.id,
      stackId: instance.stack_id,
      label: id,
      offer: makeOffer(++counter),
      priceMicroUsdPerHour: PRICE,
    });
    await recordPurchase(
      tx,
      id,
      { providerInstanceId: String(counter), machineId: null, priceMicroUsdPerHour: null },
      900_000,
    );
  });
  return { id, instanceId: instance.id };
}

function observed(price: bigint | null, status: ObservedInstance['status'] = 'running'): ObservedInstance {
  return {
    provider: 'vastai',
    providerInstanceId: String(counter),
    label: null,
    status,
    statusDetail: null,
    machineId: null,
    gpu: null,
    gpuCount: null,
    gpuMemoryGib: null,
    priceMicroUsdPerHour: price,
    interruptible: null,
    interrupted: false,
    ssh: null,
    image: null,
    region: null,
    startedAt: null,
  };
}

const records = (attemptId: string) =>
  fleet.db.selectFrom('usage_records').selectAll().where('attempt_id', '=', attemptId).orderBy('started_at').execute();
const gone = (id: string) => fleet.db.transaction().execute((tx) => markGone(tx, [id]));
const tick = () => createMeterUsageCron(fleet.db).run(new AbortController().signal);

describe('a usage record', () => {
  it('is there from the very purchase, grows with every tick and is closed by the proof that the machine is gone', async () => {
    const { id } = await buy();
    expect(await records(id)).toMatchObject([{ is_open: true, price_micro_usd_per_hour: PRICE, provider: 'vastai' }]);
    await fleet.passTime(HOUR);
    await tick();
    const [open] = await records(id);
    expect((open?.ended_at.getTime() ?? 0) - (open?.started_at.getTime() ?? 0)).toBeGreaterThanOrEqual(HOUR);
    expect(open?.proven_until).toEqual(open?.started_at);
    await fleet.passTime(HOUR);
    await gone(id);
    const [closed] = await records(id);
    expect(closed?.is_open).toBe(false);
    expect((closed?.ended_at.getTime() ?? 0) - (closed?.started_at.getTime() ?? 0)).toBeGreaterThanOrEqual(2 * HOUR);
    const before = await records(id);
    await fleet.db.transaction().execute((tx) => meterAttempts(tx, [id]));
    await tick();
    expect(await records(id)).toEqual(before);
  });

  it('is cut where a listing shows another price, and proven as far as listings show the machine', async () => {
    const { id } = await buy();
    await recordObservation(fleet.db, id, observed(PRICE));
    await fleet.passTime(HOUR);
    await recordObservation(fleet.db, id, observed(9_000n, 'stopped'));
    await recordObservation(fleet.db, id, observed(0n));
    await recordObservation(fleet.db, id, observed(null));
    await fleet.passTime(HOUR);
    await gone(id);
    const [first, second, ...more] = await records(id);
    expect(more).toEqual([]);
    expect(first).toMatchObject({ is_open: false, price_micro_usd_per_hour: PRICE });
    expect(first?.proven_until).toEqual(first?.ended_at);
    expect(second).toMatchObject({ is_open: false, price_micro_usd_per_hour: 9_000n, started_at: first?.ended_at });
    expect((second?.ended_at.getTime() ?? 0) - (second?.proven_until.getTime() ?? 0)).toBeGreaterThanOrEqual(HOUR - 1);
  });

  it('is proven as far as the agent of the very machine has been heard of, and replaying changes nothing', async () => {
    const { id, instanceId } = await buy();
    const other = await buy();
    const nodeId = newId('node');
    await fleet.db
      .insertInto('nodes')
      .values({
        id: nodeId,
        org_id: fleet.orgId,
        attempt_id: id,
        instance_id: instanceId,
        key_hash: Buffer.from(id),
        agent_version: '1',
      })
      .execute();
    const beat = () =>
      fleet.db
        .updateTable('nodes')
        .set({ heartbeat_at: sql<Date>`now()` })
        .where('id', '=', nodeId)
        .execute();
    const again = () => fleet.db.transaction().execute((tx) => meterAttempts(tx, [id]));
    const provenMs = async (attemptId: string) => {
      const [record] = await records(attemptId);
      return (record?.proven_until.getTime() ?? 0) - (record?.started_at.getTime() ?? 0);
    };
    await fleet.passTime(HOUR);
    await beat();
    await fleet.passTime(HOUR);
    await tick();
    expect(Math.round((await provenMs(id)) / HOUR)).toBe(1);
    expect(await provenMs(other.id)).toBe(0);
    await gone(id);
    // What comes after the end, or from a clock that runs ahead, proves no more than there is.
    await fleet.passTime(HOUR);
    await beat();
    await again();
    const [closed] = await records(id);
    expect(closed).toMatchObject({ is_open: false, proven_until: closed?.ended_at });
    expect(Math.round(((closed?.ended_at.getTime() ?? 0) - (closed?.started_at.getTime() ?? 0)) / HOUR)).toBe(2);
    await fleet.db.deleteFrom('nodes').where('id', '=', nodeId).execute();
    expect(await again()).toBe(0);
    expect(await records(id)).toEqual([closed]);
    await gone(other.id);
  });

  it('is made by the next tick for what was bought before there were any, once however many replicas tick', async () => {
    const { id } = await buy();
    const other = await buy();
    await fleet.asOwner('delete from usage_records; update attempts set is_metered = false');
    await Promise.all([tick(), tick(), tick()]);
    await tick();
    expect(await records(id)).toHaveLength(1);
    expect(await records(other.id)).toHaveLength(1);
    await gone(id);
    await gone(other.id);
    expect((await tick()).attempts).toBe(0);
  });

  it('does not exist for what was never bought', async () => {
    await fleet.provision();
    const id = newId('attempt');
    const { instances } = await fleet.provision();
    await fleet.db.transaction().execute(async (tx) => {
      const instance = instances[0] as { id: string; stack_id: string };
      await insertAttempt(tx, {
        id,
        orgId: fleet.orgId,
        instanceId: instance.id,
        stackId: instance.stack_id,
        label: id,
        offer: makeOffer(++counter),
        priceMicroUsdPerHour: PRICE,
      });
      await markGone(tx, [id]);
    });
    expect(await records(id)).toEqual([]);
  });
});

describe('costs', () => {
  it('add up to the same total by whatever they are grouped, and to what the rule of the domain says', async () => {
    const orgId = await fleet.makeOrg();
    const bought = [
      await buy(orgId, 'search'),
      await buy(orgId, 'search'),
      await buy(orgId, 'video'),
      await buy(orgId),
    ];
    for (const [index, { id }] of bought.entries()) {
      await fleet.passTime(26 * HOUR + 1_234);
      await recordObservation(fleet.db, id, observed(123_457n + BigInt(index)));
    }
    await fleet.passTime(5 * HOUR + 777);
    await gone((bought[1] as { id: string }).id);
    await fleet.passTime(HOUR + 333);
    const asOf = new Date();
    const usage = [
      ...(
        await readUsage(
          fleet.db,
          bought.map((one) => one.instanceId),
        )
      ).values(),
    ].flat();
    const expected = (period: Period) => ({
      costMicroUsd: usage.reduce((sum, one) => sum + usageCost(one, period, asOf.getTime()), 0n),
      unprovenMicroUsd: usage.reduce((sum, one) => sum + unprovenCost(one, period, asOf.getTime()), 0n),
    });
    const whole = { orgId, from: null, to: null, asOf };
    expect(await sumCosts(fleet.db, whole)).toMatchObject(expected(EVER));
    const window = { from: new Date(asOf.getTime() - 50 * HOUR - 99), to: new Date(asOf.getTime() - 3 * HOUR - 1) };
    expect(await sumCosts(fleet.db, { ...whole, ...window })).toMatchObject(
      expected({ from: window.from.getTime(), to: window.to.getTime() }),
    );
    for (const filter of [whole, { ...whole, ...window }]) {
      const total = await sumCosts(fleet.db, filter);
      for (const group of COST_GROUPS) {
        const lines = await listCosts(fleet.db, filter, group, { limit: 500 });
        expect(
          lines.reduce((sum, line) => sum + line.costMicroUsd, 0n),
          group,
        ).toBe(total.costMicroUsd);
        expect(lines.reduce((sum, line) => sum + line.billedMs, 0)).toBe(total.billedMs);
      }
    }
    const days = await listCosts(fleet.db, whole, 'day', { limit: 500 });
    expect(days.length).toBeGreaterThanOrEqual(5);
    const consumers = await listCosts(fleet.db, whole, 'consumer', { limit: 500 });
    expect(consumers.map((line) => line.key)).toEqual([null, 'search', 'video']);
    const first = await listCosts(fleet.db, whole, 'consumer', { limit: 1, after: 'search' });
    expect(first.map((line) => line.key)).toEqual(['video']);
    const burn = await readBurn(fleet.db, orgId, asOf);
    expect(burn).toMatchObject([{ provider: 'vastai', machines: 3 }]);
    expect(burn[0]?.burnMicroUsdPerHour).toBe(123_457n + 123_459n + 123_460n);
  });

  it('are those of one org only', async () => {
    const mine = await fleet.makeOrg();
    await buy(await fleet.makeOrg());
    expect(await sumCosts(fleet.db, { orgId: mine, from: null, to: null, asOf: new Date() })).toEqual({
      costMicroUsd: 0n,
      unprovenMicroUsd: 0n,
      billedMs: 0,
    });
  });
});
