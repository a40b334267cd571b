/**
 * A standby takes over, and goes back to rest. Each is called again and again within its caller's transaction, and goes on from the
 * standby's row: what was accepted is named there, so that a call that is repeated, by whomever, does nothing twice. It changes machines
 * only through ordinary updates of the stack. Whom it takes over from is the caller's to fence first.
 */
import { isDeepStrictEqual } from 'node:util';
import { MusterError, type ErrorCode } from '../../domain/error-table.ts';
import { isFinished } from '../../domain/operation.ts';
import { isAtRest, isCapacityRefusal, restConfig, startConfig, type StandbyStackConfig } from '../../domain/standby.ts';
import { acceptStackOperation, findStackUpdate } from '../../db/accept-stack.ts';
import { beginRestore } from '../../db/accept-snapshot.ts';
import { appendAudit, SYSTEM } from '../../db/audit.ts';
import type { Tx } from '../../db/database.ts';
import { setEndpoint } from '../../db/endpoints.ts';
import { findOperation, type OperationRow } from '../../db/operations.ts';
import { findSnapshot, latestVerified } from '../../db/snapshots.ts';
import { changeStack, lockStack, type StackRow } from '../../db/stacks.ts';
import { changeStandby, lockStandby, type Promotion, type StandbyRow } from '../../db/standbys.ts';
import { setWriter } from '../../db/workspaces.ts';
import type { StepServices } from '../operations/step.ts';

export type TakeOverServices = Pick<StepServices, 'queue' | 'now'>;

export interface TakeOverOrder {
  standbyId: string;
  /** Whose takeover it is: the same one may ask again, another is refused while this one is not finished. */
  operationId: string;
}

export type TakeOver =
  | { kind: 'wait'; phase: 'starting' | 'registering' | 'restoring' | 'stopping'; note: string; until: Date }
  | {
      kind: 'done';
      nodeId: string;
      /** What it serves; of a demotion null. */
      snapshotId: string | null;
      recoveryPointAt: Date | null;
      host: string | null;
    }
  /** The standby is at rest again, or will be. */
  | { kind: 'failed'; code: ErrorCode; detail: string };

/** By the name of the user that its start-up script and keys are for. */
const SSH_USER = 'muster';
const SSH_PORT = 22;
/** Nothing wakes whoever waits for a stack or an agent, and a standby that serves is worth a look. */
const LOOK_AGAIN_MS = 1_000;
/** A machine whose agent was heard of so lately runs. */
const HEARD_MS = 30_000;
/** From the end of its start until its agent is heard of. */
const REGISTER_PATIENCE_MS = 10 * 60_000;
const MAX_FAILED_RESTORES = 3;
const MAX_FAILED_UPDATES = 3;

/** Starts it where it does not run, restores what is not on its disk, and makes it the writer and the endpoint of the workspace. */
export async function promoteStandby(tx: Tx, services: TakeOverServices, order: TakeOverOrder): Promise<TakeOver> {
  const held = await holdFor(tx, services, order, 'promoting');
  if ('kind' in held) return held;
  const { standby, promotion } = held;
  if (standby.status === 'serving') return served(tx, standby, promotion);
  const starting = await ensureRunning(tx, services, standby, promotion);
  if (starting) return starting;
  const restoring = await ensureRestored(tx, services, standby, promotion, order);
  if (restoring) return restoring;
  return serve(tx, services, standby, promotion);
}

