import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ProviderError } from '../../../domain/provider-error.ts';
import type { Json } from '../../../providers-dynamic/http.ts';
import { classifyVastError } from '../../../providers-dynamic/vastai/errors.ts';
import type { CallKind } from '../../../providers-dynamic/vendor-sender.ts';
import { readInstancePage, readInstanceReply, readOffers } from '../../../providers-dynamic/vastai/wire.ts';

const FOLDER = join(import.meta.dirname, '../../fixtures/vastai');

interface Fixture {
  status: number;
  body: unknown;
}

function fixture(name: string): Fixture {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as Fixture;
}

function instanceRow(name = 'instance-running'): Json {
  return (fixture(name).body as { instances: Json }).instances;
}

function observe(changes: Json = {}, name = 'instance-running') {
  const row = { ...instanceRow(name), ...changes };
  return readInstanceReply({ instances: row }, String(row.id));
}

function errorOf({ status, body }: Fixture, call: CallKind = 'read'): ProviderError {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const json = typeof body === 'string' ? undefined : body;
  return classifyVastError(call, { status, headers: new Headers(), text, json });
}

const isUnbelievable = (error: unknown) => error instanceof ProviderError && error.kind === 'unbelievable';

describe('offers', () => {
  it('are read with prices rounded up to micro-dollars and units made ours', () => {
    const [offer, second] = readOffers(fixture('bundles').body, 40, false);
    expect(offer).toMatchObject({
      providerOfferId: '9000001',
      machineId: '20001',
      gpu: 'RTX 4090',
      gpuMemoryGib: 24,
      priceMicroUsdPerHour: 354_000n,
      pricedDiskGib: 40,
      diskMicroUsdPerGibHour: 209n,
      floorMicroUsdPerHour: 210_000n,
      region: 'SE',
      reliability: 0.9968,
      verified: true,
      memoryGib: 63,
      cudaVersion: '12.8',
    });
    // cpu_cores may be null.
    expect(second).toMatchObject({ gpuCount: 2, cpuCores: 24, memoryGib: 125 });
  });

  it('survive numbers that come as text, and a state that is unknown', () => {
    const [row] = (fixture('bundles').body as { offers: Json[] }).offers;
    const [offer] = readOffers(
      { offers: [{ ...row, num_gpus: '2', reliability2: '0.5', geolocation: ', CN' }] },
      8,
      true,
    );
    expect(offer).toMatchObject({ gpuCount: 2, reliability: 0.5, region: 'CN', interruptible: true });
  });

  it('are an empty array only when the vendor lists none; anything else is no listing', () => {
    expect(readOffers({ offers: [] }, 40, false)).toEqual([]);
    for (const body of [
      undefined,
      null,
      {},
      { offers: null },
      { offers: {} },
      [],
      '<html>',
      { offers: [{ id: 1 }, {}] },
    ]) {
      expect(() => readOffers(body, 40, false)).toThrow(expect.toSatisfy(isUnbelievable));
    }
  });
});

describe('one instance', () => {
  it.each([
    ['instance-running', 'running', { host: '203.0.113.20', port: 41022, user: 'root' }],
    ['instance-loading', 'starting', { host: 'ssh4.vast.ai', port: 30001, user: 'root' }],
    ['instance-null-status', 'starting', { host: 'ssh4.vast.ai', port: 30001, user: 'root' }],
    ['instance-interrupted', 'stopped', { host: 'ssh4.vast.ai', port: 30001, user: 'root' }],
  ])('%s is %s', (name, status, ssh) => {
    expect(observe({}, name)).toMatchObject({ status, ssh, interrupted: name === 'instance-interrupted' });
  });

  it.each([
    [{ actual_status: 'created', status_msg: 'Error: OCI runtime create failed: x' }, 'failed'],
    [{ actual_status: 'exited' }, 'failed'],
    [{ actual_status: 'exited', intended_status: 'stopped' }, 'stopped'],
    [{ actual_status: 'exited', cur_state: 'stopped' }, 'starting'],
    [{ actual_status: null, intended_status: 'stopped' }, 'stopped'],
    [{ actual_status: 'offline' }, 'failed'],
    [{ actual_status: 'frozen' }, 'failed'],
    [{ actual_status: 'rebooting' }, 'starting'],
    [{ actual_status: 'unknown' }, 'unknown'],
    [{ actual_status: 'something new' }, 'unknown'],
  ])('with %j is %s', (changes, status) => {
    expect(observe(changes)?.status).toBe(status);
  });

  it('has its address trimmed, and the proxy port one higher for Jupyter images', () => {
    expect(observe({ public_ipaddr: ' 203.0.113.20 ' })?.ssh?.host).toBe('203.0.113.20');
    expect(observe({ ports: null, image_runtype: 'jupyter_direc ssh_direc ssh_proxy' })?.ssh).toMatchObject({
      port: 30002,
    });
    expect(observe({ ports: null, ssh_host: null })?.ssh).toBeNull();
    expect(observe({ ports: { '22/tcp': [] }, ssh_port: 'x' })?.ssh).toBeNull();
  });

  it('is absent only in the vendor’s own form', () => {
    expect(readInstanceReply(fixture('instance-gone').body, '1')).toBeNull();
    for (const body of [{}, null, '', [], { instances: [] }, { instances: {} }, { instances: { id: 2 } }]) {
      expect(() => readInstanceReply(body, '1')).toThrow(expect.toSatisfy(isUnbelievable));
    }
  });
});

