import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createDeliverWebhooksCron } from '../../../automation/cron/deliver-webhooks.ts';
import { acceptDestroy } from '../../../db/accept-destroy.ts';
import { inTransaction } from '../../../db/database.ts';
import { sightFinding } from '../../../db/findings.ts';
import { setInstanceStatus } from '../../../db/instances.ts';
import { insertTestDelivery, listDeliveries, redeliver } from '../../../db/webhook-deliveries.ts';
import { changeWebhook, insertWebhook, rotateWebhookSecret, type WebhookRow } from '../../../db/webhooks.ts';
import { formatWebhookSecret, MAX_FAILING_MS, MAX_TRIES, type WebhookFilter } from '../../../domain/webhook.ts';
import { createEnvelope } from '../../../secrets/envelope.ts';
import { ACTOR, createFleetDatabase, type FleetDatabase } from '../../support/fleet-database.ts';

interface Got {
  path: string;
  id: string;
  headers: Record<string, string>;
  body: string;
  event: { id: string; type: string; object: { kind: string; id: string }; data: Record<string, unknown> };
}

const envelope = createEnvelope(randomBytes(32));
let fleet: FleetDatabase;
let receiver: Server;
let base: string;
const got: Got[] = [];
/** What each path answers now; 200 where nothing is said. */
const answers = new Map<string, number>();

beforeAll(async () => {
  fleet = await createFleetDatabase();
  receiver = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString('utf8');
      const path = request.url ?? '';
      const headers = request.headers as Record<string, string>;
      got.push({ path, id: headers['webhook-id'] ?? '', headers, body, event: JSON.parse(body) as Got['event'] });
      response.writeHead(answers.get(path) ?? 200).end();
    });
  });
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
});
afterAll(async () => {
  receiver?.closeAllConnections();
  await new Promise((resolve) => receiver?.close(resolve));
  await fleet?.close();
});
beforeEach(async () => {
  await fleet.db.deleteFrom('webhooks').execute();
  got.length = 0;
  answers.clear();
});

const cron = (now = () => new Date()) =>
  createDeliverWebhooksCron({ db: fleet.db, envelope, targets: 'any', now, log: pino({ level: 'silent' }) });
const tick = () => cron().run(new AbortController().signal);

async function listen(
  path: string,
  events: WebhookFilter[] = ['*'],
  includesDeployment = false,
): Promise<{ row: WebhookRow; secret: string }> {
  const secret = formatWebhookSecret(randomBytes(32));
  const row = await inTransaction(fleet.db, (tx) =>
    insertWebhook(tx, envelope, {
      orgId: fleet.orgId,
      url: `${base}${path}`,
      description: null,
      events,
      includesDeployment,
      secret,
      createdBy: ACTOR.id,
    }),
  );
  return { row, secret };
}

