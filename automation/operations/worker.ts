/**
 * The worker: takes dispatched operations off the queue, claims them, runs their steps and keeps their leases. A step whose lease
 * is lost is killed; one whose operation is canceled is told; at a drain all steps wind down and are given back.
 */
import type pg from 'pg';
import { retryDelayMs } from '../../domain/backoff.ts';
import { MusterError, type ErrorCode } from '../../domain/error-table.ts';
import { LEASE_MS, LEASE_RENEW_MS, type OperationKind } from '../../domain/operation.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { sleepOn } from '../../db/accept-wake.ts';
import { SYSTEM } from '../../db/audit.ts';
import { isConnectionError, retryWhileAway, type Database, type Tx } from '../../db/database.ts';
import { giveBackToFailover } from '../../db/failover-machines.ts';
import { listInstancesOfOperation } from '../../db/instances.ts';
import {
  appendEvents,
  CANCEL_CHANNEL,
  claimOperation,
  expireLeases,
  finishOperation,
  listAbandoned,
  listLeaseOwners,
  recordWait,
  releaseClaim,
  renewLeases,
  StaleClaim,
  withClaim,
  type Claim,
  type OperationRow,
} from '../../db/operations.ts';
import { DISPATCH_CHANNEL } from '../../db/queue.ts';
import { listStackWaiters, STACK_FREED_CHANNEL } from '../../db/stack-waiters.ts';
import { deleteSnapshot } from '../snapshots/delete-snapshot.ts';
import { restoreWorkspace } from '../snapshots/restore-workspace.ts';
import { takeSnapshot } from '../snapshots/take-snapshot.ts';
import { verifySnapshot } from '../snapshots/verify-snapshot.ts';
import { adoptMachine } from './adopt-machine.ts';
import { changeBid } from './change-bid.ts';
import { destroyInstance, destroyMachine } from './destroy.ts';
import { forgetDryRun } from './forget-dry-run.ts';
import { failOver } from './fail-over.ts';
import { hibernateInstance } from './hibernate-instance.ts';
import { isOwnerDead } from './owner.ts';
import { provisionInstance } from './provision-instance.ts';
import { refreshOffers } from './refresh-offers.ts';
import { registerCluster } from './register-cluster.ts';
import { switchPower } from './switch-power.ts';
import { runDrill } from './run-drill.ts';
import { checkStackDrift, destroyStack, previewStack, refreshStack, upStack } from './stack-update.ts';
import { StackHeldError } from '../engine/state-backend.ts';
import type { StepContext, StepHandler, StepResult, StepServices } from './step.ts';

const HANDLERS: Record<OperationKind, StepHandler> = {
  provision_instance: provisionInstance,
  destroy_instance: destroyInstance,
  destroy_machine: destroyMachine,
  adopt_machine: adoptMachine,
  change_bid: changeBid,
  fail_over: failOver,
  run_drill: runDrill,
  hibernate_instance: hibernateInstance,
  wake_instance: provisionInstance,
  refresh_offers: refreshOffers,
  preview_stack: previewStack,
  up_stack: upStack,
  refresh_stack: refreshStack,
  destroy_stack: destroyStack,
  check_stack_drift: checkStackDrift,
  forget_dry_run: forgetDryRun,
  register_cluster: registerCluster,
  stop_cluster: switchPower,
  start_cluster: switchPower,
  take_snapshot: takeSnapshot,
  verify_snapshot: verifySnapshot,
  restore_workspace: restoreWorkspace,
  delete_snapshot: deleteSnapshot,
};

/** When one of these fails, what it leaves half made is destroyed. */
const MAKES_INSTANCES: ReadonlySet<OperationKind> = new Set(['provision_instance', 'adopt_machine']);
/** How soon a dispatch is seen when its notification was lost. */
const POLL_MS = 1_000;
const SWEEP_MS = 3_000;
/** How soon an operation looks again whether a person's update has ended. */
const STACK_HELD_MS = 2_000;
/** A step that could not renew for so long must stop before somebody else may claim: the lease is LEASE_MS. */
const RENEW_PATIENCE_MS = LEASE_MS - 2_000;
const APPLY_PATIENCE_MS = LEASE_MS;

interface RunningStep {
  claim: Claim;
  cancel: AbortController;
  kill: AbortController;
  runId: string | null;
  renewedAt: number;
  done: Promise<void>;
}

export interface Worker {
  start(): Promise<void>;
  /** Takes no more, interrupts what runs and gives it back; resolves when nothing runs. */
  drain(): Promise<void>;
  runningCount(): number;
}

export interface WorkerOptions {
  services: StepServices;
  database: Database;
  owner: string;
  /** Steps at once. */
  concurrency: number;
}

