import { describe, expect, it } from 'vitest';
import { CRASH_POINTS, type CrashPointName } from '../../../domain/crash-points.ts';
import type { ProviderError } from '../../../domain/provider-error.ts';
import {
  PartialFailure,
  UNKNOWN_VALUE,
  type DynamicCrud,
  type Properties,
} from '../../../providers-dynamic/dynamic-crud.ts';
import type { CrudTimings } from '../../../providers-dynamic/machine-crud.ts';
import { createVastaiCrud } from '../../../providers-dynamic/vastai/crud.ts';
import { createScriptedClient, createScriptedRuntime, type RuntimeScript } from '../../support/scripted-purchases.ts';

const TIMINGS: CrudTimings = { verifyMs: 200, firstPollMs: 1, maxPollMs: 5, readBackPausesMs: [1, 1] };
const LABEL = 'muster-test-a';
const KEY = 'ssh-ed25519 AAAA me';
const SECRET = 'env-value-that-stays-secret';

const INPUTS: Properties = {
  label: LABEL,
  resourceKey: 'project-key',
  gpu: 'RTX 4090',
  maxPriceMicroUsdPerHour: 600_000,
  image: 'an/image:1',
  env: { TOKEN: SECRET },
  onStart: 'echo start-script',
  sshPublicKeys: [KEY],
  __provider: 'the shim',
};

function setUp(script: RuntimeScript = {}) {
  const client = createScriptedClient();
  const runtime = createScriptedRuntime(client, script);
  return { client, runtime, crud: createVastaiCrud(runtime, TIMINGS) };
}

async function failureOf(work: Promise<unknown>): Promise<Error> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof Error)) throw new Error('it did not fail');
  return error;
}

async function partialOf(work: Promise<unknown>): Promise<PartialFailure> {
  const error = await failureOf(work);
  if (!(error instanceof PartialFailure)) throw error;
  return error;
}

async function createOne(crud: DynamicCrud): Promise<{ id: string; outs: Properties }> {
  return crud.create((await crud.check({}, INPUTS)).inputs);
}

