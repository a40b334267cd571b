/** Whatever happened to machines, everybody who adds up what they cost comes to the same sum. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findingReply } from '../../api/replies/finding-reply.ts';
import { instanceCostReply, instanceReply } from '../../api/replies/instance-reply.ts';
import { insertAttempt, listAttemptsOfInstances } from '../../db/attempts.ts';
import { listCosts, readBurn, sumCosts } from '../../db/costs.ts';
import type { FindingRow } from '../../db/findings.ts';
import { readOrgFleet } from '../../db/fleet.ts';
import { findInstance, measureFleet, type InstanceRow } from '../../db/instances.ts';
import { newId } from '../../db/new-id.ts';
import { meterAttempts, readUsage, readUsageOfAttempts } from '../../db/usage.ts';
import { COST_GROUPS } from '../../domain/usage.ts';
import { createFleetDatabase, makeOffer, type FleetDatabase } from '../support/fleet-database.ts';

const DAY = 86_400_000;

let fleet: FleetDatabase;
beforeAll(async () => {
  fleet = await createFleetDatabase();
});
afterAll(() => fleet?.close());

/** One machine's life: moments are parts of the time since its purchase. */
interface Life {
  ageMs: number;
  price: bigint;
  changes: { at: number; price: bigint }[];
  goneAt: number | null;
  handedOverAt: number | null;
}

const part = fc.double({ min: 0, max: 1, noNaN: true });
const price = fc.bigInt({ min: 0n, max: 40_000_000n });
const life: fc.Arbitrary<Life> = fc.record({
  ageMs: fc.integer({ min: 0, max: 100 * DAY }),
  price,
  changes: fc.array(fc.record({ at: part, price }), { maxLength: 4 }),
  goneAt: fc.option(part),
  handedOverAt: fc.option(part),
});

describe('the cost of machines', () => {
  it('is the same by instance, by attempt, by finding, by any group and by month, and metering again changes nothing', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(life, { minLength: 1, maxLength: 4 }), async (lives) => {
        const orgId = await fleet.makeOrg();
        const made = [];
        for (const one of lives) made.push(await live(orgId, one));
        const attemptIds = made.map(({ attemptId }) => attemptId);
        const instanceIds = made.flatMap(({ instanceIds: ids }) => ids);
        await fleet.db.transaction().execute((tx) => meterAttempts(tx, attemptIds));
        const asOf = new Date(Math.ceil(Date.now() / 1_000) * 1_000 + 5_000);

        const total = await sumCosts(fleet.db, { orgId, from: null, to: null, asOf });
        const usage = await readUsage(fleet.db, instanceIds);
        const attempts = Map.groupBy(await listAttemptsOfInstances(fleet.db, instanceIds), (row) => row.instance_id);
        const rows = await Promise.all(instanceIds.map((id) => findInstance(fleet.db, orgId, id)));
        const byInstance = rows.map((row) => {
          const instance = row as InstanceRow;
          const own = attempts.get(instance.id) ?? [];
          const { accruedMicroUsd, burnMicroUsdPerHour } = instanceCostReply(instance, own, usage, asOf.getTime());
          expect(instanceReply(instance, own, usage, asOf.getTime()).accruedMicroUsd).toBe(accruedMicroUsd);
          return { accruedMicroUsd, burnMicroUsdPerHour };
        });
        const sum = (values: number[]) => BigInt(values.reduce((all, one) => all + one, 0));
        expect(sum(byInstance.map((one) => one.accruedMicroUsd))).toBe(total.costMicroUsd);

        const ofAttempts = await readUsageOfAttempts(fleet.db, attemptIds);
        const found = attemptIds.map((id) => findingReply(ghost(id), ofAttempts.get(id) ?? [], asOf.getTime()));
        expect(sum(found.map((one) => one.accruedMicroUsd))).toBe(total.costMicroUsd);

        for (const group of COST_GROUPS) {
          const lines = await listCosts(fleet.db, { orgId, from: null, to: null, asOf }, group, { limit: 500 });
          expect(
            lines.reduce((all, line) => all + line.costMicroUsd, 0n),
            group,
          ).toBe(total.costMicroUsd);
        }
        let months = 0n;
        for (const [from, to] of monthsUntil(asOf))
          months += (await sumCosts(fleet.db, { orgId, from, to, asOf })).costMicroUsd;
        expect(months).toBe(total.costMicroUsd);

        const burn = (await readBurn(fleet.db, orgId, asOf)).reduce((all, one) => all + one.burnMicroUsdPerHour, 0n);
        expect(sum(byInstance.map((one) => one.burnMicroUsdPerHour))).toBe(burn);
        expect(
          (await readOrgFleet(fleet.db, orgId)).byProvider.reduce((all, one) => all + one.burnMicroUsdPerHour, 0n),
        ).toBe(burn);

        const closed = () =>
          fleet.db
            .selectFrom('usage_records')
            .selectAll()
            .where('org_id', '=', orgId)
            .where('is_open', '=', false)
            .orderBy('attempt_id')
            .orderBy('started_at')
            .execute();
        const before = await closed();
        await fleet.db.transaction().execute((tx) => meterAttempts(tx, attemptIds));
        expect(await closed()).toEqual(before);
        expect(await sumCosts(fleet.db, { orgId, from: null, to: null, asOf })).toEqual(total);
      }),
      { numRuns: 15 },
    );
  }, 30_000);

  it('by the hour is one figure for the deployment: what its orgs are billed together', async () => {
    const orgs = [await fleet.makeOrg(), await fleet.makeOrg()];
    for (const [index, orgId] of orgs.entries()) {
      const { attemptId } = await live(orgId, {
        ageMs: DAY,
        price: 400_000n,
        changes: [{ at: 0.5, price: 500_000n + BigInt(index) }],
        goneAt: null,
        handedOverAt: null,
      });
      await fleet.db.transaction().execute((tx) => meterAttempts(tx, [attemptId]));
    }
    const all = await fleet.db.selectFrom('orgs').select('id').execute();
    const asOf = new Date();
    const burns = await Promise.all(all.map(({ id }) => readBurn(fleet.db, id, asOf)));
    const together = burns.flat().reduce((sum, one) => sum + one.burnMicroUsdPerHour, 0n);
    expect(together).toBeGreaterThanOrEqual(1_000_001n);
    expect((await measureFleet(fleet.db)).burnMicroUsdPerHour).toBe(together);
  });
});

