import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { probeSsh } from '../../../automation/readiness/probe-ssh.ts';
import type { Offer } from '../../../domain/offer.ts';
import type { OfferQuery, ProviderClient, PurchaseOrder } from '../../../providers-dynamic/provider-client.ts';
import { createRateLimiter } from '../../../providers-dynamic/rate-limiter.ts';
import { createTensordockClient } from '../../../providers-dynamic/tensordock/client.ts';
import type { FaultInput } from '../../../sandbox/faults.ts';
import { startSandbox, type Sandbox } from '../../../sandbox/server.ts';
import type { TensordockSwitches } from '../../../sandbox/tensordock/switches.ts';
import { cut, reply, silence, startScriptedServer, type ScriptedServer } from '../../support/http-script.ts';
import { SSH_KEY } from '../../support/ssh-machine.ts';
import { errorOf, HOST, INSTANCE, LOCATION, OFFER, orderFor, recorded, SECRET } from './fixture.ts';

const TOKEN = 'a-token-that-stays-secret';

function connect(baseUrl: string, apiKey: string, requestTimeoutMs = 5_000): ProviderClient {
  return createTensordockClient({ apiKey, baseUrl, requestTimeoutMs }, createRateLimiter({}));
}

describe('the client against the sandbox', () => {
  let sandbox: Sandbox;
  let client: ProviderClient;

  beforeAll(async () => {
    sandbox = await startSandbox({ dir: null, port: 0, time: 'explicit', hasForeignMachines: false });
  });
  afterAll(() => sandbox?.close());
  beforeEach(async () => {
    await sandbox.reset();
    client = connect(sandbox.urls.tensordock, sandbox.apiKey);
  });

  const set = (changes: Partial<TensordockSwitches>) => sandbox.setSwitches('tensordock', changes);
  const fault = (endpoint: string, input: Omit<FaultInput, 'provider' | 'endpoint'>) =>
    sandbox.addFault({ provider: 'tensordock', endpoint, ...input });
  const calls = () => sandbox.state().tensordock.calls;

  async function offerOf(network: 'ip' | 'ports' = 'ip', query: OfferQuery = {}): Promise<Offer> {
    const offers = await client.searchOffers({ gpu: 'RTX 4090', gpuCount: 1, ...query });
    const offer = offers.find(({ providerOfferId }) => new RegExp(`^host.*:${network}$`).test(providerOfferId));
    if (!offer) throw new Error('no offers');
    return offer;
  }

  async function buy(changes: Partial<PurchaseOrder> = {}, network: 'ip' | 'ports' = 'ip'): Promise<string> {
    const keys = { sshPublicKeys: [SSH_KEY.public] };
    const order = orderFor((await offerOf(network)).providerOfferId, { ...keys, ...changes });
    return (await client.buy(order)).providerInstanceId;
  }

  it('searches by GPU in any spelling, by count and by price', async () => {
    const all = await client.searchOffers({});
    expect(all.length).toBeGreaterThanOrEqual(200);
    expect(all.some((offer) => offer.confidence === 0.5 && offer.machineId === null)).toBe(true);
    const some = await client.searchOffers({ gpu: 'rtx_4090', gpuCount: 1, maxPriceMicroUsdPerHour: 1_000_000n });
    expect(some.length).toBeGreaterThan(20);
    expect(new Set(some.map((offer) => `${offer.gpu} x${offer.gpuCount}`))).toEqual(new Set(['RTX 4090 x1']));
    const prices = some.map((offer) => offer.priceMicroUsdPerHour);
    expect(prices).toEqual([...prices].sort((a, b) => Number(a - b)));
    expect(await client.searchOffers({ gpu: 'RTX 4090', limit: 3 })).toHaveLength(3);
    expect(await client.searchOffers({ interruptible: true })).toEqual([]);
    expect(await client.searchOffers({ gpu: 'no such gpu' })).toEqual([]);
  });

  it.each([
    { listShape: 'A', isGetWrapped: false, isCreateWrapped: true, statusStyle: 'lower', deleteStatus: 200 },
    { listShape: 'A', isGetWrapped: true, statusStyle: 'snake', doListsHavePorts: true },
    { listShape: 'B', isGetWrapped: true, isCreateWrapped: false, statusStyle: 'camel', deleteStatus: 204 },
    { listShape: 'C', isGetWrapped: false, isCreateWrapped: false, statusStyle: 'dashed', missingIp: 'absent' },
  ] satisfies Partial<TensordockSwitches>[])(
    'buys, reads, lists, stops, starts and destroys in the vendor’s shapes %j',
    async (switches) => {
      set(switches);
      const id = await buy();
      expect(await client.readInstance(id)).toMatchObject({ label: 'muster-test-a', status: 'starting', ssh: null });
      expect(await client.listInstances()).toMatchObject([{ providerInstanceId: id, status: 'starting' }]);
      await sandbox.advance(600_000);
      const running = await client.readInstance(id);
      expect(running).toMatchObject({ status: 'running', gpu: 'RTX 4090', gpuCount: 1, ssh: { user: 'root' } });
      const [listed] = await client.listInstances();
      expect(listed).toMatchObject({
        status: 'running',
        gpu: 'RTX 4090',
        ssh: running?.ssh,
        priceMicroUsdPerHour: running?.priceMicroUsdPerHour,
      });
      expect(await client.findByLabel('muster-test-a')).toMatchObject([{ providerInstanceId: id }]);
      await client.stop(id);
      await client.stop(id);
      await sandbox.advance(60_000);
      await client.stop(id);
      expect(await client.readInstance(id)).toMatchObject({ status: 'stopped', ssh: null });
      expect(await client.listInstances()).toMatchObject([{ status: 'stopped' }]);
      await client.start(id);
      await client.start(id);
      await sandbox.advance(600_000);
      expect(await client.listInstances()).toMatchObject([{ status: 'running', ssh: { user: 'root' } }]);
      await client.destroy(id);
      expect(await client.readInstance(id)).toMatchObject({ status: 'failed' });
      await sandbox.advance(60_000);
      expect(await client.readInstance(id)).toBeNull();
      await client.destroy(id);
      expect(await client.listInstances()).toEqual([]);
    },
  );

  it('reads a machine once for what the list leaves out, and never again at rest', async () => {
    for (let i = 0; i < 3; i++) await buy({ label: `muster-test-${i}` });
    await sandbox.advance(600_000);
    for (let i = 0; i < 4; i++) {
      const listed = await client.listInstances();
      expect(listed.every((instance) => instance.ssh !== null)).toBe(true);
    }
    expect(calls()).toMatchObject({ list: 4, show: 3 });
  });

  it('knows a machine that moved to another port while nobody looked', async () => {
    const id = await buy();
    await sandbox.advance(600_000);
    const [before] = await client.listInstances();
    await client.stop(id);
    await sandbox.advance(60_000);
    expect(await client.listInstances()).toMatchObject([{ ssh: null }]);
    await client.start(id);
    await sandbox.advance(600_000);
    const [after] = await client.listInstances();
    expect(after?.ssh).toEqual((await client.readInstance(id))?.ssh);
    expect(before?.ssh).not.toBeNull();
  });

  it('gets in with its keys although the vendor ignores ssh_key', async () => {
    const id = await buy({ env: { NAME: 'value' }, onStart: 'echo hi' }, 'ports');
    await sandbox.advance(600_000);
    const ssh = (await client.readInstance(id))?.ssh;
    expect(await probeSsh(ssh as never, SSH_KEY.private, 5_000)).toMatchObject({
      authenticated: true,
      gpus: [{ name: 'NVIDIA GeForce RTX 4090' }],
    });
  });

  it('says of a machine without a forwarded port that it may never be reached', async () => {
    set({ portForwards: 'ignored' });
    const unreachable = await buy({ label: 'muster-test-b' }, 'ports');
    const reachable = await buy({}, 'ip');
    await sandbox.advance(600_000);
    expect(await client.readInstance(unreachable)).toMatchObject({
      status: 'running',
      ssh: { port: 22 },
      statusDetail: expect.stringMatching(/can never be reached/),
    });
    expect(await client.readInstance(reachable)).toMatchObject({ statusDetail: 'running' });
  });

  it('waits for an address that comes after "running"', async () => {
    set({ ipDelayMs: 30_000, saysRunningAtOnce: true, bootMs: [10_000, 10_000] });
    const id = await buy();
    for (const waitMs of [0, 10_500, 29_000]) {
      await sandbox.advance(waitMs);
      expect(await client.readInstance(id), `after ${waitMs}`).toMatchObject({ status: 'running', ssh: null });
      expect(await client.listInstances()).toMatchObject([{ ssh: null }]);
    }
    await sandbox.advance(2_000);
    expect(await client.listInstances()).toMatchObject([{ ssh: { user: 'root' } }]);
  });

  it('bills a stopped machine in full until its GPU is released, and cannot start it when the GPU is gone', async () => {
    const id = await buy();
    await sandbox.advance(600_000);
    const full = (await client.readInstance(id))?.priceMicroUsdPerHour ?? 0n;
    await client.stop(id);
    await sandbox.advance(60_000);
    expect(await client.readInstance(id)).toMatchObject({
      status: 'stopped',
      priceMicroUsdPerHour: full,
      statusDetail: expect.stringMatching(/bills in full/),
    });
    await fault('machine', { kind: 'reclaim', match: { instanceId: id } });
    await sandbox.advance(1_000);
    const released = await client.readInstance(id);
    expect(released).toMatchObject({
      status: 'stopped',
      gpu: null,
      statusDetail: expect.stringMatching(/only the disk/),
    });
    expect((released?.priceMicroUsdPerHour ?? 0n) * 10n < full).toBe(true);
    set({ isStartRefused: true });
    expect(await errorOf(client.start(id))).toMatchObject({ kind: 'no_capacity' });
    set({ isStartRefused: false });
    await client.start(id);
  });

  it('takes a sold-out host, a stale listing and missing addresses for definite refusals, with status 200 or 400', async () => {
    for (const refusalStatus of [200, 400] as const) {
      set({ refusalStatus });
      for (const switches of [{ drought: ['*'] }, { staleHostShare: 1 }, { hasNoPublicIps: true }]) {
        set(switches);
        const error = await errorOf(client.buy(orderFor((await offerOf()).providerOfferId)));
        expect(error, JSON.stringify(switches)).toMatchObject({ kind: 'no_capacity', createdInstanceId: undefined });
        set({ drought: [], staleHostShare: 0, hasNoPublicIps: false });
      }
    }
    const unknown = `host:${HOST}:geforcertx4090-pcie-24gb:1gpu:8cpu:32gb:ip`;
    expect(await errorOf(client.buy(orderFor(unknown)))).toMatchObject({ kind: 'no_capacity' });
    expect(await client.findByLabel('muster-test-a')).toEqual([]);
    await client.buy(orderFor((await offerOf()).providerOfferId));
  });

  it('sells as many machines of one host as it said, and no more', async () => {
    const offer = await offerOf('ip', { diskGib: 100 });
    for (let i = 0; i < (offer.stock ?? 0); i++)
      await client.buy(orderFor(offer.providerOfferId, { label: `muster-test-${i}` }));
    expect(await errorOf(client.buy(orderFor(offer.providerOfferId)))).toMatchObject({ kind: 'no_capacity' });
    const left = await client.searchOffers({ gpu: offer.gpu });
    expect(left.filter((each) => each.machineId === offer.machineId)).toEqual([]);
  });

  it('buys at a location, where the vendor picks the host', async () => {
    const offers = await client.searchOffers({});
    const offer = offers.find((each) => each.machineId === null && each.gpuCount === 1);
    const { providerInstanceId: id } = await client.buy(orderFor(offer?.providerOfferId ?? ''));
    expect(await client.readInstance(id)).toMatchObject({ gpu: offer?.gpu, gpuCount: 1 });
  });

  it('knows an account that cannot pay', async () => {
    const offer = await offerOf();
    set({ creditUsd: 0.5 });
    expect(await errorOf(client.buy(orderFor(offer.providerOfferId)))).toMatchObject({ kind: 'billing' });
  });

  it('waits out the limit of the organisation as long as the vendor says', async () => {
    await fault('list', { kind: 'rate_limit', times: 1 });
    const startedAt = performance.now();
    expect(await client.listInstances()).toEqual([]);
    expect(performance.now() - startedAt).toBeGreaterThan(900);
    expect(calls()).toMatchObject({ list: 2 });
  });

  it('finds a machine by its label only when the list has caught up', async () => {
    set({ listLagMs: 5_000 });
    await buy();
    expect(await client.findByLabel('muster-test-a')).toEqual([]);
    await sandbox.advance(6_000);
    expect(await client.findByLabel('muster-test-a')).toHaveLength(1);
  });

  it('manages the account’s keys, whose values the list hides', async () => {
    expect(await client.listAccountSshKeys()).toEqual([]);
    await client.addAccountSshKey(SSH_KEY.public);
    expect(await client.listAccountSshKeys()).toEqual([{ id: expect.any(String), publicKey: SSH_KEY.public.trim() }]);
    expect(await client.readAccount()).toEqual({
      accountId: expect.stringMatching(/^token-[0-9a-f]{12}$/),
      creditMicroUsd: null,
    });
  });
});