describe('create', () => {
  it('buys, reads back, lets the keys in and returns outputs without undefined and without secrets', async () => {
    const { client, runtime, crud } = setUp({ deploymentKeys: ['ssh-ed25519 BBBB deployment'] });
    const { id, outs } = await createOne(crud);
    expect(id).toBe('1001');
    expect(outs).toMatchObject({
      label: LABEL,
      status: 'starting',
      priceMicroUsdPerHour: 350_000,
      machineId: 'm1',
      rejected: false,
    });
    expect(Object.values(outs)).not.toContain(undefined);
    expect(JSON.stringify(outs)).not.toMatch(new RegExp(`${SECRET}|start-script|bigint`));
    expect(client.keysOf(LABEL)).toEqual(['ssh-ed25519 BBBB deployment', KEY]);
    expect(client.orderOf(LABEL)).toMatchObject({
      label: LABEL,
      env: { TOKEN: SECRET },
      interruptible: false,
      bidMicroUsdPerHour: null,
    });
    expect(client.calls()).toEqual(['buy', 'readInstance', 'attachSshKey', 'attachSshKey']);
    const create: CrashPointName[] = [...CRASH_POINTS].slice(
      CRASH_POINTS.indexOf('create_entered'),
      CRASH_POINTS.indexOf('ssh_keys_attached') + 1,
    );
    expect(runtime.points()).toEqual(create);
  });

  it('takes the next candidate only after a definite refusal, and tells which was refused', async () => {
    const { client, runtime, crud } = setUp();
    client.script('refused', 'refused', 'sold');
    await createOne(crud);
    expect(client.orderOf(LABEL)?.providerOfferId).toBe('3');
    expect(runtime.refusals().map((refusal) => refusal.providerOfferId)).toEqual(['1', '2']);
  });

  it('says what was refused when no candidate is left', async () => {
    const { client, crud } = setUp({ candidates: 2 });
    client.script('refused', 'refused');
    const error = await failureOf(createOne(crud));
    expect(error).toMatchObject({ kind: 'no_capacity', message: expect.stringMatching(/2 refusals.*no_such_ask 2/) });
    expect(await failureOf(createOne(setUp({ candidates: 0 }).crud))).toMatchObject({ kind: 'no_capacity' });
  });

  it('adopts a machine that an earlier run bought, without buying', async () => {
    const { client, crud } = setUp({ mayExist: true });
    client.place(LABEL);
    expect(await createOne(crud)).toMatchObject({
      id: '1001',
      outs: { status: 'running', attachedSshPublicKeys: [KEY] },
    });
    expect(client.bought()).toEqual([]);
  });

  it('keeps the oldest of several under one label and names the others', async () => {
    const { client, runtime, crud } = setUp({ mayExist: true });
    for (let i = 0; i < 3; i++) client.place(LABEL);
    expect(await createOne(crud)).toMatchObject({ id: '1001', outs: { duplicateInstanceIds: ['1002', '1003'] } });
    expect(runtime.messages().join('\n')).toMatch(/also 1002, 1003/);
  });

  it('looks several times over the list’s lag before it buys again', async () => {
    const { client, crud } = setUp({ mayExist: true, listLagMs: 40 });
    client.place(LABEL);
    client.hideFromList(LABEL, 3);
    await createOne(crud);
    expect(client.bought()).toEqual([]);
    expect(client.calls().filter((call) => call === 'findByLabel')).toHaveLength(4);
  });

  it('buys when a whole lag showed nothing, and not when the last look was no answer', async () => {
    const empty = setUp({ mayExist: true, listLagMs: 8 });
    await createOne(empty.crud);
    expect(empty.client.bought()).toEqual([LABEL]);
    const outage = setUp({ mayExist: true, listLagMs: 8 });
    outage.client.failNext('findByLabel', 'unbelievable', 'HTML', 9);
    expect(await failureOf(createOne(outage.crud))).toMatchObject({ kind: 'unknown' });
    expect(outage.client.calls()).not.toContain('buy');
  });

  it('does not adopt what the list still shows after it was destroyed', async () => {
    const { client, crud } = setUp({ mayExist: true });
    client.place(LABEL);
    const find = client.client.findByLabel;
    client.client.findByLabel = async (label) => {
      const found = await find(label);
      if (found.length > 0 && client.bought().length === 0) client.vanish(label);
      return found;
    };
    expect((await createOne(crud)).id).toBe('1002');
  });

  it('adopts after a lost answer, even when the list lags', async () => {
    const { client, crud } = setUp({ listLagMs: 16 });
    client.script('answer_lost');
    client.hideFromList(LABEL, 2);
    expect((await createOne(crud)).id).toBe('1001');
    expect(client.bought()).toEqual([LABEL]);
    expect(client.calls().filter((call) => call === 'buy')).toHaveLength(1);
  });

  it.each(['request_lost', 'unknown'] as const)('never buys again in the same run after %s', async (script) => {
    const { client, crud } = setUp({ listLagMs: 8 });
    client.script(script);
    const error = await failureOf(createOne(crud));
    expect(error).toMatchObject({ kind: 'unknown', message: expect.stringContaining(LABEL) });
    expect(error).not.toBeInstanceOf(PartialFailure);
    expect(client.calls().filter((call) => call === 'buy')).toHaveLength(1);
  });

  it.each(['invalid', 'auth', 'billing', 'retryable'] as const)('passes %s on at once', async (kind) => {
    const { client, crud } = setUp();
    client.script(kind);
    expect(await failureOf(createOne(crud))).toMatchObject({ kind });
    expect(client.calls()).toEqual(['buy']);
  });

  it('destroys what a refused purchase made, proven, before it takes the next candidate', async () => {
    const { client, crud } = setUp();
    client.script('refused_but_made', 'sold');
    client.destroyTakes(2);
    expect((await createOne(crud)).id).toBe('1002');
    expect(client.liveIds()).toEqual(['1002']);
    const calls = client.calls();
    expect(calls.indexOf('destroy')).toBeLessThan(calls.lastIndexOf('buy'));
  });

  it('keeps a refused machine that cannot be destroyed in the state, to be replaced', async () => {
    const { client, crud } = setUp();
    client.script('refused_but_made');
    client.failNext('destroy', 'unknown', 'outage', 1_000);
    const failure = await partialOf(createOne(crud));
    expect(failure).toMatchObject({ id: '1001', properties: { rejected: true, label: LABEL, __provider: 'the shim' } });
    expect((await crud.diff('1001', failure.properties, INPUTS)).replaces).toEqual(['rejected']);
    expect(client.bought()).toEqual([]);
  });

  it('never loses a machine that cannot be read back', async () => {
    const { client, crud } = setUp();
    client.hideFromReads(LABEL);
    const failure = await partialOf(createOne(crud));
    expect(failure).toMatchObject({
      id: '1001',
      properties: { label: LABEL, status: 'unknown', __provider: 'the shim' },
    });
    client.showInReads();
    expect((await crud.update('1001', failure.properties, INPUTS)).outs).toMatchObject({
      status: 'starting',
      attachedSshPublicKeys: [KEY],
    });
  });

  it('remembers which keys were let in when one fails', async () => {
    const { client, crud } = setUp({ deploymentKeys: ['ssh-ed25519 BBBB deployment'] });
    client.failNext('attachSshKey', 'retryable', 'first');
    const failure = await partialOf(createOne(crud));
    expect(failure.properties).toMatchObject({ attachedSshPublicKeys: [], status: 'starting' });
    expect(failure.reasons[0]).toMatch(/SSH key/);
    expect(await crud.diff('1001', failure.properties, INPUTS)).toMatchObject({
      changes: true,
      replaces: [],
      changed: ['sshPublicKeys'],
    });
  });

  it('makes the label from the resource’s key where none is given', async () => {
    const { client, crud } = setUp();
    const { label: _label, ...rest } = INPUTS;
    await crud.create(rest);
    expect(client.live()).toEqual(['muster-ext-project-key']);
  });

  it('bids the highest price for an interruptible machine without a bid', async () => {
    const { client, crud } = setUp();
    await crud.create((await crud.check({}, { ...INPUTS, interruptible: true })).inputs);
    expect(client.orderOf(LABEL)).toMatchObject({ interruptible: true, bidMicroUsdPerHour: 600_000n });
  });

  it('does not buy without the right to spend', async () => {
    const { client, runtime, crud } = setUp();
    runtime.loseLease();
    expect(await failureOf(createOne(crud))).toMatchObject({ kind: 'canceled' });
    expect(client.live()).toEqual([]);
  });

  it('creates many at once without mixing them up', async () => {
    const { client, crud } = setUp();
    const labels = Array.from({ length: 20 }, (_, index) => `muster-test-${index}`);
    const made = await Promise.all(labels.map((label) => crud.create({ ...INPUTS, label })));
    expect(made.map(({ outs }) => outs.label)).toEqual(labels);
    expect(client.live()).toHaveLength(labels.length);
    expect(new Set(client.live())).toEqual(new Set(labels));
  });
});