export function createWorker({ services, database, owner, concurrency }: WorkerOptions): Worker {
  const { db, queue, log } = services;
  const running = new Map<string, RunningStep>();
  /** Claims asked for and not answered: a drain gives back what they still get. */
  const claims = new Set<Promise<void>>();
  const timers: NodeJS.Timeout[] = [];
  let listener: pg.Client | undefined;
  let isDraining = false;
  let isTaking = false;
  let takeAgain = false;

  async function takeMore(): Promise<void> {
    if (isTaking) {
      takeAgain = true;
      return;
    }
    isTaking = true;
    try {
      do {
        takeAgain = false;
        const free = concurrency - running.size;
        if (isDraining || free <= 0) break;
        const ids = await queue.take(db, free);
        await Promise.all(ids.map(claimAndRun));
        takeAgain ||= ids.length === free && running.size < concurrency;
      } while (takeAgain);
    } catch (error) {
      logTrouble(error, 'operations could not be taken');
    } finally {
      isTaking = false;
    }
  }

  function claimAndRun(operationId: string): Promise<void> {
    if (running.has(operationId) || isDraining) return Promise.resolve();
    const claiming = claimOne(operationId).finally(() => claims.delete(claiming));
    claims.add(claiming);
    return claiming;
  }

  async function claimOne(operationId: string): Promise<void> {
    const claimed = await claimOperation(db, operationId, owner);
    if (claimed.kind !== 'claimed') return;
    if (isDraining) await releaseClaim(db, queue, claimed.claim);
    else begin(claimed.claim, claimed.operation);
  }

  function begin(claim: Claim, operation: OperationRow): void {
    const step: RunningStep = {
      claim,
      cancel: new AbortController(),
      kill: new AbortController(),
      runId: null,
      renewedAt: performance.now(),
      done: Promise.resolve(),
    };
    running.set(operation.id, step);
    if (operation.cancel_requested_at !== null) step.cancel.abort();
    step.done = runStep(step, operation).finally(() => {
      running.delete(operation.id);
      void takeMore();
    });
  }

  async function runStep(step: RunningStep, operation: OperationRow): Promise<void> {
    const context: StepContext = {
      ...services,
      operation,
      claim: step.claim,
      cancel: step.cancel.signal,
      kill: step.kill.signal,
      onRunStarted(runId) {
        step.runId = runId;
        services.runner.extendLease(runId, leaseLeft(step));
      },
      emit: (events) => retryWhileAway(() => appendEvents(db, operation.id, events), 2_000),
    };
    let result: StepResult;
    try {
      result = await HANDLERS[operation.kind](context);
    } catch (error) {
      if (error instanceof StaleClaim)
        return log.warn({ operation: operation.id }, 'the lease was lost; the result is dropped');
      result = error instanceof StackHeldError ? waitForStack(error, services.now()) : resultOfError(error, operation);
    }
    if (step.kill.signal.aborted) return;
    try {
      await retryWhileAway(() => recordResult(step.claim, operation, result), APPLY_PATIENCE_MS);
    } catch (error) {
      if (!(error instanceof StaleClaim)) logTrouble(error, 'the end of a step could not be recorded');
    }
  }

  async function recordResult(claim: Claim, operation: OperationRow, result: StepResult): Promise<void> {
    switch (result.kind) {
      case 'recorded':
        return;
      case 'release':
        return releaseClaim(db, queue, claim);
      case 'done':
        return withClaim(db, claim, (tx) =>
          finishOperation(tx, queue, claim.operationId, 'succeeded', { note: result.note ?? null }),
        );
      case 'fail':
        return withClaim(db, claim, async (tx) => {
          if (MAKES_INSTANCES.has(operation.kind)) await destroyUnready(tx, operation.id, result.error);
          if (operation.kind === 'wake_instance') await sleepOn(tx, queue, operation.target_id, result.error);
          await finishOperation(tx, queue, claim.operationId, 'failed', {
            error: result.error,
            note: result.error.detail,
          });
        });
      case 'wait':
        return withClaim(db, claim, async (tx) => {
          if (result.note !== operation.note) {
            await appendEvents(tx, claim.operationId, [{ type: 'note', data: { note: result.note } }]);
          }
          await recordWait(tx, queue, claim, result.until, { note: result.note, failures: 0 });
        });
      case 'retry':
        return recordRetry(claim, operation, result);
    }
  }

  /** What a failed provision leaves half made is destroyed; instances that are ready stay. */
  async function destroyUnready(
    tx: Tx,
    operationId: string,
    error: { code: ErrorCode; detail: string },
  ): Promise<void> {
    for (const instance of await listInstancesOfOperation(tx, operationId)) {
      if (!['requested', 'creating', 'booting'].includes(instance.status)) continue;
      if (await giveBackToFailover(tx, instance.id, error.detail)) continue;
      const reason = error.detail;
      const order = {
        orgId: null,
        instanceId: instance.id,
        actor: SYSTEM,
        reason,
        failure: error,
        askedBy: operationId,
      };
      await acceptDestroy(tx, queue, order);
    }
  }

  function recordRetry(
    claim: Claim,
    operation: OperationRow,
    result: Extract<StepResult, { kind: 'retry' }>,
  ): Promise<void> {
    const delay = result.afterMs > 0 ? result.afterMs : retryDelayMs('operation', operation.failures, Math.random());
    return withClaim(db, claim, async (tx) => {
      await appendEvents(tx, claim.operationId, [
        { type: 'retry', data: { note: result.note, afterMs: Math.round(delay), failures: operation.failures + 1 } },
      ]);
      const until = new Date(services.now().getTime() + delay);
      await recordWait(tx, queue, claim, until, { note: result.note, failures: operation.failures + 1 });
    });
  }

  function resultOfError(error: unknown, operation: OperationRow): StepResult {
    if (!isConnectionError(error)) log.error({ err: error, operation: operation.id }, 'a step failed unexpectedly');
    const note = error instanceof MusterError ? error.detail : 'an internal error; it is tried again';
    // A destroy is never given up; a provision that keeps failing for reasons of ours must not hold machines for ever.
    const mayFail = operation.kind === 'provision_instance' || operation.kind === 'wake_instance';
    if (!mayFail || operation.failures < 20) return { kind: 'retry', afterMs: 0, note };
    return { kind: 'fail', error: { code: 'internal' satisfies ErrorCode, detail: note } };
  }

  async function renew(): Promise<void> {
    if (running.size === 0) return;
    const startedAt = performance.now();
    try {
      const held = new Set(await renewLeases(db, owner));
      for (const [id, step] of running) {
        if (held.has(id)) {
          step.renewedAt = startedAt;
          if (step.runId !== null) services.runner.extendLease(step.runId, leaseLeft(step));
        } else if (step.renewedAt < startedAt - LEASE_RENEW_MS) step.kill.abort();
      }
    } catch (error) {
      logTrouble(error, 'leases could not be renewed');
    }
  }

  /** Not in renew(): a database that hangs must not keep an outdated step alive. */
  function killOutdated(): void {
    for (const step of running.values()) {
      if (performance.now() - step.renewedAt > RENEW_PATIENCE_MS) step.kill.abort();
    }
  }

  /** The safety net under the queue: what a crash, a lost dispatch or a dead process left behind. */
  async function sweep(): Promise<void> {
    try {
      for (const holder of await listLeaseOwners(db)) {
        if (isOwnerDead(holder, owner)) {
          const taken = await expireLeases(db, holder);
          log.info({ holder, operations: taken.length }, 'took over from a process that is dead');
        }
      }
      for (const id of await listAbandoned(db)) {
        if (running.size >= concurrency || isDraining) return;
        await claimAndRun(id);
      }
    } catch (error) {
      logTrouble(error, 'the sweep failed');
    }
  }

  /** Their dispatches are for later: nobody knew when the stack would be free. What finds no room here comes then. */
  async function takeWaiters(stackId: string): Promise<void> {
    try {
      for (const id of await listStackWaiters(db, stackId)) {
        if (running.size >= concurrency || isDraining) return;
        await claimAndRun(id);
      }
    } catch (error) {
      logTrouble(error, 'operations that waited for a stack could not be taken');
    }
  }

  async function listen(): Promise<void> {
    if (isDraining) return;
    try {
      const client = await database.connectListener();
      client.on('notification', ({ channel, payload }) => {
        if (channel === DISPATCH_CHANNEL) void takeMore();
        else if (channel === STACK_FREED_CHANNEL) void takeWaiters(payload ?? '');
        else if (payload) running.get(payload)?.cancel.abort();
      });
      client.on('error', () => {});
      client.on('end', () => {
        if (listener === client) listener = undefined;
        if (!isDraining) timers.push(setTimeout(() => void listen(), POLL_MS));
      });
      await client.query(`listen ${DISPATCH_CHANNEL}`);
      await client.query(`listen ${CANCEL_CHANNEL}`);
      await client.query(`listen ${STACK_FREED_CHANNEL}`);
      listener = client;
    } catch (error) {
      logTrouble(error, 'the worker cannot listen for dispatches');
      timers.push(setTimeout(() => void listen(), POLL_MS));
    }
  }

  function logTrouble(error: unknown, message: string): void {
    if (isConnectionError(error)) log.debug({ err: error }, message);
    else log.error({ err: error }, message);
  }

  return {
    async start() {
      await listen();
      await sweep();
      timers.push(setInterval(() => void renew(), LEASE_RENEW_MS));
      timers.push(setInterval(killOutdated, 500));
      timers.push(setInterval(() => void takeMore(), POLL_MS));
      timers.push(setInterval(() => void sweep(), SWEEP_MS));
      void takeMore();
    },
    async drain() {
      isDraining = true;
      for (const step of running.values()) step.cancel.abort();
      await Promise.allSettled(claims);
      await Promise.all([...running.values()].map((step) => step.done));
      for (const timer of timers) clearTimeout(timer);
      await listener?.end().catch(() => {});
    },
    runningCount: () => running.size,
  };
}

/** A person's CLI updates the stack: the operation goes on when that ends. */
function waitForStack(error: StackHeldError, now: Date): StepResult {
  const since = error.since === null ? '' : ` since ${error.since.toISOString()}`;
  return { kind: 'wait', until: new Date(now.getTime() + STACK_HELD_MS), note: `${error.message}${since}` };
}

function leaseLeft(step: { renewedAt: number }): number {
  return Math.max(0, step.renewedAt + LEASE_MS - performance.now());
}
