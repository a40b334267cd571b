/** An operation whose stack a person's CLI updates: it says so, and goes on the moment that the update ends. The engine is scripted, the states are real. */
import { randomBytes, randomUUID } from 'node:crypto';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createKubernetesReader } from '../../../automation/clusters/kubernetes-reader.ts';
import type { ChildPool } from '../../../automation/engine/child-pool.ts';
import type { RunRequest } from '../../../automation/engine/protocol.ts';
import { createStackRunner } from '../../../automation/engine/stack-runner.ts';
import { createWorker, type Worker } from '../../../automation/operations/worker.ts';
import { acceptStackOperation } from '../../../db/accept-stack.ts';
import { inTransaction } from '../../../db/database.ts';
import { findOperation, type OperationRow } from '../../../db/operations.ts';
import { insertStack, type StackRow } from '../../../db/stacks.ts';
import { findEngineStack, lockStateStack } from '../../../db/state-stacks.ts';
import {
  appendJournal,
  endStateUpdate,
  findStateUpdate,
  insertStateUpdate,
  startStateUpdate,
} from '../../../db/state-updates.ts';
import { cancelPersonsUpdate } from '../../../db/update-history.ts';
import { noCrash } from '../../../domain/crash-points.ts';
import { createLabelMac, makeLabelKey } from '../../../secrets/deployment-secrets.ts';
import { ACTOR, createFleetDatabase, DEPLOYMENT_ID, until, type FleetDatabase } from '../../support/fleet-database.ts';
import { openStateHome, type StateHome } from '../../support/state-home.ts';

/** Nothing but word of it ends a wait: the clock of the worker runs so far ahead of the database's. */
const AHEAD_MS = 3_600_000;

let fleet: FleetDatabase;
let home: StateHome;
let worker: Worker;
let runs: RunRequest[];
let stack: StackRow;
beforeEach(async () => {
  fleet = await createFleetDatabase({ poolSize: 8 });
  home = await openStateHome(fleet.url);
  runs = [];
  const pool: ChildPool = {
    run(request) {
      runs.push(request);
      return Promise.resolve({
        isOk: true,
        errorText: null,
        failures: {},
        changes: {},
        outputs: {},
        steps: [],
        drift: [],
      });
    },
    extendLease: () => {},
    warm: () => {},
    close: () => Promise.resolve(),
  };
  worker = createWorker({
    services: {
      db: fleet.db,
      queue: fleet.queue,
      runner: createStackRunner(pool, home.backend),
      engineReady: () => true,
      client: () => {
        throw new Error('no vendor is asked');
      },
      enabledProviders: [],
      limiter: { acquire: () => Promise.resolve(), slowDown: () => Promise.resolve() },
      envelope: home.envelope,
      kubernetes: createKubernetesReader(),
      agentUrl: null,
      labelMac: createLabelMac(makeLabelKey().secret),
      deploymentId: DEPLOYMENT_ID,
      deploymentSshPublicKey: 'ssh-ed25519 AAAA',
      deploymentSshPrivateKey: '',
      bootTimeoutMs: 1,
      listLagMs: () => 0,
      now: () => new Date(Date.now() + AHEAD_MS),
      crashPoint: noCrash,
      log: pino({ level: 'silent' }),
    },
    database: fleet.database,
    owner: `worker-${randomBytes(4).toString('hex')}`,
    concurrency: 4,
  });
  await worker.start();
  stack = await inTransaction(fleet.db, async (tx) => {
    const row = await insertStack(tx, {
      orgId: fleet.orgId,
      kind: 'eks',
      title: 'train',
      config: { region: 'us-east-1' },
      owner: 'ada',
      costCentre: 'research',
      ceilingMicroUsdPerHour: null,
      protect: false,
      onDrift: 'report',
      createdBy: ACTOR.id,
    });
    return row as StackRow;
  });
  await home.backend.prepareStack(stack.name);
});
afterEach(async () => {
  await worker.drain();
  await home.close();
  await fleet.close();
});

/** Of a person's CLI. */
async function begin(): Promise<{ id: string; token: string }> {
  return inTransaction(fleet.db, async (tx) => {
    const state = await findEngineStack(tx, stack.name);
    const stackUuid = state?.uuid as string;
    const update = await insertStateUpdate(tx, {
      id: randomUUID(),
      stackUuid,
      kind: 'update',
      isDryRun: false,
      request: {},
      engineVersion: 'v3.259.0',
      requestedBy: 'key_grace',
      runId: null,
    });
    const token = `token-${update.id}`;
    await startStateUpdate(tx, { stackUuid, updateId: update.id, token, journalVersion: 1, tags: null });
    return { id: update.id, token };
  });
}

/** As its CLI does at the end. */
async function complete(id: string): Promise<void> {
  await inTransaction(fleet.db, async (tx) => {
    const state = await findEngineStack(tx, stack.name);
    const held = await lockStateStack(tx, state?.uuid as string);
    const update = held && (await findStateUpdate(tx, held.uuid, id));
    if (update) await endStateUpdate(tx, held, update, 'succeeded');
  });
}

const refresh = () =>
  inTransaction(fleet.db, (tx) =>
    acceptStackOperation(tx, fleet.queue, { stack, kind: 'refresh_stack', actor: ACTOR }),
  );
const now = async (id: string) => (await findOperation(fleet.db, null, id)) as OperationRow;
const untilWaiting = (id: string) =>
  until(async () => {
    const row = await now(id);
    return row.wait_until !== null && row.lease_owner === null && row;
  }, `${id} waits`);
const untilFinished = (id: string) =>
  until(async () => {
    const row = await now(id);
    return row.finished_at !== null && row;
  }, `${id} is finished`);

describe('an operation behind a person’s update', () => {
  it('waits, says for whom, and begins the moment that the update ends', async () => {
    const update = await begin();
    const { id } = await refresh();
    const waiting = await untilWaiting(id);
    expect(waiting.note).toMatch(/^the stack is held by .* of key_grace since 20/);
    expect(waiting.wait_until?.getTime()).toBeGreaterThan(Date.now() + AHEAD_MS / 2);
    expect(runs).toEqual([]);
    await complete(update.id);
    expect(await untilFinished(id)).toMatchObject({ status: 'succeeded' });
    expect(runs.map((run) => run.update)).toEqual(['refresh']);
  });

  it('begins when the update is canceled, and what that had begun is resolved before it does', async () => {
    const update = await begin();
    const type = 'pulumi-nodejs:dynamic/standby-agent:StandbyAgent';
    const resource = { urn: `urn:pulumi:${stack.name}::muster::${type}::join`, type, custom: true, inputs: {} };
    const entry = { version: 1, kind: 0, sequenceID: 1, operationID: 1, operation: { resource, type: 'creating' } };
    const sent = [{ sequenceId: 1, text: JSON.stringify(entry) }];
    expect(await appendJournal(fleet.database, update.id, update.token, sent)).toBe(true);
    const { id } = await refresh();
    await untilWaiting(id);
    expect((await home.backend.readState(stack.name))?.pendingCreates).toHaveLength(1);
    await inTransaction(fleet.db, (tx) => cancelPersonsUpdate(tx, stack.name, 'canceled by a test'));
    expect(await untilFinished(id)).toMatchObject({ status: 'succeeded' });
    expect(await home.backend.readState(stack.name)).toEqual({ resources: [], pendingCreates: [] });
  });
});
