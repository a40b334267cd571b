import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { denylistMachine } from '../../db/machines.ts';
import { replaceOffers } from '../../db/offers.ts';
import { recordBelievable, recordQuarantine, registerProvider, setProviderEnabled } from '../../db/providers.ts';
import type { Offer } from '../../domain/offer.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { OFFER, startApiServer, type ApiServer } from '../support/api-server.ts';

let server: ApiServer;
beforeAll(async () => {
  server = await startApiServer();
  await registerProvider(server.database.kysely, 'runpod', 'sandbox');
});
beforeEach(async () => {
  const db = server.database.kysely;
  for (const table of ['offers', 'machine_history'] as const) await db.deleteFrom(table).execute();
  await db.updateTable('providers').set({ enabled: true, status: 'ok', reason: null, offers_problem: null }).execute();
});
afterAll(() => server?.stop());

describe('an offer in the inventory', () => {
  it('has its price with disk as a whole and for one GPU, on demand and interruptible, with traffic where it is told', async () => {
    await list('vastai', [
      {
        gpuCount: 3,
        priceMicroUsdPerHour: 1_000_000n,
        pricedDiskGib: 40,
        diskMicroUsdPerGibHour: 100n,
        floorMicroUsdPerHour: 300_000n,
        inetDownMicroUsdPerGb: 2_000n,
      },
    ]);
    expect((await items())[0]).toMatchObject({
      priceMicroUsdPerHour: 1_000_000,
      pricePerGpuMicroUsdPerHour: 333_334,
      pricedDiskGib: 40,
      interruptible: true,
      interruptiblePriceMicroUsdPerHour: 304_000,
      inetDownMicroUsdPerGb: 2_000,
      inetUpMicroUsdPerGb: null,
    });
    expect((await items('diskGib=140'))[0]).toMatchObject({
      priceMicroUsdPerHour: 1_010_000,
      pricedDiskGib: 140,
      interruptiblePriceMicroUsdPerHour: 314_000,
    });
    expect(await items('diskGib=501')).toEqual([]);
  });

  it('is fresh at first; when listings stop coming it becomes stale and its confidence fades', async () => {
    await list('vastai', [{ confidence: 0.8, stock: null }]);
    expect((await items())[0]).toMatchObject({ ageSeconds: 0, stale: false, confidence: 0.8, stock: null });
    await age(190);
    const [old] = await items();
    expect(old).toMatchObject({ stale: true });
    expect(old.ageSeconds).toBeGreaterThanOrEqual(190);
    await age(600);
    expect((await items())[0].confidence).toBeLessThan(0.41);
  });

  it('on a denylisted machine is hidden unless it is asked for', async () => {
    await list('vastai', [{}, {}]);
    await denylist('m1', 60_000);
    await denylist('m2', -1_000);
    expect((await items()).map((item) => item.machineId)).toEqual(['m2']);
    const all = await items('includeDenylist=true');
    expect(all.map((item) => [item.machineId, item.denylistedUntil !== null])).toEqual(
      expect.arrayContaining([
        ['m1', true],
        ['m2', false],
      ]),
    );
    const hidden = all.find((item) => item.machineId === 'm1');
    expect((await server.call('GET', `/api/v1/inventory/${hidden.id}`)).body.denylistedUntil).not.toBeNull();
  });
});