const CREATE_POINTS = [
  'create_entered',
  'candidate_assigned',
  'purchase_sending',
  'purchase_answered',
  'purchase_read_back',
  'ssh_keys_attached',
] as const;
const OUTCOMES = ['sold', 'refused', 'answer_lost', 'request_lost', 'refused_but_made'] as const;

describe('a create that is cut off', () => {
  it.each(CREATE_POINTS.flatMap((point) => OUTCOMES.map((outcome) => [point, outcome] as const)))(
    'by a kill at %s after %s leaves one machine once it is run again',
    async (point, outcome) => {
      const { client, runtime, crud } = setUp({ mayExist: true });
      client.script(outcome);
      runtime.atPoint((name) => {
        if (name === point) throw new Error('killed');
      });
      await createOne(crud).catch(() => {});
      runtime.atPoint(() => {});
      // The engine may have kept a partial failure; a kill leaves nothing, so the next run always creates again. One whose
      // request was lost without a machine must give up, and leave the purchase to the run after it.
      const { id, outs } = await createOne(crud).catch(() => createOne(crud));
      expect(client.liveIds()).toEqual([id]);
      expect(client.live()).toEqual([LABEL]);
      expect(outs.attachedSshPublicKeys).toEqual([KEY]);
    },
  );

  it.each(CREATE_POINTS.flatMap((point) => OUTCOMES.map((outcome) => [point, outcome] as const)))(
    'by a cancel at %s with %s keeps what was bought, or has bought nothing',
    async (point, outcome) => {
      const { client, runtime, crud } = setUp();
      client.script(outcome);
      runtime.atPoint((name) => {
        if (name === point) runtime.cancel();
      });
      const result = await createOne(crud).then(
        (made) => made.id,
        (error: unknown) => (error instanceof PartialFailure ? error.id : (error as ProviderError).kind),
      );
      // A purchase under way when the cancel comes is carried through by the client; the scripted one has not begun at `sending`.
      if (client.live().length === 0) expect(['canceled', 'unknown']).toContain(result);
      else expect(client.liveIds()).toEqual([result]);
    },
  );

  it('is a plain cancel before the purchase, and a partial failure after it', async () => {
    const before = setUp();
    before.runtime.atPoint((name) => void (name === 'create_entered' && before.runtime.cancel()));
    const plain = await failureOf(createOne(before.crud));
    expect(plain).toMatchObject({ kind: 'canceled' });
    const after = setUp();
    after.runtime.atPoint((name) => void (name === 'purchase_answered' && after.runtime.cancel()));
    expect(await partialOf(createOne(after.crud))).toMatchObject({
      id: '1001',
      reasons: [expect.stringMatching(/cancel/)],
    });
  });

  it('ends a wait for the lagging list at once', async () => {
    const { runtime, crud } = setUp({ mayExist: true, listLagMs: 60_000 });
    const startedAt = performance.now();
    const work = failureOf(createOne(crud));
    runtime.cancel();
    expect(await work).toMatchObject({ kind: 'canceled' });
    expect(performance.now() - startedAt).toBeLessThan(2_000);
  });

  it('looks a last time when the cancel comes while a lost answer is looked up', async () => {
    const { client, runtime, crud } = setUp({ listLagMs: 60_000 });
    client.script('answer_lost');
    client.hideFromList(LABEL, 1);
    const find = client.client.findByLabel;
    client.client.findByLabel = async (label, signal) => {
      const found = await find(label, signal);
      runtime.cancel();
      return found;
    };
    expect(await partialOf(createOne(crud))).toMatchObject({ id: '1001' });
  });
});

