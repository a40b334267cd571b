/** The dynamic resource over RunPod's client and simulator, with each fault of a purchase and of a destroy. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { probeSsh } from '../../../automation/readiness/probe-ssh.ts';
import { PartialFailure, type DynamicCrud, type Properties } from '../../../providers-dynamic/dynamic-crud.ts';
import type { CrudTimings } from '../../../providers-dynamic/machine-crud.ts';
import type { ProviderClient } from '../../../providers-dynamic/provider-client.ts';
import { createRateLimiter } from '../../../providers-dynamic/rate-limiter.ts';
import { createRunpodClient } from '../../../providers-dynamic/runpod/client.ts';
import { createRunpodCrud } from '../../../providers-dynamic/runpod/crud.ts';
import type { FaultInput } from '../../../sandbox/faults.ts';
import { startSandbox, type Sandbox } from '../../../sandbox/server.ts';
import { createMarketRuntime, type MarketScript } from '../../support/market-runtime.ts';
import { SSH_KEY } from '../../support/ssh-machine.ts';

const TIMINGS: CrudTimings = { verifyMs: 400, firstPollMs: 1, maxPollMs: 20, readBackPausesMs: [1, 1] };
const LABEL = 'muster-test-a';
const OWN_KEY = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)} own`;
const INPUTS: Properties = {
  label: LABEL,
  resourceKey: 'project-key',
  gpu: 'RTX 4090',
  maxPriceMicroUsdPerHour: 900_000,
  image: 'an/image:1',
  env: { TOKEN: 'env-value-that-stays-secret' },
  onStart: 'echo start-script',
  sshPublicKeys: [OWN_KEY],
  __provider: 'the shim',
};

let sandbox: Sandbox;
let client: ProviderClient;

beforeAll(async () => {
  sandbox = await startSandbox({ dir: null, port: 0, time: 'explicit' });
});
afterAll(() => sandbox?.close());
beforeEach(async () => {
  await sandbox.reset();
  client = createRunpodClient(
    { apiKey: sandbox.apiKey, baseUrl: sandbox.urls.runpod, requestTimeoutMs: 2_000 },
    createRateLimiter({}),
  );
});

function setUp(script: MarketScript = {}) {
  const market = createMarketRuntime(client, { deploymentKeys: [SSH_KEY.public], ...script });
  return { ...market, crud: createRunpodCrud(market.runtime, TIMINGS) };
}

const fault = (endpoint: string, input: Omit<FaultInput, 'provider' | 'endpoint'>) =>
  sandbox.addFault({ provider: 'runpod', endpoint, ...input });
const purchases = () => sandbox.state().runpod.purchases[LABEL];
const ours = () =>
  sandbox.state().runpod.machines.filter((machine) => machine.origin === 'bought' && machine.destroyedAtMs === null);
const createOne = async (crud: DynamicCrud) => crud.create((await crud.check({}, INPUTS)).inputs);

async function failureOf(work: Promise<unknown>): Promise<Error> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof Error)) throw new Error('it did not fail');
  return error;
}

describe('create', () => {
  it('buys one pod that lets in every key from its first boot, with outputs that hold no secret', async () => {
    const { crud } = setUp();
    const { id, outs } = await createOne(crud);
    expect(outs).toMatchObject({
      provider: 'runpod',
      label: LABEL,
      status: 'starting',
      attachedSshPublicKeys: [SSH_KEY.public, OWN_KEY],
      observedGpuCount: 1,
      machineId: null,
    });
    expect(Object.values(outs)).not.toContain(undefined);
    expect(JSON.stringify(outs)).not.toMatch(/stays-secret|start-script/);
    await sandbox.advance(10_000);
    const observed = await client.readInstance(id);
    if (!observed?.ssh) throw new Error('no address');
    expect(await probeSsh(observed.ssh, SSH_KEY.private, 5_000)).toMatchObject({ authenticated: true });
    expect((await crud.read(id, outs)).props).toMatchObject({ status: 'running', sshUser: 'root' });
  });

  it.each(['lose_response', 'execute_then_status', 'execute_then_timeout', 'malformed'] as const)(
    'adopts what was bought when the answer is lost by %s',
    async (kind) => {
      await fault('create', { kind, times: 1 });
      const { crud, messages } = setUp();
      const { id } = await createOne(crud);
      expect(ours()).toMatchObject([{ id }]);
      expect(purchases()).toMatchObject({ calls: 1, accepted: 1 });
      expect(messages.join('\n')).toMatch(/adopted/);
    },
  );

  it.each(['rate_limit', 'status', 'html', 'drop', 'timeout'] as const)(
    'says that something may exist after %s, and never buys again by itself',
    async (kind) => {
      await fault('create', { kind, times: 1 });
      const error = await failureOf(createOne(setUp().crud));
      expect(error).toMatchObject({ kind: 'unknown', message: expect.stringContaining(LABEL) });
      expect(error).not.toBeInstanceOf(PartialFailure);
      expect(purchases()).toMatchObject({ calls: 1 });
      expect(ours()).toEqual([]);
    },
  );

  it('finds the pod of an interrupted run by its name and buys nothing', async () => {
    const first = await createOne(setUp().crud);
    const again = await createOne(setUp({ mayExist: true }).crud);
    expect(again.id).toBe(first.id);
    expect(purchases()).toMatchObject({ calls: 1 });
  });

  it('keeps one of several under one name and tells the others', async () => {
    const [offer] = await client.searchOffers({ gpu: 'RTX 4090', gpuCount: 1 });
    const order = { env: {}, onStart: null, interruptible: false, bidMicroUsdPerHour: null, sshPublicKeys: [] };
    for (let i = 0; i < 2; i++)
      await client.buy({
        ...order,
        providerOfferId: offer?.providerOfferId ?? '',
        label: LABEL,
        image: 'a/b',
        diskGib: 10,
      });
    const { crud } = setUp({ mayExist: true });
    const { id, outs } = await createOne(crud);
    expect(outs.duplicateInstanceIds).toHaveLength(1);
    expect([id, ...(outs.duplicateInstanceIds as string[])].sort()).toEqual(
      ours()
        .map((machine) => machine.id)
        .sort(),
    );
    await crud.delete(id, outs);
    expect(ours()).toEqual([]);
  });

  it('does not take a pod that is being terminated for the one it needs', async () => {
    sandbox.setSwitches('runpod', { terminatedForMs: 60_000 });
    const first = await createOne(setUp().crud);
    await client.destroy(first.id);
    const again = await createOne(setUp({ mayExist: true }).crud);
    expect(again.id).not.toBe(first.id);
  });

  it('asks the next data center where the first was sold out, and says why none was left', async () => {
    await fault('create', { kind: 'stale_offer', times: 2 });
    const { crud, refusals } = setUp();
    await createOne(crud);
    expect(refusals).toHaveLength(2);
    expect(new Set(refusals.map((refusal) => refusal.providerOfferId)).size).toBe(2);
    sandbox.setSwitches('runpod', { staleOfferShare: 1 });
    const error = await failureOf(setUp().crud.create({ ...INPUTS, label: 'muster-test-b' }));
    expect(error).toMatchObject({ kind: 'no_capacity', message: expect.stringMatching(/no longer any instances/) });
  });

  it('stops at once where every offer would be refused the same', async () => {
    sandbox.setSwitches('runpod', { creditUsd: 0 });
    expect(await failureOf(createOne(setUp().crud))).toMatchObject({ kind: 'billing' });
    expect(purchases()).toMatchObject({ calls: 1 });
    sandbox.setSwitches('runpod', { creditUsd: 10_000 });
    expect(await failureOf(setUp().crud.create({ ...INPUTS, interruptible: true }))).toMatchObject({
      kind: 'no_capacity',
    });
  });

  it('keeps a pod in the state that cannot be read back', async () => {
    await fault('read', { kind: 'status' });
    const failure = await failureOf(createOne(setUp().crud));
    expect(failure).toBeInstanceOf(PartialFailure);
    expect(failure).toMatchObject({ id: ours()[0]?.id, properties: { label: LABEL, __provider: 'the shim' } });
  });
});

describe('update', () => {
  it('renames in place, and refuses a further key, which no running pod can be given', async () => {
    const { crud } = setUp();
    const { id, outs } = await createOne(crud);
    const news = { ...INPUTS, label: 'muster-test-b' };
    expect(await crud.diff(id, outs, news)).toMatchObject({ replaces: [], changed: ['label'] });
    const { outs: renamed } = await crud.update(id, outs, news);
    expect(renamed).toMatchObject({ label: 'muster-test-b' });
    expect(ours()).toMatchObject([{ id, label: 'muster-test-b' }]);
    const further = { ...news, sshPublicKeys: [OWN_KEY, `${OWN_KEY}-b`] };
    expect((await crud.diff(id, renamed, further)).changed).toEqual(['sshPublicKeys']);
    expect(await failureOf(crud.update(id, renamed, further))).toMatchObject({ message: expect.stringMatching(/key/) });
    await crud.delete(id, renamed);
    expect(ours()).toEqual([]);
  });
});

describe('delete', () => {
  it.each(['lose_response', 'execute_then_status', 'status', 'drop', 'html', 'rate_limit'] as const)(
    'has the pod gone, proven, in spite of %s',
    async (kind) => {
      const { crud } = setUp();
      const { id, outs } = await createOne(crud);
      await fault('destroy', { kind, times: 1 });
      await crud.delete(id, outs);
      expect(ours()).toEqual([]);
      await crud.delete(id, outs);
    },
  );

  it('is not done while the vendor still shows the pod as terminated', async () => {
    sandbox.setSwitches('runpod', { terminatedForMs: 60_000 });
    const { crud } = setUp();
    const { id, outs } = await createOne(crud);
    expect(await failureOf(crud.delete(id, outs))).toMatchObject({ kind: 'retryable' });
    await sandbox.advance(61_000);
    await crud.delete(id, outs);
    expect(ours()).toEqual([]);
  });

  it('leaves a pod alone that somebody has locked or renamed', async () => {
    const { crud } = setUp();
    const { id, outs } = await createOne(crud);
    await patch(id, { locked: true });
    expect(await failureOf(crud.delete(id, outs))).toMatchObject({
      kind: 'retryable',
      message: expect.stringMatching(/locked/),
    });
    await patch(id, { locked: false, name: 'theirs' });
    expect(await failureOf(crud.delete(id, outs))).toMatchObject({
      kind: 'invalid',
      message: expect.stringMatching(/theirs/),
    });
    expect(ours()).toHaveLength(1);
  });
});

async function patch(id: string, body: Record<string, unknown>): Promise<void> {
  const headers = { authorization: `Bearer ${sandbox.apiKey}`, 'content-type': 'application/json' };
  const answer = await fetch(`${sandbox.urls.runpod}/v2/pods/${id}`, {
    method: 'PATCH',
    headers,
    body: JSON.stringify(body),
  });
  if (answer.status !== 200) throw new Error(await answer.text());
}
