import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isSameGpuModel } from '../../../domain/gpu-model.ts';
import { ProviderError } from '../../../domain/provider-error.ts';
import type { Json } from '../../../providers-dynamic/http.ts';
import { catalogueQuery, readCatalogue, readOfferId } from '../../../providers-dynamic/runpod/catalogue.ts';
import { countryOfDataCenter } from '../../../providers-dynamic/runpod/data-centers.ts';
import { classifyRunpodError } from '../../../providers-dynamic/runpod/errors.ts';
import type { CallKind } from '../../../providers-dynamic/vendor-sender.ts';
import { canonicalGpuName } from '../../../providers-dynamic/runpod/gpu-names.ts';
import { waitOfHeaders, waitOfRefusal } from '../../../providers-dynamic/runpod/rate-limits.ts';
import { isTerminated, readPodList, readPodReply } from '../../../providers-dynamic/runpod/wire.ts';

const FOLDER = join(import.meta.dirname, '../../fixtures/runpod');
const CALLS: CallKind[] = ['read', 'write', 'purchase'];

interface Fixture {
  status: number;
  headers: Record<string, string>;
  body: Json;
}

function fixture(name: string): Fixture {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as Fixture;
}

function runningPod(): Json {
  return (fixture('pods-list').body.pods as Json[])[0] as Json;
}

function observe(changes: Json = {}, row: Json = runningPod()) {
  return readPodReply({ ...row, ...changes }, String(row.id));
}

function errorOf(
  { status, headers, body }: { status: number; headers?: Record<string, string>; body: unknown },
  call: CallKind,
) {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const json = typeof body === 'string' ? undefined : body;
  return classifyRunpodError(call, { status, headers: new Headers(headers), text, json });
}

const refusal = (status: number, detail: string) => ({ status, body: { title: 'Refused', status, detail } });
const isUnbelievable = (error: unknown) => error instanceof ProviderError && error.kind === 'unbelievable';
const thrownBy = (work: () => unknown): unknown => {
  try {
    work();
  } catch (error) {
    return error;
  }
  return null;
};

describe('the catalogue', () => {
  it('becomes an offer for each data center with stock and each count that fits a machine', () => {
    const offers = readCatalogue(fixture('gpus').body, {});
    expect(offers.map((offer) => offer.providerOfferId)).toEqual([
      'EU-RO-1/1/NVIDIA GeForce RTX 4090',
      'US-KS-2/1/NVIDIA GeForce RTX 4090',
      'EU-RO-1/2/NVIDIA GeForce RTX 4090',
      'US-KS-2/2/NVIDIA GeForce RTX 4090',
      'EU-RO-1/4/NVIDIA GeForce RTX 4090',
      'US-KS-2/4/NVIDIA GeForce RTX 4090',
      '*/1/NVIDIA H100 80GB HBM3',
      '*/2/NVIDIA H100 80GB HBM3',
      '*/4/NVIDIA H100 80GB HBM3',
      '*/8/NVIDIA H100 80GB HBM3',
    ]);
    // 0.69 and 40 GB at 0.10 dollars for 720 hours, each gigabyte rounded up.
    expect(offers[0]).toMatchObject({
      gpu: 'RTX 4090',
      gpuCount: 1,
      gpuMemoryGib: 24,
      priceMicroUsdPerHour: 690_000n + 40n * 139n,
      pricedDiskGib: 40,
      diskMicroUsdPerGibHour: 139n,
      floorMicroUsdPerHour: null,
      interruptible: false,
      region: 'RO',
      location: 'EU Romania 1',
      machineId: null,
      stock: null,
      confidence: 0.8,
      cudaVersion: '12.8',
      verified: true,
    });
    expect(offers[2]).toMatchObject({ gpuCount: 2, priceMicroUsdPerHour: 1_380_000n + 40n * 139n });
    expect(offers.at(-1)).toMatchObject({ gpu: 'H100 SXM', region: null, location: null, cudaVersion: null });
  });

  it('is believed by the word for the stock, and less for another count than the one asked for', () => {
    const confidence = (query = {}) =>
      Object.fromEntries(
        readCatalogue(fixture('gpus').body, query).map((offer) => [offer.providerOfferId, offer.confidence]),
      );
    expect(confidence()).toMatchObject({
      'EU-RO-1/1/NVIDIA GeForce RTX 4090': 0.8,
      'US-KS-2/1/NVIDIA GeForce RTX 4090': 0.32,
      'EU-RO-1/4/NVIDIA GeForce RTX 4090': 0.6,
      '*/1/NVIDIA H100 80GB HBM3': 0.6,
    });
    expect(confidence({ gpuCount: 4 })).toMatchObject({ 'EU-RO-1/4/NVIDIA GeForce RTX 4090': 0.8 });
  });

  it('is asked for pods on the secure cloud, with the count of the query', () => {
    expect(catalogueQuery({})).toBe('include=AVAILABILITY&product=POD&cloud=SECURE&count=1');
    expect(catalogueQuery({ gpuCount: 8 })).toMatch(/count=8$/);
  });

  it('is filtered by GPU in any spelling, by count, price and number, and has nothing interruptible', () => {
    const { body } = fixture('gpus');
    expect(readCatalogue(body, { gpu: 'h100_sxm', gpuCount: 3 })).toMatchObject([{ gpuCount: 3, gpu: 'H100 SXM' }]);
    expect(readCatalogue(body, { gpu: 'NVIDIA GeForce RTX 4090', maxPriceMicroUsdPerHour: 700_000n })).toHaveLength(2);
    expect(readCatalogue(body, { limit: 3 })).toHaveLength(3);
    expect(readCatalogue(body, { interruptible: true })).toEqual([]);
  });

  it('with most types unreadable is not believed, with one of many it is', () => {
    const { gpus } = fixture('gpus').body as { gpus: Json[] };
    expect(readCatalogue({ gpus: [...gpus, { id: 'odd' }] }, {})).toHaveLength(10);
    for (const body of [{}, [], null, { gpus: 'none' }, { gpus: [...gpus, ...gpus.map(() => ({ id: 'odd' })), 7] }])
      expect(isUnbelievable(thrownBy(() => readCatalogue(body, {}))), JSON.stringify(body)).toBe(true);
    expect(readCatalogue({ gpus: [] }, {})).toEqual([]);
  });

  it('gives ids that say all a purchase needs', () => {
    expect(readOfferId('EU-RO-1/2/NVIDIA GeForce RTX 4090')).toEqual({
      dataCenterId: 'EU-RO-1',
      gpuCount: 2,
      gpuTypeId: 'NVIDIA GeForce RTX 4090',
    });
    expect(readOfferId('*/1/a/b')).toEqual({ dataCenterId: null, gpuCount: 1, gpuTypeId: 'a/b' });
    for (const id of ['', '1', 'EU-RO-1/x/y', 'EU RO/1/y', 'EU-RO-1/1/'])
      expect(thrownBy(() => readOfferId(id))).toMatchObject({ kind: 'invalid' });
  });
});

