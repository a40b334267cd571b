import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FaultInput } from '../../sandbox/faults.ts';
import { type Answer, type Json, ORDER, SINGLE_4090, startVendor, type Vendor } from './vendor.ts';

let vendor: Vendor;
beforeEach(async () => {
  vendor = await startVendor();
});
afterEach(() => vendor.close());

describe('faults of a purchase', () => {
  it.each<[string, Partial<FaultInput>, number | 'cut', boolean]>([
    ['refuse', {}, 410, false],
    ['stale_offer', {}, 410, false],
    ['rate_limit', {}, 429, false],
    ['status', { status: 500 }, 500, false],
    ['html', { status: 502 }, 502, false],
    ['drop', {}, 'cut', false],
    ['lose_response', {}, 'cut', true],
    ['execute_then_status', {}, 503, true],
    ['malformed', {}, 200, true],
  ])('%s', async (kind, details, status, buys) => {
    await vendor.addFault({
      provider: 'vastai',
      endpoint: 'create',
      kind: kind as FaultInput['kind'],
      times: 1,
      ...details,
    });
    const answer = await buy();
    expect(answer === 'cut' ? 'cut' : answer.status).toBe(status);
    const bought = vendor.state().vastai.machines.filter(({ label }) => label === 'test-1');
    expect(bought).toHaveLength(buys ? 1 : 0);
    expect(vendor.state().vastai.purchases['test-1']).toMatchObject({
      calls: 1,
      accepted: buys ? 1 : 0,
      refused: buys ? 0 : 1,
    });
    expect(vendor.listFaults()).toEqual([]);
    expect(await buy()).toMatchObject({ status: 200 });
  });

  it('a stale offer is gone: the same offer cannot be bought on the second try', async () => {
    await vendor.addFault({ provider: 'vastai', endpoint: 'create', kind: 'stale_offer', times: 1 });
    const [offer] = await vendor.search({ ...SINGLE_4090, limit: 1 });
    expect(await buy(offer)).toMatchObject({ status: 410 });
    expect(await buy(offer)).toMatchObject({ status: 410 });
  });

  it.each(['timeout', 'execute_then_timeout'] as const)('%s never answers', async (kind) => {
    await vendor.addFault({ provider: 'vastai', endpoint: 'create', kind });
    const [offer] = await vendor.search({ ...SINGLE_4090, limit: 1 });
    const answer = fetch(`${vendor.urls.vastai}/api/v0/asks/${String(offer!['id'])}/`, {
      method: 'PUT',
      headers: { authorization: 'Bearer sandbox', 'content-type': 'application/json' },
      body: JSON.stringify(ORDER),
      signal: AbortSignal.timeout(300),
    });
    await expect(answer).rejects.toThrow();
    expect(vendor.state().vastai.purchases['test-1']!.accepted).toBe(kind === 'timeout' ? 0 : 1);
  });
});

describe('a lying list', () => {
  it.each<[FaultInput['kind'], (answer: Answer) => void]>([
    [
      'empty',
      ({ body }) =>
        expect(body).toMatchObject({ instances: [], total_instances: 0, label_counts: {}, next_token: null }),
    ],
    ['shrink', ({ body }) => expect(body['instances']).toHaveLength(2)],
    [
      'html',
      ({ status, contentType, text }) =>
        expect([status, contentType, text.slice(0, 15)]).toEqual([200, 'text/html', '<!DOCTYPE html>']),
    ],
    ['malformed', ({ status, text }) => expect([status, isJson(text)]).toEqual([200, false])],
    ['rate_limit', ({ status }) => expect(status).toBe(429)],
    ['status', ({ status }) => expect(status).toBe(503)],
  ])('%s', async (kind, check) => {
    await vendor.rent();
    await vendor.rent();
    await vendor.addFault({ provider: 'vastai', endpoint: 'list', kind, keepShare: 0.5 });
    check(await list());
    vendor.clearFaults();
    expect((await list()).body['instances']).toHaveLength(5);
  });
});

