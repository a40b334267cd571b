import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_OFFER_COUNT } from '../../sandbox/server.ts';
import { type Json, startVendor, type Vendor } from './vendor.ts';

let vendor: Vendor;
beforeAll(async () => {
  vendor = await startVendor({ offers: 400, switches: { vastai: { searchDefaultLimit: 1000 } } });
});
afterAll(() => vendor.close());

describe('offers on the wire', () => {
  it('have every field of the recorded offers, with the same types', async () => {
    const fixture = JSON.parse(readFileSync('test/fixtures/vastai/bundles.json', 'utf8')) as {
      body: { offers: Json[] };
    };
    const offers = await vendor.search();
    for (const [field, recorded] of Object.entries(fixture.body.offers[0]!)) {
      expect(offers[0], field).toHaveProperty(field);
      const values = offers.map((offer) => offer[field]);
      if (recorded !== null)
        expect(
          values.map((value) => typeof value),
          field,
        ).toContain(typeof recorded);
    }
  });

  it('list plenty of single RTX 4090s below $1 an hour on machines of their own', async () => {
    const byDefault = await startVendor({ offers: DEFAULT_OFFER_COUNT });
    const offers = await byDefault.search({ limit: 3000 });
    const cheap = await byDefault.search({
      gpu_name: { eq: 'RTX 4090' },
      num_gpus: { eq: 1 },
      dph_total: { lt: 1 },
      limit: 3000,
    });
    await byDefault.close();
    expect(offers.length).toBeGreaterThanOrEqual(200);
    expect(new Set(cheap.map((offer) => offer['machine_id'])).size).toBeGreaterThanOrEqual(60);
  });

  it('are the same for the same seed and others for another', async () => {
    const [same, other] = await Promise.all([startVendor({ seed: 1 }), startVendor({ seed: 2 })]);
    const prices = async (one: Vendor): Promise<unknown[]> =>
      (await one.search({ order: [['id', 'asc']], limit: 40 })).map((offer) => offer['dph_total']);
    const [here, there, elsewhere] = await Promise.all([prices(vendor), prices(same), prices(other)]);
    await Promise.all([same.close(), other.close()]);
    expect(here.slice(0, 20)).toEqual(there.slice(0, 20));
    expect(here).not.toEqual(elsewhere);
  });

  it('leave the core count out for some, and share one machine between some', async () => {
    const offers = await vendor.search();
    expect(offers.some((offer) => offer['cpu_cores'] === null)).toBe(true);
    expect(new Set(offers.map((offer) => offer['machine_id'])).size).toBeLessThan(offers.length);
  });
});