describe('names', () => {
  it.each([
    ['NVIDIA GeForce RTX 4090', 'RTX 4090'],
    ['NVIDIA H100 80GB HBM3', 'H100 SXM'],
    ['NVIDIA A100 80GB PCIe', 'A100 PCIE'],
    ['NVIDIA A100-SXM4-80GB', 'A100 SXM4'],
    ['NVIDIA RTX 6000 Ada Generation', 'RTX 6000Ada'],
    ['NVIDIA H200', 'H200'],
    ['Tesla V100-SXM2-16GB', 'Tesla V100'],
  ])('of %s are ours, and the driver’s', (id, ours) => {
    expect(canonicalGpuName(id)).toBe(ours);
    expect(isSameGpuModel(ours, id)).toBe(true);
  });

  it('of types we do not know are the vendor’s without the brand', () => {
    expect(canonicalGpuName('NVIDIA Future 9000', 'NVIDIA  Future 9000')).toBe('Future 9000');
  });

  it('of data centers tell the country, or nothing', () => {
    const ids = ['EU-RO-1', 'US-KS-2', 'CA-MTL-1', 'EUR-IS-2', 'AP-JP-1', 'OC-AU-1', 'MOON-1', 'EU-XYZ-1', ''];
    expect(ids.map(countryOfDataCenter)).toEqual(['RO', 'US', 'CA', 'IS', 'JP', 'AU', null, null, null]);
  });
});

