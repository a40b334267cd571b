import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findingReply } from '../../../api/replies/finding-reply.ts';
import { acceptAdopt } from '../../../db/accept-adopt.ts';
import { acceptFoundDestroy } from '../../../db/accept-found-destroy.ts';
import { inTransaction } from '../../../db/database.ts';
import { changeFinding, lockFinding, sightFinding, type FindingRow } from '../../../db/findings.ts';
import { measureFleet } from '../../../db/instances.ts';
import { findMachine } from '../../../db/machines.ts';
import { formatLabel } from '../../../domain/label.ts';
import { newId } from '../../../db/new-id.ts';
import { readUsage, readUsageOfAttempts } from '../../../db/usage.ts';
import { ACTOR, DEPLOYMENT_ID, PRICE } from '../../support/fleet-database.ts';
import { createScriptedAutomation, type ScriptedAutomation } from '../../support/scripted-automation.ts';

const MINUTE_MS = 60_000;

let automation: ScriptedAutomation;
beforeEach(async () => {
  automation = await createScriptedAutomation();
  await automation.openMarket(10);
});
afterEach(() => automation.close());

describe('an orphan', () => {
  it('is destroyed by an operation after two believable listings and its grace, not before', async () => {
    const { vendor } = automation;
    const id = vendor.place(orphanLabel());
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.findings': 1, 'vastai.destroys': 0 });
    await automation.passTime(4 * MINUTE_MS);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.destroys': 0 });
    expect(await findings()).toMatchObject([
      { class: 'orphan', sightings: 2, status: 'open', provider_instance_id: id },
    ]);
    await automation.passTime(2 * MINUTE_MS);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.destroys': 1 });
    expect(vendor.destroyCalls, 'a cron destroys nothing itself').toBe(0);
    expect(await findings()).toMatchObject([{ status: 'resolving' }]);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.destroys': 0 });
    const audit = await automation.db.selectFrom('audit_log').select('action').execute();
    expect(audit).toEqual([{ action: 'finding.destroy' }]);

    await automation.startWorker();
    await automation.until(() => vendor.live().length === 0, 'the orphan is destroyed');
    await automation.until(async () => (await findings())[0]?.status === 'resolved', 'the finding is resolved');
  });

  it('seen once and gone by itself is no finding any more', async () => {
    const { vendor } = automation;
    const label = orphanLabel();
    vendor.place(label);
    await automation.tick('reconcile');
    vendor.vanish(label);
    await automation.passTime(10 * MINUTE_MS);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.resolved': 1, 'vastai.destroys': 0 });
    expect(await findings()).toMatchObject([{ status: 'resolved' }]);
  });

  it('is only reported where the policy is alert', async () => {
    automation.orphans = { policy: 'alert', graceMs: 0 };
    automation.vendor.place(orphanLabel());
    for (let tick = 0; tick < 3; tick++) {
      await automation.passTime(10 * MINUTE_MS);
      expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.findings': 1, 'vastai.destroys': 0 });
    }
    expect(await findings()).toMatchObject([{ status: 'open', sightings: 3 }]);
    expect(await destroys()).toEqual([]);
  });

  it.each([-30_000, 30_000])('is counted too where the clock differs from the database by %i ms', async (aheadMs) => {
    automation.clockAheadMs = aheadMs;
    automation.vendor.place(orphanLabel());
    for (let tick = 0; tick < 3; tick++) {
      expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.resolved': 0 });
      await automation.passTime(10 * MINUTE_MS);
    }
    expect(await destroys()).toHaveLength(1);
  });

  it('that a person ignores is left alone', async () => {
    automation.vendor.place(orphanLabel());
    await automation.tick('reconcile');
    await automation.db.updateTable('findings').set({ status: 'ignored' }).execute();
    await automation.passTime(10 * MINUTE_MS);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.destroys': 0 });
    expect(await findings()).toMatchObject([{ status: 'ignored', sightings: 1 }]);
  });

  it('whose label a person changed meanwhile is not touched, and its finding ends', async () => {
    const { vendor } = automation;
    const label = orphanLabel();
    vendor.place(label);
    automation.orphans = { policy: 'destroy', graceMs: 0 };
    await automation.tick('reconcile');
    await automation.tick('reconcile');
    vendor.relabel(label, 'mine now');
    const id = (await destroys())[0]?.id as string;
    await automation.startWorker();
    expect(await automation.untilFinished(id)).toMatchObject({ status: 'failed' });
    expect(vendor.live()).toEqual(['mine now']);
    await automation.passTime(MINUTE_MS);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.foreign': 1, 'vastai.destroys': 0 });
    expect(await findings()).toMatchObject([{ status: 'resolved' }]);
  });
});

