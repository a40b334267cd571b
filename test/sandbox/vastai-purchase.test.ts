import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BOOTED_MS, type Json, ORDER, SINGLE_4090, startVendor, type Vendor } from './vendor.ts';

let vendor: Vendor;
beforeEach(async () => {
  vendor = await startVendor();
});
afterEach(() => vendor.close());

describe('a purchase', () => {
  it('answers as recorded, uses the offer up and lists the slot again under another id when released', async () => {
    const [offer] = await vendor.search({ ...SINGLE_4090, limit: 1 });
    const bought = await buy(offer!);
    expect(bought.status).toBe(200);
    expect(Object.keys(bought.body)).toEqual(Object.keys(fixture('create-ok').body));
    expect(await findSlot(offer!)).toBeUndefined();
    await vendor.call('DELETE', `/api/v0/instances/${String(bought.body['new_contract'])}/`, {});
    const again = await findSlot(offer!);
    expect(again).toBeDefined();
    expect(again!['id']).not.toBe(offer!['id']);
  });

  it('of one offer by many buyers at once succeeds for exactly one', async () => {
    const [offer] = await vendor.search({ ...SINGLE_4090, limit: 1 });
    const answers = await Promise.all(Array.from({ length: 20 }, () => buy(offer!)));
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    const lost = answers.find(({ status }) => status !== 200)!;
    const recorded = fixture('create-race-410');
    expect(lost.status).toBe(recorded.status);
    expect(lost.body).toEqual(withId(recorded.body, offer!['id']));
    expect(vendor.state().vastai.purchases['test-1']).toMatchObject({ calls: 20, accepted: 1, refused: 19 });
  });

  it('of an id that never was an offer is answered as recorded', async () => {
    const answer = await vendor.call('PUT', '/api/v0/asks/123/', ORDER);
    const recorded = fixture('create-unknown-404');
    expect(answer.status).toBe(recorded.status);
    expect(answer.body).toEqual(withId(recorded.body, 123));
  });

  it.each([404, 400] as const)('that loses a race can also be answered %i', async (raceStatus) => {
    vendor.setSwitches('vastai', { raceStatus, staleOfferShare: 1 });
    const [offer] = await vendor.search({ ...SINGLE_4090, limit: 1 });
    const answer = await buy(offer!);
    expect(answer.status).toBe(raceStatus);
    expect(answer.text).toContain('no_such_ask');
  });

  it('gives the ids of used offers to other slots later, and never one id to two offers at once', async () => {
    const slotsOfId = new Map<unknown, Set<unknown>>();
    for (let round = 0; round < 30; round++) {
      const [offer] = await vendor.search({ ...SINGLE_4090, order: [['id', 'asc']], limit: 1 });
      slotsOfId.set(offer!['id'], (slotsOfId.get(offer!['id']) ?? new Set()).add(offer!['bundle_id']));
      const bought = await buy(offer!);
      await vendor.call('DELETE', `/api/v0/instances/${String(bought.body['new_contract'])}/`, {});
    }
    expect([...slotsOfId.values()].some((slots) => slots.size > 1)).toBe(true);
    const all = await vendor.search({ limit: 1000 });
    expect(new Set(all.map((offer) => offer['id'])).size).toBe(all.length);
  });
});

describe('what a purchase may say', () => {
  it.each<[string, Json, number, string]>([
    ['a label of 257 characters', { label: 'x'.repeat(257) }, 400, 'label_too_long'],
    ['no image', { image: null }, 400, 'invalid_args'],
    ['a disk below 8 GB', { disk: 7 }, 400, 'invalid_args'],
    ['onstart of 4097 characters', { onstart: 'x'.repeat(4097) }, 400, 'invalid_args'],
    [
      'onstart and args beyond 4096 together',
      { onstart: 'x'.repeat(4000), args: ['y'.repeat(200)] },
      400,
      'invalid_args',
    ],
    ['an environment entry beyond 256', { env: { A: 'x'.repeat(256) } }, 400, 'invalid_args'],
    ['an environment that is a list', { env: ['A=b'] }, 400, 'invalid_args'],
    ['an unknown runtype', { runtype: 'telnet' }, 400, 'invalid_args'],
    ['a price of zero', { price: 0 }, 400, 'invalid_price'],
    ['a price above 128', { price: 129 }, 400, 'invalid_price'],
    ['an unknown target state', { target_state: 'dancing' }, 400, 'invalid_args'],
  ])('%s is refused and buys nothing', async (_name, change, status, error) => {
    const [offer] = await vendor.search({ ...SINGLE_4090, limit: 1 });
    const answer = await buy(offer!, change);
    expect(answer.status).toBe(status);
    expect(answer.body).toMatchObject({ success: false, error });
    expect(await findSlot(offer!)).toBeDefined();
  });

  it('label of 256 characters, the odd runtypes of the official client, and both forms of env', async () => {
    const label = 'x'.repeat(256);
    const object = await vendor.rent({
      label,
      runtype: 'jupyter_direc ssh_direc ssh_proxy',
      env: { FOO: 'bar', '-p 8000:8000': '1' },
    });
    const flags = await vendor.rent({ runtype: 'ssh_direc ssh_proxy', env: '-e FOO=bar -p 8000:8000' });
    await vendor.advance(BOOTED_MS);
    for (const id of [object, flags]) {
      const instance = await vendor.read(id);
      expect(instance['extra_env']).toEqual([
        ['FOO', 'bar'],
        ['-p 8000:8000', '1'],
      ]);
      expect(instance['ports']).toHaveProperty('8000/tcp');
    }
    expect((await vendor.read(object))['label']).toBe(label);
  });

  it('a body that is no JSON or has another content type is refused', async () => {
    const wrongType = await vendor.call('PUT', '/api/v0/asks/9000001/', ORDER, {
      'content-type': 'application/json; charset=utf-8',
    });
    expect(wrongType.status).toBe(400);
    const response = await fetch(`${vendor.urls.vastai}/api/v0/asks/9000001/`, {
      method: 'PUT',
      headers: { authorization: 'Bearer sandbox', 'content-type': 'application/json' },
      body: '{"image":',
    });
    expect(response.status).toBe(400);
  });
});

