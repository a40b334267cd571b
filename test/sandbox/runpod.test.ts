/** The simulated RunPod at its wire: what its contract says, and what its switches make of it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { probeSsh } from '../../automation/readiness/probe-ssh.ts';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import { SSH_KEY } from '../support/ssh-machine.ts';

type Json = Record<string, unknown>;

const RTX_4090 = 'NVIDIA GeForce RTX 4090';
const ORDER = { name: 'test-1', image: 'runpod/pytorch:2.8.0', gpu: { id: RTX_4090 }, ports: ['22/tcp'] };
const BOOTED_MS = 10_000;

let sandbox: Sandbox;
beforeAll(async () => {
  sandbox = await startSandbox({ dir: null, port: 0, time: 'explicit' });
});
afterAll(() => sandbox?.close());
beforeEach(() => sandbox.reset());

interface Answer {
  status: number;
  headers: Headers;
  body: Json;
}

async function call(
  method: string,
  path: string,
  body?: unknown,
  key = 'sandbox',
  url = sandbox.urls.runpod,
): Promise<Answer> {
  const response = await fetch(url + path, {
    method,
    headers: { ...(key === '' ? {} : { authorization: `Bearer ${key}` }), 'content-type': 'application/json' },
    body: body === undefined ? null : typeof body === 'string' ? body : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: text === '' ? {} : (JSON.parse(text) as Json) };
}

async function rent(extra: Json = {}): Promise<string> {
  const answer = await call('POST', '/v2/pods', { ...ORDER, ...extra });
  if (answer.status !== 201) throw new Error(`not rented: ${JSON.stringify(answer.body)}`);
  return String(answer.body['id']);
}

const read = async (id: string): Promise<Json> => (await call('GET', `/v2/pods/${id}`)).body;
const act = (id: string, action: string): Promise<Answer> => call('POST', `/v2/pods/${id}/action`, { action });
const list = async (query = ''): Promise<Json[]> => (await call('GET', `/v2/pods${query}`)).body['pods'] as Json[];
const set = (changes: Json): void => sandbox.setSwitches('runpod', changes);
const refusal = (status: number, detail: RegExp) => ({
  status,
  body: { status, detail: expect.stringMatching(detail) },
});

describe('refusals', () => {
  it('are problem documents, and a key is asked for', async () => {
    const answer = await call('GET', '/v2/pods', undefined, '');
    expect(answer).toMatchObject({
      status: 401,
      body: { title: 'Unauthorized', status: 401, detail: 'missing bearer token' },
    });
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
    expect(await call('GET', '/v2/pods', undefined, 'wrong')).toMatchObject({ status: 401 });
  });

  it('of a method name the methods that are allowed', async () => {
    const answer = await call('PUT', '/v2/pods');
    expect(answer.status).toBe(405);
    expect(answer.headers.get('allow')).toBe('GET, POST');
    expect(await call('GET', '/v1/pods')).toMatchObject({ status: 404 });
    expect(await call('POST', '/graphql', { query: '{}' })).toMatchObject({ status: 404 });
  });

  it.each<[string, Json, string]>([
    ['an unknown property', { ...ORDER, bogus: 1 }, "$: additional properties 'bogus' not allowed"],
    ['one within', { ...ORDER, gpu: { id: RTX_4090, bogus: 1 } }, "$.gpu: additional properties 'bogus' not allowed"],
    ['a missing name', { ...ORDER, name: undefined }, '$.name: '],
    ['an empty name', { ...ORDER, name: '' }, '$.name: '],
    ['a wrong type', { ...ORDER, disk: '50' }, '$.disk: '],
    ['a missing image', { ...ORDER, image: undefined }, "$: missing property 'image'"],
  ])('of a body with %s are 422 with the place', async (_what, body, violation) => {
    const answer = await call('POST', '/v2/pods', body);
    expect(answer.status).toBe(422);
    expect(answer.body['errors']).toEqual([expect.stringContaining(violation)]);
  });

  it.each<[string, Json | string, RegExp]>([
    ['neither GPU nor CPU', { ...ORDER, gpu: undefined }, /exactly one of/],
    [
      'two kinds of mounts',
      { ...ORDER, mounts: { persistent: { size: 10, path: '/a' }, network: [] } },
      /mutually exclusive/,
    ],
    [
      'two ways to name CUDA',
      { ...ORDER, gpu: { id: RTX_4090, minCudaVersion: '12.1', allowedCudaVersions: ['12.8'] } },
      /mutually/,
    ],
    ['no JSON', '{', /malformed/],
    ['a GPU that nobody has', { ...ORDER, gpu: { id: 'none' } }, /no longer any instances/],
    ['more GPUs than a machine has', { ...ORDER, gpu: { id: RTX_4090, count: 9 } }, /no longer any instances/],
  ])('of an order with %s are 400 without a code', async (_what, body, detail) => {
    expect(await call('POST', '/v2/pods', body)).toMatchObject(refusal(400, detail));
  });
});

describe('a pod', () => {
  it('has the states, actions, addresses and costs of the vendor', async () => {
    const made = await call('POST', '/v2/pods', { ...ORDER, mounts: { persistent: { size: 20, path: '/w' } } });
    expect(made).toMatchObject({
      status: 201,
      body: {
        status: 'PROVISIONING',
        actions: ['stop', 'terminate'],
        cost: 0.69,
        dataCenterId: null,
        runtime: null,
        startedAt: null,
      },
    });
    const id = String(made.body['id']);
    expect(await act(id, 'start')).toMatchObject(refusal(409, /not valid/));
    await sandbox.advance(BOOTED_MS);
    const running = await read(id);
    expect(running).toMatchObject({
      status: 'RUNNING',
      actions: ['stop', 'restart', 'terminate'],
      ssh: { proxy: { host: 'ssh.runpod.io' }, direct: { host: '127.0.0.1', username: 'root' } },
      runtime: { ports: [{ private: 22, type: 'tcp', ip: '127.0.0.1' }] },
    });
    expect(await act(id, 'stop')).toMatchObject({
      status: 200,
      body: { status: 'EXITED', actions: ['start', 'terminate'] },
    });
    await sandbox.advance(BOOTED_MS);
    expect(await read(id)).toMatchObject({
      cost: 0,
      runtime: null,
      ssh: { proxy: null, direct: null },
      startedAt: running['startedAt'],
    });
    // A stopped pod costs its volume only, 20 GB at 0.20 dollars.
    const report = () => sandbox.state().runpod.machines.find((machine) => machine.id === id)!;
    const before = report().chargedMicroUsd;
    await sandbox.advance(3_600_000);
    expect(report().chargedMicroUsd - before).toBe(5_555);
    expect(await act(id, 'start')).toMatchObject({ status: 200, body: { status: 'STARTING' } });
    await sandbox.advance(BOOTED_MS);
    expect(await act(id, 'terminate')).toMatchObject({ status: 204 });
    expect(await call('GET', `/v2/pods/${id}`)).toMatchObject(refusal(404, /pod not found/));
    expect(await call('DELETE', `/v2/pods/${id}`)).toMatchObject({ status: 404 });
  });

  it('gets another public port with every start', async () => {
    const id = await rent();
    const portOf = async () => ((await read(id))['ssh'] as { direct: { port: number } }).direct.port;
    await sandbox.advance(BOOTED_MS);
    const first = await portOf();
    await act(id, 'restart');
    await sandbox.advance(BOOTED_MS);
    expect(await portOf()).not.toBe(first);
  });

  it('lets in the keys of its environment, or with startSsh those of the account', async () => {
    expect(await call('PUT', '/v2/account/ssh-keys', { keys: ['nonsense'] })).toMatchObject({ status: 422 });
    await call('PUT', '/v2/account/ssh-keys', { keys: [SSH_KEY.public] });
    const ids = [
      await rent({ startSsh: true }),
      await rent({ env: { PUBLIC_KEY: `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'B'.repeat(43)}\n${SSH_KEY.public}` } }),
      await rent(),
    ];
    set({ imagesWithoutSshd: '^bare/' });
    ids.push(await rent({ image: 'bare/image', startSsh: true }));
    await sandbox.advance(BOOTED_MS);
    const probes = [];
    for (const id of ids) {
      const { port } = ((await read(id))['ssh'] as { direct: { port: number } }).direct;
      const probe = await probeSsh({ host: '127.0.0.1', port, user: 'root' }, SSH_KEY.private, 5_000);
      probes.push(probe.authenticated);
    }
    expect(probes).toEqual([true, true, false, false]);
  });

  it('shows nvidia-smi no GPU when it started again without, whatever the wire says', async () => {
    for (const zeroGpuRestart of ['shown', 'hidden'] as const) {
      const id = await rent({ env: { PUBLIC_KEY: SSH_KEY.public } });
      await sandbox.advance(BOOTED_MS);
      await act(id, 'stop');
      await sandbox.advance(BOOTED_MS);
      set({ zeroGpuRestart });
      await act(id, 'start');
      await sandbox.advance(BOOTED_MS);
      const pod = await read(id);
      expect(pod['gpu']).toMatchObject({ count: zeroGpuRestart === 'shown' ? 0 : 1 });
      const { port } = (pod['ssh'] as { direct: { port: number } }).direct;
      const probe = await probeSsh({ host: '127.0.0.1', port, user: 'root' }, SSH_KEY.private, 5_000);
      expect(probe.gpus ?? []).toEqual([]);
      set({ zeroGpuRestart: 'off' });
    }
  });

  it('of a cluster is listed only when asked for, and changed only through the cluster', async () => {
    const id = String(
      await sandbox.placeMachine('runpod', { label: 'cluster-a', origin: 'foreign', isStopped: false }),
    );
    expect((await list()).map((pod) => pod['id'])).not.toContain(id);
    const shown = (await list('?includeClusterPods=true')).find((pod) => pod['id'] === id);
    expect(shown).toMatchObject({ cluster: { rank: 0 } });
    for (const answer of [
      await call('DELETE', `/v2/pods/${id}`),
      await call('PATCH', `/v2/pods/${id}`, { name: 'b' }),
      await act(id, 'stop'),
    ])
      expect(answer).toMatchObject(refusal(409, /cluster/));
    expect(await call('GET', '/v2/pods?includeClusterPods=maybe')).toMatchObject({ status: 422 });
  });

  it('that is locked can be neither stopped nor terminated', async () => {
    const id = await rent();
    await sandbox.advance(BOOTED_MS);
    expect(await call('PATCH', `/v2/pods/${id}`, { locked: true, env: { A: 'b' } })).toMatchObject({
      status: 200,
      body: { locked: true, env: { A: 'b' }, name: 'test-1' },
    });
    expect(await act(id, 'stop')).toMatchObject(refusal(409, /locked/));
    expect(await call('DELETE', `/v2/pods/${id}`)).toMatchObject(refusal(409, /locked/));
    await call('PATCH', `/v2/pods/${id}`, { locked: false });
    expect(await call('DELETE', `/v2/pods/${id}`)).toMatchObject({ status: 204 });
  });

  it('whose boot fails is in ERROR, and whose host is lost is what the switch says', async () => {
    await sandbox.addFault({
      provider: 'runpod',
      endpoint: 'machine',
      kind: 'failed_boot',
      match: { label: 'test-1' },
    });
    const failed = await rent();
    await sandbox.advance(BOOTED_MS);
    expect(await read(failed)).toMatchObject({ status: 'ERROR', actions: ['start', 'terminate'] });
    const lost = await rent({ name: 'test-2' });
    await sandbox.advance(BOOTED_MS);
    await sandbox.addFault({ provider: 'runpod', endpoint: 'machine', kind: 'host_loss', match: { instanceId: lost } });
    await sandbox.advance(1_000);
    expect(await read(lost)).toMatchObject({ status: 'EXITED', runtime: null });
    set({ hostLossStatus: 'RUNNING' });
    expect(await read(lost)).toMatchObject({ status: 'RUNNING', runtime: null, ssh: { direct: null } });
  });
});

describe('the catalogue', () => {
  const gpus = async (query: string) => (await call('GET', `/v2/catalog/gpus?${query}`)).body['gpus'] as Json[];
  const find = (types: Json[], id = RTX_4090) => types.find((type) => type['id'] === id)!;

  it('tells the stock only when asked, for a product', async () => {
    expect(find(await gpus(''))).not.toHaveProperty('availability');
    expect(await call('GET', '/v2/catalog/gpus?include=AVAILABILITY')).toMatchObject(refusal(400, /product/));
    expect(await call('GET', '/v2/catalog/gpus?count=2')).toMatchObject(refusal(400, /count is valid only with/));
    expect(find(await gpus('include=AVAILABILITY&product=POD'))).toMatchObject({
      price: { secure: 0.69, community: 0.34 },
      availability: 'HIGH',
      dataCenters: expect.arrayContaining([expect.objectContaining({ id: 'EU-RO-1' })]),
    });
  });

  it('follows what is rented, what is asked for and what runs out', async () => {
    const query = 'include=AVAILABILITY&product=POD';
    expect(find(await gpus(`${query}&count=16`))).toMatchObject({ availability: 'NONE' });
    expect(find(await gpus(`${query}&count=16`))).not.toHaveProperty('dataCenters');
    expect((find(await gpus(`${query}&countryCodes=RO`))['dataCenters'] as Json[]).map((place) => place['id'])).toEqual(
      ['EU-RO-1'],
    );
    expect(find(await gpus(`${query}&cloud=COMMUNITY`))).not.toHaveProperty('dataCenters');
    set({ drought: ['RTX 4090'], priceFactor: 2 });
    expect(find(await gpus(query))).toMatchObject({ availability: 'NONE', price: { secure: 1.38 } });
    expect(await call('POST', '/v2/pods', ORDER)).toMatchObject({ status: 400 });
    set({ drought: [] });
    const order = { ...ORDER, dataCenterIds: ['EU-RO-1'] };
    let bought = 0;
    while ((await call('POST', '/v2/pods', order)).status === 201) bought++;
    expect(bought).toBeGreaterThan(2);
    const places = find(await gpus(query))['dataCenters'] as Json[];
    expect(places.map((place) => place['id'])).not.toContain('EU-RO-1');
    expect(sandbox.state().runpod.purchases['test-1']).toMatchObject({ accepted: bought, refused: 2 });
  });

  it('has data centers with their GPUs, and single types', async () => {
    const { body } = await call('GET', '/v2/catalog/datacenters?include=GPU_AVAILABILITY&regions=ASIA');
    expect(body['dataCenters']).toMatchObject([{ id: 'AP-JP-1', region: 'ASIA', gpuAvailability: expect.any(Array) }]);
    expect(await call('GET', `/v2/catalog/gpus/${encodeURIComponent(RTX_4090)}`)).toMatchObject({
      body: { memory: 24 },
    });
    expect(await call('GET', '/v2/catalog/gpus/none')).toMatchObject({ status: 404 });
  });
});

describe('the account', () => {
  it('is told its quotas in every answer, and to wait when one is used up', async () => {
    expect((await call('GET', '/v2/pods')).headers.get('ratelimit')).toBeNull();
    set({ rateLimits: 'documented' });
    const first = await call('GET', '/v2/pods/none');
    expect(first.headers.get('ratelimit')).toMatch(/^"minute";r=59;t=60, "hour";r=2999;t=3600, "day";r=49999;t=86400$/);
    expect(first.headers.get('ratelimit-policy')).toBe(
      '"minute";q=60;w=60, "hour";q=3000;w=3600, "day";q=50000;w=86400',
    );
    for (let i = 0; i < 59; i++) await call('GET', '/v2/pods');
    await sandbox.advance(20_000);
    const refused = await call('GET', '/v2/pods');
    expect(refused).toMatchObject(refusal(429, /minute window/));
    expect(refused.headers.get('retry-after')).toBe('40');
    await sandbox.advance(40_000);
    expect(await call('GET', '/v2/pods')).toMatchObject({ status: 200 });
  });

  it('that is out of money buys nothing, and its pods are stopped', async () => {
    const id = await rent();
    await sandbox.advance(3_600_000);
    set({ creditUsd: 0.5 });
    expect(await call('POST', '/v2/pods', ORDER)).toMatchObject(refusal(402, /balance/));
    expect(await read(id)).toMatchObject({ status: 'EXITED' });
  });
});

it('remembers pods, keys and what is sold out over a restart', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'sandbox-runpod-'));
  try {
    let own = await startSandbox({ dir, port: 0, time: 'explicit' });
    const at = (method: string, path: string, body?: unknown) => call(method, path, body, 'sandbox', own.urls.runpod);
    await at('PUT', '/v2/account/ssh-keys', { keys: [SSH_KEY.public] });
    const { body: made } = await at('POST', '/v2/pods', { ...ORDER, dataCenterIds: ['EU-RO-1'], startSsh: true });
    await own.advance(BOOTED_MS);
    await own.addFault({ provider: 'runpod', endpoint: 'create', kind: 'stale_offer', times: 1 });
    expect(await at('POST', '/v2/pods', { ...ORDER, dataCenterIds: ['EU-RO-1'] })).toMatchObject({ status: 400 });
    const before = (await at('GET', `/v2/pods/${String(made['id'])}`)).body;
    await own.close();
    own = await startSandbox({ dir, port: 0, time: 'explicit' });
    expect((await at('GET', `/v2/pods/${String(made['id'])}`)).body).toEqual(before);
    expect((await at('GET', '/v2/account/ssh-keys')).body).toEqual({ keys: [SSH_KEY.public] });
    expect(await at('POST', '/v2/pods', { ...ORDER, dataCenterIds: ['EU-RO-1'] })).toMatchObject({ status: 400 });
    expect(own.state().runpod.purchases['test-1']).toMatchObject({ calls: 3, accepted: 1, refused: 2 });
    await own.close();
  } finally {
    rmSync(dir, { recursive: true });
  }
});
