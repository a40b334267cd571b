import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ProviderError } from '../../../domain/provider-error.ts';
import type { PurchaseOrder, ProviderClient } from '../../../providers-dynamic/provider-client.ts';
import { createRateLimiter } from '../../../providers-dynamic/rate-limiter.ts';
import { createVastaiClient } from '../../../providers-dynamic/vastai/client.ts';
import { startSandbox, type Sandbox } from '../../../sandbox/server.ts';
import {
  cut,
  reply,
  silence,
  startScriptedServer,
  type Answer,
  type ScriptedServer,
} from '../../support/http-script.ts';

const KEY = 'a-key-that-stays-secret';

function connect(baseUrl: string, apiKey: string, requestTimeoutMs = 5_000): ProviderClient {
  return createVastaiClient({ apiKey, baseUrl, requestTimeoutMs }, createRateLimiter({}));
}

function orderFor(providerOfferId: string, changes: Partial<PurchaseOrder> = {}): PurchaseOrder {
  return {
    providerOfferId,
    label: 'muster-test-a',
    image: 'an/image:1',
    diskGib: 40,
    env: { TOKEN: 'env-value-that-stays-secret' },
    onStart: null,
    interruptible: false,
    bidMicroUsdPerHour: null,
    sshPublicKeys: [],
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
    // A new one: it would remember the rate limits that the vendor showed in another test.
    client = connect(sandbox.urls.vastai, sandbox.apiKey);
  });

  const cheapest = async (changes = {}) => {
    const offers = await client.searchOffers({ gpu: 'rtx_4090', gpuCount: 1, ...changes });
    const [offer] = offers;
    if (!offer) throw new Error('no offers');
    return offer;
  };

  it('searches by GPU in any spelling, prices with the disk asked for, and gets more than one page', async () => {
    const all = await client.searchOffers({});
    expect(all.length).toBeGreaterThan(64);
    const some = await client.searchOffers({ gpu: 'rtx_4090', gpuCount: 1, diskGib: 100 });
    expect(some.length).toBeGreaterThan(5);
    expect(new Set(some.map((offer) => `${offer.gpu} x${offer.gpuCount}`))).toEqual(new Set(['RTX 4090 x1']));
    const small = await client.searchOffers({ gpu: 'RTX 4090', gpuCount: 1, diskGib: 10 });
    const [big] = some;
    const same = small.find((offer) => offer.providerOfferId === big?.providerOfferId);
    expect(big && same && big.priceMicroUsdPerHour > same.priceMicroUsdPerHour).toBe(true);
    expect(await client.searchOffers({ gpu: 'no such gpu' })).toEqual([]);
    const limit = some.at(3)?.priceMicroUsdPerHour ?? 0n;
    const cheap = await client.searchOffers({
      gpu: 'RTX 4090',
      gpuCount: 1,
      diskGib: 100,
      maxPriceMicroUsdPerHour: limit,
    });
    expect(cheap.every((offer) => offer.priceMicroUsdPerHour <= limit)).toBe(true);
  });

  it('buys, reads, lists, relabels, stops, starts and destroys', async () => {
    const offer = await cheapest();
    const { providerInstanceId: id } = await client.buy(orderFor(offer.providerOfferId));
    expect(await client.readInstance(id)).toMatchObject({
      label: 'muster-test-a',
      status: 'starting',
      image: 'an/image:1',
      interruptible: false,
    });
    await sandbox.advance(600_000);
    expect(await client.readInstance(id)).toMatchObject({
      status: 'running',
      ssh: { host: expect.any(String), user: 'root' },
    });
    expect(await client.findByLabel('muster-test-a')).toMatchObject([{ providerInstanceId: id }]);
    expect(await client.findByLabel('muster-test')).toEqual([]);
    await client.setLabel(id, 'muster-test-b');
    expect(await client.findByLabel('muster-test-b')).toHaveLength(1);
    await client.stop(id);
    await sandbox.advance(60_000);
    expect(await client.readInstance(id)).toMatchObject({ status: 'stopped' });
    await client.start(id);
    await sandbox.advance(600_000);
    expect(await client.readInstance(id)).toMatchObject({ status: 'running' });
    await client.destroy(id);
    expect(await client.readInstance(id)).toBeNull();
    expect(await client.findByLabel('muster-test-b')).toEqual([]);
    await client.destroy(id);
  });

  it('lists every page, foreign machines too', async () => {
    const foreign = (await client.listInstances()).length;
    for (let i = 0; i < 60; i++)
      await sandbox.placeMachine('vastai', { label: `machine-${i}`, origin: 'foreign', isStopped: false });
    const all = await client.listInstances();
    expect(new Set(all.map((instance) => instance.providerInstanceId)).size).toBe(foreign + 60);
  });

  it('takes a recycled or unknown offer for a definite refusal, however the vendor says it', async () => {
    for (const raceStatus of [410, 404, 400] as const) {
      sandbox.setSwitches('vastai', { raceStatus });
      const offer = await cheapest();
      await client.buy(orderFor(offer.providerOfferId, { label: `muster-test-${raceStatus}` }));
      expect(await errorOf(client.buy(orderFor(offer.providerOfferId)))).toMatchObject({ kind: 'no_capacity' });
    }
    expect(await errorOf(client.buy(orderFor('1')))).toMatchObject({ kind: 'no_capacity' });
  });

  it('rents interruptible machines with a bid, and names what a bid that is too low has made', async () => {
    const offer = await cheapest({ interruptible: true });
    const floor = offer.floorMicroUsdPerHour ?? 0n;
    for (const bidTooLowStatus of [200, 400] as const) {
      sandbox.setSwitches('vastai', { bidTooLowStatus });
      const order = orderFor(offer.providerOfferId, { interruptible: true, bidMicroUsdPerHour: floor / 2n });
      const error = await errorOf(client.buy(order));
      expect(error).toMatchObject({ kind: 'no_capacity', createdInstanceId: expect.stringMatching(/^\d+$/) });
      const id = error.createdInstanceId ?? '';
      expect(await client.readInstance(id)).toMatchObject({ status: 'stopped', interruptible: true });
      await client.destroy(id);
    }
    const next = await cheapest({ interruptible: true });
    const bid = (next.floorMicroUsdPerHour ?? 0n) * 2n;
    const { providerInstanceId: id } = await client.buy(
      orderFor(next.providerOfferId, { interruptible: true, bidMicroUsdPerHour: bid }),
    );
    await client.changeBid(id, bid + 10_000n);
    expect(await client.readInstance(id)).toMatchObject({ interruptible: true, interrupted: false });
    await sandbox.advance(600_000);
    await sandbox.addFault({
      provider: 'vastai',
      endpoint: 'machine',
      kind: 'outbid',
      match: { instanceId: Number(id) },
    });
    await sandbox.advance(60_000);
    expect(await client.readInstance(id)).toMatchObject({ status: 'stopped', interrupted: true });
  });

  it('refuses an interruptible order without a bid before anything is sent', async () => {
    const offer = await cheapest();
    const error = await errorOf(client.buy(orderFor(offer.providerOfferId, { interruptible: true })));
    expect(error).toMatchObject({ kind: 'invalid', message: expect.stringMatching(/bid/) });
    expect(await errorOf(client.buy(orderFor(offer.providerOfferId, { bidMicroUsdPerHour: 1_000n })))).toMatchObject({
      kind: 'invalid',
    });
    expect(sandbox.state().vastai.calls.create ?? 0).toBe(0);
  });

  it('manages SSH keys and the account', async () => {
    const publicKey = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvb2Jhcm9vZm9vYmFyb29mb29iYXJvb2Zvb2Jhcm9v me@laptop';
    const offer = await cheapest();
    const { providerInstanceId: id } = await client.buy(orderFor(offer.providerOfferId));
    await client.attachSshKey(id, publicKey);
    await client.attachSshKey(id, publicKey);
    await client.addAccountSshKey(publicKey);
    expect((await client.listAccountSshKeys()).map((key) => key.publicKey)).toContain(publicKey);
    expect(await client.readAccount()).toMatchObject({
      accountId: expect.any(String),
      creditMicroUsd: expect.any(BigInt),
    });
  });

  it('knows a bad key in either form, and an account that cannot pay', async () => {
    for (const authFailureStatus of [404, 401] as const) {
      sandbox.setSwitches('vastai', { authFailureStatus });
      const stranger = connect(sandbox.urls.vastai, KEY);
      const calls = [
        () => stranger.readAccount(),
        () => stranger.readInstance('1'),
        () => stranger.listInstances(),
        () => stranger.destroy('1'),
        () => stranger.buy(orderFor('1')),
      ];
      for (const call of calls) {
        const error = await errorOf(call());
        expect(error.kind).toBe('auth');
        expect(error.message).not.toContain(KEY);
      }
    }
    sandbox.setSwitches('vastai', { creditUsd: 0 });
    expect(await errorOf(client.buy(orderFor('1')))).toMatchObject({ kind: 'billing' });
  });

  it.each(['lose_response', 'execute_then_status', 'status', 'html', 'drop', 'rate_limit'] as const)(
    'calls a purchase unknown after %s, and sends it once',
    async (kind) => {
      const offer = await cheapest();
      await sandbox.addFault({ provider: 'vastai', endpoint: 'create', kind });
      expect(await errorOf(client.buy(orderFor(offer.providerOfferId)))).toMatchObject({ kind: 'unknown' });
      expect(sandbox.state().vastai.purchases['muster-test-a']?.calls).toBe(1);
    },
  );

  it.each(['html', 'malformed', 'status', 'drop'] as const)(
    'never takes %s for an empty list or an absence',
    async (kind) => {
      const offer = await cheapest();
      const { providerInstanceId: id } = await client.buy(orderFor(offer.providerOfferId));
      await sandbox.addFault({ provider: 'vastai', endpoint: '*', kind });
      const reads = [
        () => client.listInstances(),
        () => client.findByLabel('muster-test-a'),
        () => client.readInstance(id),
        () => client.searchOffers({}),
      ];
      for (const read of reads) expect(['unbelievable', 'retryable']).toContain((await errorOf(read())).kind);
    },
  );

  it('waits out the rate limit for reads, in both forms of the answer', async () => {
    sandbox.setSwitches('vastai', { rateLimitBody: 'both' });
    await sandbox.addFault({ provider: 'vastai', endpoint: 'list', kind: 'rate_limit', times: 1 });
    const startedAt = performance.now();
    expect((await client.listInstances()).length).toBeGreaterThan(0);
    expect(performance.now() - startedAt).toBeGreaterThan(900);
  });

  it('finds a machine by its label only when the list has caught up', async () => {
    sandbox.setSwitches('vastai', { listLagMs: 5_000 });
    const offer = await cheapest();
    await client.buy(orderFor(offer.providerOfferId));
    expect(await client.findByLabel('muster-test-a')).toEqual([]);
    await sandbox.advance(6_000);
    expect(await client.findByLabel('muster-test-a')).toHaveLength(1);
  });
});