describe('a foreign machine', () => {
  it.each([
    ['of another person', 'training-3'],
    ['without a label', ''],
    ['of another deployment', formatLabel('other-one', 'att_aaaaaaaaaaaaaaaa', () => 'b'.repeat(13))],
    ['with a forged signature', formatLabel(DEPLOYMENT_ID, 'att_aaaaaaaaaaaaaaaa', () => 'b'.repeat(13))],
    ['of a plain pulumi up', 'muster-ext-project-0123456789abcdef'],
  ])('%s is counted and never touched', async (_whose, label) => {
    automation.orphans = { policy: 'destroy', graceMs: 0 };
    automation.vendor.place(label);
    for (let tick = 0; tick < 3; tick++) {
      expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.foreign': 1, 'vastai.findings': 0 });
      await automation.passTime(10 * MINUTE_MS);
    }
    expect(await destroys()).toEqual([]);
    expect(automation.vendor.live()).toHaveLength(1);
  });
});

describe('a machine of ours that vanished', () => {
  it('is a ghost first, lost after two listings and a grace, and then destroyed as lost hardware may still bill', async () => {
    const { vendor } = automation;
    const { attempt, instanceId } = await rentReady();
    await automation.passTime(10 * MINUTE_MS);
    vendor.vanish(attempt.label);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.findings': 1 });
    expect(await findings()).toMatchObject([{ class: 'ghost', attempt_id: attempt.id, instance_id: instanceId }]);
    expect(await automation.instance(instanceId)).toMatchObject({ status: 'ready' });
    await automation.passTime(6 * MINUTE_MS);
    await automation.tick('reconcile');
    const destroyed = await automation.untilDestroyed(instanceId);
    expect(destroyed).toMatchObject({ failure_code: 'lost' });
    expect(await automation.untilGone(attempt.id)).toMatchObject({ failure_code: 'lost' });
    expect(await findMachine(automation.db, 'vastai', attempt.machine_id as string)).toMatchObject({ losses: 1 });
  });

  it('and is back in the next listing is as if it had never been away', async () => {
    const { vendor } = automation;
    const { attempt, instanceId } = await rentReady();
    await automation.passTime(10 * MINUTE_MS);
    const { client } = vendor;
    const away = { ...client, listInstances: () => Promise.resolve([]), readInstance: () => Promise.resolve(null) };
    vendor.client = away;
    await automation.tick('reconcile');
    expect(await automation.attempt(attempt.id)).toMatchObject({ missing_count: 1 });
    vendor.client = client;
    await automation.passTime(6 * MINUTE_MS);
    await automation.tick('reconcile');
    expect(await automation.attempt(attempt.id)).toMatchObject({
      missing_count: 0,
      missing_since: null,
      status: 'ready',
    });
    expect(await automation.instance(instanceId)).toMatchObject({ status: 'ready' });
    expect(await findings()).toMatchObject([{ class: 'ghost', status: 'resolved' }]);
  });
});

describe('a machine that is not as bought', () => {
  it('is reported and left alone', async () => {
    const { attempt } = await rentReady();
    automation.vendor.relabel(attempt.label, 'renamed by hand');
    await automation.passTime(10 * MINUTE_MS);
    await automation.tick('reconcile');
    await automation.passTime(10 * MINUTE_MS);
    await automation.tick('reconcile');
    expect(await findings()).toMatchObject([
      { class: 'mismatch', attempt_id: attempt.id, status: 'open', sightings: 2 },
    ]);
    expect(await destroys()).toEqual([]);
  });
});

describe('a machine that the provider lists as another than was bought', () => {
  it('is one mismatch that names host, GPU, count, image and price; its new price is charged, and shown by the finding', async () => {
    const { attempt, instanceId } = await rentReady();
    const { client } = automation.vendor;
    const { listInstances } = client;
    client.listInstances = async (signal) =>
      (await listInstances(signal)).map((machine) => ({
        ...machine,
        machineId: 'machine-77',
        gpu: 'RTX 3090',
        gpuCount: 2,
        image: 'somebody/else:1',
        priceMicroUsdPerHour: 2n * PRICE,
      }));
    await automation.passTime(60 * MINUTE_MS);
    await automation.tick('reconcile');
    await automation.passTime(60 * MINUTE_MS);
    await automation.tick('reconcile');
    const [found, ...others] = await findings();
    expect(others).toEqual([]);
    expect(found).toMatchObject({ class: 'mismatch', attempt_id: attempt.id, status: 'open', sightings: 2 });
    for (const said of [
      `host machine-77 instead of ${attempt.machine_id}`,
      'RTX 3090 instead of RTX 4090',
      '2 GPUs instead of 1',
      'image somebody/else:1 instead of example/image:1',
      '$0.70 an hour instead of $0.35',
    ])
      expect(found?.detail).toContain(said);
    expect(await destroys()).toEqual([]);
    const usage = (await readUsageOfAttempts(automation.db, [attempt.id])).get(attempt.id) ?? [];
    expect(usage.map((interval) => interval.priceMicroUsdPerHour)).toEqual([PRICE, 2n * PRICE]);
    const shown = findingReply(found as FindingRow, usage, Date.now());
    expect(shown.accruedMicroUsd / Number(PRICE)).toBeCloseTo(3, 1);
    expect((await measureFleet(automation.db)).burnMicroUsdPerHour).toBe(2n * PRICE);
    expect(await automation.instance(instanceId)).toMatchObject({ status: 'ready' });
  });
});