/** Back to what it was declared. Its last data must be safe and somebody else the writer before. */
export async function demoteStandby(tx: Tx, services: TakeOverServices, order: TakeOverOrder): Promise<TakeOver> {
  const held = await holdFor(tx, services, order, 'demoting');
  if ('kind' in held) return held;
  const { standby, promotion } = held;
  const stack = (await lockStack(tx, standby.stack_id)) as StackRow;
  const wanted = restConfig(standby.config, stack.config as StandbyStackConfig);
  const last = await findUpdate(tx, promotion);
  if (last && !isFinished(last.status))
    return wait(services, 'stopping', `its stack is brought to rest: ${last.note ?? last.status}`);
  const isLooked = last?.status === 'succeeded';
  // One that should run and is silent may have switched itself off while nobody asked for it: the update looks, and starts it.
  const isAsDeclared = last === undefined && (wanted.state !== 'warm' || isHeard(standby, services.now()));
  if (isDeepStrictEqual(stack.config, wanted) && (isLooked || isAsDeclared)) return rest(tx, standby);
  if (last && !isLooked) {
    const failedUpdates = promotion.failedUpdates + 1;
    if (failedUpdates >= MAX_FAILED_UPDATES) {
      const detail = `it could not be brought to rest: ${last.error_detail ?? last.status}`;
      await changeStandby(tx, standby.id, {
        status: 'warm',
        promotion: null,
        failure: { code: 'stack_failed', detail },
      });
      return { kind: 'failed', code: 'stack_failed', detail };
    }
    promotion.failedUpdates = failedUpdates;
  }
  return update(tx, services, { standby, promotion, stack, config: wanted, phase: 'stopping' });
}

interface Held {
  standby: StandbyRow;
  promotion: Promotion;
}

async function holdFor(
  tx: Tx,
  { now }: TakeOverServices,
  { standbyId, operationId }: TakeOverOrder,
  becoming: 'promoting' | 'demoting',
): Promise<Held | Extract<TakeOver, { kind: 'failed' | 'done' }>> {
  const standby = await lockStandby(tx, standbyId);
  if (!standby || standby.removed_at !== null || standby.node_id === null)
    return { kind: 'failed', code: 'not_found', detail: `there is no standby ${standbyId}` };
  const { promotion, status } = standby;
  const isUnderWay = status === becoming || (becoming === 'promoting' && status === 'serving');
  if (isUnderWay && promotion !== null) {
    if (promotion.operationId === operationId) return { standby, promotion };
    const other = await findOperation(tx, null, promotion.operationId);
    const isFree = other === undefined || isFinished(other.status);
    if (!isFree || status === 'serving')
      return { kind: 'failed', code: 'conflict', detail: `${standby.name} is ${status} for ${promotion.operationId}` };
    const taken = { ...promotion, operationId };
    await changeStandby(tx, standby.id, { promotion: taken });
    return { standby, promotion: taken };
  }
  // A demotion that is asked for once more is over already.
  if (becoming === 'demoting' && isAtRest(status)) return atRest(standby);
  const mayBegin = becoming === 'promoting' ? isAtRest(status) : status === 'serving';
  if (!mayBegin) return { kind: 'failed', code: 'conflict', detail: `${standby.name} is ${status}` };
  const begun: Promotion = {
    operationId,
    begunAt: now().toISOString(),
    zonesWithoutRoom: [],
    failedRestores: 0,
    failedUpdates: 0,
  };
  await changeStandby(tx, standby.id, {
    status: becoming,
    promotion: begun,
    // From here on its files are what whoever works there makes of them.
    ...(becoming === 'demoting' ? { servingSince: null, synced: null } : {}),
  });
  await audit(tx, standby, becoming === 'promoting' ? 'standby.promote' : 'standby.demote', { operationId });
  return { standby: { ...standby, status: becoming }, promotion: begun };
}

/** null: it runs, and its agent is there. */
async function ensureRunning(
  tx: Tx,
  services: TakeOverServices,
  standby: StandbyRow,
  promotion: Promotion,
): Promise<TakeOver | null> {
  const now = services.now().getTime();
  const heardAt = standby.node_heartbeat_at?.getTime() ?? 0;
  const isRunning = isHeard(standby, services.now());
  const last = await findUpdate(tx, promotion);
  const stack = (await lockStack(tx, standby.stack_id)) as StackRow;
  const present = stack.config as StandbyStackConfig;
  if (last === undefined) {
    if (present.state === 'warm' && isRunning) return null;
    return start(tx, services, { standby, promotion, stack });
  }
  if (!isFinished(last.status))
    return wait(services, 'starting', `its machine is started: ${last.note ?? last.status}`);
  if (last.status === 'succeeded') {
    const endedAt = last.finished_at?.getTime() ?? now;
    // One of before its start proves nothing.
    if (heardAt > (last.started_at?.getTime() ?? endedAt) && isRunning) return null;
    if (now - endedAt < REGISTER_PATIENCE_MS)
      return wait(services, 'registering', 'its agent has not been heard of yet');
    return giveUp(tx, services, standby, {
      code: 'agent_not_registered',
      detail: `its machine runs, and its agent was not heard of within ${REGISTER_PATIENCE_MS / 60_000} minutes`,
    });
  }
  const why = last.error_detail ?? `its start was ${last.status}`;
  if (isCapacityRefusal(why)) {
    promotion.zonesWithoutRoom = [...promotion.zonesWithoutRoom, present.runIn ?? 'zone'];
    return start(tx, services, { standby, promotion, stack });
  }
  promotion.failedUpdates += 1;
  if (promotion.failedUpdates < MAX_FAILED_UPDATES) return start(tx, services, { standby, promotion, stack });
  return giveUp(tx, services, standby, { code: 'stack_failed', detail: `it could not be started: ${why}` });
}

