import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isSameGpuModel } from '../../../domain/gpu-model.ts';
import { ProviderError } from '../../../domain/provider-error.ts';
import type { Json } from '../../../providers-dynamic/http.ts';
import { classifyLambdaError } from '../../../providers-dynamic/lambda/errors.ts';
import type { CallKind } from '../../../providers-dynamic/vendor-sender.ts';
import { readGpuModel } from '../../../providers-dynamic/lambda/gpu-names.ts';
import { readOfferId } from '../../../providers-dynamic/lambda/offer-id.ts';
import { countryOf } from '../../../providers-dynamic/lambda/regions.ts';
import {
  namesTerminated,
  readAccountKeys,
  readInstancePage,
  readInstanceReply,
  readLaunchedId,
  readOffers,
} from '../../../providers-dynamic/lambda/wire.ts';
import { INSTANCE_TYPES, REGIONS } from '../../../sandbox/lambda/catalog.ts';

const FOLDER = join(import.meta.dirname, '../../fixtures/lambda');
const CALLS: CallKind[] = ['read', 'write', 'purchase'];

interface Fixture {
  status: number;
  headers: Record<string, string>;
  body: Json;
}

function fixture(name: string): Fixture {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as Fixture;
}

function activeRow(): Json {
  return (fixture('instances').body.data as Json[])[0] as Json;
}

function observe(changes: Json = {}, row = activeRow()) {
  return readInstanceReply({ data: { ...row, ...changes } }, String(row.id));
}

function errorOf(answer: { status: number; headers?: Record<string, string>; body: unknown }, call: CallKind) {
  const { status, headers, body } = answer;
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const json = typeof body === 'string' ? undefined : body;
  return classifyLambdaError(call, { status, headers: new Headers(headers), text, json });
}

const refusal = (status: number, code: string) => ({ status, body: { error: { code, message: 'Because.' } } });
const unbelievable = expect.objectContaining({ name: 'ProviderError', kind: 'unbelievable' });

describe('instance types', () => {
  it('become an offer for each region that has capacity, priced exactly from cents', () => {
    const offers = readOffers(fixture('instance-types').body);
    expect(offers).toHaveLength(1);
    expect(offers[0]).toMatchObject({
      provider: 'lambda',
      providerOfferId: 'gpu_1x_a10@us-west-1',
      machineId: null,
      gpu: 'A10',
      gpuCount: 1,
      gpuMemoryGib: 24,
      priceMicroUsdPerHour: 750_000n,
      pricedDiskGib: 1400,
      diskGib: 1400,
      diskMicroUsdPerGibHour: 0n,
      interruptible: false,
      floorMicroUsdPerHour: null,
      region: 'US',
      location: 'California, USA',
      cpuCores: 30,
      memoryGib: 200,
      stock: null,
      confidence: 0.7,
    });
    expect(readOfferId('gpu_1x_a10@us-west-1')).toEqual({ typeName: 'gpu_1x_a10', regionName: 'us-west-1' });
  });

  it('leave out what has no GPU, and what lacks a price or a name', () => {
    const { data } = fixture('instance-types').body as { data: Record<string, Json> };
    const item = data.gpu_1x_a10 as Json;
    const type = item.instance_type as Json;
    const listed = (changes: Json) =>
      readOffers({ data: { one: { ...item, instance_type: { ...type, ...changes } } } });
    expect(listed({})).toHaveLength(1);
    expect(listed({ specs: { ...(type.specs as Json), gpus: 0 } })).toEqual([]);
    expect(listed({ gpu_description: 'N/A' })).toEqual([]);
    expect(listed({ price_cents_per_hour: 74.5 })).toEqual([]);
    expect(listed({ price_cents_per_hour: 0 })).toEqual([]);
    expect(listed({ name: '' })).toEqual([]);
    expect(listed({ specs: undefined })).toEqual([]);
    expect(listed({ architecture: 'arm64' })).toHaveLength(1);
  });

  it.each<[string, unknown]>([
    ['no data', {}],
    ['a list', { data: [] }],
    ['an item of another shape', { data: { gpu_1x_a10: { name: 'gpu_1x_a10' } } }],
    ['an error', fixture('err-404').body],
  ])('are not believed with %s', (_name, body) => {
    expect(() => readOffers(body)).toThrow(unbelievable);
  });
});

