import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { BOOTED_MS, type Json, startVendor, type Vendor } from './vendor.ts';

const RENTED = 60;
let vendor: Vendor;
let ids: number[];

beforeAll(async () => {
  vendor = await startVendor({ offers: 200 });
  ids = [];
  for (let i = 0; i < RENTED; i++) ids.push(await vendor.rent({ label: `list-${i % 20}`, onstart: 'echo ready' }));
  await vendor.advance(BOOTED_MS);
});
afterAll(() => vendor.close());
afterEach(() => vendor.setSwitches('vastai', { listLagMs: 0, listV0: 410 }));

describe('the paged list', () => {
  it('has the fields of the recorded one, in its instances too', async () => {
    const recorded = fixture('list-v1').body;
    const { body } = await list({ limit: '2' });
    expect(Object.keys(body).toSorted()).toEqual(Object.keys(recorded).toSorted());
    const instances = (await list({})).body['instances'] as Json[];
    for (const [field, value] of Object.entries((recorded['instances'] as Json[])[0]!)) {
      expect(instances.at(-1), field).toHaveProperty(field);
      // Some may be null in one instance and not in another.
      if (value !== null)
        expect(
          instances.map((one) => typeof one[field]),
          field,
        ).toContain(typeof value);
    }
  });

  it.each([
    ['100', 25],
    ['25', 25],
    ['7', 7],
    ['0', 5],
    ['-3', 5],
    [undefined, 25],
  ])('with limit %s gives %i rows', async (limit, rows) => {
    const { body } = await list(limit === undefined ? {} : { limit });
    expect(body['instances']).toHaveLength(rows);
    expect(body['instances_found']).toBe(rows);
    expect(body['total_instances']).toBe(RENTED + 3);
  });

  it.each(['asc', 'desc'] as const)('gives every row once over all pages (%s)', async (dir) => {
    const rows = await listAllPages({ order_by: [{ col: 'label', dir }], limit: '7' });
    expect(new Set(rows.map((row) => row['id'])).size).toBe(RENTED + 3);
    expect(rows).toHaveLength(RENTED + 3);
  });

  it('filters by label and counts the labels of what it found', async () => {
    const { body } = await list({ select_filters: { label: { eq: 'list-3' } } });
    expect(body['total_instances']).toBe(3);
    expect(body['label_counts']).toEqual({ 'list-3': 3 });
    expect(body['next_token']).toBeNull();
    const several = await list({ select_filters: { label: { in: ['list-1', 'list-2'] } } });
    expect(several.body['total_instances']).toBe(6);
  });

  it('sends only the columns that were asked for', async () => {
    const { body } = await list({ select_cols: ['id', 'label'], limit: '1' });
    expect(Object.keys((body['instances'] as Json[])[0]!)).toEqual(['id', 'label']);
  });

  it('refuses computed columns as recorded, and a bad token', async () => {
    const recorded = fixture('list-v1-bad-filter-400');
    const filtered = await list({ select_filters: { dph_total: { lt: 1 } } });
    expect(filtered.status).toBe(recorded.status);
    expect(filtered.body).toEqual(recorded.body);
    const bad = await vendor.call('GET', '/api/v1/instances/?after_token=nonsense');
    expect(bad.status).toBe(400);
    expect(bad.body).toMatchObject({ error: 'invalid_token' });
  });

  it('lags when told to: the new are missing and the destroyed still there, while a read knows', async () => {
    vendor.setSwitches('vastai', { listLagMs: 15_000 });
    const id = await vendor.rent({ label: 'lagging' });
    const isListed = async (): Promise<boolean> =>
      (await list({ select_filters: { id: { eq: id } } })).body['total_instances'] === 1;
    expect(await isListed()).toBe(false);
    expect(await vendor.read(id)).toMatchObject({ label: 'lagging' });
    await vendor.advance(15_000);
    expect(await isListed()).toBe(true);
    await vendor.call('DELETE', `/api/v0/instances/${id}/`, {});
    expect(await vendor.read(id)).toBeNull();
    expect(await isListed()).toBe(true);
    await vendor.advance(15_000);
    expect(await isListed()).toBe(false);
  });
});

describe('the old list', () => {
  it('is gone as recorded, and can be switched back on', async () => {
    const recorded = fixture('list-v0-410');
    const gone = await vendor.call('GET', '/api/v0/instances/');
    expect(gone.status).toBe(recorded.status);
    expect(gone.body).toEqual(recorded.body);
    vendor.setSwitches('vastai', { listV0: 200 });
    const alive = await vendor.call('GET', '/api/v0/instances/?owner=me');
    expect(alive.body['instances']).toHaveLength(RENTED + 3);
  });
});

it('the filter values name what is there', async () => {
  const { body } = await vendor.call('GET', '/api/v0/instances/filters/');
  expect(body['filters']).toContainEqual({ actual_status: 'running', gpu_name: 'RTX 4090', verification: 'verified' });
});

function list(query: Record<string, unknown>): ReturnType<Vendor['call']> {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    params.set(name, typeof value === 'string' ? value : JSON.stringify(value));
  }
  return vendor.call('GET', `/api/v1/instances/?${params.toString()}`);
}

async function listAllPages(query: Record<string, unknown>): Promise<Json[]> {
  const rows: Json[] = [];
  let token: unknown = null;
  do {
    const { body } = await list(token === null ? query : { ...query, after_token: token });
    rows.push(...(body['instances'] as Json[]));
    token = body['next_token'];
  } while (token !== null);
  return rows;
}

function fixture(name: string): { status: number; body: Json } {
  return JSON.parse(readFileSync(`test/fixtures/vastai/${name}.json`, 'utf8')) as { status: number; body: Json };
}