describe('read', () => {
  it('shows what the vendor says, keeps our label, and is empty when the machine is gone', async () => {
    const { client, crud } = setUp();
    const { id, outs } = await createOne(crud);
    client.setStatus(LABEL, 'running');
    client.relabel(LABEL, 'renamed-by-hand');
    expect(await crud.read(id, outs)).toMatchObject({ id, props: { status: 'running', label: LABEL } });
    client.vanish('renamed-by-hand');
    expect(await crud.read(id, outs)).toEqual({});
  });

  it('does not take an error for an absence', async () => {
    const { client, crud } = setUp();
    const { id, outs } = await createOne(crud);
    client.failNext('readInstance', 'unbelievable', '410');
    expect(await failureOf(crud.read(id, outs))).toMatchObject({ kind: 'unbelievable' });
  });
});

describe('update', () => {
  it('ensures label, bid and keys, and returns the full outputs', async () => {
    const { client, crud } = setUp();
    const inputs = { ...INPUTS, interruptible: true, bidMicroUsdPerHour: 300_000 };
    const { id, outs } = await crud.create(inputs);
    const news = {
      ...inputs,
      label: 'muster-test-b',
      bidMicroUsdPerHour: 400_000,
      sshPublicKeys: [KEY, 'ssh-ed25519 CCCC new'],
    };
    const updated = (await crud.update(id, outs, news)).outs;
    expect(updated).toMatchObject({
      ...outs,
      label: 'muster-test-b',
      bidMicroUsdPerHour: 400_000,
      attachedSshPublicKeys: news.sshPublicKeys,
    });
    expect(client.live()).toEqual(['muster-test-b']);
    expect(client.calls().filter((call) => call === 'changeBid')).toHaveLength(1);
    expect((await crud.diff(id, updated, news)).changes).toBe(false);
  });

  it('puts a lost label back, but takes no machine over that carries another', async () => {
    const { client, crud } = setUp();
    const { id, outs } = await createOne(crud);
    client.relabel(LABEL, null);
    await crud.update(id, outs, INPUTS);
    expect(client.live()).toEqual([LABEL]);
    client.relabel(LABEL, 'somebody-elses');
    expect(await failureOf(crud.update(id, outs, INPUTS))).toMatchObject({
      message: expect.stringMatching(/not ours/),
    });
    expect(client.live()).toEqual(['somebody-elses']);
  });

  it('says that a machine is gone', async () => {
    const { client, crud } = setUp();
    const { id, outs } = await createOne(crud);
    client.vanish(LABEL);
    expect(await failureOf(crud.update(id, outs, INPUTS))).toMatchObject({ kind: 'not_found' });
  });
});