describe('a page of the list', () => {
  it('is read with the vendor’s counts', () => {
    const page = readInstancePage(fixture('list-v1').body);
    expect(page.instances.map((instance) => instance.label)).toEqual(['prov-a-1', 'prov-a-2']);
    expect(page).toMatchObject({
      instancesFound: 2,
      totalInstances: 3,
      labelCounts: { 'prov-a-1': 1, 'prov-a-2': 1, '': 1 },
    });
    expect(page.nextToken).toMatch(/^eyJ/);
  });

  it('is refused as a whole when a row cannot be read', () => {
    for (const body of [null, {}, { instances: null }, { instances: [{}] }, { instances: ['x'] }]) {
      expect(() => readInstancePage(body)).toThrow(expect.toSatisfy(isUnbelievable));
    }
  });
});

describe('an error means', () => {
  it.each<[string, CallKind, string]>([
    ['auth-404', 'read', 'auth'],
    ['auth-404', 'purchase', 'auth'],
    ['create-race-410', 'purchase', 'no_capacity'],
    ['create-unknown-404', 'purchase', 'no_capacity'],
    ['destroy-missing-404', 'write', 'not_found'],
    ['list-v0-410', 'read', 'unbelievable'],
    ['list-v1-bad-filter-400', 'read', 'invalid'],
    ['rate-limit-json', 'read', 'rate_limited'],
    ['rate-limit-text', 'write', 'rate_limited'],
    ['rate-limit-json', 'purchase', 'unknown'],
    ['rate-limit-text', 'purchase', 'unknown'],
  ])('%s at a %s: %s', (name, call, kind) => {
    expect(errorOf(fixture(name), call).kind).toBe(kind);
  });

  it('a machine to destroy, when a refused purchase names one, whatever the status', () => {
    for (const status of [200, 400, 500]) {
      const error = errorOf({ ...fixture('create-bid-too-low'), status }, 'purchase');
      expect(error).toMatchObject({ kind: 'no_capacity', createdInstanceId: '27000002' });
    }
  });

  it('the vendor’s threshold as the time to wait', () => {
    expect(errorOf(fixture('rate-limit-json')).retryAfterMs).toBe(4500);
    expect(errorOf(fixture('rate-limit-text')).retryAfterMs).toBeUndefined();
  });

  it.each<[number, unknown, CallKind, string]>([
    [400, { error: 'no_such_ask', msg: 'x' }, 'purchase', 'no_capacity'],
    [401, { success: false, error: 'auth_error', msg: 'Invalid user key' }, 'read', 'auth'],
    [401, { msg: 'Two Factor Authentication required' }, 'read', 'auth'],
    [404, 'Session expired. Please log in again.', 'read', 'auth'],
    [404, '<html>Not Found</html>', 'read', 'unbelievable'],
    [404, '<html>Not Found</html>', 'purchase', 'unknown'],
    [404, { success: false, error: 'not_found', msg: 'Instance 123 not found.' }, 'read', 'not_found'],
    [400, { success: false, error: 'missing_billing', msg: 'x' }, 'purchase', 'billing'],
    [400, { success: false, error: 'spend_rate_limit', msg: 'x' }, 'purchase', 'billing'],
    [400, { success: false, error: 'invalid_price', msg: 'x' }, 'purchase', 'invalid'],
    [400, { success: false, error: 'label_too_long', msg: 'x' }, 'write', 'invalid'],
    [403, { success: false, error: 'invalid_args', msg: 'not your own machine' }, 'purchase', 'invalid'],
    [400, { success: false, error: 'server_error', msg: 'Something went wrong on the server' }, 'purchase', 'invalid'],
    [500, { success: false, error: 'server_error', msg: 'Something went wrong on the server' }, 'purchase', 'unknown'],
    [502, '<html>Bad Gateway</html>', 'read', 'retryable'],
    [502, '<html>Bad Gateway</html>', 'purchase', 'unknown'],
    [503, '<html>Bad Gateway</html>', 'write', 'unknown'],
    [200, { success: false, msg: 'something new' }, 'purchase', 'unknown'],
    [200, '<html>maintenance</html>', 'read', 'unbelievable'],
    [302, '', 'read', 'unbelievable'],
    [410, '', 'read', 'unbelievable'],
    [410, '', 'purchase', 'unknown'],
  ])('%i %j at a %s: %s', (status, body, call, kind) => {
    expect(errorOf({ status, body }, call).kind).toBe(kind);
  });

  it('never "gone" or "no capacity", unless the vendor says so in its own words', () => {
    const believable = new Set(['destroy-missing-404', 'create-race-410', 'create-unknown-404', 'create-bid-too-low']);
    const others = readdirSync(FOLDER)
      .map((file) => file.replace('.json', ''))
      .filter((name) => !believable.has(name));
    for (const name of others) {
      const { kind } = errorOf(fixture(name), 'read');
      expect([name, kind]).not.toEqual([name, expect.stringMatching(/not_found|no_capacity/)]);
    }
  });

  it('a short line for people, without markup', () => {
    const { message } = errorOf({ status: 502, body: `<html><body>${'long '.repeat(500)}</body></html>` });
    expect(message.length).toBeLessThan(350);
    expect(message).not.toContain('<');
  });
});
