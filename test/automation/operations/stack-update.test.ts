import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createCheckDriftCron } from '../../../automation/cron/check-drift.ts';
import { createKubernetesReader } from '../../../automation/clusters/kubernetes-reader.ts';
import { UndecidedPending } from '../../../automation/engine/undecided-pending.ts';
import type { StepServices } from '../../../automation/operations/step.ts';
import { createWorker, type Worker } from '../../../automation/operations/worker.ts';
import { acceptCancel } from '../../../db/accept-cancel.ts';
import { acceptStackOperation, type StackOrder } from '../../../db/accept-stack.ts';
import { inTransaction } from '../../../db/database.ts';
import { listFindings } from '../../../db/findings.ts';
import { findOperation, type OperationRow } from '../../../db/operations.ts';
import { findPlanOfOperation } from '../../../db/stack-plans.ts';
import { changeStack, findStack, insertStack, lockStack, saveStackPending, type StackRow } from '../../../db/stacks.ts';
import { noCrash } from '../../../domain/crash-points.ts';
import { ProviderError } from '../../../domain/provider-error.ts';
import { REQUIRED_TAGS } from '../../../domain/stack-tags.ts';
import { createLabelMac, makeLabelKey } from '../../../secrets/deployment-secrets.ts';
import { createEnvelope } from '../../../secrets/envelope.ts';
import { ACTOR, createFleetDatabase, DEPLOYMENT_ID, until, type FleetDatabase } from '../../support/fleet-database.ts';
import {
  createScriptedStackRunner,
  makeStackResource,
  makeStep,
  type ScriptedStackRunner,
} from '../../support/scripted-stack-runner.ts';

const tags = Object.fromEntries(REQUIRED_TAGS.map((key) => [key, 'x']));
const NAT = 'aws:ec2/natGateway:NatGateway';
const CLUSTER = 'aws:eks/cluster:Cluster';
const PRIVATE = { tags, vpcConfig: { endpointPublicAccess: false } };

let fleet: FleetDatabase;
let runner: ScriptedStackRunner;
let worker: Worker;
let stack: StackRow;
beforeEach(async () => {
  fleet = await createFleetDatabase({ poolSize: 8 });
  runner = createScriptedStackRunner(fleet.db);
  runner.steps = [makeStep(NAT, 'nat', 'create', { tags })];
  const services: StepServices = {
    db: fleet.db,
    queue: fleet.queue,
    runner,
    engineReady: () => true,
    client: () => {
      throw new Error('no vendor is asked');
    },
    enabledProviders: [],
    limiter: { acquire: () => Promise.resolve(), slowDown: () => Promise.resolve() },
    envelope: createEnvelope(randomBytes(32)),
    kubernetes: createKubernetesReader(),
    agentUrl: null,
    labelMac: createLabelMac(makeLabelKey().secret),
    deploymentId: DEPLOYMENT_ID,
    deploymentSshPublicKey: 'ssh-ed25519 AAAA',
    deploymentSshPrivateKey: '',
    bootTimeoutMs: 1,
    listLagMs: () => 0,
    now: () => new Date(),
    crashPoint: noCrash,
    log: pino({ level: 'silent' }),
  };
  worker = createWorker({ services, database: fleet.database, owner: 'worker-1', concurrency: 4 });
  await worker.start();
  stack = await makeStack({});
});
afterEach(async () => {
  await worker.drain();
  await fleet.close();
});

function makeStack(change: Partial<Parameters<typeof insertStack>[1]>): Promise<StackRow> {
  return inTransaction(fleet.db, async (tx) => {
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
      ...change,
    });
    return row as StackRow;
  });
}

function accept(kind: StackOrder['kind'], more: Partial<StackOrder> = {}): Promise<OperationRow> {
  return inTransaction(fleet.db, async (tx) =>
    acceptStackOperation(tx, fleet.queue, {
      stack: (await lockStack(tx, stack.id)) as StackRow,
      kind,
      actor: ACTOR,
      ...more,
    }),
  );
}

function untilFinished(id: string): Promise<OperationRow> {
  return until(async () => {
    const row = await findOperation(fleet.db, null, id);
    return row?.finished_at != null && row;
  }, `${id} is finished`);
}

async function run(kind: StackOrder['kind'], more: Partial<StackOrder> = {}): Promise<OperationRow> {
  return untilFinished((await accept(kind, more)).id);
}