describe('delete', () => {
  it('returns only when the vendor says not-found, and passes its crash points', async () => {
    const { client, runtime, crud } = setUp();
    const { id, outs } = await createOne(crud);
    client.destroyTakes(4);
    runtime.points().length = 0;
    await crud.delete(id, outs);
    expect(client.live()).toEqual([]);
    expect(runtime.points()).toEqual(['delete_entered', 'delete_sending', 'delete_answered', 'delete_verified']);
    expect(client.calls().filter((call) => call === 'destroy')).toHaveLength(1);
  });

  it('is idempotent', async () => {
    const { client, crud } = setUp();
    const { id, outs } = await createOne(crud);
    await crud.delete(id, outs);
    await crud.delete(id, outs);
    expect(client.calls().filter((call) => call === 'destroy')).toHaveLength(1);
  });

  it('of what is known by the inputs of its interrupted create goes by the label that they give', async () => {
    const { client, crud } = setUp();
    const id = client.place('muster-ext-project-key');
    await crud.delete(id, { ...INPUTS, label: null });
    expect(client.live()).toEqual([]);
    const other = client.place('somebody-elses');
    await expect(crud.delete(other, { ...INPUTS, label: null })).rejects.toMatchObject({ kind: 'invalid' });
    await expect(crud.delete(other, {})).rejects.toThrow(/has no label/);
    expect(client.live()).toEqual(['somebody-elses']);
  });

  it('fails as retryable while the vendor still shows the machine', async () => {
    const { client, crud } = setUp();
    const { id, outs } = await createOne(crud);
    client.destroyTakes(1_000);
    expect(await failureOf(crud.delete(id, outs))).toMatchObject({
      kind: 'retryable',
      message: expect.stringMatching(/not proven gone/),
    });
  });

  it('survives lost answers and outages within its time', async () => {
    const { client, crud } = setUp();
    const { id, outs } = await createOne(crud);
    client.failNext('destroy', 'unknown', 'reset', 2);
    client.failNext('readInstance', 'retryable', '502', 2);
    client.failNext('findByLabel', 'unbelievable', '410', 2);
    await crud.delete(id, outs);
    expect(client.live()).toEqual([]);
  });

  it('does not take a list that cannot be believed for a proof', async () => {
    const { client, crud } = setUp();
    const { id, outs } = await createOne(crud);
    client.failNext('findByLabel', 'unbelievable', '410', 1_000);
    expect(await failureOf(crud.delete(id, outs))).toMatchObject({ kind: 'retryable' });
  });

  it('refuses a machine that carries another label, or none', async () => {
    const { client, crud } = setUp();
    const { id, outs } = await createOne(crud);
    for (const label of ['somebody-elses', null]) {
      client.relabel(client.live()[0] as string, label);
      expect(await failureOf(crud.delete(id, outs))).toMatchObject({
        kind: 'invalid',
        message: expect.stringMatching(/refusing/),
      });
      client.relabel(label as string, LABEL);
    }
    expect(client.calls()).not.toContain('destroy');
  });

  it('takes duplicates under its label along, and nothing else', async () => {
    const { client, crud } = setUp({ mayExist: true });
    client.place(LABEL);
    client.place(LABEL);
    client.place('muster-test-other');
    const { id, outs } = await createOne(crud);
    await crud.delete(id, outs);
    expect(client.live()).toEqual(['muster-test-other']);
  });

  it('passes on at once what will not heal', async () => {
    const { client, crud } = setUp();
    const { id, outs } = await createOne(crud);
    client.failNext('destroy', 'auth', 'key revoked');
    expect(await failureOf(crud.delete(id, outs))).toMatchObject({ kind: 'auth' });
  });
});

