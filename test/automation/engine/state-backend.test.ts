import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { StackHeldError, type StateBackend } from '../../../automation/engine/state-backend.ts';
import { inTransaction } from '../../../db/database.ts';
import { appendStateVersion, deleteStateStack, findEngineStack, readStateVersion } from '../../../db/state-stacks.ts';
import { appendJournal, insertStateUpdate, readCurrentState, startStateUpdate } from '../../../db/state-updates.ts';
import type { Deployment } from '../../../domain/state/deployment.ts';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';
import { openStateHome, type StateHome } from '../../support/state-home.ts';

const STACK = 'instance-op-test';
const TYPE = 'pulumi-nodejs:dynamic/vastai:VastaiInstance';

let test: TestDatabase;
let home: StateHome;
let backend: StateBackend;
beforeAll(async () => {
  test = await createTestDatabase();
  home = await openStateHome(test.url);
  backend = home.backend;
});
afterAll(async () => {
  await home.close();
  await test.drop();
});
beforeEach(async () => {
  await inTransaction(home.database.kysely, async (tx) => {
    const { rows } = await home.database.pool.query<{ uuid: string }>('select uuid from state_stacks');
    for (const { uuid } of rows) await deleteStateStack(tx, uuid);
  });
});

describe('a stack', () => {
  it('is not there before it is prepared, is empty then, and is prepared again without harm', async () => {
    expect(await backend.readState(STACK)).toBeNull();
    await backend.prepareStack(STACK);
    expect(await backend.readState(STACK)).toEqual({ resources: [], pendingCreates: [] });
    await writeState({ resources: [machine('att_a', { id: '1' })] });
    await backend.prepareStack(STACK);
    expect((await backend.readState(STACK))?.resources).toHaveLength(1);
  });

  it('shows our resources and pending creates, not the stack itself, providers or other pending operations', async () => {
    await writeState({
      resources: [
        { urn: urn('stack', 'pulumi:pulumi:Stack'), type: 'pulumi:pulumi:Stack', custom: false },
        {
          urn: urn('p', 'pulumi:providers:pulumi-nodejs'),
          type: 'pulumi:providers:pulumi-nodejs',
          custom: true,
          id: 'x',
        },
        machine('att_a', { id: '1', outputs: { machineId: 'm1' }, initErrors: ['no key'] }),
      ],
      pending_operations: [
        { resource: machine('att_b', {}), type: 'creating' },
        { resource: machine('att_c', { id: '3' }), type: 'deleting' },
        {
          resource: { urn: urn('c', 'muster:eks:GpuCluster'), type: 'muster:eks:GpuCluster', custom: false },
          type: 'creating',
        },
      ],
    });
    expect(await backend.readState(STACK)).toEqual({
      resources: [
        {
          urn: urn('att_a', TYPE),
          name: 'att_a',
          type: TYPE,
          id: '1',
          parent: null,
          provider: null,
          isProtected: false,
          inputs: { label: 'label-att_a' },
          outputs: { machineId: 'm1' },
          initErrors: ['no key'],
        },
      ],
      pendingCreates: [expect.objectContaining({ name: 'att_b', id: null })],
    });
  });

  it('with resources is not removed; an empty one is, with all that was kept of it', async () => {
    await writeState({ resources: [machine('att_a', { id: '1' })] });
    await expect(backend.removeStack(STACK)).rejects.toThrow(/still has 1 resources/);
    await writeState({ resources: [] });
    await backend.prepareStack(`${STACK}-neighbour`);
    await backend.removeStack(STACK);
    await backend.removeStack(STACK);
    expect(await backend.readState(STACK)).toBeNull();
    expect(await backend.readState(`${STACK}-neighbour`)).not.toBeNull();
    const { rows } = await home.database.pool.query('select count(*)::int as versions from state_versions');
    expect(rows).toEqual([{ versions: 0 }]);
  });
});