describe('the inventory', () => {
  it('shows offers of a failing provider as they were last believed, and says why and since when', async () => {
    await list('vastai', [{}]);
    await list('runpod', [{}]);
    await recordQuarantine(server.database.kysely, 'runpod', 'offers', 'quarantined', 'the listing of offers is empty');
    const { body } = await server.call('GET', '/api/v1/inventory');
    expect(body.items.map((item: { provider: string }) => item.provider).sort()).toEqual(['runpod', 'vastai']);
    expect(body.providers).toMatchObject([
      { name: 'runpod', status: 'quarantined', reason: 'the listing of offers is empty', offersCount: 1, stale: false },
      { name: 'vastai', status: 'ok', reason: null },
    ]);
    expect(Date.parse(body.providers[0].lastGoodAt)).toBeGreaterThan(Date.now() - 60_000);
    const one = await server.call('GET', '/api/v1/inventory?provider=vastai');
    expect(one.body.providers.map((source: { name: string }) => source.name)).toEqual(['vastai']);
  });

  it('has nothing of a provider that is switched off', async () => {
    await list('vastai', [{}]);
    await setProviderEnabled(server.database.kysely, 'vastai', false);
    expect(await items()).toEqual([]);
  });

  it('for interruptible rentals holds what has a floor, and filters and sorts by that price', async () => {
    await list('vastai', [
      { priceMicroUsdPerHour: 100_000n },
      { priceMicroUsdPerHour: 200_000n, floorMicroUsdPerHour: 90_000n },
      { priceMicroUsdPerHour: 300_000n, floorMicroUsdPerHour: 50_000n },
    ]);
    const offers = (query: string) => items(query).then((found) => found.map((item) => item.providerOfferId));
    expect(await offers('interruptible=true')).toEqual(['3', '2']);
    expect(await offers('interruptible=true&maxPriceUsdPerHour=0.06')).toEqual(['3']);
    expect(await offers('interruptible=false')).toEqual(['1', '2', '3']);
  });

  it.each([
    ['price_per_gpu', ['2', '1', '3']],
    ['-price_per_gpu', ['3', '1', '2']],
    ['confidence', ['3', '1', '2']],
    ['network', ['2', '1', '3']],
  ])('is sorted by %s over pages', async (sort, expected) => {
    await list('vastai', [
      { priceMicroUsdPerHour: 200_000n, confidence: 0.7, inetDownMbps: 100 },
      { priceMicroUsdPerHour: 400_000n, gpuCount: 3, confidence: 0.5, inetDownMbps: 900 },
      { priceMicroUsdPerHour: 300_000n, confidence: 0.9, inetDownMbps: null },
    ]);
    const seen: string[] = [];
    let cursor = '';
    do {
      const { body } = await server.call('GET', `/api/v1/inventory?sort=${sort}&limit=1${cursor}`);
      seen.push(...body.items.map((item: { providerOfferId: string }) => item.providerOfferId));
      cursor = body.nextCursor === null ? '' : `&cursor=${body.nextCursor}`;
    } while (cursor !== '');
    expect(seen).toEqual(expected);
  });

  it('refuses what it does not know, by name', async () => {
    for (const query of ['sort=best', 'minConfidence=2', 'diskGib=0', 'includeDenylist=yes']) {
      const { status, body } = await server.call('GET', `/api/v1/inventory?${query}`);
      expect(status, query).toBe(422);
      expect(body.errors[0].path).toBe(query.split('=')[0]);
    }
  });
});

// oxlint-disable-next-line typescript/no-explicit-any
async function items(query = ''): Promise<any[]> {
  const { status, body } = await server.call('GET', `/api/v1/inventory?${query}`);
  expect(status).toBe(200);
  return body.items;
}

async function list(provider: ProviderName, offers: Partial<Offer>[]): Promise<void> {
  const db = server.database.kysely;
  const all = offers.map((offer, index) => ({
    ...OFFER,
    provider,
    providerOfferId: String(index + 1),
    machineId: `m${index + 1}`,
    ...offer,
  }));
  await replaceOffers(db, provider, all, new Date());
  await recordBelievable(db, provider, { listing: 'offers', count: all.length });
}

function denylist(machineId: string, forMs: number): Promise<void> {
  const until = new Date(Date.now() + forMs);
  return server.database.kysely
    .transaction()
    .execute((tx) =>
      denylistMachine(tx, { provider: 'vastai', machineId }, { until, reason: 'wrong GPU' }, new Date()),
    );
}

async function age(seconds: number): Promise<void> {
  await sql`update offers set seen_at = seen_at - ${seconds} * interval '1 second'`.execute(server.database.kysely);
}