describe('the client against answers that no vendor should give', () => {
  let server: ScriptedServer;
  let client: ProviderClient;

  beforeEach(async () => {
    server = await startScriptedServer();
    client = connect(server.url, KEY, 300);
  });
  afterEach(() => server.close());

  const page = (rows: number[], extra: Record<string, unknown> = {}): Answer =>
    reply(200, { success: true, instances: rows.map((id) => ({ id, label: 'l' })), next_token: null, ...extra });

  it('refuses a list that claims more than it shows', async () => {
    for (const extra of [{ total_instances: 3 }, { instances_found: 3 }, { label_counts: { l: 2, other: 1 } }]) {
      server.answer(page([1, 2], extra));
      expect(await errorOf(client.listInstances())).toMatchObject({
        kind: 'unbelievable',
        message: expect.stringMatching(/claims 3.*shows 2/),
      });
    }
    server.answer(page([], { label_counts: { l: 1 } }));
    expect(await errorOf(client.findByLabel('l'))).toMatchObject({ kind: 'unbelievable' });
  });

  it('bears that machines come and go between pages', async () => {
    server.answer(page([1, 2], { total_instances: 4, next_token: 'a' }), page([4], { total_instances: 3 }));
    expect(await client.listInstances()).toHaveLength(3);
  });

  it('refuses pages that go in circles or never end', async () => {
    server.answer(page([1], { next_token: 'same' }));
    expect(await errorOf(client.listInstances())).toMatchObject({ kind: 'unbelievable' });
    let token = 0;
    server.answer((request, response) => page([++token], { next_token: `t${token}` })(request, response));
    expect(await errorOf(client.listInstances())).toMatchObject({
      kind: 'unbelievable',
      message: expect.stringMatching(/pages/),
    });
    expect(server.requests.length).toBeLessThan(500);
  });

  it('does not believe an instance that is another one', async () => {
    server.answer(reply(200, { instances: { id: 8 } }));
    expect(await errorOf(client.readInstance('7'))).toMatchObject({ kind: 'unbelievable' });
  });

  it('sends the key as a bearer token, the label filter as JSON, and price only with a bid', async () => {
    server.answer(page([]));
    await client.findByLabel('muster-test-a');
    const [list] = server.requests;
    expect(list?.headers.authorization).toBe(`Bearer ${KEY}`);
    expect(new URL(list?.path ?? '', server.url).searchParams.get('select_filters')).toBe(
      '{"label":{"eq":"muster-test-a"}}',
    );
    server.answer(reply(200, { success: true, new_contract: 5 }));
    await client.buy(orderFor('9', { image: 'registry:5000/an/image', onStart: 'echo hi' }));
    await client.buy(orderFor('9', { interruptible: true, bidMicroUsdPerHour: 210_000n }));
    const [onDemand, bid] = server.requests.slice(-2).map((request) => request.body);
    expect(onDemand).toMatchObject({
      client_id: 'me',
      image: 'registry:5000/an/image:latest',
      disk: 40,
      label: 'muster-test-a',
      runtype: 'ssh_direct',
      env: { TOKEN: expect.any(String) },
      onstart: 'echo hi',
      target_state: 'running',
      cancel_unavail: true,
    });
    expect(onDemand).not.toHaveProperty('price');
    expect(bid).toMatchObject({ price: 0.21 });
    expect(bid).not.toHaveProperty('onstart');
  });

  it('keeps keys and environment out of errors, even when the vendor echoes them', async () => {
    server.answer(reply(400, { error: 'invalid_args', msg: `bad key ${KEY} in env-value-that-stays-secret` }));
    const error = await errorOf(client.buy(orderFor('9')));
    expect(`${error.message}${error.stack}`).not.toMatch(/stays-secret/);
  });

  it('knows a request that never left from one that may have arrived', async () => {
    await server.close();
    expect(await errorOf(client.buy(orderFor('9')))).toMatchObject({ kind: 'retryable' });
    expect(await errorOf(client.readInstance('9'))).toMatchObject({ kind: 'retryable' });
    server = await startScriptedServer();
    client = connect(server.url, KEY, 100);
    for (const answer of [cut, silence]) {
      server.answer(answer);
      expect(await errorOf(client.buy(orderFor('9')))).toMatchObject({ kind: 'unknown' });
      expect(await errorOf(client.destroy('9'))).toMatchObject({ kind: 'unknown' });
      expect(await errorOf(client.readInstance('9'))).toMatchObject({ kind: 'retryable' });
    }
  });

  it('hears the answer to a purchase that a cancel overtook, and sends nothing after a cancel', async () => {
    const controller = new AbortController();
    server.answer((request, response) => {
      controller.abort();
      setImmediate(() => reply(200, { success: true, new_contract: 5 })(request, response));
    });
    expect(await client.buy(orderFor('9'), controller.signal)).toEqual({ providerInstanceId: '5' });
    const sent = server.requests.length;
    expect(await errorOf(client.buy(orderFor('9'), controller.signal))).toMatchObject({ kind: 'canceled' });
    expect(await errorOf(client.readInstance('9', controller.signal))).toMatchObject({ kind: 'canceled' });
    expect(server.requests).toHaveLength(sent);
  });

  it('asks once more for the right to spend when its turn has come', async () => {
    const stop = () => {
      throw new ProviderError('canceled', 'the lease is over');
    };
    expect(await errorOf(client.buy(orderFor('9'), undefined, stop))).toMatchObject({ kind: 'canceled' });
    expect(server.requests).toHaveLength(0);
  });

  it('puts nothing but digits into a path', async () => {
    for (const id of ['', '1/../2', '7?x', 'abc'])
      expect(await errorOf(client.destroy(id))).toMatchObject({ kind: 'invalid' });
    expect(server.requests).toHaveLength(0);
  });

  it.each<[string, Partial<PurchaseOrder>]>([
    ['label', { label: 'x'.repeat(257) }],
    ['image', { image: '' }],
    ['diskGib', { diskGib: 7 }],
    ['env', { env: { A: 'x'.repeat(257) } }],
    ['onStart', { onStart: 'x'.repeat(4_097) }],
    ['bid', { interruptible: true, bidMicroUsdPerHour: 1n }],
  ])('refuses an order that breaks the vendor’s limit on %s', async (field, changes) => {
    expect(await errorOf(client.buy(orderFor('9', changes)))).toMatchObject({
      kind: 'invalid',
      message: expect.stringContaining(field),
    });
    expect(server.requests).toHaveLength(0);
  });
});