const now = async () => (await findStack(fleet.db, null, stack.id)) as StackRow;
const updates = () => runner.ran.map(({ update }) => update);

describe('a preview', () => {
  it('keeps steps, prices and a hash, and changes nothing', async () => {
    const operation = await run('preview_stack');
    expect(operation).toMatchObject({ status: 'succeeded', note: '1 change planned' });
    const plan = await findPlanOfOperation(fleet.db, operation.id);
    expect(plan?.prices).toMatchObject({ beforeMicroUsdPerHour: 0, afterMicroUsdPerHour: 45_000 });
    expect(plan?.plan_hash).toMatch(/^[0-9a-f]{64}$/);
    expect(updates()).toEqual(['preview']);
    expect(await now()).toMatchObject({ status: 'created', failure_code: null });
    const again = await findPlanOfOperation(fleet.db, (await run('preview_stack')).id);
    expect(again?.plan_hash).toBe(plan?.plan_hash);
  });

  it('that the cloud or the program refuses fails with its words', async () => {
    runner.outcomes.preview = { isOk: false, error: { kind: 'resource_failed', detail: 'no such zone' } };
    expect(await run('preview_stack')).toMatchObject({
      status: 'failed',
      error_code: 'stack_refused',
      error_detail: 'no such zone',
    });
  });
});

