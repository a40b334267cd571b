/** The dynamic resource over Lambda's client and simulator, with each fault of a purchase and of a destroy. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createLambdaClient } from '../../../providers-dynamic/lambda/client.ts';
import { createLambdaCrud } from '../../../providers-dynamic/lambda/crud.ts';
import { PartialFailure, type DynamicCrud, type Properties } from '../../../providers-dynamic/dynamic-crud.ts';
import type { CrudTimings } from '../../../providers-dynamic/machine-crud.ts';
import type { ProviderClient } from '../../../providers-dynamic/provider-client.ts';
import { createRateLimiter } from '../../../providers-dynamic/rate-limiter.ts';
import type { FaultInput } from '../../../sandbox/faults.ts';
import { startSandbox, type Sandbox } from '../../../sandbox/server.ts';
import { createMarketRuntime, type MarketScript } from '../../support/market-runtime.ts';
import { SSH_KEY } from '../../support/ssh-machine.ts';

const TIMINGS: CrudTimings = { verifyMs: 400, firstPollMs: 1, maxPollMs: 20, readBackPausesMs: [1, 1] };
/** For a vendor that has to be asked again, or to be waited for. */
const PATIENT: CrudTimings = { ...TIMINGS, verifyMs: 5_000 };
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
  client = createLambdaClient(
    { apiKey: sandbox.apiKey, baseUrl: sandbox.urls.lambda, requestTimeoutMs: 2_000 },
    createRateLimiter({}),
  );
});

function setUp(script: MarketScript = {}, timings = TIMINGS) {
  const market = createMarketRuntime(client, { deploymentKeys: [SSH_KEY.public], ...script });
  return { ...market, crud: createLambdaCrud(market.runtime, timings) };
}

const fault = (endpoint: string, input: Omit<FaultInput, 'provider' | 'endpoint'>) =>
  sandbox.addFault({ provider: 'lambda', endpoint, ...input });
const purchases = () => sandbox.state().lambda.purchases[LABEL];
const ours = () =>
  sandbox.state().lambda.machines.filter((machine) => machine.origin === 'bought' && machine.status !== 'terminating');
const createOne = async (crud: DynamicCrud) => crud.create((await crud.check({}, INPUTS)).inputs);

/** The vendor takes its time with a terminate, and the sandbox's stands still: it moves while `work` runs. */
async function letTimePass<T>(work: Promise<T>): Promise<T> {
  let isDone = false;
  const done = work.finally(() => (isDone = true));
  done.catch(() => {});
  while (!isDone) {
    await sandbox.advance(50);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return done;
}

async function failureOf(work: Promise<unknown>): Promise<Error> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof Error)) throw new Error('it did not fail');
  return error;
}

describe('create', () => {
  it('launches one instance that lets in every key from its first boot, with outputs that hold no secret', async () => {
    const { crud } = setUp();
    const { id, outs } = await createOne(crud);
    expect(outs).toMatchObject({
      provider: 'lambda',
      label: LABEL,
      status: 'starting',
      attachedSshPublicKeys: [SSH_KEY.public, OWN_KEY],
      observedGpuCount: 1,
      machineId: null,
    });
    expect(Object.values(outs)).not.toContain(undefined);
    expect(JSON.stringify(outs)).not.toMatch(/stays-secret|start-script/);
    await sandbox.advance(10_000);
    expect((await crud.read(id, outs)).props).toMatchObject({ status: 'running', sshUser: 'ubuntu' });
  });

  it.each(['lose_response', 'execute_then_status', 'execute_then_timeout', 'malformed'] as const)(
    'adopts what was launched when the answer is lost by %s',
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
    'says that something may exist after %s, and never launches again by itself',
    async (kind) => {
      await fault('create', { kind, times: 1 });
      const error = await failureOf(createOne(setUp().crud));
      expect(error).toMatchObject({ kind: 'unknown', message: expect.stringContaining(LABEL) });
      expect(error).not.toBeInstanceOf(PartialFailure);
      expect(purchases()).toMatchObject({ calls: 1 });
      expect(ours()).toEqual([]);
    },
  );

  it('finds the instance of an interrupted run by its label and launches nothing', async () => {
    const first = await createOne(setUp().crud);
    const again = await createOne(setUp({ mayExist: true }).crud);
    expect(again.id).toBe(first.id);
    expect(purchases()).toMatchObject({ calls: 1 });
  });

  it('asks the next region where the first was sold out, and stops at once where all would be refused the same', async () => {
    await fault('create', { kind: 'stale_offer', times: 2 });
    const { crud, refusals } = setUp();
    await createOne(crud);
    expect(new Set(refusals.map((refusal) => refusal.providerOfferId)).size).toBe(2);
    sandbox.setSwitches('lambda', { quota: 1 });
    const error = await failureOf(setUp().crud.create({ ...INPUTS, label: 'muster-test-b' }));
    expect(error).toMatchObject({ kind: 'billing', message: expect.stringMatching(/quota/i) });
    expect(sandbox.state().lambda.purchases['muster-test-b']).toMatchObject({ calls: 1 });
  });

  it('keeps an instance in the state that cannot be read back', async () => {
    await fault('read', { kind: 'status' });
    const failure = await failureOf(createOne(setUp().crud));
    expect(failure).toBeInstanceOf(PartialFailure);
    expect(failure).toMatchObject({ id: ours()[0]?.id, properties: { label: LABEL, __provider: 'the shim' } });
  });
});

describe('delete', () => {
  it.each(['lose_response', 'execute_then_status', 'status', 'drop', 'html', 'rate_limit'] as const)(
    'has the instance gone, proven, in spite of %s',
    async (kind) => {
      const { crud } = setUp({}, PATIENT);
      const { id, outs } = await createOne(crud);
      await fault('destroy', { kind, times: 1 });
      await letTimePass(crud.delete(id, outs));
      expect(ours()).toEqual([]);
      await crud.delete(id, outs);
    },
  );

  it.each(['refuse', 'ignore'] as const)(
    'repeats the terminate that a machine before its launch meets with "%s"',
    async (terminateEarly) => {
      sandbox.setSwitches('lambda', { terminateEarly, terminateReply: 'empty' });
      const { crud } = setUp({}, PATIENT);
      const { id, outs } = await createOne(crud);
      await letTimePass(crud.delete(id, outs));
      expect(ours()).toEqual([]);
      expect(sandbox.state().lambda.calls['destroy']).toBeGreaterThan(1);
    },
  );

  it('is not done while the vendor still terminates', async () => {
    const { crud } = setUp();
    const { id, outs } = await createOne(crud);
    expect(await failureOf(crud.delete(id, outs))).toMatchObject({ kind: 'retryable' });
    await sandbox.advance(10_000);
    await crud.delete(id, outs);
  });

  it('leaves an instance alone that carries another label', async () => {
    const { crud } = setUp();
    const { id, outs } = await createOne(crud);
    const stranger = await createOne(createOtherCrud());
    expect(await failureOf(crud.delete(stranger.id, outs))).toMatchObject({ kind: 'invalid' });
    expect(ours().map((machine) => machine.id)).toEqual([id, stranger.id]);
  });

  function createOtherCrud(): DynamicCrud {
    const { crud } = setUp();
    return { ...crud, create: (inputs) => crud.create({ ...inputs, label: 'muster-test-other' }) };
  }
});