describe('which calls a fault hits', () => {
  it('ends by itself after its time on the sandbox clock', async () => {
    const id = await vendor.rent();
    await vendor.addFault({ provider: 'vastai', endpoint: 'destroy', kind: 'status', forMs: 3_600_000 });
    const destroy = (): Promise<Answer> => vendor.call('DELETE', `/api/v0/instances/${id}/`, {});
    expect((await destroy()).status).toBe(503);
    await vendor.advance(3_599_999);
    expect((await destroy()).status).toBe(503);
    await vendor.advance(1);
    expect((await destroy()).status).toBe(200);
  });

  it('only those that match, by label of the order and of the instance', async () => {
    await vendor.addFault({ provider: 'vastai', endpoint: '*', kind: 'status', match: { labelPrefix: 'bad-' } });
    const good = await vendor.rent({ label: 'good-1' });
    await expect(vendor.rent({ label: 'bad-1' })).rejects.toThrow('503');
    expect(await vendor.read(good)).toMatchObject({ label: 'good-1' });
    await vendor.call('PUT', `/api/v0/instances/${good}/`, { label: 'bad-2' });
    expect((await vendor.call('GET', `/api/v0/instances/${good}/`)).status).toBe(503);
  });

  it('the same share of them for the same seed', async () => {
    const twin = await startVendor();
    const runs = await Promise.all(
      [vendor, twin].map(async (one) => {
        await one.addFault({ provider: 'vastai', endpoint: 'user', kind: 'status', probability: 0.3 });
        const statuses: number[] = [];
        for (let i = 0; i < 60; i++) statuses.push((await one.call('GET', '/api/v0/users/current')).status);
        return statuses;
      }),
    );
    await twin.close();
    expect(runs[0]).toEqual(runs[1]);
    const hits = runs[0]!.filter((status) => status === 503).length;
    expect(hits).toBeGreaterThan(6);
    expect(hits).toBeLessThan(35);
  });

  it('delays the answer and then lets the call through', async () => {
    await vendor.addFault({ provider: 'vastai', endpoint: 'user', kind: 'delay', delayMs: 150 });
    const startMs = performance.now();
    expect((await vendor.call('GET', '/api/v0/users/current')).status).toBe(200);
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(145);
  });
});

describe('keys and rate limits', () => {
  it('a bad key is answered 404 as recorded, or 401 when switched', async () => {
    const recorded = JSON.parse(readFileSync('test/fixtures/vastai/auth-404.json', 'utf8')) as { body: Json };
    for (const headers of [{ authorization: 'Bearer wrong' }, { authorization: '' }]) {
      const answer = await vendor.call('GET', '/api/v0/users/current', undefined, headers);
      expect(answer.status).toBe(404);
      expect(answer.body).toEqual(recorded.body);
    }
    vendor.setSwitches('vastai', { authFailureStatus: 401 });
    expect((await vendor.call('DELETE', '/api/v0/instances/1/', {}, { authorization: 'Bearer no' })).status).toBe(401);
    const byQuery = await vendor.call('GET', '/api/v0/users/current/?api_key=sandbox', undefined, {
      authorization: '',
    });
    expect(byQuery.status).toBe(200);
    const open = await vendor.call('GET', '/api/v0/gpu_names/unique/', undefined, { authorization: '' });
    expect(open.body['gpu_names']).toContain('RTX 4090');
  });

  it('are off, and when switched on space the calls of each endpoint, without Retry-After', async () => {
    const id = await vendor.rent();
    for (let i = 0; i < 5; i++) expect((await vendor.call('GET', `/api/v0/instances/${id}/`)).status).toBe(200);
    vendor.setSwitches('vastai', { rateLimits: 'documented' });
    const read = (): Promise<Answer> => vendor.call('GET', `/api/v0/instances/${id}/`);
    expect((await read()).status).toBe(200);
    const limited = await read();
    expect(limited.status).toBe(429);
    expect(limited.body).toEqual({ detail: 'API requests too frequent endpoint threshold=2.0' });
    expect((await list()).status).toBe(200);
    await vendor.advance(1999);
    expect((await read()).status).toBe(429);
    await vendor.advance(1);
    expect((await read()).status).toBe(200);
    const searches = await Promise.all(Array.from({ length: 12 }, () => vendor.call('POST', '/api/v0/bundles/', {})));
    expect(searches.filter(({ status }) => status === 200)).toHaveLength(10);
  });

  it('can be answered in both recorded forms', async () => {
    vendor.setSwitches('vastai', { rateLimitBody: 'both' });
    await vendor.addFault({ provider: 'vastai', endpoint: 'create', kind: 'rate_limit' });
    const answers = [await buy(), await buy()] as Answer[];
    for (const [index, name] of ['rate-limit-json', 'rate-limit-text'].entries()) {
      const recorded = JSON.parse(readFileSync(`test/fixtures/vastai/${name}.json`, 'utf8')) as {
        body: unknown;
        headers: { 'content-type': string };
      };
      expect(answers[index]!.contentType).toBe(recorded.headers['content-type']);
      expect(typeof recorded.body === 'string' ? answers[index]!.text : answers[index]!.body).toEqual(recorded.body);
    }
  });
});

async function buy(offer?: Json): Promise<Answer | 'cut'> {
  const wanted = offer ?? (await vendor.search({ ...SINGLE_4090, limit: 1 }))[0];
  return vendor.call('PUT', `/api/v0/asks/${String(wanted!['id'])}/`, ORDER).catch(() => 'cut' as const);
}

function list(): Promise<Answer> {
  return vendor.call('GET', '/api/v1/instances/');
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