function isHeard({ node_heartbeat_at: heardAt }: StandbyRow, now: Date): boolean {
  return now.getTime() - (heardAt?.getTime() ?? 0) < HEARD_MS;
}

interface Start {
  standby: StandbyRow;
  promotion: Promotion;
  stack: StackRow;
}

async function start(tx: Tx, services: TakeOverServices, { standby, promotion, stack }: Start): Promise<TakeOver> {
  const config = startConfig(stack.config as StandbyStackConfig, promotion.zonesWithoutRoom);
  if (config === null) {
    const detail = `no zone has room for it: ${promotion.zonesWithoutRoom.join(', ')} (ZONE_RESOURCE_POOL_EXHAUSTED)`;
    return giveUp(tx, services, standby, { code: 'no_capacity', detail });
  }
  return update(tx, services, { standby, promotion, stack, config, phase: 'starting' });
}

/** Has the stack follow, by an ordinary up that looks first at what is there. */
async function update(
  tx: Tx,
  services: TakeOverServices,
  wish: Start & { config: StandbyStackConfig; phase: 'starting' | 'stopping' },
): Promise<TakeOver> {
  const { standby, promotion, stack, config, phase } = wish;
  const underWay = await findStackUpdate(tx, stack.id);
  if (underWay) return wait(services, phase, `waiting for ${underWay.kind} ${underWay.id} on its stack`);
  const changed = isDeepStrictEqual(stack.config, config) ? stack : await changeStack(tx, stack.id, { config });
  const operation = await acceptStackOperation(tx, services.queue, {
    stack: changed,
    kind: 'up_stack',
    actor: SYSTEM,
    refreshFirst: true,
  });
  await changeStandby(tx, standby.id, { promotion: { ...promotion, stackOperationId: operation.id } });
  return wait(services, phase, phase === 'starting' ? 'its machine is started' : 'its stack is brought to rest');
}

/** null: what is served is on its disk. */
async function ensureRestored(
  tx: Tx,
  services: TakeOverServices,
  standby: StandbyRow,
  promotion: Promotion,
  { operationId }: TakeOverOrder,
): Promise<TakeOver | null> {
  if (promotion.restoreId !== undefined && promotion.snapshotId !== undefined) {
    const restore = await findOperation(tx, null, promotion.restoreId);
    if (restore && !isFinished(restore.status))
      return wait(services, 'restoring', `its files are restored: ${restore.note ?? restore.status}`);
    if (restore?.status === 'succeeded') {
      const snapshot = await findSnapshot(tx, null, promotion.snapshotId);
      if (snapshot?.data_at) {
        await changeStandby(tx, standby.id, { synced: { snapshotId: snapshot.id, to: snapshot.data_at }, sync: null });
      }
      return null;
    }
    promotion.failedRestores += 1;
    if (promotion.failedRestores >= MAX_FAILED_RESTORES) {
      const detail = `its files could not be restored: ${restore?.error_detail ?? 'the restore is unknown'}`;
      return giveUp(tx, services, standby, { code: 'restore_failed', detail });
    }
  }
  const newest = await latestVerified(tx, standby.instance_id);
  if (!newest) {
    const detail = 'no snapshot of the workspace was ever verified: there is nothing to serve';
    return giveUp(tx, services, standby, { code: 'snapshot_failed', detail });
  }
  if (standby.synced_snapshot_id === newest.id && standby.sync_operation_id === null) {
    promotion.snapshotId = newest.id;
    return null;
  }
  try {
    const restoreId = await beginRestore(tx, services.queue, {
      snapshotId: newest.id,
      nodeId: standby.node_id as string,
      operationId,
    });
    const next = { ...promotion, snapshotId: newest.id, restoreId };
    await changeStandby(tx, standby.id, { promotion: next, synced: null, sync: null });
  } catch (error) {
    if (!(error instanceof MusterError)) throw error;
    return giveUp(tx, services, standby, { code: 'restore_failed', detail: error.detail });
  }
  return wait(services, 'restoring', 'its files are restored');
}