describe('search filters', () => {
  it.each<[string, Json, (offer: Json) => boolean]>([
    ['eq with a number', { num_gpus: { eq: 8 } }, (offer) => offer['num_gpus'] === 8],
    ['eq with a number as a string', { num_gpus: { eq: '8' } }, (offer) => offer['num_gpus'] === 8],
    ['neq', { num_gpus: { neq: '1' } }, (offer) => offer['num_gpus'] !== 1],
    ['gt and lt together', { gpu_ram: { gt: '20000', lt: '30000' } }, (o) => within(o['gpu_ram'], 20_001, 29_999)],
    ['gte and lte', { reliability: { gte: 0.97, lte: 0.99 } }, (o) => within(o['reliability'], 0.97, 0.99)],
    ['a name with underscores', { gpu_name: { eq: 'RTX_4090' } }, (offer) => offer['gpu_name'] === 'RTX 4090'],
    ['in', { gpu_name: { in: ['H100_SXM', 'L40S'] } }, (o) => ['H100 SXM', 'L40S'].includes(String(o['gpu_name']))],
    ['notin', { gpu_name: { notin: ['RTX 4090'] } }, (offer) => offer['gpu_name'] !== 'RTX 4090'],
    ['a country', { geolocation: { in: ['SE', 'US'] } }, (o) => /, (SE|US)$/.test(String(o['geolocation']))],
    ['an unknown state', { geolocation: { eq: 'CN' } }, (offer) => offer['geolocation'] === ', CN'],
    ['the alias dph', { dph: { lt: '0.4' } }, (offer) => Number(offer['dph_total']) < 0.4],
    ['a driver version', { driver_version: { gte: '560.0.0' } }, (o) => Number(o['driver_vers']) >= 560_000_000],
    ['datacenter', { datacenter: { eq: true } }, (offer) => offer['hosting_type'] === 1],
  ])('%s', async (_name, filter, isWanted) => {
    const all = await vendor.search();
    const found = await vendor.search(filter);
    expect(found.length).toBeGreaterThan(0);
    expect(found.length).toBeLessThan(all.length);
    expect(found.every(isWanted)).toBe(true);
    expect(found.length).toBe(all.filter(isWanted).length);
  });

  it('shows only verified offers unless asked, and the others when asked', async () => {
    const verified = await vendor.search();
    expect(verified.every((offer) => offer['verification'] === 'verified')).toBe(true);
    const others = await vendor.search({ verified: { eq: false } });
    expect(others.length).toBeGreaterThan(0);
    expect(others.every((offer) => offer['verification'] !== 'verified')).toBe(true);
  });

  it('refuses a field and an operator that do not exist', async () => {
    for (const query of [{ colour: { eq: 'red' } }, { num_gpus: { about: 1 } }, { type: 'rent-free' }]) {
      const answer = await vendor.call('POST', '/api/v0/bundles/', query);
      expect(answer.status, JSON.stringify(query)).toBe(400);
      expect(answer.body).toMatchObject({ success: false, error: 'invalid_request' });
    }
  });

  it('accepts what the official client, gpuhunt and skypilot send', async () => {
    const cli = {
      verified: { eq: true },
      external: { eq: false },
      rentable: { eq: true },
      gpu_name: { eq: 'RTX 4090' },
      num_gpus: { eq: '1' },
      reliability: { gt: '0.95' },
      geolocation: { in: ['SE', 'US'] },
      dph_total: { lt: '0.9' },
      duration: { gt: 172_800.0 },
      order: [['dph_total', 'asc']],
      type: 'on-demand',
      limit: 5,
      allocated_storage: 20.0,
    };
    const offers = await vendor.search(cli);
    expect(offers.length).toBeGreaterThan(0);
    expect(offers.length).toBeLessThanOrEqual(5);
    expect(await vendor.search({ ...cli, chunked: true, georegion: true })).toEqual(offers);
    const old = await vendor.call('GET', `/api/v0/bundles/?q=${encodeURIComponent(JSON.stringify(cli))}`);
    expect(old.body['offers']).toEqual(offers);
    const asks = await vendor.call('PUT', '/api/v0/search/asks/', { select_cols: ['*'], q: cli });
    expect(asks.body['offers']).toEqual(offers);
  });
});

describe('order, limit and price', () => {
  it('sorts by several fields in their directions', async () => {
    const offers = await vendor.search({
      order: [
        ['num_gpus', 'desc'],
        ['dph', 'asc'],
      ],
    });
    const keys = offers.map((offer): [number, number] => [-Number(offer['num_gpus']), Number(offer['dph_total'])]);
    expect(keys).toEqual(keys.toSorted((a, b) => a[0] - b[0] || a[1] - b[1]));
  });

  it('answers a small page when no limit is given', async () => {
    vendor.setSwitches('vastai', { searchDefaultLimit: 64 });
    expect(await vendor.search()).toHaveLength(64);
    vendor.setSwitches('vastai', { searchDefaultLimit: 1000 });
  });

  it('puts the allocated storage into the total price', async () => {
    const [small] = await vendor.search({ order: [['id', 'asc']], limit: 1, allocated_storage: 10 });
    const [large] = await vendor.search({ order: [['id', 'asc']], limit: 1, allocated_storage: '110' });
    const perMonth = (Number(large!['dph_total']) - Number(small!['dph_total'])) * 720;
    expect(perMonth).toBeCloseTo(100 * Number(small!['storage_cost']), 2);
    expect(large!['dph_base']).toBe(small!['dph_base']);
  });

  it('prices interruptible offers at their floor', async () => {
    const offers = await vendor.search({ type: 'bid' });
    expect(offers.every((offer) => offer['is_bid'] === true && offer['dph_base'] === offer['min_bid'])).toBe(true);
  });

  it('follows price moves and droughts', async () => {
    const one = { id: { eq: 9_000_002 } };
    const [before] = await vendor.search({ ...one, verified: { in: [true, false] } });
    vendor.setSwitches('vastai', { priceFactor: 2 });
    const [after] = await vendor.search({ ...one, verified: { in: [true, false] } });
    expect(after!['dph_base']).toBeCloseTo(2 * Number(before!['dph_base']), 6);
    vendor.setSwitches('vastai', { priceFactor: 1, drought: ['RTX 4090'] });
    const offers = await vendor.search();
    expect(offers.some((offer) => offer['gpu_name'] === 'RTX 4090')).toBe(false);
    expect(offers.length).toBeGreaterThan(0);
    vendor.setSwitches('vastai', { drought: [] });
  });
});

function within(value: unknown, from: number, to: number): boolean {
  return Number(value) >= from && Number(value) <= to;
}
