import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { ChildPool } from '../../../automation/engine/child-pool.ts';
import type { RunRequest, RunResult } from '../../../automation/engine/protocol.ts';
import { createStackRunner, type StackRunner, type UpdateHooks } from '../../../automation/engine/stack-runner.ts';
import { inTransaction } from '../../../db/database.ts';
import { appendStateVersion, deleteStateStack, findEngineStack } from '../../../db/state-stacks.ts';
import { appendJournal, insertStateUpdate, startStateUpdate } from '../../../db/state-updates.ts';
import { ProviderError } from '../../../domain/provider-error.ts';
import type { StackResource } from '../../../domain/state/stack-state.ts';
import { createTestDatabase, type TestDatabase } from '../../support/database.ts';
import { openStateHome, type StateHome } from '../../support/state-home.ts';

const STACK = 'instance-op-test';
const TYPE = 'pulumi-nodejs:dynamic/vastai:VastaiInstance';
const URN = `urn:pulumi:${STACK}::muster::${TYPE}::att_a`;
const REQUEST = {
  stackName: STACK,
  program: { kind: 'instance', args: { attempts: [] } },
  mayExist: ['label-a'],
  deploymentSshPublicKeys: ['ssh-ed25519 AAAA'],
};
const DONE: RunResult = {
  isOk: true,
  errorText: null,
  failures: {},
  changes: { create: 1 },
  outputs: {},
  steps: [],
  drift: [],
};

let test: TestDatabase;
let home: StateHome;
let runs: RunRequest[];
let result: RunResult;
let resolved: () => string | null;
let runner: StackRunner;
beforeAll(async () => {
  test = await createTestDatabase();
  home = await openStateHome(test.url);
});
afterAll(async () => {
  await home.close();
  await test.drop();
});
beforeEach(async () => {
  await inTransaction(home.database.kysely, async (tx) => {
    const stack = await findEngineStack(tx, STACK);
    if (stack) await deleteStateStack(tx, stack.uuid);
  });
  runs = [];
  result = DONE;
  resolved = () => null;
  const pool: ChildPool = {
    run: (request) => {
      runs.push(request);
      return Promise.resolve(result);
    },
    extendLease: () => {},
    warm: () => {},
    close: () => Promise.resolve(),
  };
  runner = createStackRunner(pool, home.backend);
});

const signals = { cancel: new AbortController().signal, kill: new AbortController().signal };
const hooks: UpdateHooks = {
  answer: () => Promise.reject(new Error('nobody asks')),
  onResources: () => {},
  onProgress: () => {},
  resolvePending: async () => resolved(),
};

describe('an update', () => {
  it('makes the stack where it is missing, and tells what the state holds afterwards', async () => {
    const outcome = await runner.up(REQUEST, hooks, signals);
    expect(outcome).toMatchObject({ update: 'up', isOk: true, error: null, changes: { create: 1 } });
    expect(outcome.state).toEqual({ resources: [], pendingCreates: [] });
    expect(runs).toMatchObject([{ update: 'up', stackName: STACK, mayExist: ['label-a'] }]);
  });

  it('has no program where none is needed, and a new run id each time', async () => {
    await runner.destroy(REQUEST, hooks, signals);
    await runner.refresh(REQUEST, hooks, signals);
    await runner.preview(REQUEST, hooks, signals);
    expect(runs.map((run) => [run.update, run.program !== null])).toEqual([
      ['destroy', false],
      ['refresh', false],
      ['preview', true],
    ]);
    expect(new Set(runs.map((run) => run.runId)).size).toBe(3);
  });

  it('that failed tells the kind and the reason', async () => {
    const failures = { att_a: { errorKind: 'no_capacity' as const, reason: 'sold out' } };
    result = { ...DONE, isOk: false, errorText: 'error: creating att_a: sold out\nerror: update failed', failures };
    expect(await runner.up(REQUEST, hooks, signals)).toMatchObject({
      isOk: false,
      error: { kind: 'resource_failed', detail: 'creating att_a: sold out' },
      failures,
    });
  });
});