describe('interruptible purchases', () => {
  it('with a price are bids; without one they are on demand', async () => {
    const [offer] = await vendor.search({ ...SINGLE_4090, type: 'bid', limit: 1 });
    const bid = await buy(offer!, { price: Number(offer!['min_bid']) + 0.05 });
    const instance = await vendor.read(bid.body['new_contract'] as number);
    expect(instance).toMatchObject({ is_bid: true, dph_base: Number((Number(offer!['min_bid']) + 0.05).toFixed(6)) });
    expect(await vendor.read(await vendor.rent())).toMatchObject({ is_bid: false });
  });

  it.each([200, 400] as const)(
    'below the floor leave a stopped machine that bills its disk (answer %i)',
    async (status) => {
      vendor.setSwitches('vastai', { bidTooLowStatus: status });
      const [offer] = await vendor.search({ ...SINGLE_4090, type: 'bid', limit: 1 });
      const answer = await buy(offer!, { price: 0.001, disk: 1000 });
      expect(answer.status).toBe(status);
      const id = answer.body['new_contract'] as number;
      expect(answer.body).toEqual({ ...fixture('create-bid-too-low').body, new_contract: id });
      expect(await vendor.read(id)).toMatchObject({
        actual_status: 'stopped',
        cur_state: 'stopped',
        next_state: 'stopped',
      });
      await vendor.advance(3_600_000);
      const machine = vendor.state().vastai.machines.find((one) => one.id === id)!;
      expect(machine.chargedMicroUsd).toBe(machine.storageMicroUsdPerHour);
      expect(machine.chargedMicroUsd).toBeGreaterThan(0);
    },
  );
});

describe('other ways to buy', () => {
  it('in bulk and by search', async () => {
    const offers = await vendor.search({ ...SINGLE_4090, limit: 2 });
    const bulk = await vendor.call('POST', '/api/v0/asks/bulk/', { ...ORDER, ids: offers.map((offer) => offer['id']) });
    expect(bulk.body['new_contracts']).toHaveLength(2);
    const launched = await vendor.call('PUT', '/api/v0/launch_instance/', {
      ...ORDER,
      q: { ...SINGLE_4090, order: [['dph_total', 'asc']] },
    });
    expect(launched.body).toMatchObject({ success: true });
    expect(vendor.state().vastai.machines.filter(({ origin }) => origin === 'bought')).toHaveLength(3);
  });

  it('without credit nothing can be bought, and what runs is stopped when the credit is used up', async () => {
    const id = await vendor.rent();
    await vendor.advance(BOOTED_MS);
    const { burnMicroUsdPerHour, totalChargedMicroUsd } = vendor.state().vastai;
    vendor.setSwitches('vastai', { creditUsd: (totalChargedMicroUsd + burnMicroUsdPerHour) / 1_000_000 });
    await vendor.advance(3_500_000);
    expect(await vendor.read(id)).toMatchObject({ actual_status: 'running' });
    await vendor.advance(200_000);
    expect(await vendor.read(id)).toMatchObject({ actual_status: 'stopped', intended_status: 'stopped' });
    const [offer] = await vendor.search({ ...SINGLE_4090, limit: 1 });
    expect((await buy(offer!)).body).toMatchObject({ success: false, error: 'missing_billing' });
  });
});

function buy(offer: Json, change: Json = {}): ReturnType<Vendor['call']> {
  return vendor.call('PUT', `/api/v0/asks/${String(offer['id'])}/`, { ...ORDER, ...change });
}

async function findSlot(offer: Json): Promise<Json | undefined> {
  const offers = await vendor.search({ ...SINGLE_4090, verified: { in: [true, false] }, limit: 1000 });
  return offers.find((other) => other['bundle_id'] === offer['bundle_id']);
}

function fixture(name: string): { status: number; body: Json } {
  return JSON.parse(readFileSync(`test/fixtures/vastai/${name}.json`, 'utf8')) as { status: number; body: Json };
}

/** The recorded answer as if it had been about this offer. */
function withId(body: Json, id: unknown): Json {
  const text = JSON.stringify(body).replaceAll(String(body['ask_id']), String(id));
  return JSON.parse(text) as Json;
}
