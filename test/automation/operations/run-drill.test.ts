/** Drills over real Postgres; the failover that they watch is moved by hand, and the sandbox is a server that notes what it is asked. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pino } from 'pino';
import { createDrillCron } from '../../../automation/cron/drill.ts';
import { runDrill } from '../../../automation/operations/run-drill.ts';
import type { StepContext, StepResult } from '../../../automation/operations/step.ts';
import { acceptDrill } from '../../../db/accept-drill.ts';
import { acceptFailover } from '../../../db/accept-failover.ts';
import { findDrill, type DrillRow } from '../../../db/drills.ts';
import { saveFailoverPolicy } from '../../../db/failover-policies.ts';
import { findRunningFailover, movePhase } from '../../../db/failovers.ts';
import { appendEvents, claimOperation, findOperation } from '../../../db/operations.ts';
import type { DrillMode, DrillTargets } from '../../../domain/drill.ts';
import { startStandbyFleet, type MadeStandby, type StandbyFleet } from '../../support/standby-fleet.ts';

const ACTOR = { kind: 'user', id: 'usr_test' } as const;
const TARGETS: DrillTargets = { detectionMs: 20_000, rtoMs: 30_000, rpoMs: 60_000, costMicroUsd: null };

let fleet: StandbyFleet;
let sandbox: Server;
const asked: { path: string; body: unknown }[] = [];
let sandboxStatus = 200;
beforeAll(async () => {
  fleet = await startStandbyFleet();
  sandbox = createServer((request, response) => {
    let text = '';
    request.on('data', (part: Buffer) => (text += part.toString()));
    request.on('end', () => {
      asked.push({ path: request.url ?? '', body: JSON.parse(text) });
      response.writeHead(sandboxStatus).end('{}');
    });
  });
  await new Promise<void>((resolve) => sandbox.listen(0, '127.0.0.1', resolve));
}, 60_000);
afterAll(async () => {
  await new Promise((resolve) => sandbox.close(resolve));
  await fleet.stop();
});

const machineOf = ({ attemptId }: MadeStandby) => `machine-of-${attemptId}`;
const db = () => fleet.server.database.kysely;

interface Running {
  drill: () => Promise<DrillRow>;
  operationId: string;
  step(aheadMs?: number): Promise<StepResult>;
}

async function begin(made: MadeStandby, mode: DrillMode = 'sandbox', targets = TARGETS): Promise<Running> {
  const order = { standbyId: made.id, mode, targets, actor: ACTOR };
  const { drill, operation } = await fleet.inTx((tx) => acceptDrill(tx, fleet.server.queue, order));
  const claimed = await claimOperation(db(), operation.id, 'worker-1');
  if (claimed.kind !== 'claimed') throw new Error('it was not claimed');
  return {
    operationId: operation.id,
    drill: async () => (await findDrill(db(), null, drill.id))!,
    async step(aheadMs = 0) {
      const context = {
        db: db(),
        queue: fleet.server.queue,
        now: () => new Date(Date.now() + aheadMs),
        log: pino({ level: 'silent' }),
        sandboxUrl: `http://127.0.0.1:${(sandbox.address() as AddressInfo).port}`,
        operation: (await findOperation(db(), null, operation.id))!,
        claim: claimed.claim,
        cancel: new AbortController().signal,
        kill: new AbortController().signal,
        emit: (events: never[]) => appendEvents(db(), operation.id, events),
      };
      return runDrill(context as unknown as StepContext);
    },
  };
}

/** Ready to be lost: in sync, and with a policy by which a loss is answered. */
async function makeReady(change: { failback?: 'automatic' | 'manual'; snapshotAgoMs?: number | null } = {}) {
  const made = await fleet.make('warm');
  const { org_id: orgId } = await fleet.find(made.id);
  const policy = {
    mode: 'standby' as const,
    rpoMs: 60_000,
    maxPriceMicroUsdPerHour: null,
    cooldownMs: 0,
    maxPerDay: 9,
    failback: change.failback ?? ('automatic' as const),
  };
  await fleet.inTx((tx) => saveFailoverPolicy(tx, { id: made.instanceId, orgId }, policy, 'test'));
  await db()
    .updateTable('attempts')
    .set({ provider_instance_id: machineOf(made) })
    .where('id', '=', made.attemptId)
    .execute();
  const { snapshotAgoMs = 5_000 } = change;
  if (snapshotAgoMs !== null) {
    const snapshotId = await fleet.verified(made.instanceId, new Date(Date.now() - snapshotAgoMs));
    await db().updateTable('standbys').set({ synced_snapshot_id: snapshotId }).where('id', '=', made.id).execute();
  }
  return made;
}

