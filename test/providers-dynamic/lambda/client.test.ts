/** What is particular to Lambda's client; what every provider's must do is in ../contract.test.ts. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { probeSsh } from '../../../automation/readiness/probe-ssh.ts';
import { ProviderError, type ProviderErrorKind } from '../../../domain/provider-error.ts';
import { createLambdaClient } from '../../../providers-dynamic/lambda/client.ts';
import { LAMBDA_RATE_LIMITS } from '../../../providers-dynamic/lambda/rate-limits.ts';
import type { ProviderClient, PurchaseOrder } from '../../../providers-dynamic/provider-client.ts';
import { createRateLimiter } from '../../../providers-dynamic/rate-limiter.ts';
import type { FaultInput } from '../../../sandbox/faults.ts';
import { startSandbox, type Sandbox } from '../../../sandbox/server.ts';
import type { RunningMachine } from '../../../sandbox/vendor.ts';
import { cut, reply, startScriptedServer, type ScriptedServer } from '../../support/http-script.ts';
import { SSH_KEY } from '../../support/ssh-machine.ts';

const LABEL = 'muster-test-att0000000000000000-sig';
const OFFER = 'gpu_1x_a10@us-west-1';
const BOOTED_MS = 10_000;
const OTHER_KEY = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)} other`;

function orderFor(changes: Partial<PurchaseOrder> = {}): PurchaseOrder {
  return {
    providerOfferId: OFFER,
    label: LABEL,
    image: 'any/image:1',
    diskGib: 40,
    env: {},
    onStart: null,
    interruptible: false,
    bidMicroUsdPerHour: null,
    sshPublicKeys: [OTHER_KEY],
    ...changes,
  };
}

async function errorOf(work: Promise<unknown>): Promise<ProviderError> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ProviderError)) throw new Error('it did not fail as a provider does', { cause: error });
  return error;
}
const kindOf = async (work: Promise<unknown>): Promise<ProviderErrorKind> => (await errorOf(work)).kind;

describe('the client against the sandbox', () => {
  let sandbox: Sandbox;
  let client: ProviderClient;
  const running: RunningMachine[] = [];

  beforeAll(async () => {
    const machineWatch = { onRunning: (machine: RunningMachine) => void running.push(machine), onGone: () => {} };
    sandbox = await startSandbox({ dir: null, port: 0, time: 'explicit', machineWatch });
  });
  afterAll(() => sandbox.close());
  beforeEach(async () => {
    await sandbox.reset();
    client = connect();
  });

  const connect = () =>
    createLambdaClient(
      { apiKey: sandbox.apiKey, baseUrl: sandbox.urls.lambda, requestTimeoutMs: 2_000 },
      createRateLimiter({}),
    );
  const calls = () => sandbox.state().lambda.calls;
  const own = () => sandbox.state().lambda.machines.filter(({ origin }) => origin === 'bought');
  const fault = (endpoint: string, input: Omit<FaultInput, 'provider' | 'endpoint'>) =>
    sandbox.addFault({ provider: 'lambda', endpoint, ...input });
  const keyNames = async () => {
    const headers = { authorization: `Bearer ${sandbox.apiKey}` };
    const answer = await fetch(`${sandbox.urls.lambda}/api/v1/ssh-keys`, { headers });
    return ((await answer.json()) as { data: { name: string }[] }).data.map(({ name }) => name);
  };

  it('searches by GPU in any spelling, by count, price and disk, and has nothing interruptible', async () => {
    const found = await client.searchOffers({ gpu: 'rtx_4090', gpuCount: 1, maxPriceMicroUsdPerHour: 1_000_000n });
    expect(found.length).toBeGreaterThan(5);
    expect(new Set(found.map(({ gpu, gpuCount }) => `${gpuCount} ${gpu}`))).toEqual(new Set(['1 RTX 4090']));
    expect(await client.searchOffers({ gpu: 'rtx_4090', maxPriceMicroUsdPerHour: 1n })).toEqual([]);
    expect(await client.searchOffers({ diskGib: 100_000 })).toEqual([]);
    expect(await client.searchOffers({ interruptible: true })).toEqual([]);
    expect(await client.searchOffers({ limit: 7 })).toHaveLength(7);
  });

  it('adds the deployment’s key once, under a name made of the key itself, whoever asks', async () => {
    await Promise.all([client.buy(orderFor()), connect().buy(orderFor({ label: `${LABEL}b` }))]);
    await client.buy(orderFor({ label: `${LABEL}c`, sshPublicKeys: [OTHER_KEY.replace('other', 'another comment')] }));
    await client.addAccountSshKey(OTHER_KEY);
    const [name, ...rest] = await keyNames();
    expect(rest).toEqual([]);
    expect(name).toMatch(/^muster-[0-9a-f]{20}$/);
    // Known by now: a further launch costs one call.
    const before = calls();
    await client.buy(orderFor({ label: `${LABEL}d` }));
    expect(calls()).toEqual({ ...before, create: before['create']! + 1 });
  });

  it('uses the key under the name that a person gave it', async () => {
    const headers = { authorization: `Bearer ${sandbox.apiKey}` };
    const body = JSON.stringify({ name: 'by-hand', public_key: OTHER_KEY });
    await fetch(`${sandbox.urls.lambda}/api/v1/ssh-keys`, { method: 'POST', headers, body });
    await client.buy(orderFor());
    expect(await keyNames()).toEqual(['by-hand']);
  });

  it('says that nothing was bought when the key could not be added, and finds it when only the answer was lost', async () => {
    await fault('ssh_key_create', { kind: 'drop', times: 1 });
    expect(await kindOf(client.buy(orderFor()))).toBe('retryable');
    await fault('ssh_key_create', { kind: 'lose_response', times: 1 });
    await client.buy(orderFor());
    expect(await keyNames()).toHaveLength(1);
    expect(own()).toHaveLength(1);
  });

  it('adds the key again when somebody took it away', async () => {
    await client.buy(orderFor());
    const [key] = await client.listAccountSshKeys();
    const headers = { authorization: `Bearer ${sandbox.apiKey}` };
    await fetch(`${sandbox.urls.lambda}/api/v1/ssh-keys/${key?.id}`, { method: 'DELETE', headers });
    expect(await kindOf(client.buy(orderFor({ label: `${LABEL}b` })))).toBe('retryable');
    await client.buy(orderFor({ label: `${LABEL}b` }));
    expect(own()).toHaveLength(2);
  });

  it('brings further keys, env and onStart to the machine by its user data', { timeout: 20_000 }, async () => {
    const env = { TOKEN: `it's "$HOME"`, LINES: 'a\nb' };
    const onStart = '#!/bin/bash\necho "started"\n';
    const order = orderFor({ sshPublicKeys: [OTHER_KEY, SSH_KEY.public], env, onStart });
    const { providerInstanceId: id } = await client.buy(order);
    await sandbox.advance(BOOTED_MS);
    expect(running.find(({ instanceId }) => instanceId === id)).toMatchObject({
      provider: 'lambda',
      label: LABEL,
      startupScript: onStart,
      env,
    });
    const seen = await client.readInstance(id);
    expect(seen?.ssh).toMatchObject({ host: '127.0.0.1', user: 'ubuntu' });
    expect(await probeSsh(seen?.ssh as never, SSH_KEY.private, 5_000)).toMatchObject({
      authenticated: true,
      gpus: [expect.objectContaining({ name: 'NVIDIA A10' })],
    });
  });

  it('takes a listed region without capacity for a definite refusal, and a quota for the account’s own trouble', async () => {
    sandbox.setSwitches('lambda', { raceShare: 1 });
    expect(await kindOf(client.buy(orderFor()))).toBe('no_capacity');
    sandbox.setSwitches('lambda', { raceShare: 0, quota: 0 });
    expect(await kindOf(client.buy(orderFor()))).toBe('billing');
    sandbox.setSwitches('lambda', { quota: null, isAccountInactive: true });
    expect(await kindOf(client.readAccount())).toBe('auth');
    expect(own()).toEqual([]);
  });

  it('sells a region’s machines until none is left, and lists them no more', async () => {
    sandbox.setSwitches('lambda', { capacity: 1 });
    await client.buy(orderFor());
    expect(await kindOf(client.buy(orderFor({ label: `${LABEL}b` })))).toBe('no_capacity');
    const offers = await client.searchOffers({ gpu: 'A10', gpuCount: 1 });
    expect(offers.map(({ providerOfferId }) => providerOfferId)).not.toContain(OFFER);
  });

  it.each(['empty', 'alternate', 'instances'] as const)('destroys with the answer "%s"', async (terminateReply) => {
    sandbox.setSwitches('lambda', { terminateReply });
    const { providerInstanceId: id } = await client.buy(orderFor());
    await sandbox.advance(BOOTED_MS);
    await client.destroy(id);
    await client.destroy(id);
    await sandbox.advance(BOOTED_MS);
    expect(await client.readInstance(id)).toBeNull();
    expect(await client.findByLabel(LABEL)).toEqual([]);
    await client.destroy(id);
  });

  it.each(['refuse', 'ignore'] as const)(
    'is not done with a machine that has not launched and whose terminate is met with "%s"',
    async (terminateEarly) => {
      sandbox.setSwitches('lambda', { terminateEarly });
      const { providerInstanceId: id } = await client.buy(orderFor());
      const error = await errorOf(client.destroy(id));
      expect(error).toMatchObject({ kind: 'retryable', message: expect.stringContaining('vm-has-not-launched') });
      await sandbox.advance(BOOTED_MS);
      await client.destroy(id);
      await sandbox.advance(BOOTED_MS);
      expect(await client.readInstance(id)).toBeNull();
    },
  );

  it('takes a terminated machine for gone whether it is still listed or not', async () => {
    for (const keepTerminatedMs of [0, 3_600_000]) {
      sandbox.setSwitches('lambda', { keepTerminatedMs });
      const { providerInstanceId: id } = await client.buy(orderFor());
      await client.destroy(id);
      await sandbox.advance(BOOTED_MS);
      expect(await client.readInstance(id)).toBeNull();
      expect(await client.listInstances()).toHaveLength(3);
    }
  });

  it('reads every page where there are pages', async () => {
    for (let i = 0; i < 4; i++) await client.buy(orderFor({ label: `${LABEL}-${i}`, providerOfferId: OFFER }));
    sandbox.setSwitches('lambda', { pageSize: 2 });
    const before = calls()['list'] ?? 0;
    const all = await client.listInstances();
    expect(new Set(all.map(({ providerInstanceId }) => providerInstanceId)).size).toBe(7);
    expect(calls()['list']).toBe(before + 4);
  });

  it('finds a machine by its label only when the list has caught up, and tells a preempted and a failed one', async () => {
    sandbox.setSwitches('lambda', { listLagMs: 5_000 });
    await fault('machine', { kind: 'failed_boot', times: 1 });
    const failed = await client.buy(orderFor());
    expect(await client.findByLabel(LABEL)).toEqual([]);
    await sandbox.advance(BOOTED_MS);
    expect(await client.findByLabel(LABEL)).toMatchObject([{ status: 'failed', statusDetail: 'unhealthy' }]);
    const lost = await client.buy(orderFor({ label: `${LABEL}b` }));
    await sandbox.advance(BOOTED_MS);
    await fault('machine', { kind: 'reclaim', match: { instanceId: lost.providerInstanceId } });
    expect(await client.readInstance(lost.providerInstanceId)).toMatchObject({ status: 'stopped', interrupted: true });
    expect(await client.readInstance(failed.providerInstanceId)).toMatchObject({ interrupted: false });
  });

  it('keeps to one launch in twelve seconds and one call a second, so that the vendor has nothing to refuse', async () => {
    sandbox.setSwitches('lambda', { rateLimits: 'documented' });
    const taken: string[] = [];
    const limiter = {
      acquire: async (_provider: string, endpoint: string) => {
        taken.push(endpoint);
        await sandbox.advance((LAMBDA_RATE_LIMITS[endpoint] ?? 0) * 1_000);
      },
      slowDown: () => Promise.reject(new Error('the vendor said 429')),
    };
    const settings = { apiKey: sandbox.apiKey, baseUrl: sandbox.urls.lambda };
    const patient = createLambdaClient(settings, limiter);
    await patient.searchOffers({});
    for (const suffix of ['a', 'b', 'c']) await patient.buy(orderFor({ label: `${LABEL}${suffix}` }));
    expect(taken).toEqual(['api', 'api', 'api', 'create', 'api', 'create', 'api', 'create', 'api']);
  });

  it.each<[string, Partial<PurchaseOrder>]>([
    ['label', { label: 'x'.repeat(65) }],
    ['label', { label: '' }],
    ['sshPublicKeys', { sshPublicKeys: [] }],
    ['env.A-B', { env: { 'A-B': 'secret-value' } }],
    ['onStart', { onStart: 'x'.repeat(1_000_000) }],
    ['interruptible', { interruptible: true, bidMicroUsdPerHour: 1n }],
    ['no offer', { providerOfferId: 'nonsense' }],
  ])('refuses a bad %s before anything is sent', async (said, changes) => {
    const error = await errorOf(client.buy(orderFor(changes)));
    expect(error).toMatchObject({ kind: 'invalid', message: expect.stringContaining(said) });
    expect(error.message).not.toContain('secret-value');
    expect(calls()['create']).toBeUndefined();
  });

  it('asks for nothing under an id that is none', async () => {
    expect(await kindOf(client.readInstance('../ssh-keys'))).toBe('invalid');
    expect(await kindOf(client.destroy('a b'))).toBe('invalid');
    expect(calls()).toEqual({});
  });
});

describe('the client against answers that no simulator gives', () => {
  let server: ScriptedServer;
  let client: ProviderClient;
  beforeEach(async () => {
    server = await startScriptedServer();
    const settings = { apiKey: 'the-key', baseUrl: `${server.url}/`, requestTimeoutMs: 500 };
    client = createLambdaClient(settings, createRateLimiter({}));
  });
  afterEach(() => server.close());

  const KEYS = reply(200, { data: [{ id: 'k', name: 'mine', public_key: OTHER_KEY }] });
  const BOOTING = { id: 'abc', status: 'booting', actions: { terminate: { available: true } } };

  it('launches as documented: one key, one instance, the label as name and tag', async () => {
    server.answer(KEYS, reply(200, { data: { instance_ids: ['abc'] } }));
    expect(await client.buy(orderFor())).toEqual({ providerInstanceId: 'abc' });
    expect(server.requests[1]).toMatchObject({
      method: 'POST',
      path: '/api/v1/instance-operations/launch',
      headers: { authorization: 'Bearer the-key', 'content-type': 'application/json' },
      body: {
        region_name: 'us-west-1',
        instance_type_name: 'gpu_1x_a10',
        ssh_key_names: ['mine'],
        name: LABEL,
        tags: [{ key: 'muster-label', value: LABEL }],
      },
    });
    expect(server.requests[1]?.body).not.toHaveProperty('user_data');
  });

  it('sends a launch once, whatever becomes of it', async () => {
    for (const answer of [cut, reply(200, '<html>'), reply(200, { data: {} }), reply(302, ''), reply(504, 'late')]) {
      server.answer(KEYS, answer);
      const before = server.requests.length;
      expect(await kindOf(client.buy(orderFor({ env: { TOKEN: 'secret-value' } })))).toBe('unknown');
      const sent = server.requests.slice(before).filter(({ path }) => path.endsWith('/launch'));
      expect(sent).toHaveLength(1);
    }
  });

  it('keeps what was ordered, and the key, out of its errors', async () => {
    server.answer(
      KEYS,
      reply(400, { error: { code: 'global/invalid-parameters', message: 'the-key secret-value bad' } }),
    );
    const error = await errorOf(client.buy(orderFor({ env: { TOKEN: 'secret-value' } })));
    expect(error).toMatchObject({ kind: 'invalid' });
    expect(error.message).not.toMatch(/secret-value|the-key/);
  });

  it('reads the machine back after a terminate that was answered with nothing at all', async () => {
    server.answer(reply(200, ''), reply(200, { data: { ...BOOTING, status: 'terminating' } }));
    await client.destroy('abc');
    server.answer(reply(204, ''), reply(200, { data: BOOTING }));
    expect(await kindOf(client.destroy('abc'))).toBe('retryable');
  });

  it('asks once more after a refusal when the machine launched meanwhile', async () => {
    const early = reply(400, { error: { code: 'global/invalid-parameters', message: 'It has not launched yet.' } });
    const accepted = reply(200, { data: { terminated_instances: [{ ...BOOTING, status: 'terminating' }] } });
    server.answer(early, reply(200, { data: BOOTING }), accepted);
    await client.destroy('abc');
    expect(server.requests.map(({ method }) => method)).toEqual(['POST', 'GET', 'POST']);
  });

  it('gives on a refusal to terminate that is not about the machine’s state', async () => {
    const refused = reply(400, { error: { code: 'global/invalid-parameters', message: 'No.' } });
    const looked = reply(200, { data: BOOTING });
    server.answer(refused, looked, refused, looked);
    expect(await kindOf(client.destroy('abc'))).toBe('invalid');
  });

  it('never takes an old address’s redirect for an answer, nor sends the key on', async () => {
    server.answer(reply(301, '', { location: 'http://127.0.0.1:1/api/v1/instances' }));
    expect(await kindOf(client.listInstances())).toBe('unbelievable');
    expect(await kindOf(client.destroy('abc'))).toBe('unbelievable');
  });

  it('refuses pages that go in circles', async () => {
    server.answer(reply(200, { data: [], page_token: 'again' }));
    expect(await kindOf(client.listInstances())).toBe('unbelievable');
    expect(server.requests.map(({ path }) => path)).toEqual([
      '/api/v1/instances',
      '/api/v1/instances?page_token=again',
    ]);
  });
});
