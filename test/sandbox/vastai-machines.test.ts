import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FaultInput } from '../../sandbox/faults.ts';
import type { MachineReport } from '../../sandbox/vastai/report.ts';
import { BOOTED_MS, type Json, ORDER, SINGLE_4090, startVendor, type Vendor } from './vendor.ts';

let vendor: Vendor;
beforeEach(async () => {
  vendor = await startVendor();
});
afterEach(() => vendor.close());

describe('a boot', () => {
  it('goes null, created, loading, running, with ports only when running', async () => {
    const id = await vendor.rent();
    const seen: unknown[] = [];
    for (let i = 0; i < 100 && seen.at(-1) !== 'running'; i++) {
      const instance = await vendor.read(id);
      if (seen.at(-1) !== instance['actual_status'] || seen.length === 0) seen.push(instance['actual_status']);
      expect('ports' in instance).toBe(instance['actual_status'] === 'running');
      expect(instance).toMatchObject({ intended_status: 'running', cur_state: 'running', next_state: 'running' });
      await vendor.advance(100);
    }
    expect(seen).toEqual([null, 'created', 'loading', 'running']);
  });

  it('has the recorded fields in every state', async () => {
    const id = await vendor.rent();
    for (const name of ['instance-null-status', 'instance-loading', 'instance-running']) {
      const recorded = (fixture(name).body['instances'] ?? {}) as Json;
      for (let i = 0; i < 100; i++) {
        if ((await vendor.read(id))['actual_status'] === recorded['actual_status']) break;
        await vendor.advance(100);
      }
      const instance = await vendor.read(id);
      expect(instance['actual_status'], name).toBe(recorded['actual_status']);
      expect(Object.keys(instance), name).toEqual(expect.arrayContaining(Object.keys(recorded)));
    }
  });

  it('takes 2 to 8 seconds, and the same for the same seed', async () => {
    const twin = await startVendor();
    for (const one of [vendor, twin]) for (let i = 0; i < 10; i++) await one.rent();
    const times = [await bootTimes(vendor), await bootTimes(twin)];
    await twin.close();
    expect(times[0]).toEqual(times[1]);
    expect(Math.min(...times[0]!)).toBeGreaterThanOrEqual(2000);
    expect(Math.max(...times[0]!)).toBeLessThanOrEqual(8100);
    expect(new Set(times[0]).size).toBeGreaterThan(1);
  });

  it('can be slow, and can fail with the message of the container runtime', async () => {
    await vendor.addFault({ provider: 'vastai', endpoint: 'machine', kind: 'slow_boot', factor: 10, times: 1 });
    const slow = await vendor.rent();
    await vendor.addFault({ provider: 'vastai', endpoint: 'machine', kind: 'failed_boot', times: 1 });
    const failed = await vendor.rent();
    const good = await vendor.rent();
    await vendor.advance(BOOTED_MS);
    expect(await vendor.read(good)).toMatchObject({ actual_status: 'running' });
    expect((await vendor.read(slow))['actual_status']).not.toBe('running');
    expect(await vendor.read(failed)).toMatchObject({
      actual_status: 'created',
      status_msg: expect.stringContaining(': OCI runtime create failed:') as string,
    });
    await vendor.advance(100_000);
    expect(await vendor.read(slow)).toMatchObject({ actual_status: 'running' });
    expect(await vendor.read(failed)).toMatchObject({ actual_status: 'created' });
  });
});

