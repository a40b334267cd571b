/** What is particular to RunPod; what all providers must do is in ../contract.test.ts. */
import { spawnSync } from 'node:child_process';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ProviderError } from '../../../domain/provider-error.ts';
import type { Offer } from '../../../domain/offer.ts';
import type { ProviderClient, PurchaseOrder, RateLimiter } from '../../../providers-dynamic/provider-client.ts';
import { createRateLimiter } from '../../../providers-dynamic/rate-limiter.ts';
import { createRunpodClient } from '../../../providers-dynamic/runpod/client.ts';
import { startSandbox, type Sandbox } from '../../../sandbox/server.ts';
import { cut, reply, silence, startScriptedServer, type ScriptedServer } from '../../support/http-script.ts';

const KEY = 'a-key-that-stays-secret';
const LABEL = 'muster-test-a';
const OFFER = 'EU-RO-1/1/NVIDIA GeForce RTX 4090';
const PUBLIC_KEY = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)} one`;
const OTHER_KEY = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'B'.repeat(43)} two`;
const BOOTED_MS = 10_000;

function connect(
  baseUrl: string,
  apiKey: string,
  limiter: RateLimiter = createRateLimiter({}),
  requestTimeoutMs = 5_000,
) {
  return createRunpodClient({ apiKey, baseUrl, requestTimeoutMs }, limiter);
}

function orderFor(providerOfferId: string, changes: Partial<PurchaseOrder> = {}): PurchaseOrder {
  return {
    providerOfferId,
    label: LABEL,
    image: 'an/image:1',
    diskGib: 40,
    env: { TOKEN: 'env-value-that-stays-secret' },
    onStart: null,
    interruptible: false,
    bidMicroUsdPerHour: null,
    sshPublicKeys: [PUBLIC_KEY],
    ...changes,
  };
}

async function errorOf(work: Promise<unknown>): Promise<ProviderError> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ProviderError)) throw new Error(`no ProviderError but ${String(error)}`);
  return error;
}