function isSigned(one: Got, secret: string): boolean {
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const expected = createHmac('sha256', key)
    .update(`${one.id}.${one.headers['webhook-timestamp']}.${one.body}`)
    .digest();
  return (one.headers['webhook-signature'] ?? '').split(' ').some((part) => {
    const given = Buffer.from(part.slice('v1,'.length), 'base64');
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}

/** Time passes for what waits: the next try is due. */
const makeDue = () => fleet.asOwner('update webhook_deliveries set next_at = now()');

describe('a delivery', () => {
  it('tells each change of an instance once, in order, signed, whatever path changed it', async () => {
    const { secret } = await listen('/a', ['instance.*']);
    const { instances } = await fleet.provision();
    const id = instances[0]?.id as string;
    for (const status of ['creating', 'booting', 'booting', 'ready'] as const)
      await setInstanceStatus(fleet.db, id, status);
    await setInstanceStatus(fleet.db, id, 'requested'); // not allowed: nothing happens
    await inTransaction(fleet.db, (tx) =>
      acceptDestroy(tx, fleet.queue, { orgId: null, instanceId: id, actor: ACTOR, reason: 'over' }),
    );
    await tick();
    expect(got.map((one) => one.event.type)).toEqual([
      'instance.requested',
      'instance.creating',
      'instance.booting',
      'instance.ready',
      'instance.destroying',
    ]);
    expect(got[4]?.event).toMatchObject({
      object: { kind: 'instance', id },
      data: { status: 'destroying', previousStatus: 'ready', note: 'over' },
    });
    for (const one of got) {
      expect(isSigned(one, secret)).toBe(true);
      expect(one.event.id).toBe(one.id);
      expect(one.id).toMatch(/^dlv_[a-z2-7]{16}$/);
    }
    expect(new Set(got.map((one) => one.id)).size).toBe(got.length);
    expect(await tick()).toMatchObject({ sent: 0 });
  });

  it('does not exist when the change was rolled back, when nobody wants it, or for another org', async () => {
    await listen('/b', ['instance.ready']);
    const { instances } = await fleet.provision();
    const id = instances[0]?.id as string;
    await setInstanceStatus(fleet.db, id, 'creating');
    await setInstanceStatus(fleet.db, id, 'booting');
    await expect(
      inTransaction(fleet.db, async (tx) => {
        await setInstanceStatus(tx, id, 'ready');
        throw new Error('rolled back');
      }),
    ).rejects.toThrow('rolled back');
    const other = await fleet.makeOrg();
    await fleet.db.updateTable('instances').set({ org_id: other }).where('id', '=', id).execute();
    await setInstanceStatus(fleet.db, id, 'ready');
    expect(await tick()).toMatchObject({ sent: 0 });
    expect(await fleet.db.selectFrom('webhook_deliveries').select('id').execute()).toEqual([]);
  });

  it('tells of operations and of findings, those of no org only to the deployment', async () => {
    await listen('/org');
    await listen('/deployment', ['finding.*'], true);
    const finding = {
      class: 'orphan',
      provider: 'vastai',
      providerInstanceId: '1',
      attemptId: null,
      instanceId: null,
      label: null,
      detail: 'a machine',
      priceMicroUsdPerHour: null,
    };
    await fleet.db.transaction().execute(async (tx) => {
      await sightFinding(tx, { ...finding, orgId: null });
      await sightFinding(tx, { ...finding, orgId: null });
    });
    await fleet.provision();
    await tick();
    const told = (path: string) => got.filter((one) => one.path === path).map((one) => one.event.type);
    expect(told('/deployment')).toEqual(['finding.open']);
    expect(told('/org').sort()).toEqual(['instance.requested', 'operation.queued']);
  });

  it('that is refused waits longer and longer, holds up later ones of its object only, and keeps its id', async () => {
    const { row } = await listen('/c', ['instance.*']);
    answers.set('/c', 500);
    const { instances } = await fleet.provision({}, ['first', 'second']);
    const [first, second] = instances.map((one) => one.id) as [string, string];
    await setInstanceStatus(fleet.db, first, 'creating');
    expect(await tick()).toMatchObject({ sent: 2, failed: 2 });
    expect(new Set(got.map((one) => one.event.object.id))).toEqual(new Set([first, second]));
    expect(await tick()).toMatchObject({ sent: 0 });
    answers.set('/c', 200);
    await makeDue();
    expect(await tick()).toMatchObject({ sent: 3, succeeded: 3 });
    const ofFirst = got.filter((one) => one.event.object.id === first);
    expect(ofFirst.map((one) => one.event.type)).toEqual([
      'instance.requested',
      'instance.requested',
      'instance.creating',
    ]);
    expect(ofFirst[0]?.id).toBe(ofFirst[1]?.id);
    expect(ofFirst[0]?.body).toBe(ofFirst[1]?.body);
    const log = await listDeliveries(fleet.db, { webhookId: row.id, limit: 10 });
    expect(log.map((one) => [one.status, one.tries, one.response_status])).toContainEqual(['succeeded', 2, 200]);
  });

  it('is given up after its last try; then the next of its object goes', async () => {
    const { row } = await listen('/d', ['instance.*']);
    answers.set('/d', 404);
    const { instances } = await fleet.provision();
    await setInstanceStatus(fleet.db, instances[0]?.id as string, 'creating');
    await fleet.asOwner(`update webhook_deliveries set tries = ${MAX_TRIES - 1} where type = 'instance.requested'`);
    expect(await tick()).toMatchObject({ sent: 2, failed: 2 });
    const [second, first] = await listDeliveries(fleet.db, { webhookId: row.id, limit: 10 });
    expect(first).toMatchObject({ status: 'failed', error: 'answered 404', tries: MAX_TRIES });
    expect(second).toMatchObject({ status: 'pending', tries: 1 });
    answers.set('/d', 200);
    await inTransaction(fleet.db, (tx) => redeliver(tx, (first as { id: string }).id));
    await makeDue();
    await tick();
    expect(got.slice(-2).map((one) => one.event.type)).toEqual(['instance.requested', 'instance.creating']);
  });

  it('is made once by two replicas at once, and again when the one that took it died', async () => {
    await listen('/e', ['instance.*']);
    await fleet.provision({}, ['e-1', 'e-2', 'e-3', 'e-4', 'e-5', 'e-6']);
    await Promise.all([tick(), tick(), tick()]);
    expect(got).toHaveLength(6);
    await fleet.provision();
    await fleet.asOwner(
      `update webhook_deliveries set leased_until = now() + interval '1 minute' where status = 'pending'`,
    );
    expect(await tick()).toMatchObject({ sent: 0 });
    await fleet.asOwner(`update webhook_deliveries set leased_until = now() where status = 'pending'`);
    expect(await tick()).toMatchObject({ sent: 1 });
  });

  it('to an address that is not public fails in words outside the sandbox, and nothing is sent', async () => {
    const { row } = await listen('/f', ['instance.*']);
    await fleet.provision();
    const guarded = createDeliverWebhooksCron({
      db: fleet.db,
      envelope,
      targets: 'public',
      now: () => new Date(),
      log: pino({ level: 'silent' }),
    });
    await guarded.run(new AbortController().signal);
    expect(got).toEqual([]);
    const [log] = await listDeliveries(fleet.db, { webhookId: row.id, limit: 1 });
    expect(log).toMatchObject({ status: 'pending', response_status: null, error: 'only https is allowed' });
  });
});

describe('a webhook', () => {
  it('that takes nothing for days, or says that it is gone, is disabled with the reason; its deliveries are canceled', async () => {
    const { row: dead } = await listen('/g', ['instance.*']);
    const { row: gone } = await listen('/h', ['instance.*']);
    answers.set('/g', 500).set('/h', 410);
    const { instances } = await fleet.provision();
    await setInstanceStatus(fleet.db, instances[0]?.id as string, 'creating');
    await tick();
    await fleet.asOwner(`update webhooks set failing_since = now() - interval '${MAX_FAILING_MS + 1000} milliseconds'`);
    await makeDue();
    await tick();
    const rows = await fleet.db.selectFrom('webhooks').selectAll().orderBy('created_at').execute();
    expect(rows.find((one) => one.id === gone.id)).toMatchObject({
      enabled: false,
      disabled_reason: 'the receiver answered 410: it is gone',
    });
    expect(rows.find((one) => one.id === dead.id)).toMatchObject({
      enabled: false,
      disabled_reason: 'it has taken no delivery for 3 days',
    });
    const log = await listDeliveries(fleet.db, { webhookId: dead.id, limit: 10 });
    expect(log.map((one) => one.status)).toEqual(['canceled', 'failed']);
    await fleet.provision();
    expect(await tick()).toMatchObject({ sent: 0 });
    await inTransaction(fleet.db, (tx) => changeWebhook(tx, dead.id, { enabled: true }));
    answers.delete('/g');
    await fleet.provision();
    expect(await tick()).toMatchObject({ succeeded: 1 });
  });

  it('is signed by its old and its new secret until the overlap is over, then by the new one alone', async () => {
    const { row, secret } = await listen('/i', ['instance.*']);
    const fresh = formatWebhookSecret(randomBytes(32));
    await inTransaction(fleet.db, (tx) => rotateWebhookSecret(tx, envelope, row, fresh, 3_600_000));
    await fleet.provision();
    await tick();
    expect(isSigned(got[0] as Got, secret)).toBe(true);
    expect(isSigned(got[0] as Got, fresh)).toBe(true);
    await fleet.asOwner(`update webhooks set previous_secret_until = now()`);
    await fleet.provision();
    await tick();
    expect(isSigned(got[1] as Got, secret)).toBe(false);
    expect(isSigned(got[1] as Got, fresh)).toBe(true);
    const stored = await fleet.asOwner<{ text: string }>('select w::text as text from webhooks w');
    expect(stored[0]?.text).not.toContain(fresh.slice(6));
  });

  it('can be tested though it is disabled and wants nothing of the kind', async () => {
    const { row } = await listen('/j', ['finding.*']);
    const disabled = await inTransaction(fleet.db, (tx) => changeWebhook(tx, row.id, { enabled: false }));
    await inTransaction(fleet.db, (tx) => insertTestDelivery(tx, disabled, 'usr_test'));
    await tick();
    expect(got.map((one) => one.event.type)).toEqual(['webhook.test']);
  });
});