async function serve(tx: Tx, services: TakeOverServices, standby: StandbyRow, promotion: Promotion): Promise<TakeOver> {
  await setWriter(tx, standby.instance_id, { standbyId: standby.id });
  const nodeId = standby.node_id as string;
  const host = (await lockStandby(tx, standby.id))?.address ?? standby.name;
  const place = { kind: 'standby', host, port: SSH_PORT, user: SSH_USER, nodeId } as const;
  await setEndpoint(tx, standby.instance_id, place);
  await changeStandby(tx, standby.id, { status: 'serving', servingSince: services.now(), promotion, failure: null });
  await audit(tx, standby, 'standby.serve', { snapshotId: promotion.snapshotId ?? null });
  return served(tx, { ...standby, address: host }, promotion);
}

async function served(tx: Tx, standby: StandbyRow, { snapshotId }: Promotion): Promise<TakeOver> {
  const snapshot = snapshotId === undefined ? undefined : await findSnapshot(tx, null, snapshotId);
  return {
    kind: 'done',
    nodeId: standby.node_id as string,
    snapshotId: snapshotId ?? null,
    recoveryPointAt: snapshot?.data_at ?? null,
    host: standby.address,
  };
}

async function rest(tx: Tx, standby: StandbyRow): Promise<TakeOver> {
  await changeStandby(tx, standby.id, { status: standby.state, promotion: null });
  return atRest(standby);
}

function atRest(standby: StandbyRow): Extract<TakeOver, { kind: 'done' }> {
  return {
    kind: 'done',
    nodeId: standby.node_id as string,
    snapshotId: null,
    recoveryPointAt: null,
    host: standby.address,
  };
}

/** What was started is brought to rest again by the same way as after serving; whoever asked need not wait for it. */
async function giveUp(
  tx: Tx,
  { now }: TakeOverServices,
  standby: StandbyRow,
  failure: { code: ErrorCode; detail: string },
): Promise<TakeOver> {
  const stack = (await lockStack(tx, standby.stack_id)) as StackRow;
  const isChanged = !isDeepStrictEqual(stack.config, restConfig(standby.config, stack.config as StandbyStackConfig));
  const cleanUp: Promotion = {
    operationId: '',
    begunAt: now().toISOString(),
    zonesWithoutRoom: [],
    failedRestores: 0,
    failedUpdates: 0,
  };
  await changeStandby(tx, standby.id, {
    status: isChanged ? 'demoting' : standby.state,
    promotion: isChanged ? cleanUp : null,
    failure,
  });
  await audit(tx, standby, 'standby.give_up', failure);
  return { kind: 'failed', ...failure };
}

async function findUpdate(tx: Tx, { stackOperationId }: Promotion): Promise<OperationRow | undefined> {
  return stackOperationId === undefined ? undefined : findOperation(tx, null, stackOperationId);
}

function wait(
  { now }: TakeOverServices,
  phase: Extract<TakeOver, { kind: 'wait' }>['phase'],
  note: string,
  afterMs: number = LOOK_AGAIN_MS,
): TakeOver {
  return { kind: 'wait', phase, note, until: new Date(now().getTime() + afterMs) };
}

function audit(tx: Tx, standby: StandbyRow, action: string, detail: Record<string, unknown>): Promise<void> {
  return appendAudit(tx, {
    orgId: standby.org_id,
    actor: SYSTEM,
    action,
    targetKind: 'standby',
    targetId: standby.id,
    detail: { name: standby.name, instanceId: standby.instance_id, ...detail },
  });
}