describe('the client against the sandbox', () => {
  let sandbox: Sandbox;
  let client: ProviderClient;

  beforeAll(async () => {
    sandbox = await startSandbox({ dir: null, port: 0, time: 'explicit' });
  });
  afterAll(() => sandbox?.close());
  beforeEach(async () => {
    await sandbox.reset();
    client = connect(sandbox.urls.runpod, sandbox.apiKey);
  });

  async function findOffer(gpu = 'RTX 4090', gpuCount = 1): Promise<Offer> {
    const [offer] = await client.searchOffers({ gpu, gpuCount });
    if (!offer) throw new Error('no offers');
    return offer;
  }
  async function rent(changes: Partial<PurchaseOrder> = {}): Promise<string> {
    const { providerInstanceId } = await client.buy(orderFor((await findOffer()).providerOfferId, changes));
    return providerInstanceId;
  }
  const set = (changes: Record<string, unknown>) => sandbox.setSwitches('runpod', changes);

  it('lists many offers in one call, single RTX 4090s below a dollar among them', async () => {
    const offers = await client.searchOffers({});
    expect(offers.length).toBeGreaterThanOrEqual(200);
    expect(sandbox.state().runpod.calls).toEqual({ catalog: 1 });
    expect(offers.filter((offer) => offer.gpu === 'RTX 4090' && offer.gpuCount === 1).length).toBeGreaterThan(3);
    expect((await findOffer()).priceMicroUsdPerHour).toBeLessThan(1_000_000n);
    const big = await client.searchOffers({ gpu: 'h100_sxm', gpuCount: 8 });
    expect(new Set(big.map((offer) => `${offer.gpu} x${offer.gpuCount}`))).toEqual(new Set(['H100 SXM x8']));
  });

  it('buys where the offer is, for what it said, and several of one offer', async () => {
    const offer = await findOffer('A100 SXM4', 2);
    const ids = [];
    for (const label of ['muster-test-a', 'muster-test-b'])
      ids.push((await client.buy(orderFor(offer.providerOfferId, { label }))).providerInstanceId);
    await sandbox.advance(BOOTED_MS);
    for (const id of ids) {
      expect(await client.readInstance(id)).toMatchObject({
        gpu: 'A100 SXM4',
        gpuCount: 2,
        region: offer.region,
        priceMicroUsdPerHour: offer.priceMicroUsdPerHour,
        status: 'running',
      });
    }
  });

  it('goes through the pod’s life, and stopping or starting twice is once', async () => {
    const id = await rent();
    expect(await client.readInstance(id)).toMatchObject({
      status: 'starting',
      ssh: null,
      statusDetail: 'PROVISIONING',
    });
    await sandbox.advance(BOOTED_MS);
    const running = await client.readInstance(id);
    expect(running).toMatchObject({ status: 'running', ssh: { host: '127.0.0.1', user: 'root' } });
    for (let i = 0; i < 2; i++) await client.stop(id);
    await sandbox.advance(BOOTED_MS);
    expect(await client.readInstance(id)).toMatchObject({ status: 'stopped', ssh: null, priceMicroUsdPerHour: 0n });
    for (let i = 0; i < 2; i++) await client.start(id);
    await sandbox.advance(BOOTED_MS);
    const again = await client.readInstance(id);
    expect(again).toMatchObject({ status: 'running', gpuCount: 1 });
    expect(again?.ssh?.port).not.toBe(running?.ssh?.port);
    expect(again?.startedAt).toBe(running?.startedAt);
    await client.setLabel(id, 'muster-test-b');
    expect(await client.findByLabel('muster-test-b')).toHaveLength(1);
    expect(await client.findByLabel(LABEL)).toEqual([]);
  });

  it('sees that a pod came back without its GPUs, and that there are none left to start it', async () => {
    const id = await rent();
    await sandbox.advance(BOOTED_MS);
    await client.stop(id);
    await sandbox.advance(BOOTED_MS);
    set({ zeroGpuRestart: 'refused' });
    expect(await errorOf(client.start(id))).toMatchObject({
      kind: 'no_capacity',
      message: expect.stringMatching(/free GPUs/),
    });
    set({ zeroGpuRestart: 'shown' });
    await client.start(id);
    await sandbox.advance(BOOTED_MS);
    expect(await client.readInstance(id)).toMatchObject({
      status: 'running',
      gpuCount: 0,
      statusDetail: 'RUNNING without a GPU',
    });
  });

  it('says that a pod runs before its port is known, and when it never will be', async () => {
    set({ portLagMs: 20_000 });
    const id = await rent();
    await sandbox.advance(BOOTED_MS);
    expect(await client.readInstance(id)).toMatchObject({
      status: 'running',
      ssh: null,
      statusDetail: expect.stringMatching(/port/),
    });
    await sandbox.advance(20_000);
    expect(await client.readInstance(id)).toMatchObject({ ssh: { port: expect.any(Number) }, statusDetail: 'RUNNING' });
    set({ hasNoPublicPorts: true });
    expect(await client.readInstance(id)).toMatchObject({ status: 'running', ssh: null });
  });

  it('does not adopt a pod that is shown as terminated, and has it gone only when it is not found', async () => {
    set({ terminatedForMs: 60_000 });
    const id = await rent();
    await sandbox.advance(BOOTED_MS);
    await client.destroy(id);
    expect(await client.readInstance(id)).toMatchObject({ status: 'failed', statusDetail: 'TERMINATED' });
    expect(await client.findByLabel(LABEL)).toEqual([]);
    await client.destroy(id);
    await sandbox.advance(61_000);
    expect(await client.readInstance(id)).toBeNull();
    await client.destroy(id);
  });

  it('finds a pod by its name only when the list has caught up', async () => {
    set({ listLagMs: 5_000 });
    await rent();
    expect(await client.findByLabel(LABEL)).toEqual([]);
    await sandbox.advance(6_000);
    expect(await client.findByLabel(LABEL)).toHaveLength(1);
  });

  it('lists members of clusters too, and says that one cannot be destroyed here', async () => {
    const id = String(
      await sandbox.placeMachine('runpod', { label: 'cluster-training-0', origin: 'foreign', isStopped: false }),
    );
    expect((await client.listInstances()).map((pod) => pod.providerInstanceId)).toContain(id);
    expect(await errorOf(client.destroy(id))).toMatchObject({
      kind: 'retryable',
      message: expect.stringMatching(/cluster/),
    });
  });

  it('takes a catalogue that lied, a pool that is closed and an empty purse for what they are', async () => {
    const offer = await findOffer();
    set({ staleOfferShare: 1 });
    expect(await errorOf(client.buy(orderFor(offer.providerOfferId)))).toMatchObject({ kind: 'no_capacity' });
    set({ staleOfferShare: 0, forbiddenGpus: ['RTX 4090'] });
    expect(await errorOf(client.buy(orderFor(offer.providerOfferId)))).toMatchObject({ kind: 'no_capacity' });
    set({ forbiddenGpus: [], spendLimitUsdPerHour: 0.5 });
    expect(await errorOf(client.buy(orderFor(offer.providerOfferId)))).toMatchObject({ kind: 'billing' });
    set({ spendLimitUsdPerHour: null, creditUsd: 0 });
    expect(await errorOf(client.buy(orderFor(offer.providerOfferId)))).toMatchObject({ kind: 'billing' });
    set({ creditUsd: 10_000, drought: ['RTX 4090'] });
    expect(await client.searchOffers({ gpu: 'RTX 4090' })).toEqual([]);
    expect(await errorOf(client.buy(orderFor(OFFER)))).toMatchObject({ kind: 'no_capacity' });
    expect(sandbox.state().runpod.purchases[LABEL]).toMatchObject({ calls: 5, accepted: 0 });
  });

  it('adds to the account’s keys without losing one, although the vendor replaces them all', async () => {
    await client.addAccountSshKey(PUBLIC_KEY);
    await client.addAccountSshKey(OTHER_KEY);
    await client.addAccountSshKey(PUBLIC_KEY);
    expect((await client.listAccountSshKeys()).map((key) => key.publicKey)).toEqual([PUBLIC_KEY, OTHER_KEY]);
    expect(sandbox.state().runpod.calls).toMatchObject({ ssh_keys_replace: 2 });
    await sandbox.addFault({ provider: 'runpod', endpoint: 'ssh_keys', kind: 'empty' });
    await sandbox.addFault({ provider: 'runpod', endpoint: 'ssh_keys', kind: 'html', times: 1 });
    expect(await errorOf(client.addAccountSshKey(`${OTHER_KEY}-b`))).toMatchObject({ kind: 'unbelievable' });
    expect(sandbox.state().runpod.calls).toMatchObject({ ssh_keys_replace: 2 });
  });

  it('stays away when the headers say that a window is used up, before it is refused', async () => {
    set({ rateLimits: 'documented' });
    const waits: [string, number][] = [];
    const limiter: RateLimiter = {
      acquire: () => Promise.resolve(),
      slowDown: (_provider, lane, forMs) => Promise.resolve(void waits.push([lane, forMs])),
    };
    const polite = connect(sandbox.urls.runpod, sandbox.apiKey, limiter);
    for (let i = 0; i < 59; i++) await polite.readInstance('none');
    expect(waits).toEqual([]);
    await polite.listInstances();
    expect(waits).toEqual([['all', 60_000]]);
    expect(await errorOf(polite.listInstances())).toMatchObject({ kind: 'rate_limited', retryAfterMs: 60_000 });
    await sandbox.advance(60_000);
    expect(await polite.listInstances()).toHaveLength(3);
  });
});