describe('a second machine with the label of a living attempt', () => {
  it('is a duplicate: it is destroyed and the recorded one stays', async () => {
    const { attempt } = await rentReady();
    automation.orphans = { policy: 'destroy', graceMs: 0 };
    const twin = automation.vendor.place(attempt.label);
    await automation.tick('reconcile');
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.destroys': 1 });
    expect(await findings()).toMatchObject([{ class: 'duplicate', provider_instance_id: twin }]);
    await automation.until(async () => (await findings())[0]?.status === 'resolved', 'the duplicate is destroyed');
    expect(automation.vendor.liveIds()).toEqual([attempt.provider_instance_id]);
    expect(await automation.attempt(attempt.id)).toMatchObject({ status: 'ready' });
  });
});

describe('an orphan that a person adopts', () => {
  it('is a machine like any rented one from then on: verified, listed, destroyed with proof', async () => {
    const { vendor } = automation;
    const label = orphanLabel();
    const id = vendor.place(label);
    await automation.tick('reconcile');
    const { instance, operation } = await adopt();
    expect(instance).toMatchObject({ status: 'booting' });
    expect([...(await readUsage(automation.db, [instance.id])).values()], 'charged at once').toMatchObject([
      [{ isOpen: true, priceMicroUsdPerHour: PRICE }],
    ]);
    await automation.startWorker();
    await automation.untilWaiting(operation.id);
    await automation.passTime(10 * MINUTE_MS);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.findings': 0, 'vastai.destroys': 0 });
    const [attempt] = await automation.attempts();
    expect(attempt).toMatchObject({ label, status: 'bought', provider_instance_id: id, gpu: 'RTX 4090' });
    await automation.recordReady(attempt!);
    expect(await automation.untilFinished(operation.id)).toMatchObject({ status: 'succeeded' });
    expect(await automation.instance(instance.id)).toMatchObject({ status: 'ready', winner_attempt_id: attempt?.id });
    await automation.destroy(instance.id);
    await automation.untilDestroyed(instance.id);
    expect(vendor.live()).toEqual([]);
    expect(await findings()).toMatchObject([{ status: 'resolved', resolution: 'adopted', operation_id: operation.id }]);
  });

  it('and that never shows itself ready is destroyed, and nothing is bought in its place', async () => {
    automation.vendor.place(orphanLabel(), 'starting');
    await automation.tick('reconcile');
    const { instance, operation } = await adopt();
    await automation.startWorker();
    await automation.passWait(operation.id);
    expect(await automation.untilFinished(operation.id)).toMatchObject({
      status: 'failed',
      error_code: 'boot_timeout',
    });
    await automation.untilDestroyed(instance.id);
    expect(automation.vendor.live()).toEqual([]);
    expect(automation.vendor.bought()).toEqual([]);
  });

  it('is not adopted while a destroy of it is under way, nor twice', async () => {
    automation.orphans = { policy: 'destroy', graceMs: 0 };
    automation.vendor.place(orphanLabel());
    await automation.tick('reconcile');
    const before = (await findings())[0]!;
    await automation.tick('reconcile');
    expect(await findings()).toMatchObject([{ status: 'resolving' }]);
    expect(await inTransaction(automation.db, (tx) => lockFinding(tx, before.id))).toMatchObject({
      status: 'resolving',
    });
    automation.vendor.place(orphanLabel());
    await automation.tick('reconcile');
    const finding = (await findings()).find((one) => one.status === 'open')!;
    await adopt(finding);
    await expect(adopt(finding)).rejects.toThrow(/belongs to ins_/);
  });

  it('found a second time by a reconcile that read the rows before is not destroyed', async () => {
    automation.vendor.place(orphanLabel());
    await automation.tick('reconcile');
    const { id: _id, ...found } = (await findings())[0]!;
    await adopt();
    const { provider_instance_id: providerInstanceId, attempt_id: attemptId, price_micro_usd_per_hour: price } = found;
    const stale = await sightFinding(automation.db, {
      orgId: null,
      class: 'orphan',
      provider: 'vastai',
      providerInstanceId,
      attemptId,
      instanceId: null,
      label: found.label,
      detail: found.detail,
      priceMicroUsdPerHour: price,
    });
    const accepted = await inTransaction(automation.db, (tx) =>
      acceptFoundDestroy(tx, automation.queue, {
        findingId: stale?.id as string,
        from: ['open'],
        actor: ACTOR,
        reason: null,
        createdBy: 'test',
      }),
    );
    expect(accepted).toBeNull();
  });

  it('is not adopted while the same machine is destroyed under another finding', async () => {
    const { attempt } = await rentReady();
    automation.orphans = { policy: 'destroy', graceMs: 0 };
    automation.vendor.outage = 'destroy';
    automation.services.destroyTimings = { verifyMs: 0, firstPollMs: 0, maxPollMs: 0 };
    const twin = automation.vendor.place(attempt.label);
    await automation.tick('reconcile');
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.destroys': 1 });
    await automation.asOwner(`update attempts set status = 'gone' where id = '${attempt.id}'`);
    await automation.asOwner(`update instances set status = 'destroyed'`);
    await automation.tick('reconcile');
    const orphan = (await findings()).find((one) => one.class === 'orphan' && one.provider_instance_id === twin);
    expect(orphan).toMatchObject({ status: 'open' });
    await expect(adopt(orphan)).rejects.toThrow(/being destroyed already/);
  });

  it('leaves a gone attempt of the same label as it was', async () => {
    const { vendor } = automation;
    const { attempt, instanceId } = await rentReady();
    await automation.destroy(instanceId);
    await automation.untilDestroyed(instanceId);
    const back = vendor.place(attempt.label);
    await automation.passTime(10 * MINUTE_MS);
    await automation.tick('reconcile');
    expect(await findings()).toMatchObject([{ class: 'orphan', org_id: automation.orgId }]);
    await adopt();
    expect((await automation.attempts()).map(({ label, status }) => ({ label, status }))).toEqual([
      { label: attempt.label, status: 'gone' },
      { label: attempt.label, status: 'bought' },
    ]);
    await automation.passTime(10 * MINUTE_MS);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.findings': 0 });
    expect(vendor.liveIds()).toEqual([back]);
  });
});