describe('stop and start', () => {
  it('give the GPU back and boot again on it', async () => {
    const id = await bootedRental();
    const offersBefore = vendor.state().vastai.offersListed;
    expect((await change(id, { state: 'stopped' })).body).toEqual({ success: true });
    await vendor.advance(2000);
    expect(await vendor.read(id)).toMatchObject({
      actual_status: 'stopped',
      cur_state: 'stopped',
      next_state: 'stopped',
    });
    expect(vendor.state().vastai.offersListed).toBe(offersBefore + 1);
    await change(id, { state: 'running' });
    await vendor.advance(BOOTED_MS);
    expect(await vendor.read(id)).toMatchObject({ actual_status: 'running', cur_state: 'running' });
    expect(vendor.state().vastai.offersListed).toBe(offersBefore);
  });

  it('hang in scheduling when somebody took the GPU, until it is free again', async () => {
    const id = await bootedRental();
    const { machine_id } = await vendor.read(id);
    await change(id, { state: 'stopped' });
    await vendor.advance(2000);
    const [offer] = await vendor.search({ machine_id: { eq: machine_id } });
    const rival = await vendor.call('PUT', `/api/v0/asks/${String(offer!['id'])}/`, ORDER);
    await change(id, { state: 'running' });
    await vendor.advance(3_600_000);
    expect(await vendor.read(id)).toMatchObject({
      cur_state: 'stopped',
      next_state: 'running',
      intended_status: 'running',
    });
    await vendor.call('DELETE', `/api/v0/instances/${String(rival.body['new_contract'])}/`, {});
    await vendor.advance(BOOTED_MS);
    expect(await vendor.read(id)).toMatchObject({ actual_status: 'running' });
  });

  it('in bulk, reboot and recycle work', async () => {
    const ids = [await bootedRental(), await bootedRental()];
    await vendor.call('PUT', '/api/v0/instances/', { state: 'stopped', ids });
    await vendor.advance(2000);
    for (const id of ids) expect(await vendor.read(id)).toMatchObject({ actual_status: 'stopped' });
    await vendor.call('PUT', '/api/v0/instances/', { state: 'running', ids });
    await vendor.advance(BOOTED_MS);
    for (const [verb, status] of [
      ['reboot', 'rebooting'],
      ['recycle', 'created'],
    ] as const) {
      await vendor.call('PUT', `/api/v0/instances/${verb}/${ids[0]}/`, {});
      expect(await vendor.read(ids[0]!)).toMatchObject({ actual_status: status });
      await vendor.advance(BOOTED_MS);
      expect(await vendor.read(ids[0]!)).toMatchObject({ actual_status: 'running' });
    }
    await vendor.call('DELETE', '/api/v0/instances/', { instance_ids: ids });
    for (const id of ids) expect(await vendor.read(id)).toBeNull();
  });
});

describe('destroy and label', () => {
  it('destroyed is null on read, 404 on everything else, as recorded', async () => {
    const id = await bootedRental();
    const destroyed = await vendor.call('DELETE', `/api/v0/instances/${id}/`, {});
    expect(destroyed.body).toEqual(fixture('destroy-ok').body);
    const gone = await vendor.call('GET', `/api/v0/instances/${id}/?owner=me`);
    expect(gone.status).toBe(200);
    expect(gone.body).toEqual(fixture('instance-gone').body);
    const missing = fixture('destroy-missing-404');
    const again = await vendor.call('DELETE', `/api/v0/instances/${id}/`, {});
    expect(again.status).toBe(missing.status);
    expect(again.body).toEqual({ ...missing.body, msg: `Instance ${id} not found.` });
    expect((await change(id, { label: 'x' })).status).toBe(404);
  });

  it('labels may have 1024 characters later on', async () => {
    const id = await vendor.rent();
    expect((await change(id, { label: 'x'.repeat(1024) })).status).toBe(200);
    expect((await vendor.read(id))['label']).toHaveLength(1024);
    const tooLong = await change(id, { label: 'x'.repeat(1025) });
    expect(tooLong.status).toBe(400);
    expect(tooLong.body).toMatchObject({ error: 'label_too_long' });
  });

  it('an expired contract is stopped, and gone 48 hours later', async () => {
    const id = await bootedRental();
    const { end_date } = await vendor.read(id);
    await vendor.advance(Number(end_date) * 1000 - vendor.now());
    expect(await vendor.read(id)).toMatchObject({ actual_status: 'stopped' });
    await vendor.advance(48 * 3_600_000);
    expect(await vendor.read(id)).toBeNull();
  });
});