describe('the client against scripted answers', () => {
  let server: ScriptedServer;
  let client: ProviderClient;

  beforeEach(async () => {
    server = await startScriptedServer();
    client = connect(server.url, KEY, createRateLimiter({}), 300);
  });
  afterEach(() => server.close());

  const pod = (changes = {}) => ({ id: 'abc', name: LABEL, status: 'RUNNING', cost: 0.69, disk: 40, ...changes });
  const problem = (status: number, detail: string) =>
    reply(status, { title: 'Refused', status, detail }, { 'content-type': 'application/problem+json' });

  it('orders what the offer names, with every key, port 22 and a disk in whole gigabytes', async () => {
    server.answer(reply(201, pod({ status: 'PROVISIONING' })));
    const sshPublicKeys = [PUBLIC_KEY, OTHER_KEY, `${PUBLIC_KEY} `];
    expect(await client.buy(orderFor(OFFER, { sshPublicKeys, diskGib: 40.5 }))).toEqual({ providerInstanceId: 'abc' });
    const [request] = server.requests;
    expect(request).toMatchObject({ method: 'POST', path: '/v2/pods' });
    expect(request?.headers.authorization).toBe(`Bearer ${KEY}`);
    expect(request?.body).toEqual({
      name: LABEL,
      image: 'an/image:1',
      cloud: 'SECURE',
      gpu: { id: 'NVIDIA GeForce RTX 4090', count: 1 },
      dataCenterIds: ['EU-RO-1'],
      disk: 41,
      ports: ['22/tcp'],
      env: { TOKEN: 'env-value-that-stays-secret', PUBLIC_KEY: `${PUBLIC_KEY}\n${OTHER_KEY}` },
      args: expect.stringMatching(/^bash -c '[^']+'$/),
      startSsh: true,
    });
  });

  it('lets the scheduler choose where no data center is known, and keeps keys that the request gave', async () => {
    server.answer(reply(201, pod()));
    const env = { PUBLIC_KEY: OTHER_KEY };
    await client.buy(orderFor('*/4/NVIDIA H200', { env, onStart: 'echo "it\'s on"' }));
    const body = server.requests[0]?.body as { env: Record<string, string>; args: string };
    expect(body).not.toHaveProperty('dataCenterIds');
    expect(body).toMatchObject({ gpu: { id: 'NVIDIA H200', count: 4 } });
    expect(body.env.PUBLIC_KEY).toBe(`${OTHER_KEY}\n${PUBLIC_KEY}`);
    expect(Buffer.from(body.env.MUSTER_ON_START ?? '', 'base64').toString()).toBe('echo "it\'s on"');
    expect(body.args).not.toContain("it's");
    // What the container runs is a program that a shell can read, as one line and within its quotes.
    const inner = /^bash -c '([^']+)'$/.exec(body.args)?.[1] ?? '';
    for (const input of [body.args, inner]) expect(spawnSync('bash', ['-n'], { input }).status).toBe(0);
    expect(inner).toMatch(/PUBLIC_KEY.*MUSTER_ON_START.*base64 -d.*start\.sh/);
  });

  it('adds no empty list of keys: the vendor then lets in those of the account', async () => {
    server.answer(reply(201, pod()));
    await client.buy(orderFor(OFFER, { sshPublicKeys: [], env: {} }));
    expect(server.requests[0]?.body).toMatchObject({ env: {}, startSsh: true });
  });

  it('calls a purchase unknown that was accepted without an id', async () => {
    for (const answer of [reply(201, {}), reply(201, { id: '../x' }), reply(201, '<html>'), reply(204, '')]) {
      server.answer(answer);
      expect(await errorOf(client.buy(orderFor(OFFER)))).toMatchObject({ kind: 'unknown' });
    }
  });

  it('repeats a read that was turned away, never a purchase', async () => {
    const tooMany = reply(429, { title: 'Too Many Requests', status: 429, detail: 'minute' }, { 'retry-after': '1' });
    const waits: number[] = [];
    const limiter: RateLimiter = {
      acquire: () => Promise.resolve(),
      slowDown: (_provider, _lane, forMs) => Promise.resolve(void waits.push(forMs)),
    };
    client = connect(server.url, KEY, limiter);
    server.answer(tooMany, reply(200, { pods: [] }));
    expect(await client.listInstances()).toEqual([]);
    expect(waits).toEqual([1_000]);
    server.answer(tooMany);
    expect(await errorOf(client.buy(orderFor(OFFER)))).toMatchObject({ kind: 'unknown' });
    expect(server.requests.filter((request) => request.method === 'POST')).toHaveLength(1);
    expect(await errorOf(client.listInstances())).toMatchObject({ kind: 'rate_limited' });
    expect(server.requests.filter((request) => request.path.startsWith('/v2/pods?'))).toHaveLength(2 + 4);
  });

  it('reads again after a conflict, and believes what is there', async () => {
    server.answer(problem(409, 'conflicting update'), reply(200, pod({ status: 'EXITED' })));
    await client.stop('abc');
    server.answer(problem(409, 'pod is locked'), reply(200, pod()));
    expect(await errorOf(client.stop('abc'))).toMatchObject({
      kind: 'retryable',
      message: expect.stringMatching(/locked/),
    });
    server.answer(problem(409, 'conflicting update'), problem(404, 'pod not found'));
    await client.destroy('abc');
    server.answer(problem(409, 'pod is locked'), reply(200, pod()));
    expect(await errorOf(client.destroy('abc'))).toMatchObject({ kind: 'retryable' });
  });

  it('knows a request that never left from one that may have arrived', async () => {
    await server.close();
    expect(await errorOf(client.buy(orderFor(OFFER)))).toMatchObject({ kind: 'retryable' });
    expect(await errorOf(client.readInstance('abc'))).toMatchObject({ kind: 'retryable' });
    server = await startScriptedServer();
    client = connect(server.url, KEY, createRateLimiter({}), 100);
    for (const answer of [cut, silence]) {
      server.answer(answer);
      expect(await errorOf(client.buy(orderFor(OFFER)))).toMatchObject({ kind: 'unknown' });
      expect(await errorOf(client.destroy('abc'))).toMatchObject({ kind: 'unknown' });
      expect(await errorOf(client.readInstance('abc'))).toMatchObject({ kind: 'retryable' });
    }
  });

  it('hears the answer to a purchase that a cancel overtook', async () => {
    const controller = new AbortController();
    server.answer((request, response) => {
      controller.abort();
      setImmediate(() => reply(201, pod())(request, response));
    });
    expect(await client.buy(orderFor(OFFER), controller.signal)).toEqual({ providerInstanceId: 'abc' });
  });

  it('keeps keys, environment and script out of errors, even when the vendor echoes them', async () => {
    const script = 'echo script-that-stays-secret';
    const encoded = Buffer.from(script).toString('base64');
    server.answer(problem(422, `bad ${KEY} env-value-that-stays-secret ${encoded}`));
    const error = await errorOf(client.buy(orderFor(OFFER, { onStart: script })));
    expect(error.message).toMatch(/422/);
    expect(`${error.message}${error.stack}`).not.toMatch(new RegExp(`stays-secret|${encoded}`));
  });

  it('puts nothing but letters, digits and dashes into a path', async () => {
    for (const id of ['', '1/../2', '7?x', 'a b', 'ä'])
      expect(await errorOf(client.destroy(id))).toMatchObject({ kind: 'invalid' });
    expect(server.requests).toHaveLength(0);
  });

  it.each<[string, Partial<PurchaseOrder>]>([
    ['interruptible', { interruptible: true, bidMicroUsdPerHour: 100_000n }],
    ['bid', { bidMicroUsdPerHour: 100_000n }],
    ['label', { label: 'x'.repeat(192) }],
    ['image', { image: '' }],
    ['diskGib', { diskGib: 0 }],
    ['env.A', { env: { A: 'x'.repeat(100_001) } }],
    ['onStart', { onStart: 'x'.repeat(64_001) }],
    ['offer', { providerOfferId: '9000001' }],
  ])('refuses an order with a bad %s before anything is sent', async (field, changes) => {
    expect(await errorOf(client.buy(orderFor(OFFER, changes)))).toMatchObject({
      kind: 'invalid',
      message: expect.stringContaining(field),
    });
    expect(server.requests).toHaveLength(0);
  });
});