describe('a finding that is ignored for a time', () => {
  it('is open again after it, and destroyed then', async () => {
    automation.vendor.place(orphanLabel());
    await automation.tick('reconcile');
    const until = new Date(Date.now() + 60 * MINUTE_MS);
    const id = (await findings())[0]?.id as string;
    await changeFinding(automation.db, id, { status: 'ignored', from: ['open'], ignoredUntil: until, reason: 'mine' });
    await automation.passTime(30 * MINUTE_MS);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.destroys': 0 });
    expect(await findings()).toMatchObject([{ status: 'ignored', sightings: 1 }]);
    await automation.passTime(31 * MINUTE_MS);
    expect(await automation.tick('reconcile')).toMatchObject({ 'vastai.destroys': 1 });
    expect(await findings()).toMatchObject([{ status: 'resolving', id }]);
  });
});

function orphanLabel(): string {
  return formatLabel(DEPLOYMENT_ID, newId('attempt'), automation.services.labelMac);
}

async function adopt(finding?: FindingRow) {
  const row = finding ?? (await findings()).find((one) => one.status === 'open');
  return inTransaction(automation.db, (tx) =>
    acceptAdopt(tx, automation.queue, {
      finding: row!,
      orgId: automation.orgId,
      actor: ACTOR,
      name: `kept-${Math.random().toString(36).slice(2, 8)}`,
      consumer: null,
      lifetimeMs: 12 * 60 * MINUTE_MS,
      overrideReason: null,
      bootTimeoutMs: 15 * MINUTE_MS,
      reason: null,
    }),
  );
}

function findings() {
  return automation.db.selectFrom('findings').selectAll().orderBy('first_seen_at').execute();
}

function destroys() {
  return automation.db
    .selectFrom('operations')
    .select(['id', 'kind'])
    .where('kind', '<>', 'provision_instance')
    .execute();
}

async function rentReady() {
  const { vendor } = automation;
  const { operation, instances } = await automation.provision();
  await automation.startWorker();
  const [attempt] = await automation.untilBought(1);
  await automation.untilWaiting(operation.id);
  await automation.recordReady(attempt!);
  await automation.untilFinished(operation.id);
  vendor.run(attempt!.label);
  return { attempt: attempt!, instanceId: instances[0]?.id as string };
}