describe('an up', () => {
  it('is planned, then carried out, and says what it holds and what it costs', async () => {
    runner.resources = [makeStackResource(NAT, 'nat', { tags }), makeStackResource(CLUSTER, 'cluster', { tags })];
    runner.outcomes.up = { changes: { create: 2, same: 1 }, outputs: { endpoint: 'https://c' } };
    expect(await run('up_stack')).toMatchObject({ status: 'succeeded', note: '2 create' });
    expect(updates()).toEqual(['preview', 'up']);
    const row = await now();
    expect(row).toMatchObject({ status: 'up', price_micro_usd_per_hour: 145_000n, outputs: { endpoint: 'https://c' } });
    expect(row.resource_count).toBe(2);
    expect(runner.ran[1]?.request.program).toMatchObject({
      kind: 'eks',
      args: { name: 'train', tags: { owner: 'ada', costCentre: 'research', deployment: DEPLOYMENT_ID } },
    });
  });

  it('above the ceiling makes nothing', async () => {
    await inTransaction(fleet.db, (tx) => changeStack(tx, stack.id, { ceilingMicroUsdPerHour: 44_999n }));
    const operation = await run('up_stack');
    expect(operation).toMatchObject({ status: 'failed', error_code: 'policy_violated' });
    expect(operation.error_detail).toMatch(/nothing was made: .*\$0\.045 per hour, above the stack's ceiling/);
    expect(updates()).toEqual(['preview']);
    expect(await now()).toMatchObject({ status: 'created', failure_code: 'policy_violated' });
  });

  it('that would break a policy makes nothing, and names the resource', async () => {
    runner.steps = [makeStep(NAT, 'nat', 'create', {})];
    const operation = await run('up_stack');
    expect(operation.error_detail).toMatch(/nothing was made: nat: lacks the tags muster-owner/);
    expect(updates()).toEqual(['preview']);
  });

  it('with the hash of a preview does what was shown, or nothing at all', async () => {
    const plan = await findPlanOfOperation(fleet.db, (await run('preview_stack')).id);
    const planHash = plan?.plan_hash as string;
    expect(await run('up_stack', { planHash })).toMatchObject({ status: 'succeeded' });
    runner.steps = [...runner.steps, makeStep(CLUSTER, 'cluster', 'create', PRIVATE)];
    runner.ran = [];
    const refused = await run('up_stack', { planHash });
    expect(refused).toMatchObject({ status: 'failed', error_code: 'plan_changed' });
    expect(refused.error_detail).toMatch(
      /cluster: create was not in the plan; price: \$0\.145 an hour instead of \$0\.045/,
    );
    expect(updates()).toEqual(['preview']);
  });

  it('with a hash that nobody showed, or that expired, is not even accepted', async () => {
    await expect(accept('up_stack', { planHash: 'f'.repeat(64) })).rejects.toMatchObject({ code: 'plan_changed' });
    const plan = await findPlanOfOperation(fleet.db, (await run('preview_stack')).id);
    await fleet.asOwner("update stack_plans set expires_at = now() - interval '1 second'");
    await expect(accept('up_stack', { planHash: plan?.plan_hash as string })).rejects.toMatchObject({
      code: 'plan_changed',
      detail: expect.stringContaining('expired') as string,
    });
  });

  it('that fails keeps what was made in its record, with every reason', async () => {
    runner.resources = [makeStackResource(NAT, 'nat', { tags })];
    runner.outcomes.up = {
      isOk: false,
      error: { kind: 'resource_failed', detail: 'update failed' },
      failures: { gpu: { errorKind: 'internal', reason: 'no capacity in us-east-1a' } },
    };
    const operation = await run('up_stack');
    expect(operation).toMatchObject({ status: 'failed', error_code: 'stack_failed' });
    expect(operation.error_detail).toMatch(/gpu: no capacity in us-east-1a/);
    expect(await now()).toMatchObject({ status: 'failed', price_micro_usd_per_hour: 45_000n });
  });

  it('begins only when what an interrupted one made is known: it waits, or says what somebody has to decide', async () => {
    runner.refusals.up = new ProviderError('retryable', 'train is still being made');
    expect(await run('up_stack')).toMatchObject({ status: 'succeeded', failures: 1 });
    expect(updates()).toEqual(['preview', 'up']);
    runner.refusals.destroy = new ProviderError('invalid', 'whether nat was made has to be decided');
    expect(await run('destroy_stack')).toMatchObject({
      status: 'failed',
      error_code: 'stack_refused',
      error_detail: 'whether nat was made has to be decided',
    });
    expect(await now()).toMatchObject({ status: 'failed', failure_detail: 'whether nat was made has to be decided' });
  });

  it('that stops on creates nobody can tell says how to decide them, and goes on with what was decided, once', async () => {
    const undecided = { urn: 'u:db', name: 'db', type: 'aws:rds/instance:Instance', why: 'no rule', found: ['db-1'] };
    runner.refusals.up = new UndecidedPending([undecided, { ...undecided, urn: 'u:other', name: 'other' }]);
    const stopped = await run('up_stack');
    expect(stopped).toMatchObject({ status: 'failed', error_code: 'stack_refused' });
    expect(stopped.error_detail).toMatch(/whether db .* has to be decided: no rule.*This update did not begin/);
    expect(stopped.error_detail).toContain(`POST /stacks/${stack.id}/pending/decide`);
    const { pending } = await now();
    expect(pending).toMatchObject([{ urn: 'u:db', found: ['db-1'], decision: null }, { urn: 'u:other' }]);
    const decided = (pending ?? []).map((one) => ({ ...one, decision: { kind: 'import' as const, id: 'db-1' } }));
    await saveStackPending(fleet.db, stack.id, decided);
    // The one that turns out wrong is open again, what was said of the other stands.
    runner.refusals.up = new UndecidedPending([{ ...undecided, why: 'db-1 cannot be imported: there is none' }]);
    await run('up_stack');
    expect((await now()).pending).toMatchObject([
      { urn: 'u:db', decision: null },
      { urn: 'u:other', decision: { kind: 'import', id: 'db-1' } },
    ]);
    runner.ran = [];
    expect(await run('up_stack')).toMatchObject({ status: 'succeeded' });
    expect(runner.ran.at(-1)?.request.decisions).toEqual({ 'u:other': { kind: 'import', id: 'db-1' } });
    expect((await now()).pending).toBeNull();
    await run('up_stack');
    expect(runner.ran.at(-1)?.request.decisions).toEqual({});
  });

  it('whose look-up is refused leaves every interrupted create to be decided', async () => {
    const db = makeStackResource('aws:rds/instance:Instance', 'db', {});
    runner.readState = () => Promise.resolve({ resources: [], pendingCreates: [db] });
    runner.refusals.up = new ProviderError('auth', 'cannot be looked up: AccessDenied');
    expect(await run('up_stack')).toMatchObject({ status: 'failed', error_code: 'stack_refused' });
    expect((await now()).pending).toMatchObject([{ urn: db.urn, why: 'cannot be looked up: AccessDenied' }]);
  });

  it('is one at a time: the same joins, another is refused with what is under way', async () => {
    runner.isHanging = true;
    const first = await accept('up_stack');
    await until(() => updates().includes('up'), 'the up runs');
    expect((await accept('up_stack')).id).toBe(first.id);
    await expect(accept('destroy_stack')).rejects.toMatchObject({
      code: 'conflict',
      facts: { operationId: first.id },
    });
    await inTransaction(fleet.db, (tx) =>
      acceptCancel(tx, fleet.queue, { orgId: null, operationId: first.id, actor: ACTOR, reason: 'stop' }),
    );
    expect(await untilFinished(first.id)).toMatchObject({ status: 'canceled' });
    expect(await now()).toMatchObject({ status: 'failed', failure_code: 'canceled' });
  });

  it('that is canceled while it is planned ends, and has made nothing', async () => {
    const { preview } = runner;
    runner.preview = async (request, hooks, signals) => {
      await until(() => signals.cancel.aborted, 'the preview is canceled');
      return preview(request, hooks, signals);
    };
    const operation = await accept('up_stack');
    await until(async () => (await findOperation(fleet.db, null, operation.id))?.status === 'running', 'it runs');
    await inTransaction(fleet.db, (tx) =>
      acceptCancel(tx, fleet.queue, { orgId: fleet.orgId, operationId: operation.id, actor: ACTOR, reason: 'x' }),
    );
    expect(await untilFinished(operation.id)).toMatchObject({ status: 'canceled', error_code: 'canceled' });
    expect(await now()).toMatchObject({ status: 'created', failure_code: 'canceled' });
    expect(runner.ran.map(({ update }) => update)).not.toContain('up');
  });
});

describe('a destroy', () => {
  it('is refused while the stack is protected', async () => {
    await inTransaction(fleet.db, (tx) => changeStack(tx, stack.id, { protect: true }));
    await expect(accept('destroy_stack')).rejects.toMatchObject({ code: 'stack_protected' });
  });

  it('ends when nothing is left, frees the name and refuses everything after', async () => {
    runner.resources = [makeStackResource(NAT, 'nat', {})];
    expect(await run('destroy_stack')).toMatchObject({ status: 'succeeded', note: 'nothing is left' });
    expect(runner.ran[0]?.request.unprotect).toBe(true);
    expect(await now()).toMatchObject({ status: 'destroyed', price_micro_usd_per_hour: 0n });
    await expect(accept('up_stack')).rejects.toMatchObject({ code: 'conflict' });
    expect((await makeStack({})).title).toBe('train');
  });

  it('that leaves something is failed, not destroyed', async () => {
    runner.resources = [makeStackResource(NAT, 'nat', {})];
    runner.outcomes.destroy = { isOk: false, error: { kind: 'resource_failed', detail: 'the VPC has dependencies' } };
    expect(await run('destroy_stack')).toMatchObject({ status: 'failed', error_code: 'stack_failed' });
    expect(await now()).toMatchObject({ status: 'failed', removed_at: null });
  });
});

describe('drift', () => {
  const drift = [{ urn: 'u', name: 'nat', type: NAT, kind: 'changed' as const, properties: ['tags'] }];
  const found = (isInState: boolean) => drift.map((one) => ({ ...one, isInState }));
  const findings = async () =>
    (await listFindings(fleet.db, { orgId: fleet.orgId, limit: 10 })).map((row) => [
      row.class,
      row.status,
      row.resolution,
    ]);

  it('is looked for every hour, reported, and repaired by an ordinary up only where the stack says so', async () => {
    await run('up_stack');
    runner.outcomes.detect_drift = { drift };
    const cron = createCheckDriftCron(fleet.db, fleet.queue);
    const tick = () => cron.run(new AbortController().signal);
    expect(await tick()).toEqual({ asked: 0 });
    await fleet.asOwner("update stacks set updated_at = now() - interval '2 hours'");
    expect(await tick()).toEqual({ asked: 1 });
    await until(async () => (await now()).drift !== null, 'the drift is recorded');
    expect((await now()).drift).toEqual(found(false));
    expect(updates()).toEqual(['preview', 'up', 'detect_drift']);
    expect(await findings()).toEqual([['drift', 'open', null]]);
    runner.outcomes.refresh = { drift };
    await inTransaction(fleet.db, (tx) => changeStack(tx, stack.id, { onDrift: 'repair' }));
    await fleet.asOwner("update stacks set drift_checked_at = now() - interval '2 hours'");
    await tick();
    await until(() => updates().slice(3).join() === 'detect_drift,refresh,preview,up', 'it was repaired');
    await until(async () => (await findings())[0]?.[1] === 'resolved', 'its finding is over');
    expect(await findings()).toEqual([['drift', 'resolved', 'repaired']]);
    expect((await now()).drift).toEqual([]);
  });

  it('is a finding until a look finds none, and tells webhooks so', async () => {
    await run('up_stack');
    await fleet.asOwner(
      `insert into webhooks (id, org_id, url, events, secret_sealed, created_by)
       values ('whk_aaaaaaaaaaaaaaaa', '${fleet.orgId}', 'http://x', '{finding.*}', 'x', 'x')`,
    );
    runner.outcomes.detect_drift = { drift };
    await run('check_stack_drift');
    runner.outcomes.detect_drift = { drift: [] };
    await run('check_stack_drift');
    expect(await findings()).toEqual([['drift', 'resolved', 'unseen']]);
    const told = await fleet.db
      .selectFrom('webhook_deliveries')
      .select(['type', sql<string>`data->>'stackId'`.as('stackId')])
      .orderBy('seq')
      .execute();
    expect(told).toEqual([
      { type: 'finding.open', stackId: stack.id },
      { type: 'finding.resolved', stackId: stack.id },
    ]);
  });

  it('that a refresh took into the state is no longer found, and stays a finding until the next up', async () => {
    await run('up_stack');
    runner.outcomes.refresh = { drift };
    await run('refresh_stack');
    expect((await now()).drift).toEqual(found(true));
    await run('check_stack_drift');
    expect((await now()).drift).toEqual(found(true));
    expect(await findings()).toEqual([['drift', 'open', null]]);
    await run('up_stack');
    expect(await findings()).toEqual([['drift', 'resolved', 'repaired']]);
    expect((await now()).drift).toEqual([]);
  });

  it('of which the state knows nothing is not undone by a plain up, and its finding stays open', async () => {
    await run('up_stack');
    runner.outcomes.detect_drift = { drift };
    await run('check_stack_drift');
    await run('up_stack');
    expect((await now()).drift).toEqual(found(false));
    expect(await findings()).toEqual([['drift', 'open', null]]);
    await run('destroy_stack');
    expect(await findings()).toEqual([['drift', 'resolved', 'destroyed']]);
  });

  it('whose repair fails is open again, and is repaired at the next look', async () => {
    await run('up_stack');
    await inTransaction(fleet.db, (tx) => changeStack(tx, stack.id, { onDrift: 'repair' }));
    runner.outcomes.detect_drift = { drift };
    runner.outcomes.refresh = { drift };
    runner.outcomes.up = { isOk: false, error: { kind: 'resource_failed', detail: 'no' } };
    await run('check_stack_drift');
    await until(async () => (await now()).status === 'failed', 'the repair failed');
    expect(await findings()).toEqual([['drift', 'open', null]]);
    runner.outcomes = {};
    await run('check_stack_drift');
    await until(async () => (await findings())[0]?.[1] === 'resolved', 'it was repaired');
    expect(await findings()).toEqual([['drift', 'resolved', 'repaired']]);
  });

  it('that somebody ignores is not repaired', async () => {
    await run('up_stack');
    runner.outcomes.detect_drift = { drift };
    await run('check_stack_drift');
    await fleet.asOwner("update findings set status = 'ignored'");
    await inTransaction(fleet.db, (tx) => changeStack(tx, stack.id, { onDrift: 'repair' }));
    runner.ran = [];
    await run('check_stack_drift');
    expect(await fleet.db.selectFrom('operations').select('id').where('kind', '=', 'up_stack').execute()).toHaveLength(
      1,
    );
    expect(updates()).toEqual(['detect_drift']);
  });

  it('of the price is found by the prices of now, and over once an update has recorded them', async () => {
    runner.resources = [makeStackResource(NAT, 'nat', { tags })];
    await run('up_stack');
    await fleet.asOwner('update stacks set price_micro_usd_per_hour = 30000, ceiling_micro_usd_per_hour = 40000');
    await run('check_stack_drift');
    const [finding] = await listFindings(fleet.db, { orgId: fleet.orgId, limit: 10 });
    expect(finding).toMatchObject({ class: 'price_drift', status: 'open', price_micro_usd_per_hour: 45_000n });
    expect(finding?.detail).toMatch(/\$0\.045 an hour .* \$0\.03 .* above its ceiling of \$0\.04/);
    await run('refresh_stack');
    expect(await findings()).toEqual([['price_drift', 'resolved', 'unseen']]);
  });
});