async function live(orgId: string, one: Life): Promise<{ attemptId: string; instanceIds: string[] }> {
  const { instances } = await fleet.provision({}, [newId('instance'), newId('instance')]);
  const [instance, other] = instances as [InstanceRow, InstanceRow];
  const attemptId = newId('attempt');
  const purchasedAt = Date.now() - one.ageMs;
  const endedAfter = one.goneAt === null ? one.ageMs : one.goneAt * one.ageMs;
  const after = (share: number) => new Date(Math.round(purchasedAt + share * endedAfter));
  await fleet.db.transaction().execute(async (tx) => {
    await tx
      .updateTable('instances')
      .set({ org_id: orgId, consumer: instance.id.slice(-1) })
      .where('id', 'in', [instance.id, other.id])
      .execute();
    await insertAttempt(tx, {
      id: attemptId,
      orgId,
      instanceId: instance.id,
      stackId: instance.stack_id,
      label: attemptId,
      offer: makeOffer(1),
      priceMicroUsdPerHour: one.price,
    });
    await tx
      .updateTable('attempts')
      .set({
        status: one.goneAt === null ? 'bought' : 'gone',
        purchased_at: new Date(purchasedAt),
        gone_at: one.goneAt === null ? null : after(1),
        ...(one.handedOverAt === null ? {} : { handed_over_at: after(one.handedOverAt), pooled_instance_id: other.id }),
      })
      .where('id', '=', attemptId)
      .execute();
    if (one.handedOverAt !== null)
      await tx
        .updateTable('instances')
        .set({ claimed_by: instance.id, status: 'destroyed' })
        .where('id', '=', other.id)
        .execute();
    for (const change of new Map(one.changes.map((each) => [after(each.at).getTime(), each])).values()) {
      await tx
        .insertInto('attempt_prices')
        .values({ attempt_id: attemptId, from_at: after(change.at), price_micro_usd_per_hour: change.price })
        .execute();
    }
  });
  return { attemptId, instanceIds: [instance.id, other.id] };
}

function ghost(attemptId: string): FindingRow {
  const at = new Date();
  return {
    id: newId('finding'),
    class: 'ghost',
    attempt_id: attemptId,
    status: 'open',
    price_micro_usd_per_hour: 1_000n,
    first_seen_at: at,
    last_seen_at: at,
    resolved_at: null,
    ignored_until: null,
  } as unknown as FindingRow;
}

/** Six months that end with the one of `asOf`, as the summaries cut them. */
function monthsUntil(asOf: Date): [Date, Date][] {
  const [year, month] = [asOf.getUTCFullYear(), asOf.getUTCMonth()];
  return [5, 4, 3, 2, 1, 0].map((back) => [
    new Date(Date.UTC(year, month - back, 1)),
    new Date(Date.UTC(year, month - back + 1, 1)),
  ]);
}