describe('interruptible machines', () => {
  it('are stopped when outbid, as recorded, and come back with a higher bid', async () => {
    const id = await bootedBid();
    await vendor.addFault(fault('outbid', id));
    const recorded = fixture('instance-interrupted').body['instances'] as Json;
    const { actual_status, intended_status, cur_state, next_state } = recorded;
    const instance = await vendor.read(id);
    expect(instance).toMatchObject({ actual_status, intended_status, cur_state, next_state, is_bid: true });
    const tooLow = Number(instance['min_bid']) - 0.01;
    await bid(id, { price: tooLow });
    await vendor.advance(BOOTED_MS);
    expect(await vendor.read(id)).toMatchObject({ actual_status: 'exited' });
    await bid(id, { price: Number(instance['min_bid']) });
    await vendor.advance(BOOTED_MS);
    expect(await vendor.read(id)).toMatchObject({ actual_status: 'running', cur_state: 'running' });
  });

  it('take the winning bid when no price is named, and refuse nonsense', async () => {
    const id = await bootedBid();
    await vendor.addFault(fault('outbid', id));
    expect((await bid(id, {})).body).toEqual({ success: true });
    await vendor.advance(BOOTED_MS);
    expect(await vendor.read(id)).toMatchObject({ actual_status: 'running' });
    expect((await bid(id, { price: 0 })).body).toMatchObject({ msg: 'Please set a bid price >= 0.001.' });
    expect((await bid(id, { price: 33 })).status).toBe(400);
    expect((await bid(await vendor.rent(), { price: 0.5 })).status).toBe(400);
  });
});

describe('a machine that switches itself off', () => {
  it('is stopped, and its disk is billed on', async () => {
    const id = await bootedRental();
    await vendor.addFault(fault('power_off', id));
    await vendor.advance(BOOTED_MS);
    expect(await vendor.read(id)).toMatchObject({ cur_state: 'stopped' });
    const before = report(id).chargedMicroUsd;
    await vendor.advance(3_600_000);
    expect(report(id).chargedMicroUsd).toBeGreaterThan(before);
  });
});

describe('a lost host', () => {
  it('is offline and bills nothing, until it returns', async () => {
    const id = await bootedRental();
    await vendor.addFault(fault('host_loss', id));
    expect(await vendor.read(id)).toMatchObject({ actual_status: 'offline', intended_status: 'running' });
    const before = report(id).chargedMicroUsd;
    await vendor.advance(3_600_000);
    expect(report(id).chargedMicroUsd).toBe(before);
    await vendor.addFault(fault('host_return', id));
    await vendor.advance(BOOTED_MS);
    expect(await vendor.read(id)).toMatchObject({ actual_status: 'running' });
    await vendor.advance(3_600_000);
    expect(report(id).chargedMicroUsd).toBeGreaterThan(before);
  });

  it('can be planned for machines that are bought later', async () => {
    await vendor.addFault({
      provider: 'vastai',
      endpoint: 'machine',
      kind: 'host_loss',
      delayMs: 60_000,
      match: { labelPrefix: 'doomed' },
    });
    const doomed = await vendor.rent({ label: 'doomed-1' });
    const safe = await vendor.rent({ label: 'safe-1' });
    await vendor.advance(BOOTED_MS);
    expect(await vendor.read(doomed)).toMatchObject({ actual_status: 'running' });
    await vendor.advance(60_000);
    expect(await vendor.read(doomed)).toMatchObject({ actual_status: 'offline' });
    expect(await vendor.read(safe)).toMatchObject({ actual_status: 'running' });
  });
});