describe('pending creates', () => {
  beforeEach(async () => {
    await writeState({
      resources: [machine('att_a', { id: '1' })],
      pending_operations: [
        { resource: machine('att_b', {}), type: 'creating' },
        { resource: machine('att_c', {}), type: 'creating' },
      ],
    });
  });

  it('that made something become resources which the next update makes whole; the others are dropped', async () => {
    await backend.resolvePendingCreates(STACK, { [urn('att_b', TYPE)]: { id: '77' } });
    const state = await backend.readState(STACK);
    expect(state?.pendingCreates).toEqual([]);
    expect(state?.resources.map(({ name, id }) => [name, id])).toEqual([
      ['att_a', '1'],
      ['att_b', '77'],
    ]);
    expect(state?.resources[1]).toMatchObject({ outputs: { label: 'label-att_b' } });
    expect(state?.resources[1]?.initErrors).not.toEqual([]);
  });

  it('are resolved once: again, or where there are none, nothing changes', async () => {
    await backend.resolvePendingCreates(STACK, { [urn('att_b', TYPE)]: { id: '77' } });
    const before = await versionOf(STACK);
    await backend.resolvePendingCreates(STACK, { [urn('att_b', TYPE)]: { id: '77' } });
    expect(await versionOf(STACK)).toBe(before);
  });

  it('whose resource is in the state already do not double it', async () => {
    await writeState({
      resources: [machine('att_b', { id: '77' })],
      pending_operations: [{ resource: machine('att_b', {}), type: 'creating' }],
    });
    await backend.resolvePendingCreates(STACK, { [urn('att_b', TYPE)]: { id: '77' } });
    expect((await backend.readState(STACK))?.resources).toHaveLength(1);
  });
});

describe('a look beside a stack', () => {
  const provider = {
    urn: urn('p', 'pulumi:providers:kubernetes'),
    type: 'pulumi:providers:kubernetes',
    custom: true,
    id: 'x',
  };

  it('holds its candidates with their provider and nothing by which they hang together, and leaves no trace', async () => {
    const inputs = { kubeconfig: { sealed: 'text' }, deleteUnreachable: 'true' };
    const pending = { ...machine('att_b', {}), provider: `${provider.urn}::x`, parent: urn('c', 'muster:Component') };
    await writeState({
      resources: [machine('att_a', { id: '1' }), { ...provider, inputs, parent: urn('s', 'pulumi:pulumi:Stack') }],
      pending_operations: [{ resource: pending, type: 'creating' }],
    });
    const before = await versionOf(STACK);
    const beside = await backend.openLookUp(STACK, [
      { urn: pending.urn, id: '77' },
      { urn: pending.urn, id: '78' },
    ]);
    const { resources = [] } = (await backend.readState(beside)) ?? {};
    expect(resources.map(({ name, id, parent }) => [name, id, parent])).toEqual([
      ['att_b~0', '77', null],
      ['att_b~1', '78', null],
    ]);
    // What cannot be reached must not pass for gone.
    expect(await backend.readProvider(beside, `${provider.urn}::x`)).toEqual({ kubeconfig: { sealed: 'text' } });
    expect(await backend.readProvider(STACK, `${provider.urn}::x`)).toEqual(inputs);
    expect(await backend.readProvider(STACK, `${provider.urn}::y`)).toBeNull();
    await backend.closeLookUp(STACK);
    expect(await backend.readState(beside)).toBeNull();
    expect(await versionOf(STACK)).toBe(before);
  });
});

describe('what is found of a pending create', () => {
  it('has the outputs that were read; what is of no use waits for its deletion instead', async () => {
    await writeState({
      resources: [],
      pending_operations: [
        { resource: machine('att_a', {}), type: 'creating' },
        { resource: machine('att_b', {}), type: 'creating' },
      ],
    });
    await backend.resolvePendingCreates(STACK, {
      [urn('att_a', TYPE)]: { id: '1', outputs: { arn: 'a' } },
      [urn('att_b', TYPE)]: { id: '2', outputs: {}, isUseless: true },
    });
    const { resources = [] } = await readDeployment();
    expect(resources[0]).toMatchObject({ id: '1', outputs: { arn: 'a' }, initErrors: [expect.any(String)] });
    expect(resources[1]).toMatchObject({ id: '2', delete: true });
    expect(resources[1]).not.toHaveProperty('initErrors');
  });
});

describe('a pending create that replaces', () => {
  const adopt = async (old: object) => {
    await writeState({
      resources: [{ ...machine('att_a', { id: '1' }), ...old }, machine('att_b', { id: '2' })],
      pending_operations: [{ resource: machine('att_a', {}), type: 'creating' }],
    });
    const before = await backend.readState(STACK);
    await backend.resolvePendingCreates(STACK, { [urn('att_a', TYPE)]: { id: '1b' } });
    const after = ((await readDeployment()).resources ?? []).map(({ id, delete: isOld }) => [id, isOld ?? false]);
    return { known: before?.resources.map(({ id }) => id), after };
  };

  it('comes before the old one, which then waits for its deletion', async () => {
    const { known, after } = await adopt({});
    expect(known).toEqual(['1', '2']);
    expect(after).toEqual([
      ['1b', false],
      ['1', true],
      ['2', false],
    ]);
  });

  it('takes the place of one that was deleted first, which is nowhere any more', async () => {
    const { known, after } = await adopt({ pendingReplacement: true });
    expect(known).toEqual(['2']);
    expect(after).toEqual([
      ['1b', false],
      ['2', false],
    ]);
  });
});