describe('diff', () => {
  async function diffWith(changes: Properties, script: RuntimeScript = {}) {
    const { crud } = setUp(script);
    const { id, outs } = await createOne(crud);
    return crud.diff(id, outs, { ...INPUTS, ...changes });
  }

  it.each<[string, unknown]>([
    ['gpu', 'H100 SXM'],
    ['gpuCount', 2],
    ['diskGib', 80],
    ['image', 'an/image:2'],
    ['env', { TOKEN: 'other' }],
    ['onStart', 'echo other'],
    ['interruptible', true],
  ])('replaces for %s, the old machine first', async (field, value) => {
    expect(await diffWith({ [field]: value })).toMatchObject({
      changes: true,
      replaces: [field],
      changed: expect.arrayContaining([field]),
      deleteBeforeReplace: true,
    });
  });

  it.each<[string, unknown]>([
    ['maxPriceMicroUsdPerHour', 1],
    ['regions', ['SE']],
    ['minReliability', 0.99],
    ['minGpuMemoryGib', 80],
    ['resourceKey', 'renamed'],
    ['gpu', 'rtx_4090'],
    ['sshPublicKeys', []],
    ['__provider', 'a newer shim'],
    ['label', undefined],
  ])('changes nothing for %s', async (field, value) => {
    expect(await diffWith({ [field]: value })).toMatchObject({ changes: false, changed: [] });
  });

  it('does not depend on the order of environment variables', async () => {
    const { crud } = setUp();
    const { id, outs } = await crud.create({ ...INPUTS, env: { A: '1', B: '2' } });
    expect((await crud.diff(id, outs, { ...INPUTS, env: { B: '2', A: '1' } })).changes).toBe(false);
  });

  it('updates for a new label, a new key, and a key of the deployment that is not in yet', async () => {
    expect(await diffWith({ label: 'muster-test-b' })).toMatchObject({ replaces: [], changed: ['label'] });
    expect(await diffWith({ sshPublicKeys: [KEY, 'ssh-ed25519 CCCC new'] })).toMatchObject({
      replaces: [],
      changed: ['sshPublicKeys'],
    });
    const script: RuntimeScript = {};
    const { crud } = setUp(script);
    const { id, outs } = await createOne(crud);
    script.deploymentKeys = ['ssh-ed25519 DDDD rotated'];
    expect(await crud.diff(id, outs, INPUTS)).toMatchObject({ replaces: [], changed: ['sshPublicKeys'] });
  });

  it('says so in a preview when a value that replaces is not known yet', async () => {
    expect(await diffWith({ image: UNKNOWN_VALUE })).toMatchObject({ replaces: ['image'] });
  });
});

describe('check', () => {
  const failuresOf = async (changes: Properties) => (await setUp().crud.check({}, { ...INPUTS, ...changes })).failures;

  it('fills the defaults in', async () => {
    const { inputs, failures } = await setUp().crud.check(
      {},
      { gpu: 'RTX 4090', image: 'x', maxPriceMicroUsdPerHour: 1, resourceKey: 'k' },
    );
    expect(failures).toEqual([]);
    expect(inputs).toMatchObject({
      gpuCount: 1,
      diskGib: 40,
      interruptible: false,
      env: {},
      sshPublicKeys: [],
      regions: [],
      label: null,
    });
  });

  it.each<[string, unknown]>([
    ['gpu', ''],
    ['gpuCount', 0],
    ['gpuCount', 1.5],
    ['diskGib', 4],
    ['maxPriceMicroUsdPerHour', 0],
    ['maxPriceMicroUsdPerHour', '0.60'],
    ['image', 'an image'],
    ['env', { A: 1 }],
    ['minReliability', 95],
    ['label', 'Has Capitals'],
    ['label', 'x'.repeat(64)],
    ['bidMicroUsdPerHour', 100_000],
    ['sshPublicKeys', ['']],
  ])('names %s when it is %j', async (field, value) => {
    expect((await failuresOf({ [field]: value })).map((failure) => failure.property)).toContain(field);
  });

  it('refuses a bid above the highest price', async () => {
    expect(await failuresOf({ interruptible: true, bidMicroUsdPerHour: 700_000 })).toMatchObject([
      { property: 'bidMicroUsdPerHour' },
    ]);
  });

  it('lets values pass that a preview does not know yet', async () => {
    expect(
      await failuresOf({ image: UNKNOWN_VALUE, gpuCount: UNKNOWN_VALUE, env: UNKNOWN_VALUE, label: UNKNOWN_VALUE }),
    ).toEqual([]);
  });
});