describe('pods', () => {
  it('are read with their direct address and their price with storage', () => {
    expect(readPodList(fixture('pods-list').body)).toEqual([
      {
        provider: 'runpod',
        providerInstanceId: 'abc123xyz456',
        label: 'prov-a-1',
        status: 'running',
        statusDetail: 'RUNNING',
        machineId: null,
        gpu: 'RTX 4090',
        gpuCount: 1,
        gpuMemoryGib: null,
        // 50 GB of disk and 20 of volume.
        priceMicroUsdPerHour: 690_000n + 70n * 139n,
        interruptible: null,
        interrupted: false,
        ssh: { host: '203.0.113.60', port: 10341, user: 'root' },
        image: 'runpod/pytorch:2.8.0-py3.11-cuda12.8.1-cudnn-devel-ubuntu22.04',
        region: 'RO',
        startedAt: '2026-08-20T10:00:00.000Z',
      },
    ]);
  });

  it('have every status of the vendor, and an unknown one is no absence', () => {
    const statuses = ['PROVISIONING', 'STARTING', 'RUNNING', 'EXITED', 'ERROR', 'TERMINATED', 'SOMETHING_NEW'];
    expect(statuses.map((status) => observe({ status }).status)).toEqual([
      'starting',
      'starting',
      'running',
      'stopped',
      'failed',
      'failed',
      'unknown',
    ]);
    expect(statuses.filter((status) => isTerminated(observe({ status })))).toEqual(['TERMINATED']);
  });

  it('that provision have no address and bill already; stopped ones bill their volume only, at twice the price', () => {
    expect(observe({}, fixture('pod-provisioning').body)).toMatchObject({
      status: 'starting',
      ssh: null,
      region: null,
      priceMicroUsdPerHour: 690_000n + 70n * 139n,
    });
    expect(observe({}, fixture('pod-exited').body)).toMatchObject({
      status: 'stopped',
      ssh: null,
      priceMicroUsdPerHour: 20n * 278n,
    });
    expect(observe({ status: 'EXITED', cost: 0, mounts: {} }).priceMicroUsdPerHour).toBe(0n);
    expect(observe({ cost: '0.69' }).priceMicroUsdPerHour).toBeNull();
  });

  it('are reached directly only while they run, never through the proxy', () => {
    const { ssh, runtime } = runningPod() as { ssh: Json; runtime: Json };
    expect(observe({ status: 'EXITED' }).ssh).toBeNull();
    expect(observe({ ssh: { ...ssh, direct: null } }).ssh).toMatchObject({ port: 10341 });
    const without = { ssh: { ...ssh, direct: null }, runtime: { ...runtime, ports: [] } };
    expect(observe(without)).toMatchObject({ ssh: null, statusDetail: expect.stringMatching(/no public port/) });
    const unmapped = { private: 22, public: null, type: 'tcp', ip: null };
    expect(observe({ ...without, runtime: { ...runtime, ports: [unmapped] } }).ssh).toBeNull();
    expect(observe({ ...without, runtime: null }).ssh).toBeNull();
  });

  it('that came up without their GPUs are seen, and a report that is empty says nothing', () => {
    const gpu = { id: 'NVIDIA GeForce RTX 4090', count: 2 };
    const runtime = runningPod().runtime as Json;
    expect(observe({ gpu, runtime: { ...runtime, gpus: [] } }).gpuCount).toBe(2);
    expect(observe({ gpu, runtime: { ...runtime, gpus: [{ util: 0 }] } }).gpuCount).toBe(1);
    expect(observe({ gpu, runtime: { ...runtime, gpus: [{}, {}, {}] } }).gpuCount).toBe(2);
    for (const without of [{ gpu: { ...gpu, count: 0 } }, { gpu: null }]) {
      expect(observe(without)).toMatchObject({ gpuCount: 0, statusDetail: 'RUNNING without a GPU' });
    }
    const { gpu: _gpu, ...cpuPod } = runningPod();
    expect(observe({ cpu: { id: 'cpu5c' } }, cpuPod)).toMatchObject({
      gpu: null,
      gpuCount: 0,
      statusDetail: 'RUNNING',
    });
    expect(observe({}, cpuPod)).toMatchObject({ gpu: null, gpuCount: null });
  });

  it('are a list only whole: a hole, a double, the old API’s bare array or a page of HTML are not believed', () => {
    const pod = runningPod();
    const { id: _id, ...nameless } = pod;
    const { status: _status, ...stateless } = pod;
    for (const body of [
      { pods: [pod, nameless] },
      { pods: [stateless] },
      { pods: [pod, pod] },
      { pods: [null] },
      [pod],
      {},
      null,
    ])
      expect(isUnbelievable(thrownBy(() => readPodList(body))), JSON.stringify(body).slice(0, 40)).toBe(true);
    expect(readPodList({ pods: [] })).toEqual([]);
    expect(isUnbelievable(thrownBy(() => readPodReply(pod, 'another')))).toBe(true);
  });
});