describe('the client against answers that no simulator gives', () => {
  let server: ScriptedServer;
  let client: ProviderClient;

  beforeEach(async () => {
    server = await startScriptedServer();
    client = connect(server.url, TOKEN, 300);
  });
  afterEach(() => server.close());

  const sold = () => reply(201, recorded('create-ok').body);

  it('orders as recorded: the host, an even machine, the port, the key twice', async () => {
    server.answer(sold());
    expect(await client.buy(orderFor(OFFER, { diskGib: 150.5 }))).toEqual({ providerInstanceId: INSTANCE });
    const [request] = server.requests;
    expect(request).toMatchObject({ method: 'POST', path: '/api/v2/instances' });
    expect(request?.headers.authorization).toBe(`Bearer ${TOKEN}`);
    expect(request?.body).toMatchObject({
      data: {
        type: 'virtualmachine',
        attributes: {
          name: 'muster-test-a',
          type: 'virtualmachine',
          image: 'ubuntu2404_ml_pytorch',
          resources: {
            vcpu_count: 8,
            ram_gb: 32,
            storage_gb: 151,
            gpus: { 'geforcertx4090-pcie-24gb': { count: 1 } },
          },
          hostnode_id: HOST,
          useDedicatedIp: true,
          port_forwards: [{ internal_port: 22, external_port: 22, protocol: 'tcp' }],
          ssh_key: 'ssh-ed25519 AAAA one@place',
          cloud_init: { package_upgrade: false },
        },
      },
    });
    expect(JSON.stringify(request?.body)).not.toMatch(/location_id|ssh_key_id|authorized_keys:/);
    await client.buy(orderFor(`location:${LOCATION}:l40-pcie-48gb:2gpu:16cpu:128gb:ports`, { image: 'ubuntu2404' }));
    const body = JSON.stringify(server.requests[1]?.body);
    expect(body).toMatch(`"location_id":"${LOCATION}"`);
    expect(body).toMatch('"storage_gb":100');
    expect(body).toMatch('"image":"ubuntu2404"');
    expect(body).not.toMatch(/hostnode_id|useDedicatedIp/);
  });

  it('reads the answer to a purchase unwrapped too, and calls one without an id unknown', async () => {
    server.answer(reply(200, { id: 'a-1', name: 'x', status: 'queued' }));
    expect(await client.buy(orderFor(OFFER))).toEqual({ providerInstanceId: 'a-1' });
    for (const body of [{ data: { status: 'creating' } }, { data: null }, 'created', { data: { message: 'done' } }]) {
      server.answer(reply(200, body));
      expect(await errorOf(client.buy(orderFor(OFFER)))).toMatchObject({ kind: 'unknown' });
    }
  });

  it('gives a purchase twice the time of a read', async () => {
    server.answer((request, response) => void setTimeout(() => sold()(request, response), 400));
    expect(await client.buy(orderFor(OFFER))).toEqual({ providerInstanceId: INSTANCE });
    expect(await errorOf(client.readInstance(INSTANCE))).toMatchObject({ kind: 'retryable' });
  });

  it('sends a purchase once, whatever becomes of it', async () => {
    const replies = [cut, silence, reply(500, 'oops'), reply(429, { error: 'slow down' }), reply(200, '<html></html>')];
    for (const [index, answer] of replies.entries()) {
      server.answer(answer);
      expect(await errorOf(client.buy(orderFor(OFFER)))).toMatchObject({ kind: 'unknown' });
      expect(server.requests).toHaveLength(index + 1);
      client = connect(server.url, TOKEN, 100);
    }
  });

  it('never reads an error, in whatever status, as an empty list or an absence', async () => {
    const errors = [
      reply(200, { error: 'oops' }),
      reply(200, { data: null, error: 'oops', status: 500 }),
      reply(200, []),
      reply(200, [{ code: 'custom', message: 'oops', path: [] }]),
      reply(200, ''),
      reply(204, ''),
      reply(404, 'nginx'),
      reply(404, { message: 'Cannot GET /api/v2/instances' }),
      reply(502, '<html></html>'),
    ];
    for (const answer of errors) {
      server.answer(answer);
      for (const read of [
        () => client.listInstances(),
        () => client.findByLabel('a'),
        () => client.readInstance(INSTANCE),
        () => client.searchOffers({}),
        () => client.readAccount(),
      ])
        expect(['unbelievable', 'retryable']).toContain((await errorOf(read())).kind);
    }
    server.answer(reply(404, { error: 'Instance not found' }));
    expect((await errorOf(client.listInstances())).kind).toBe('not_found');
  });

  it('lists machines although their details cannot be had', async () => {
    server.answer(reply(200, recorded('list-shape-a').body), reply(500, 'oops'));
    expect(await client.listInstances()).toMatchObject([{ status: 'running', ssh: null, gpu: 'RTX 4090' }]);
    server.answer(reply(200, recorded('list-shape-a').body), reply(401, { error: 'Unauthorized' }));
    expect(await errorOf(client.listInstances())).toMatchObject({ kind: 'auth' });
  });

  it('tries again to destroy what the vendor would not destroy just now', async () => {
    for (const words of ['Cannot delete while starting', 'No available nodes found', 'low balance']) {
      server.answer(reply(200, { error: words, status: 400 }));
      expect(await errorOf(client.destroy(INSTANCE)), words).toMatchObject({ kind: 'retryable' });
    }
    for (const answer of [reply(204, ''), reply(200, recorded('delete-ok').body), reply(404, { error: 'Not Found' })]) {
      server.answer(answer);
      await client.destroy(INSTANCE);
    }
  });

  it('takes "already running" for done, and "must be stopped" for later', async () => {
    for (const answer of [
      reply(409, {}),
      reply(409, { error: 'conflict' }),
      reply(400, { error: 'already running' }),
    ]) {
      server.answer(answer);
      await client.start(INSTANCE);
    }
    server.answer(reply(409, { error: 'Instance must be stopped' }));
    expect(await errorOf(client.start(INSTANCE))).toMatchObject({ kind: 'retryable' });
  });

  it('keeps the token, the environment and the script out of errors, as they are and as they are sent', async () => {
    server.answer((request, response) => {
      const echo = { error: `bad ${TOKEN} ${JSON.stringify(request.body)}`.slice(0, 20_000), status: 400 };
      reply(200, echo)(request, response);
    });
    const order = orderFor(OFFER, { onStart: 'echo script-that-stays-secret' });
    const { message } = await errorOf(client.buy(order));
    expect(message).not.toMatch(/stays-secret/);
    server.answer(reply(400, { error: `${SECRET} ${Buffer.from(order.onStart ?? '').toString('base64')}` }));
    const shown = (await errorOf(client.buy(order))).message;
    expect(shown).not.toContain(Buffer.from('script-that-stays').toString('base64').slice(0, 12));
    expect(shown).not.toContain(SECRET);
  });

  it('puts nothing but letters, digits and dashes into a path', async () => {
    for (const id of ['', '1/../2', '7?x', 'ä', 'x'.repeat(65)])
      for (const call of [() => client.destroy(id), () => client.readInstance(id), () => client.stop(id)])
        expect(await errorOf(call())).toMatchObject({ kind: 'invalid' });
    expect(server.requests).toHaveLength(0);
  });

  it.each<[string, Partial<PurchaseOrder>]>([
    ['label', { label: 'x'.repeat(64) }],
    ['label', { label: '' }],
    ['image', { image: 'an/image:1' }],
    ['diskGib', { diskGib: 0 }],
    ['sshPublicKeys', { sshPublicKeys: [] }],
    ['sshPublicKeys', { sshPublicKeys: ['ssh-ed25519 AAAA x\nssh-ed25519 BBBB y'] }],
    ['env.A-B', { env: { 'A-B': SECRET } }],
    ['env', { env: { A: 'x'.repeat(17_000) } }],
    ['onStart', { onStart: 'x'.repeat(16_385) }],
    ['interruptible', { interruptible: true, bidMicroUsdPerHour: 1_000n }],
  ])('refuses an order that breaks a limit on %s before anything is sent', async (field, changes) => {
    const error = await errorOf(client.buy(orderFor(OFFER, changes)));
    expect(error).toMatchObject({ kind: 'invalid', message: expect.stringContaining(field) });
    expect(error.message).not.toContain(SECRET);
    expect(server.requests).toHaveLength(0);
  });
});
