import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { readOrgFleet } from '../../../db/fleet.ts';
import { RETRY_POLICIES } from '../../../domain/backoff.ts';
import { PRICE } from '../../support/fleet-database.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';

const HOUR_MS = 3_600_000;
/** Moments are kept in milliseconds, and the wait is read a moment after it was recorded. */
const SLACK_MS = 50;

let automation: ScriptedAutomation;
beforeEach(async () => {
  automation = await createScriptedAutomation();
  await automation.openMarket(5);
});
afterEach(() => automation.close());

describe('a destroy through an outage of an hour', () => {
  it.each([
    ['of its endpoint, with the unluckiest draws,', 'destroy', 0.999_999],
    ['of everything, with better draws,', 'all', 0.7],
  ] as const)(
    '%s is retried throughout, accrues in sight, and is confirmed gone within 30 s of healing',
    { timeout: 60_000 },
    async (_how, outage, draw) => {
      const { vendor } = automation;
      const startedAt = Date.now();
      const rented = await rent();
      vi.spyOn(Math, 'random').mockReturnValue(draw);
      vendor.outage = outage;
      const { id } = await automation.destroy(rented.instanceId);
      const gaps: number[] = [];
      let elapsedMs = 0;
      let seenMicroUsd = -1n;
      for (;;) {
        const waiting = await automation.untilWaiting(id);
        const gapMs = (waiting.wait_until?.getTime() ?? 0) - Date.now();
        if (elapsedMs + gapMs > HOUR_MS) break;
        gaps.push(await automation.passWait(id));
        elapsedMs += gaps.at(-1) ?? 0;
        if (gaps.length % 60 !== 0) continue;
        const { accruedMicroUsd, byProvider } = await readOrgFleet(automation.db, automation.orgId);
        expect(accruedMicroUsd).toBeGreaterThan(seenMicroUsd);
        expect(byProvider).toMatchObject([{ provider: 'vastai', machines: 1, burnMicroUsdPerHour: PRICE }]);
        seenMicroUsd = accruedMicroUsd;
      }
      expect(Math.max(...gaps)).toBeLessThanOrEqual(RETRY_POLICIES.destroy.capMs + SLACK_MS);
      expect(gaps.length).toBeGreaterThanOrEqual(HOUR_MS / (RETRY_POLICIES.destroy.capMs + SLACK_MS) - 1);
      expect(await automation.instance(rented.instanceId)).toMatchObject({
        status: 'destroying',
        note: expect.stringContaining('destroying: ') as string,
      });
      const { accruedMicroUsd } = await readOrgFleet(automation.db, automation.orgId);
      // The time that was let pass, and at most the time that the test itself took besides.
      const hours = Number(accruedMicroUsd) / Number(PRICE);
      expect(hours).toBeGreaterThanOrEqual((elapsedMs - SLACK_MS * gaps.length) / HOUR_MS);
      expect(hours).toBeLessThanOrEqual((elapsedMs + SLACK_MS * gaps.length + Date.now() - startedAt) / HOUR_MS);

      // The vendor heals right after a try has failed: the worst moment.
      vendor.outage = 'none';
      const toConfirmMs = await automation.passWait(id);
      expect(toConfirmMs).toBeLessThanOrEqual(30_000);
      expect(await automation.untilFinished(id)).toMatchObject({ status: 'succeeded' });
      expect(await automation.instance(rented.instanceId)).toMatchObject({ status: 'destroyed' });
      expect(await automation.attempt(rented.attemptId)).toMatchObject({ status: 'gone' });
      expect(vendor.live()).toEqual([]);
      expect((await readOrgFleet(automation.db, automation.orgId)).byProvider).toEqual([]);
    },
  );
});

describe('a machine that nobody records, by a finding', () => {
  it('is destroyed in spite of an outage too', async () => {
    const { vendor } = automation;
    const { label } = await rent();
    await automation.asOwner(`update attempts set status = 'gone', provider_instance_id = null`);
    automation.orphans = { policy: 'destroy', graceMs: 0 };
    await automation.tick('reconcile');
    vendor.outage = 'destroy';
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.destroys': 1 });
    const { id } = await automation.db
      .selectFrom('operations')
      .select('id')
      .where('target_kind', '=', 'finding')
      .executeTakeFirstOrThrow();
    await automation.until(() => vendor.destroyCalls > 0, 'the destroy is tried');
    vendor.outage = 'none';
    expect(await automation.untilFinished(id)).toMatchObject({ status: 'succeeded' });
    expect(vendor.live()).not.toContain(label);
    const findings = await automation.db.selectFrom('findings').select('status').execute();
    expect(findings).toEqual([{ status: 'resolved' }]);
  });
});

async function rent() {
  const { operation, instances } = await automation.provision();
  await automation.startWorker();
  const [attempt] = await automation.untilBought(1);
  await automation.untilWaiting(operation.id);
  return { instanceId: instances[0]?.id as string, attemptId: attempt?.id as string, label: attempt?.label as string };
}
