import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { insertAttempt, markGone, recordPurchase } from '../../db/attempts.ts';
import { newId } from '../../db/new-id.ts';
import { listOffers, OFFER, ORDER, startApiServer, type ApiServer } from '../support/api-server.ts';

let server: ApiServer;
let owner: { key: string; orgId: string };
const rented: { id: string; attempt: string }[] = [];

/** An instance that was bought `hoursAgo` for $0.40 an hour. */
async function rent(consumer: string | undefined, hoursAgo: number, isGone: boolean): Promise<void> {
  const reply = await server.call('POST', '/api/v1/instances', { key: owner.key, body: { ...ORDER, consumer } });
  const { id, stackId } = reply.body.instances[0];
  const attempt = newId('attempt');
  const db = server.database.kysely;
  await db.transaction().execute(async (tx) => {
    const purchased_at = new Date(Date.now() - hoursAgo * 3_600_000);
    await insertAttempt(tx, {
      id: attempt,
      orgId: owner.orgId,
      instanceId: id,
      stackId,
      label: attempt,
      offer: OFFER,
      priceMicroUsdPerHour: 400_000n,
    });
    await tx.updateTable('attempts').set({ purchased_at }).where('id', '=', attempt).execute();
    const machine = { providerInstanceId: attempt, machineId: null, priceMicroUsdPerHour: null };
    await recordPurchase(tx, attempt, machine, 900_000);
  });
  if (isGone) await db.transaction().execute((tx) => markGone(tx, [attempt]));
  rented.push({ id, attempt });
}

const get = (path: string) => server.call('GET', `/api/v1${path}`, { key: owner.key });

beforeAll(async () => {
  server = await startApiServer();
  await listOffers(server, [{}]);
  owner = await server.makeKey('owner');
  await rent('search', 10, true);
  await rent('search', 3, false);
  await rent(undefined, 2, false);
});
afterAll(() => server?.stop());

describe('GET /costs', () => {
  it('agrees with the cost of each instance, the fleet, and itself by any group', async () => {
    const costs = await get('/costs');
    expect(costs.status).toBe(200);
    expect(costs.body.items).toHaveLength(3);
    expect(costs.body.total.costMicroUsd).toBeGreaterThanOrEqual(15 * 400_000);
    expect(costs.body.total.costMicroUsd).toBeLessThan(15 * 400_000 + 20_000);
    for (const { id } of rented) {
      const line = costs.body.items.find((item: { key: string }) => item.key === id);
      const cost = (await get(`/instances/${id}/cost`)).body;
      expect(Math.abs(cost.accruedMicroUsd - line.costMicroUsd)).toBeLessThan(20_000);
      expect((await get(`/instances/${id}`)).body.accruedMicroUsd).toBeGreaterThanOrEqual(line.costMicroUsd);
      expect(cost.attempts[0].usage).toHaveLength(1);
    }
    const gone = (await get(`/instances/${rented[0]?.id}/cost`)).body;
    expect(gone.burnMicroUsdPerHour).toBe(0);
    expect(gone.accruedMicroUsd).toBe(
      costs.body.items.find((item: { key: string }) => item.key === rented[0]?.id).costMicroUsd,
    );
    expect((await get('/fleet')).body).toMatchObject({ machines: 2, burnMicroUsdPerHour: 800_000 });
    const byConsumer = (await get('/costs?groupBy=consumer')).body;
    expect(byConsumer.items.map((item: { key: string | null }) => item.key)).toEqual([null, 'search']);
    const sum = (items: { costMicroUsd: number }[]) => items.reduce((total, item) => total + item.costMicroUsd, 0);
    for (const group of ['provider', 'gpu', 'day', 'consumer']) {
      const page = (await get(`/costs?groupBy=${group}`)).body;
      expect(sum(page.items), group).toBe(page.total.costMicroUsd);
    }
  });

  it('takes filters, a period and pages', async () => {
    const from = new Date(Date.now() - 3_600_000).toISOString();
    const hour = (await get(`/costs?from=${from}&consumer=search`)).body;
    expect(hour.total.costMicroUsd).toBeGreaterThanOrEqual(790_000);
    expect(hour.total.costMicroUsd).toBeLessThan(801_000);
    const keys: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const page = (await get(`/costs?limit=1${cursor === '' ? '' : `&cursor=${cursor}`}`)).body as {
        items: { key: string }[];
        nextCursor: string | null;
      };
      keys.push(...page.items.map((item) => item.key));
      cursor = page.nextCursor;
    }
    expect(keys).toEqual(rented.map(({ id }) => id).sort());
    expect((await get('/costs?groupBy=colour')).status).toBe(422);
    expect((await get('/costs?from=yesterday')).status).toBe(422);
    expect((await get('/costs?groupBy=day&cursor=WyJncHUiLCJ4Il0')).status).toBe(422);
  });

  it('shows an org nothing of another, and a billing key all of its own', async () => {
    const other = await server.makeKey('owner');
    expect((await server.call('GET', '/api/v1/costs', { key: other.key })).body.items).toEqual([]);
    const billing = await server.makeKey('billing', owner.orgId);
    expect((await server.call('GET', '/api/v1/costs', { key: billing.key })).body.items).toHaveLength(3);
  });
});

describe('GET /costs/summary', () => {
  it('forecasts the present month from the burn, and knows that a past one is over', async () => {
    const now = (await get('/costs/summary')).body;
    expect(now.burnMicroUsdPerHour).toBe(800_000);
    expect(now.forecastMicroUsd).toBeGreaterThanOrEqual(now.costMicroUsd);
    expect(now.byProvider).toMatchObject([{ key: 'vastai' }]);
    const past = (await get('/costs/summary?month=2020-02')).body;
    expect(past).toMatchObject({ costMicroUsd: 0, forecastMicroUsd: 0, to: '2020-03-01T00:00:00.000Z', byDay: [] });
    expect((await get('/costs/summary?month=2020-13')).status).toBe(422);
  });
});