describe('the bill', () => {
  it('is the GPU while it runs and the disk always, to the micro-USD', async () => {
    const id = await vendor.rent();
    await vendor.advance(BOOTED_MS);
    const { uptime_mins } = await vendor.read(id);
    const { gpuMicroUsdPerHour: gpu, storageMicroUsdPerHour: disk, createdAtMs } = report(id);
    await vendor.advance(3_600_000);
    const runMs = Math.round(Number(uptime_mins) * 60_000) + 3_600_000;
    const lifeMs = vendor.now() - createdAtMs;
    expect(report(id).chargedMicroUsd).toBe(Math.floor((gpu * runMs + disk * lifeMs) / 3_600_000));
    await change(id, { state: 'stopped' });
    await vendor.advance(2000);
    const stopped = report(id).chargedMicroUsd;
    await vendor.advance(3_600_000);
    expect(report(id).chargedMicroUsd).toBe(stopped + disk);
    await vendor.call('DELETE', `/api/v0/instances/${id}/`, {});
    const final = report(id).chargedMicroUsd;
    await vendor.advance(3_600_000);
    expect(report(id).chargedMicroUsd).toBe(final);
    const user = await vendor.call('GET', '/api/v0/users/current');
    expect(user.body['credit']).toBeCloseTo(10_000 - vendor.state().vastai.totalChargedMicroUsd / 1_000_000, 6);
  });
});

describe('machines that are not ours', () => {
  it('are there from the start, and again after a reset', async () => {
    const labels = (): string[] => vendor.state().vastai.machines.map(({ label }) => label);
    const first = labels();
    expect(first).toHaveLength(3);
    await vendor.rent();
    await vendor.reset();
    expect(labels()).toEqual(first);
    expect(
      vendor.state().vastai.machines.every(({ origin, changeCalls }) => origin === 'foreign' && changeCalls === 0),
    ).toBe(true);
  });

  it('whoever touches them is counted', async () => {
    const { id } = vendor.state().vastai.machines[0]!;
    await vendor.read(id);
    expect(report(id).changeCalls).toBe(0);
    await change(id, { label: 'mine' });
    await vendor.call('DELETE', `/api/v0/instances/${id}/`, {});
    expect(report(id).changeCalls).toBe(2);
  });
});

async function bootedRental(): Promise<number> {
  const id = await vendor.rent();
  await vendor.advance(BOOTED_MS);
  return id;
}

async function bootedBid(): Promise<number> {
  const [offer] = await vendor.search({ ...SINGLE_4090, type: 'bid', limit: 1 });
  const order = { ...ORDER, price: Number(offer!['min_bid']) };
  const answer = await vendor.call('PUT', `/api/v0/asks/${String(offer!['id'])}/`, order);
  await vendor.advance(BOOTED_MS);
  return answer.body['new_contract'] as number;
}

async function bootTimes(one: Vendor): Promise<number[]> {
  const startMs = one.now();
  const times = new Map<number, number>();
  for (let i = 0; i < 90; i++) {
    for (const machine of one.state().vastai.machines) {
      const isNew = machine.origin === 'bought' && machine.actualStatus === 'running' && !times.has(machine.id);
      if (isNew) times.set(machine.id, one.now() - startMs);
    }
    await one.advance(100);
  }
  return [...times.values()];
}

function report(id: number): MachineReport {
  return vendor.state().vastai.machines.find((machine) => machine.id === id)!;
}

function change(id: number, body: Json): ReturnType<Vendor['call']> {
  return vendor.call('PUT', `/api/v0/instances/${id}/`, body);
}

function bid(id: number, body: Json): ReturnType<Vendor['call']> {
  return vendor.call('PUT', `/api/v0/instances/bid_price/${id}/`, { client_id: 'me', ...body });
}

function fault(kind: FaultInput['kind'], instanceId: number): FaultInput {
  return { provider: 'vastai', endpoint: 'machine', kind, match: { instanceId } };
}

function fixture(name: string): { status: number; body: Json } {
  return JSON.parse(readFileSync(`test/fixtures/vastai/${name}.json`, 'utf8')) as { status: number; body: Json };
}