async function notice(made: MadeStandby): Promise<void> {
  const order = { instanceId: made.instanceId, cause: 'detected', reasons: ['silent'], actor: ACTOR } as const;
  const accepted = await fleet.inTx((tx) => acceptFailover(tx, fleet.server.queue, order));
  expect(accepted.kind).toBe('accepted');
}

/** As far as the standby serves, with data of so long before the loss. */
async function serve(made: MadeStandby, recoveryPoint: Date): Promise<void> {
  const { id } = (await findRunningFailover(db(), made.instanceId))!;
  const now = new Date();
  await fleet.inTx(async (tx) => {
    await movePhase(tx, id, 'fencing');
    await movePhase(tx, id, 'promoting', { recovery_point_at: recoveryPoint });
    await movePhase(tx, id, 'serving', { serving_at: now });
  });
}

async function complete(made: MadeStandby): Promise<void> {
  const { id } = (await findRunningFailover(db(), made.instanceId))!;
  await fleet.inTx(async (tx) => {
    await movePhase(tx, id, 'provisioning');
    await movePhase(tx, id, 'switching', { replaced_at: new Date() });
    await movePhase(tx, id, 'complete');
  });
}

describe('a drill in the sandbox', () => {
  it('kills the machine, watches, and passes where every target is met', async () => {
    const made = await makeReady();
    const running = await begin(made);
    expect(await running.step()).toMatchObject({ kind: 'wait' });
    asked.length = 0;
    expect(await running.step()).toMatchObject({ kind: 'wait' });
    expect(asked).toEqual([
      {
        path: '/__sandbox/faults',
        body: { provider: 'vastai', endpoint: 'machine', kind: 'host_loss', match: { instanceId: machineOf(made) } },
      },
    ]);
    expect(await running.step()).toMatchObject({ note: expect.stringContaining('noticed') });
    await notice(made);
    await running.step();
    expect(await running.drill()).toMatchObject({ phase: 'failing_over', failover_id: expect.any(String) });
    const lost = Date.parse((await running.drill()).moments.lost!);
    await serve(made, new Date(lost - 4_000));
    expect(await running.step()).toMatchObject({ note: expect.stringContaining('serving') });
    await complete(made);
    expect(await running.step()).toEqual({ kind: 'recorded' });
    const drill = await running.drill();
    expect(drill).toMatchObject({
      status: 'passed',
      failures: [],
      measures: { rpoMs: 4_000, costMicroUsd: expect.any(Number) },
    });
    expect(drill.measures!.rtoMs).toBeGreaterThanOrEqual(drill.measures!.detectionMs!);
    expect(await findOperation(db(), null, running.operationId)).toMatchObject({ status: 'succeeded' });
    expect((await fleet.find(made.id)).drilled_at).not.toBeNull();
    const report = await fleet.server.call('GET', `/api/v1/standby/drills/${drill.id}/report`);
    expect(report.headers.get('content-type')).toContain('text/html');
    expect(await fleet.server.call('GET', `/api/v1/standby/drills/${drill.id}`)).toMatchObject({
      status: 200,
      body: { status: 'passed', measures: { rpoMs: 4_000 } },
    });
  });

  it('fails where a target is missed, naming it with both figures', async () => {
    const made = await makeReady();
    const running = await begin(made, 'sandbox', { ...TARGETS, rpoMs: 10_000 });
    await running.step();
    await running.step();
    await notice(made);
    await running.step();
    await serve(made, new Date(Date.parse((await running.drill()).moments.lost!) - 25_000));
    await complete(made);
    await running.step();
    expect(await running.drill()).toMatchObject({
      status: 'failed',
      failures: ['rpoMs: the data was behind by 25.0 s, 10.0 s wanted'],
    });
    expect(await findOperation(db(), null, running.operationId)).toMatchObject({
      status: 'failed',
      error_code: 'drill_failed',
    });
  });

  it('fails where nobody notices the loss, and says what was not measured', async () => {
    const made = await makeReady();
    const running = await begin(made);
    await running.step();
    await running.step();
    expect(await running.step(11 * 60_000)).toEqual({ kind: 'recorded' });
    const { status, failures } = await running.drill();
    expect(status).toBe('failed');
    expect(failures[0]).toBe('nobody noticed the loss');
    expect(failures.join()).toContain('rtoMs: not measured');
  });

  it('loses nothing while the standby is not in sync, and gives up where that does not change', async () => {
    const made = await makeReady({ snapshotAgoMs: null });
    asked.length = 0;
    const running = await begin(made);
    expect(await running.step()).toMatchObject({ kind: 'wait', note: expect.stringContaining('no snapshot') });
    expect(await running.step(6 * 60_000)).toEqual({ kind: 'recorded' });
    expect((await running.drill()).failures[0]).toContain('nothing was lost');
    expect(asked).toEqual([]);
  });

  it('that was canceled before the loss loses nothing', async () => {
    const made = await makeReady();
    asked.length = 0;
    const running = await begin(made);
    await db()
      .updateTable('operations')
      .set({ cancel_requested_at: new Date() })
      .where('id', '=', running.operationId)
      .execute();
    expect(await running.step()).toEqual({ kind: 'recorded' });
    expect(await running.drill()).toMatchObject({ status: 'canceled' });
    expect(asked).toEqual([]);
  });

  it('whose sandbox refuses says so', async () => {
    const made = await makeReady();
    const running = await begin(made);
    await running.step();
    sandboxStatus = 404;
    await running.step();
    sandboxStatus = 200;
    expect((await running.drill()).failures[0]).toContain('the sandbox answers 404');
  });

  it('asks for the way back itself where the policy leaves it to people', async () => {
    const made = await makeReady({ failback: 'manual' });
    const running = await begin(made);
    await running.step();
    await running.step();
    await notice(made);
    await running.step();
    await serve(made, new Date());
    await running.step();
    expect((await findRunningFailover(db(), made.instanceId))!.failback_requested_at).not.toBeNull();
  });
});