describe('refusals', () => {
  it.each([
    ['err-400-capacity', { purchase: 'no_capacity', write: 'no_capacity', read: 'no_capacity' }],
    ['err-401', { purchase: 'auth', write: 'auth', read: 'auth' }],
    ['err-404', { purchase: 'invalid', write: 'not_found', read: 'not_found' }],
    ['err-409', { purchase: 'unknown', write: 'retryable', read: 'retryable' }],
    ['err-422', { purchase: 'invalid', write: 'invalid', read: 'invalid' }],
    ['err-429', { purchase: 'unknown', write: 'rate_limited', read: 'rate_limited' }],
  ])('%s mean what the caller should do next', (name, kinds) => {
    const found = Object.fromEntries(CALLS.map((call) => [call, errorOf(fixture(name), call).kind]));
    expect(found).toEqual(kinds);
  });

  it('of a purchase with 400 are no capacity, unless the words speak of the request itself', () => {
    const kindOf = (detail: string) => errorOf(refusal(400, detail), 'purchase').kind;
    for (const detail of [
      'There are not enough free GPUs on the host machine to start this pod.',
      'this GPU and data center combination could not be placed',
      'GPU type not supported in data center EU-RO-1',
      'request could not be processed',
      'something the vendor never said before',
      'a machine with 8 GPUs must be available',
    ])
      expect(kindOf(detail), detail).toBe('no_capacity');
    for (const detail of [
      'exactly one of gpu or cpu must be set',
      'mounts.persistent and mounts.network are mutually exclusive',
      'request body is malformed JSON',
      'image is required unless templateId is set',
    ])
      expect(kindOf(detail), detail).toBe('invalid');
    expect(errorOf(refusal(400, 'clearing mounts is not supported'), 'write').kind).toBe('invalid');
  });

  it.each([
    [402, { purchase: 'billing', write: 'billing', read: 'billing' }],
    [403, { purchase: 'no_capacity', write: 'auth', read: 'auth' }],
    [405, { purchase: 'invalid', write: 'unbelievable', read: 'unbelievable' }],
    [418, { purchase: 'unknown', write: 'unbelievable', read: 'unbelievable' }],
    [500, { purchase: 'unknown', write: 'unknown', read: 'retryable' }],
    [503, { purchase: 'unknown', write: 'unknown', read: 'retryable' }],
  ])('with %i mean what the caller should do next', (status, kinds) => {
    const answer = refusal(status, 'words');
    expect(Object.fromEntries(CALLS.map((call) => [call, errorOf(answer, call).kind]))).toEqual(kinds);
  });

  it('are definite only in the vendor’s own form', () => {
    const pages = [
      { status: 404, body: '<html>not found</html>' },
      { status: 404, body: { message: 'pod not found' } },
      { status: 400, body: { title: 'Bad Request', status: 502, detail: 'no capacity' } },
      { status: 403, body: '<html>blocked</html>' },
      { status: 302, body: '' },
      { status: 200, body: '<html>maintenance</html>' },
    ];
    for (const page of pages) {
      expect(errorOf(page, 'purchase').kind, JSON.stringify(page)).toBe('unknown');
      expect(errorOf(page, 'read').kind, JSON.stringify(page)).toBe('unbelievable');
    }
  });

  it('of a path that is not there are no absence of a pod', () => {
    expect(errorOf(refusal(404, 'The requested Pod does not exist.'), 'read').kind).toBe('not_found');
    expect(errorOf(refusal(404, 'resource not found'), 'read').kind).toBe('not_found');
    expect(errorOf(refusal(404, 'no route for GET /v2/pod'), 'read').kind).toBe('unbelievable');
    expect(errorOf(refusal(404, 'template not found'), 'read').kind).toBe('unbelievable');
  });

  it('show the vendor’s words and every violation, shortened', () => {
    expect(errorOf(fixture('err-422'), 'purchase').message).toMatch(
      /422: Request validation failed.; \$: additional .*bogus/,
    );
    expect(errorOf({ status: 502, body: `<p>${'x'.repeat(900)}</p>` }, 'read').message.length).toBeLessThan(350);
    expect(errorOf({ status: 502, body: '' }, 'read').message).toMatch(/502: nothing/);
  });
});

describe('rate limits', () => {
  const waitOf = (ratelimit: string) => waitOfHeaders(new Headers({ ratelimit }));

  it('are waited out until every used-up window begins again', () => {
    expect(waitOf('"minute";r=58;t=43')).toBe(0);
    expect(waitOf('"minute";r=0;t=12, "hour";r=2800;t=1812, "day";r=49500;t=45012')).toBe(12_000);
    expect(waitOf('"minute";r=0;t=12, "hour";r=0;t=1812')).toBe(1_812_000);
    expect(waitOf('"day";r=0;t=45012')).toBe(3_600_000);
    expect(waitOf('nonsense')).toBe(0);
    expect(waitOfHeaders(new Headers())).toBe(0);
  });

  it('of a 429 are as long as the vendor says, by either header', () => {
    expect(errorOf(fixture('err-429'), 'read').retryAfterMs).toBe(12_000);
    expect(waitOfRefusal(new Headers({ 'retry-after': '3' }))).toBe(3_000);
    expect(waitOfRefusal(new Headers({ 'retry-after': '3', ratelimit: '"minute";r=0;t=9' }))).toBe(9_000);
    expect(waitOfRefusal(new Headers({ 'retry-after': 'Wed, 21 Oct 2026 07:28:00 GMT' }))).toBeUndefined();
    expect(waitOfRefusal(new Headers())).toBeUndefined();
  });
});