describe('names of GPUs', () => {
  it.each([
    ['A10 (24 GB PCIe)', 'A10', 24],
    ['H100 (80 GB SXM5)', 'H100 SXM', 80],
    ['H100 (80 GB PCIe)', 'H100 PCIE', 80],
    ['A100 (40 GB SXM4)', 'A100 SXM4', 40],
    ['A100 (40 GB PCIe)', 'A100 PCIE', 40],
    ['A6000 (48 GB)', 'RTX A6000', 48],
    ['Tesla V100 (16 GB)', 'Tesla V100', 16],
    ['RTX 6000 (24 GB)', 'Q RTX 6000', 24],
    ['GH200 (96 GB)', 'GH200', 96],
    ['B200 (180 GB SXM6)', 'B200', 180],
    ['NVIDIA GeForce RTX 4090', 'RTX 4090', null],
  ])('%s is the %s', (description, gpu, memoryGib) => {
    expect(readGpuModel(description)).toEqual({ gpu, memoryGib });
  });

  it('agree with what the driver of such a machine says', () => {
    for (const { gpuDescription, gpu } of INSTANCE_TYPES.values()) {
      if (gpu === null) continue;
      const promised = readGpuModel(gpuDescription)?.gpu ?? '';
      expect(isSameGpuModel(promised, gpu.smiName), `${promised} is ${gpu.smiName}`).toBe(true);
    }
    expect(readGpuModel('N/A')).toBeNull();
    expect(readGpuModel('')).toBeNull();
  });
});

describe('regions', () => {
  it('are countries, every one that the schema has', () => {
    for (const region of Object.keys(REGIONS)) expect(countryOf(region, null)).toMatch(/^[A-Z]{2}$/);
  });

  it('are read by their description when they are new, or unknown', () => {
    expect(countryOf('canada-east-1', 'Quebec, Canada')).toBe('CA');
    expect(countryOf('moon-1', 'Mare Tranquillitatis')).toBeNull();
    expect(countryOf('', null)).toBeNull();
  });
});

describe('instances', () => {
  it('are read with address, price and the label of the tag', () => {
    expect(observe()).toMatchObject({
      provider: 'lambda',
      providerInstanceId: '0920582c7ff041399e34823a0be62549',
      label: 'prov-a-1',
      status: 'running',
      statusDetail: 'active',
      gpu: 'A10',
      gpuCount: 1,
      gpuMemoryGib: 24,
      priceMicroUsdPerHour: 750_000n,
      interruptible: false,
      interrupted: false,
      ssh: { host: '198.51.100.2', port: 22, user: 'ubuntu' },
      region: 'US',
    });
    const tags = [{ key: 'muster-label', value: 'from-the-tag' }];
    expect(observe({ tags })).toMatchObject({ label: 'from-the-tag' });
    expect(observe({ tags, name: 'renamed-at-the-console' })).toMatchObject({ label: 'from-the-tag' });
    expect(observe({ name: undefined })).toMatchObject({ label: null });
  });

  it('have no address while they boot, and cannot be terminated yet', () => {
    const row = fixture('instance-booting').body.data as Json;
    const booting = observe({}, row);
    expect(booting).toMatchObject({ status: 'starting', ssh: null, terminateRefusal: 'vm-has-not-launched' });
    expect(observe()).toMatchObject({ terminateRefusal: null });
  });

  it.each([
    ['booting', { status: 'starting' }],
    ['active', { status: 'running' }],
    ['unhealthy', { status: 'failed' }],
    ['preempted', { status: 'stopped', interrupted: true }],
    ['terminating', { status: 'stopped', isTerminating: true, isGone: false }],
    ['terminated', { status: 'stopped', isGone: true }],
    ['something-new', { status: 'unknown', isGone: false }],
  ])('in status %s are %o', (status, expected) => {
    expect(observe({ status })).toMatchObject(expected);
  });

  it('take the port of a tag that says one, and 22 for nonsense', () => {
    const portOf = (value: unknown) => observe({ tags: [{ key: 'ssh-port', value }] }).ssh?.port;
    expect(portOf('2222')).toBe(2222);
    for (const nonsense of ['', 'x', '0', '70000', '1.5', 22]) expect(portOf(nonsense)).toBe(22);
  });

  it('survive what is missing, and are not believed without id or status, or as another one', () => {
    const bare = { id: 'a', status: 'active' };
    expect(readInstanceReply({ data: bare }, 'a')).toMatchObject({
      label: null,
      gpu: null,
      gpuCount: null,
      priceMicroUsdPerHour: null,
      ssh: null,
      region: null,
    });
    for (const data of [{ id: 'a' }, { status: 'active' }, null, [], 'text', { id: 7, status: 'active' }])
      expect(() => readInstanceReply({ data }, 'a')).toThrow(unbelievable);
    expect(() => readInstanceReply({ data: bare }, 'b')).toThrow(unbelievable);
  });

  it('come in one page, or in several where a token says so', () => {
    const { body } = fixture('instances');
    expect(readInstancePage(body)).toMatchObject({ instances: [{}], nextToken: null });
    expect(readInstancePage({ ...body, page_token: null }).nextToken).toBeNull();
    expect(readInstancePage({ ...body, page_token: 'next' }).nextToken).toBe('next');
    for (const data of [undefined, null, {}, 'text']) expect(() => readInstancePage({ data })).toThrow(unbelievable);
    expect(() => readInstancePage({ data: [{ id: 'half' }] })).toThrow(unbelievable);
  });
});