describe('a drill on a real workload', () => {
  it('fails it over by the ordinary way, and touches no sandbox', async () => {
    const made = await makeReady();
    asked.length = 0;
    const running = await begin(made, 'consented');
    await running.step();
    await running.step();
    const failover = await findRunningFailover(db(), made.instanceId);
    expect(failover).toMatchObject({ cause: 'drill', mode: 'standby', standby_id: made.id });
    expect(await running.drill()).toMatchObject({ phase: 'failing_over', failover_id: failover!.id });
    expect(asked).toEqual([]);
  });
});

describe('asking for a drill', () => {
  const post = (body: unknown) => fleet.server.call('POST', '/api/v1/standby/drills', { body });

  it('needs consent for a real workload, a policy for the sandbox, and a standby at rest', async () => {
    const made = await makeReady();
    const without = await post({ standbyId: made.id, mode: 'consented' });
    expect(without).toMatchObject({ status: 422, body: { errors: [{ path: 'consent' }] } });
    await db().deleteFrom('failover_policies').where('instance_id', '=', made.instanceId).execute();
    expect(await post({ standbyId: made.id })).toMatchObject({ status: 409, body: { state: 'no_policy' } });
    await db().updateTable('standbys').set({ status: 'serving' }).where('id', '=', made.id).execute();
    expect(await post({ standbyId: made.id, mode: 'consented', consent: true })).toMatchObject({
      status: 409,
      body: { state: 'serving' },
    });
  });

  it('makes one at a time, judged by the usual targets and those that are given', async () => {
    const made = await makeReady();
    const accepted = await post({
      standbyId: made.id,
      targets: { rto: '12 seconds', detection: null, costUsd: '0.50' },
    });
    expect(accepted).toMatchObject({
      status: 202,
      body: {
        operation: { kind: 'run_drill' },
        drill: { targets: { detectionMs: null, rtoMs: 12_000, rpoMs: 60_000, costMicroUsd: 500_000 } },
      },
    });
    expect(await post({ standbyId: made.id })).toMatchObject({ status: 409 });
    await fleet.end(accepted.body.operation.id, 'failed', 'the worker died');
    expect(await post({ standbyId: made.id })).toMatchObject({ status: 202 });
    const { body } = await fleet.server.call('GET', `/api/v1/standby/drills?standbyId=${made.id}`);
    expect(body.items.map((one: { status: string }) => one.status)).toEqual(['running', 'failed']);
    expect(body.items[1].failures[0]).toContain('the worker died');
  });

  it('comes by itself when a policy says so, once in its time', async () => {
    const made = await makeReady();
    const policy = { mode: 'sandbox', targets: TARGETS, consentBy: null };
    await db()
      .updateTable('standbys')
      .set({ drill_every_ms: 3_600_000n, drill_policy: JSON.stringify(policy) })
      .where('id', '=', made.id)
      .execute();
    const tick = (aheadMs: number) =>
      createDrillCron({
        db: db(),
        queue: fleet.server.queue,
        now: () => new Date(Date.now() + aheadMs),
        log: pino({ level: 'silent' }),
      }).run(new AbortController().signal);
    expect(await tick(0)).toMatchObject({ due: 0 });
    expect(await tick(3_700_000)).toMatchObject({ due: 1, begun: 1 });
    expect(await tick(3_700_000)).toMatchObject({ begun: 0 });
  });
});