describe('pending creates before an update', () => {
  it('are resolved by what the hook finds: found ones become resources', async () => {
    await writePending();
    resolved = () => '1001';
    const outcome = await runner.up(REQUEST, hooks, signals);
    expect(outcome.state?.resources).toMatchObject([{ name: 'att_a', id: '1001' }]);
    expect(outcome.state?.pendingCreates).toEqual([]);
  });

  it('are dropped where the provider believably has none', async () => {
    await writePending();
    await runner.destroy(REQUEST, hooks, signals);
    expect(await runner.readState(STACK)).toEqual({ resources: [], pendingCreates: [] });
  });

  it('that cannot be told stop the update before it starts, and stay', async () => {
    await writePending();
    resolved = () => {
      throw new ProviderError('unbelievable', 'the reply is no JSON');
    };
    await expect(runner.up(REQUEST, hooks, signals)).rejects.toMatchObject({ kind: 'unbelievable' });
    expect(runs).toEqual([]);
    expect((await runner.readState(STACK))?.pendingCreates).toHaveLength(1);
  });

  it('that a person has decided are not asked of the hook, and the decision is over before the engine begins', async () => {
    await writePending();
    resolved = () => {
      throw new ProviderError('invalid', 'nobody can tell');
    };
    const told: [string, number][] = [];
    const listening: UpdateHooks = {
      ...hooks,
      onBeginning: async () => {
        const pendingCreates = (await runner.readState(STACK))?.pendingCreates ?? [];
        told.push([`${pendingCreates.length} pending`, runs.length]);
      },
    };
    const imported = { ...REQUEST, decisions: { [URN]: { kind: 'import' as const, id: '1002' } } };
    expect((await runner.up(imported, listening, signals)).state?.resources).toMatchObject([{ id: '1002' }]);
    await writePending();
    const cleared = { ...REQUEST, decisions: { [URN]: { kind: 'clear' as const } } };
    expect((await runner.up(cleared, listening, signals)).state).toEqual({ resources: [], pendingCreates: [] });
    expect(told).toEqual([
      ['0 pending', 0],
      ['0 pending', 1],
    ]);
  });

  it("of a person's CLI that was killed are resolved like our own, once its lease is over", async () => {
    const stack = await beginPersons();
    const resource = { urn: URN, type: TYPE, custom: true, inputs: { label: 'label-a' } };
    const entry = { version: 1, kind: 0, sequenceID: 1, operationID: 1, operation: { resource, type: 'creating' } };
    const sent = [{ sequenceId: 1, text: JSON.stringify(entry) }];
    expect(await appendJournal(home.database, stack.updateId, 'token', sent)).toBe(true);
    const asked: string[] = [];
    const finding = {
      ...hooks,
      resolvePending: async ({ name, inputs }: StackResource) => {
        expect(runs).toEqual([]);
        asked.push(`${name} ${String(inputs['label'])}`);
        return '1001';
      },
    };
    await expect(runner.up(REQUEST, finding, signals)).rejects.toThrow(/held by/);
    expect(asked).toEqual([]);
    await home.database.pool.query('update state_updates set lease_expires_at = now()');
    const outcome = await runner.up(REQUEST, finding, signals);
    expect(asked).toEqual(['att_a label-a']);
    expect(outcome.state).toMatchObject({ resources: [{ name: 'att_a', id: '1001' }], pendingCreates: [] });
    expect(await appendJournal(home.database, stack.updateId, 'token', sent)).toBe(false);
  });

  it('are left alone by a preview, which changes nothing', async () => {
    await writePending();
    resolved = () => '1001';
    const outcome = await runner.preview(REQUEST, hooks, signals);
    expect(outcome.state?.pendingCreates).toHaveLength(1);
  });
});

/** Of a person's CLI: it holds the stack. */
async function beginPersons(): Promise<{ updateId: string }> {
  await home.backend.prepareStack(STACK);
  return inTransaction(home.database.kysely, async (tx) => {
    const stackUuid = (await findEngineStack(tx, STACK))?.uuid as string;
    const { id: updateId } = await insertStateUpdate(tx, {
      id: randomUUID(),
      stackUuid,
      kind: 'update',
      isDryRun: false,
      request: {},
      engineVersion: 'v3.259.0',
      requestedBy: 'key_grace',
      runId: null,
    });
    await startStateUpdate(tx, { stackUuid, updateId, token: 'token', journalVersion: 1, tags: null });
    return { updateId };
  });
}

async function writePending(): Promise<void> {
  const resource = { urn: URN, type: TYPE, custom: true, inputs: { label: 'label-a' } };
  const deployment = { resources: [], pending_operations: [{ resource, type: 'creating' as const }] };
  await home.backend.prepareStack(STACK);
  await inTransaction(home.database.kysely, async (tx) => {
    const stack = await findEngineStack(tx, STACK);
    if (stack) await appendStateVersion(tx, stack, { version: 3, deployment }, null);
  });
}