describe('answers to launch, terminate and keys', () => {
  it('name the launched instance, or nothing that can be relied on', () => {
    expect(readLaunchedId(fixture('launch-ok').body)).toBe('0920582c7ff041399e34823a0be62549');
    for (const ids of [[], ['a', 'b'], [7], undefined])
      expect(readLaunchedId({ data: { instance_ids: ids } })).toBeNull();
    expect(readLaunchedId(undefined)).toBeNull();
  });

  it('name what is terminated, or nothing although it worked', () => {
    const id = '0920582c7ff041399e34823a0be62549';
    expect(namesTerminated(fixture('terminate-ok').body, id)).toBe(true);
    expect(namesTerminated(fixture('terminate-ok').body, 'another')).toBe(false);
    expect(namesTerminated(fixture('terminate-empty').body, id)).toBe(false);
    expect(namesTerminated(undefined, id)).toBe(false);
  });

  it('list whole keys only', () => {
    const key = { id: 'a', name: 'laptop', public_key: 'ssh-ed25519 AAAA' };
    expect(readAccountKeys({ data: [key] })).toEqual([{ id: 'a', name: 'laptop', publicKey: 'ssh-ed25519 AAAA' }]);
    expect(() => readAccountKeys({ data: [{ ...key, public_key: null }] })).toThrow(unbelievable);
    expect(() => readAccountKeys({ data: {} })).toThrow(unbelievable);
  });
});

describe('refusals', () => {
  it.each([
    ['err-auth-401', ['auth', 'auth', 'auth']],
    ['err-404', ['not_found', 'not_found', 'retryable']],
    ['err-capacity-400', ['no_capacity', 'no_capacity', 'no_capacity']],
    ['err-quota-400', ['billing', 'billing', 'billing']],
  ])('%s for reads, writes and launches', (name, kinds) => {
    expect(CALLS.map((call) => errorOf(fixture(name), call).kind)).toEqual(kinds);
  });

  it.each([
    [refusal(403, 'global/account-inactive'), ['auth', 'auth', 'billing']],
    [refusal(403, 'global/invalid-address'), ['auth', 'auth', 'billing']],
    [refusal(400, 'global/invalid-parameters'), ['invalid', 'invalid', 'invalid']],
    [refusal(400, 'global/duplicate'), ['invalid', 'invalid', 'invalid']],
    [refusal(400, 'instance-operations/launch/file-system-in-wrong-region'), ['invalid', 'invalid', 'invalid']],
    [refusal(429, 'global/too-many-requests'), ['rate_limited', 'rate_limited', 'unknown']],
    [{ status: 429, body: 'slow down' }, ['rate_limited', 'rate_limited', 'unknown']],
    [refusal(500, 'global/internal-error'), ['retryable', 'unknown', 'unknown']],
    [refusal(503, 'provider/internal-unavailable'), ['retryable', 'unknown', 'unknown']],
    [{ status: 401, body: {} }, ['auth', 'auth', 'auth']],
    [{ status: 404, body: '<html>not here</html>' }, ['unbelievable', 'unbelievable', 'unknown']],
    [{ status: 404, body: {} }, ['unbelievable', 'unbelievable', 'unknown']],
    [{ status: 301, body: '' }, ['unbelievable', 'unbelievable', 'unknown']],
    [{ status: 200, body: '<html>hello</html>' }, ['unbelievable', 'unbelievable', 'unknown']],
    [refusal(418, 'global/teapot'), ['unbelievable', 'unbelievable', 'unknown']],
  ])('%o for reads, writes and launches', (answer, kinds) => {
    expect(CALLS.map((call) => errorOf(answer, call).kind)).toEqual(kinds);
  });

  it('show the vendor’s words, shortened, and how long to stay away', () => {
    expect(errorOf(fixture('err-capacity-400'), 'purchase').message).toBe(
      'Lambda answered 400: instance-operations/launch/insufficient-capacity: Not enough capacity to fulfill launch request.',
    );
    expect(errorOf({ status: 502, body: `<html>${'x'.repeat(999)}</html>` }, 'read').message.length).toBeLessThan(350);
    expect(errorOf(refusal(429, 'global/too-many-requests'), 'purchase').retryAfterMs).toBe(12_000);
    expect(errorOf(refusal(429, 'global/too-many-requests'), 'read').retryAfterMs).toBeUndefined();
    const headers = { 'retry-after': '7' };
    expect(errorOf({ ...refusal(429, 'global/too-many-requests'), headers }, 'read').retryAfterMs).toBe(7_000);
  });
});

it('an offer that is none of ours is refused before anything is sent', () => {
  for (const id of ['', 'gpu_1x_a10', '@us-west-1', '../x@y', 'a@b@c', 'A b@c']) {
    expect(() => readOfferId(id)).toThrow(ProviderError);
  }
});
