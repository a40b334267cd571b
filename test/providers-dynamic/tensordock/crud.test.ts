import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_IMAGE } from '../../../domain/provision-request.ts';
import { PartialFailure, type DynamicCrud, type Properties } from '../../../providers-dynamic/dynamic-crud.ts';
import type { CrudTimings } from '../../../providers-dynamic/machine-crud.ts';
import { createRateLimiter } from '../../../providers-dynamic/rate-limiter.ts';
import { createStandaloneRuntime } from '../../../providers-dynamic/standalone-runtime.ts';
import { createTensordockClient } from '../../../providers-dynamic/tensordock/client.ts';
import { createTensordockCrud } from '../../../providers-dynamic/tensordock/crud.ts';
import type { FaultInput } from '../../../sandbox/faults.ts';
import { startSandbox, type Sandbox } from '../../../sandbox/server.ts';
import { SSH_KEY } from '../../support/ssh-machine.ts';

/** The vendor needs under a second here to be done with a machine. */
const TIMINGS: CrudTimings = { verifyMs: 3_000, firstPollMs: 20, maxPollMs: 100, readBackPausesMs: [5, 5] };
const LABEL = 'muster-test-a';
const INPUTS: Properties = {
  label: LABEL,
  resourceKey: 'project-key',
  gpu: 'RTX 4090',
  maxPriceMicroUsdPerHour: 900_000,
  image: DEFAULT_IMAGE,
  diskGib: 120,
  env: { TOKEN: 'env-value-that-stays-secret' },
  onStart: 'echo start-script',
  sshPublicKeys: [SSH_KEY.public],
  __provider: 'the shim',
};

describe('a TensorDock machine as a dynamic resource', () => {
  let sandbox: Sandbox;
  let crud: DynamicCrud;

  beforeAll(async () => {
    sandbox = await startSandbox({ dir: null, port: 0, time: 'auto', offers: 60, hasForeignMachines: false });
  });
  afterAll(() => sandbox?.close());
  beforeEach(async () => {
    await sandbox.reset();
    const settings = { apiKey: sandbox.apiKey, baseUrl: sandbox.urls.tensordock, requestTimeoutMs: 2_000 };
    const client = createTensordockClient(settings, createRateLimiter({}));
    crud = createTensordockCrud(createStandaloneRuntime({ client: () => client, listLagMs: () => 200 }), TIMINGS);
  });

  const state = () => sandbox.state().tensordock;
  const purchases = () => state().purchases[LABEL];
  const alive = () => state().machines.filter((machine) => machine.destroyedAtMs === null);
  const fault = (endpoint: string, input: Omit<FaultInput, 'provider' | 'endpoint'>) =>
    sandbox.addFault({ provider: 'tensordock', endpoint, ...input });

  async function create(changes: Properties = {}): Promise<{ id: string; outs: Properties }> {
    const { inputs, failures } = await crud.check({}, { ...INPUTS, ...changes });
    expect(failures).toEqual([]);
    return crud.create(inputs);
  }

  it('is bought with its keys, read back without secrets, and destroyed until the vendor says not-found', async () => {
    const { id, outs } = await create();
    expect(outs).toMatchObject({
      provider: 'tensordock',
      label: LABEL,
      status: 'starting',
      observedGpu: 'RTX 4090',
      observedGpuCount: 1,
      attachedSshPublicKeys: [SSH_KEY.public],
    });
    expect(Object.values(outs)).not.toContain(undefined);
    expect(JSON.stringify(outs)).not.toMatch(/stays-secret|start-script/);
    const refreshed = await crud.read(id, outs);
    expect(refreshed).toMatchObject({ id, props: { label: LABEL } });
    expect(await crud.diff(id, outs, { ...INPUTS })).toMatchObject({ changes: false });
    await crud.delete(id, outs);
    expect(alive()).toEqual([]);
    expect(await crud.read(id, outs)).toEqual({});
  });

  it('takes the next host when one is sold out, though the vendor says so with status 200', async () => {
    await fault('create', { kind: 'stale_offer', times: 3 });
    const { id } = await create();
    expect(purchases()).toMatchObject({ calls: 4, accepted: 1, machineIds: [id] });
  });

  it.each(['lose_response', 'execute_then_status', 'execute_then_timeout'] as const)(
    'is adopted by its name after %s, never bought twice',
    async (kind) => {
      await fault('create', { kind, times: 1 });
      const { id } = await create();
      expect(purchases()).toMatchObject({ calls: 1, accepted: 1, machineIds: [id] });
      expect(alive()).toHaveLength(1);
    },
  );

  it('is adopted although the list shows it late', async () => {
    sandbox.setSwitches('tensordock', { listLagMs: 120, listShape: 'C' });
    await fault('create', { kind: 'lose_response', times: 1 });
    const { id } = await create();
    expect(purchases()).toMatchObject({ calls: 1, machineIds: [id] });
  });

  it('is not bought again where the answer was lost and nothing shows up', async () => {
    await fault('create', { kind: 'drop', times: 1 });
    await expect(create()).rejects.toMatchObject({ kind: 'unknown' });
    expect(purchases()).toMatchObject({ calls: 1, accepted: 0 });
  });

  it('stays in the state with its id when reading it back fails', async () => {
    await fault('show', { kind: 'status' });
    const error: unknown = await create().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(PartialFailure);
    expect(alive()).toMatchObject([{ id: (error as PartialFailure).id }]);
  });

  it('cannot be let another key in or another name given: both are said', async () => {
    const { id, outs } = await create();
    const more = { ...INPUTS, sshPublicKeys: [SSH_KEY.public, 'ssh-ed25519 AAAA late'] };
    await expect(crud.update(id, outs, more)).rejects.toThrow(/no further key|replace/);
    await expect(crud.update(id, outs, { ...INPUTS, label: 'muster-test-b' })).rejects.toThrow(/rename/);
    expect(alive()).toMatchObject([{ label: LABEL, changeCalls: 0 }]);
  });

  it('refuses a container image before anything is sent', async () => {
    await expect(create({ image: 'an/image:1' })).rejects.toThrow(/image.*runs no container image/);
    expect(purchases()).toBeUndefined();
  });

  it('is proven gone through a list that lags and a 204', async () => {
    sandbox.setSwitches('tensordock', { deleteStatus: 204 });
    const { id, outs } = await create();
    sandbox.setSwitches('tensordock', { listLagMs: 300 });
    await fault('destroy', { kind: 'execute_then_status', times: 1 });
    await crud.delete(id, outs);
    expect(alive()).toEqual([]);
  });
});