describe('a stack without protection', () => {
  it('has neither protected resources nor ones that the engine would forget instead of deleting', async () => {
    const kept = { protect: true, retainOnDelete: true };
    await writeState({ resources: [{ ...machine('att_a', { id: '1' }), ...kept }, machine('att_b', { id: '2' })] });
    await backend.unprotect(STACK);
    for (const resource of (await readDeployment()).resources ?? []) {
      expect(resource).not.toHaveProperty('protect');
      expect(resource).not.toHaveProperty('retainOnDelete');
    }
  });
});

describe('an update that died with its process', () => {
  it('ends with what it had written, and may write no more', async () => {
    await writeState({ resources: [machine('att_a', { id: '1' })] });
    const { updateId, token } = await begin({ runId: 'run-1' });
    const entry = { version: 1, kind: 0, sequenceID: 1, operationID: 1 };
    const operation = { resource: machine('att_b', {}), type: 'creating' };
    const sent = [{ sequenceId: 1, text: JSON.stringify({ ...entry, operation }) }];
    expect(await appendJournal(home.database, updateId, token, sent)).toBe(true);
    await backend.endDeadUpdates(STACK);
    expect(await backend.readState(STACK)).toMatchObject({
      resources: [{ id: '1' }],
      pendingCreates: [{ name: 'att_b' }],
    });
    expect(await appendJournal(home.database, updateId, token, sent)).toBe(false);
  });

  it("is not taken for a person's, which holds the stack until its lease is over", async () => {
    await writeState({ resources: [] });
    const { updateId } = await begin({ runId: null });
    await expect(backend.endDeadUpdates(STACK)).rejects.toThrow(StackHeldError);
    await home.database.pool.query(`update state_updates set lease_expires_at = now() where id = '${updateId}'`);
    await backend.endDeadUpdates(STACK);
  });

  it('is ended by the end of its run, and only that one', async () => {
    await writeState({ resources: [] });
    const access = backend.openRun({ runId: 'run-2', stackName: STACK });
    await begin({ runId: 'run-3' });
    await access.close();
    await expect(begin({ runId: 'run-2' })).rejects.toThrow(/held/);
    await backend.openRun({ runId: 'run-3', stackName: STACK }).close();
    await begin({ runId: 'run-2' });
  });
});

async function begin({ runId }: { runId: string | null }) {
  const { kysely } = home.database;
  const stack = await findEngineStack(kysely, STACK);
  if (!stack) throw new Error('no stack');
  const update = await insertStateUpdate(kysely, {
    id: randomUUID(),
    stackUuid: stack.uuid,
    kind: 'update',
    isDryRun: false,
    request: {},
    engineVersion: 'v3.259.0',
    requestedBy: 'somebody',
    runId,
  });
  const start = {
    stackUuid: stack.uuid,
    updateId: update.id,
    token: `token-${update.id}`,
    journalVersion: 1,
    tags: null,
  };
  const outcome = await inTransaction(kysely, (tx) => startStateUpdate(tx, start));
  if (outcome.kind !== 'started') throw new Error(outcome.kind);
  return { updateId: update.id, token: start.token };
}

async function writeState(deployment: object): Promise<void> {
  await backend.prepareStack(STACK);
  await inTransaction(home.database.kysely, async (tx) => {
    const stack = await findEngineStack(tx, STACK);
    if (stack) await appendStateVersion(tx, stack, { version: 3, deployment: deployment as Deployment }, null);
  });
}

async function readDeployment(): Promise<Deployment> {
  const stack = await findEngineStack(home.database.kysely, STACK);
  return stack ? (await readCurrentState(home.database.kysely, stack)).deployment : {};
}

async function versionOf(name: string): Promise<number> {
  const stack = await findEngineStack(home.database.kysely, name);
  expect(stack && (await readStateVersion(home.database.kysely, stack))).not.toBeNull();
  return stack?.version ?? -1;
}

function machine(name: string, more: Record<string, unknown>) {
  return { urn: urn(name, TYPE), type: TYPE, custom: true, inputs: { label: `label-${name}` }, ...more };
}

function urn(name: string, type: string): string {
  return `urn:pulumi:${STACK}::muster::${type}::${name}`;
}
