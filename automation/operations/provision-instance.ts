/**
 * Provisioning: plan, reserve and record, let the engine buy, apply, wait for readiness, plan again; until every instance of the
 * request has its winner, with its files where it had some, or has failed. Whatever is given up is destroyed by a destroy operation of
 * its own. A wake is the same for an instance that sleeps, and sleeps on where it fails.
 */
import { isWanted } from '../../domain/attempt.ts';
import { openingBid, purchasePrice } from '../../domain/bid.ts';
import { MusterError, type ErrorCode } from '../../domain/error-table.ts';
import { formatLabel } from '../../domain/label.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { plan } from '../../domain/provisioning/plan.ts';
import type { PlanAction, PlanInput } from '../../domain/provisioning/planner.ts';
import { destroyInstancesOf } from '../../db/accept-cancel.ts';
import { acceptAttemptDestroy } from '../../db/accept-attempt-destroy.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { sleepOn } from '../../db/accept-wake.ts';
import {
  insertAttempt,
  listAttemptsById,
  lockAttemptStatus,
  markEngineRun,
  markGone,
  type AttemptRow,
} from '../../db/attempts.ts';
import { SYSTEM } from '../../db/audit.ts';
import { claimProbe, recordProviderOutcome } from '../../db/circuits.ts';
import { retryWhileAway, type Tx } from '../../db/database.ts';
import { findGivenBack, giveBackToFailover } from '../../db/failover-machines.ts';
import {
  listInstancesOfOperation,
  lockInstance,
  setInstanceStatus,
  updateInstance,
  type InstanceRow,
} from '../../db/instances.ts';
import { findOpenHibernation } from '../../db/hibernations.ts';
import { newId } from '../../db/new-id.ts';
import { reserveOffer } from '../../db/offers.ts';
import { findOperation, finishOperation, withClaim } from '../../db/operations.ts';
import type { UpdateOutcome } from '../engine/stack-runner.ts';
import { engineErrorCode } from '../engine/classify-error.ts';
import { isListingBelieved } from '../readiness/list-instances.ts';
import { declareWinner } from '../readiness/winner.ts';
import { readPlanInput } from './candidates.ts';
import { equipAgent } from './equip-agent.ts';
import { handOverClaimed } from './hand-over.ts';
import { listedProvider } from './step.ts';
import { RESTORE_RECHECK_MS, restoreWinners, type Restoring } from './restore-winner.ts';
import { applyBought, loadStack, runStackUpdate, type StackView } from './run-update.ts';
import type { StepContext, StepResult } from './step.ts';

/** Engine runs in one step; a step that needs more lets others on first. */
const MAX_ROUNDS = 10;
/** How long purchases are tried while a provider or the engine is in trouble before the request fails. */
const MAX_PURCHASE_TROUBLE_MS = 30 * 60_000;
const ENGINE_WAIT_MS = 2_000;

export async function provisionInstance(context: StepContext): Promise<StepResult> {
  context.crashPoint('operation_claimed');
  const stackId = context.operation.stack_id as string;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    if (await isCancelRequested(context)) return cancelProvision(context);
    if (context.cancel.aborted) return { kind: 'release' };
    const view = await loadStack(context, stackId);
    if (await handOverClaimed(context, view)) continue;
    const toBuy = await listForEngine(context, view);
    if (toBuy.length > 0) {
      if (!context.engineReady()) return wait(context, ENGINE_WAIT_MS, 'waiting for the engine');
      const { believed, unsent } = await sortByBelief(context, toBuy);
      if (unsent.length > 0) await retireUnsent(context, unsent);
      const trouble = believed.length > 0 ? await buy(context, view, believed) : undefined;
      if (trouble) return trouble;
      // What is left waits for its provider to be believed, and holds up nothing else of the request.
      if (believed.length > 0 || unsent.length > 0) continue;
    }
    const restoring = await restoreWinners(context, view);
    if (await endHopeless(context, restoring)) continue;
    if (restoring.isChanged) continue;
    const next = await planAndApply(context, view, restoring.note);
    if (next) return next;
  }
  return { kind: 'release' };
}

/** Attempts that the engine must work on: still to be bought, or bought and not set up completely (until their deadline). */
async function listForEngine(context: StepContext, view: StackView): Promise<AttemptRow[]> {
  const state = await context.runner.readState(view.stackName);
  const unfinished = new Set(
    (state?.resources ?? []).filter((resource) => resource.initErrors.length > 0).map((resource) => resource.name),
  );
  const own = new Set(view.instances.filter((row) => row.operation_id === context.operation.id).map((row) => row.id));
  return view.attempts.filter((attempt) => {
    if (!own.has(attempt.instance_id)) return false;
    if (attempt.status === 'reserved' || attempt.status === 'buying') return true;
    const isInTime = attempt.boot_deadline === null || attempt.boot_deadline > context.now();
    return attempt.status === 'bought' && unfinished.has(attempt.id) && isInTime;
  });
}

/** Plans on the rows as they are and applies what changes rows. null: something is to be bought, or to be planned again. */
async function planAndApply(
  context: StepContext,
  view: StackView,
  restoringNote: string | null,
): Promise<StepResult | null> {
  const input = await readPlanInput(context, context.db, context.operation.id, view.instances, view.attempts);
  const actions = input === null ? [] : plan(input);
  if (input === null || actions.length === 0) {
    return restoringNote === null ? finish(context) : wait(context, RESTORE_RECHECK_MS, restoringNote);
  }
  const [first] = actions;
  if (first?.kind === 'wait') {
    context.crashPoint('wait_recorded');
    const recheck = restoringNote === null ? Infinity : context.now().getTime() + RESTORE_RECHECK_MS;
    return { kind: 'wait', until: new Date(Math.min(first.until, recheck)), note: restoringNote ?? first.reason };
  }
  await retryWhileAway(
    () => withClaim(context.db, context.claim, (tx) => applyActions(context, tx, view, input, actions)),
    10_000,
  );
  if (actions.some((action) => action.kind === 'buy')) context.crashPoint('attempts_committed');
  if (actions.some((action) => action.kind === 'win')) context.crashPoint('instance_ready_applied');
  if (actions.some((action) => action.kind === 'abandon')) context.crashPoint('losers_marked');
  return null;
}

async function applyActions(
  context: StepContext,
  tx: Tx,
  view: StackView,
  input: PlanInput,
  actions: PlanAction[],
): Promise<void> {
  for (const action of actions) {
    switch (action.kind) {
      case 'buy':
        await reserveAttempt(context, tx, view, input, action);
        break;
      case 'win':
        await declareWinner(tx, context.queue, action);
        break;
      case 'abandon':
        await abandonAttempt(context, tx, view, action);
        break;
      case 'fail':
        await failInstance(context, tx, action);
        break;
      case 'wait':
        break;
    }
  }
}

async function failInstance(
  context: StepContext,
  tx: Tx,
  { instanceId, code, reason }: Extract<PlanAction, { kind: 'fail' }>,
): Promise<void> {
  if (await hasWinner(tx, instanceId)) return;
  // It is not destroyed for a drought: its failover has it tried again.
  if (await giveBackToFailover(tx, instanceId, reason)) return;
  // Its files are kept: it sleeps on where a new one would be destroyed.
  if (await sleepOn(tx, context.queue, instanceId, { code, detail: reason })) return;
  await acceptDestroy(tx, context.queue, {
    orgId: null,
    instanceId,
    actor: SYSTEM,
    reason,
    failure: { code, detail: reason },
    askedBy: context.operation.id,
  });
}

/** Those for which no machine could be restored. Returns whether there were any. */
async function endHopeless(context: StepContext, { hopeless }: Restoring): Promise<boolean> {
  for (const { instanceId, reason } of hopeless) {
    await withClaim(context.db, context.claim, (tx) =>
      failInstance(context, tx, { kind: 'fail', instanceId, code: 'restore_failed', reason }),
    );
  }
  return hopeless.length > 0;
}

/** Since the plan was read a machine that it gave up may have been found ready: then nothing else is bought, and nothing has failed. */
async function hasWinner(tx: Tx, instanceId: string): Promise<boolean> {
  const instance = await lockInstance(tx, instanceId);
  return instance?.winner_attempt_id != null;
}

/** The attempt and its label are committed before anything is sent: record before you buy. */
async function reserveAttempt(
  context: StepContext,
  tx: Tx,
  view: StackView,
  input: PlanInput,
  action: Extract<PlanAction, { kind: 'buy' }>,
): Promise<void> {
  if (await hasWinner(tx, action.instanceId)) return;
  // Refused where somebody began to destroy the instance since the plan was made.
  if (!(await setInstanceStatus(tx, action.instanceId, 'creating', { phase: 'purchasing', note: null }))) return;
  const id = newId('attempt');
  for (const offer of action.candidates) {
    // Where the provider's circuit is half open, one attempt at a time probes it.
    if (!(await claimProbe(tx, offer.provider, id))) continue;
    if (!(await reserveOffer(tx, offer, id))) continue;
    await insertAttempt(tx, {
      id,
      orgId: context.operation.org_id as string,
      instanceId: action.instanceId,
      stackId: view.stackId,
      label: formatLabel(context.deploymentId, id, context.labelMac),
      offer,
      priceMicroUsdPerHour: purchasePrice(offer, input.spec.requirements),
      bidMicroUsdPerHour: openingBid(offer, input.spec.requirements),
    });
    await equipAgent(context, tx, id, input.spec.bootTimeoutMs);
    return;
  }
  // Every candidate was taken by another operation in between: the next plan sees that.
}

async function abandonAttempt(
  context: StepContext,
  tx: Tx,
  view: StackView,
  action: Extract<PlanAction, { kind: 'abandon' }>,
): Promise<void> {
  // What was found ready since the plan was read must not be destroyed for a deadline: the next plan sees it.
  const planned = view.attempts.find((attempt) => attempt.id === action.attemptId);
  if (!planned || (await lockAttemptStatus(tx, action.attemptId)) !== planned.status) return;
  const failure = describeAbandoning(view, action);
  await acceptAttemptDestroy(tx, context.queue, planned, { failure, by: context.operation.id });
}

/** Where nothing was missing but the agent, the reason says so: what helps then is no other machine but a way from it to us. */
function describeAbandoning(
  view: StackView,
  { attemptId, code, reason }: Extract<PlanAction, { kind: 'abandon' }>,
): { code: ErrorCode; detail: string } {
  const attempt = view.attempts.find(({ id }) => id === attemptId);
  const instance = view.instances.find(({ id }) => id === attempt?.instance_id);
  const isAgentMissing = attempt?.agent_sealed != null && attempt.agent_registered_at === null;
  if (code !== 'boot_timeout' || !isAgentMissing || instance?.phase !== 'waiting_registration')
    return { code, detail: reason };
  return {
    code: 'agent_not_registered',
    detail: `${reason}: SSH and GPUs were as promised, but its agent never registered (can it reach MUSTER_PUBLIC_URL?)`,
  };
}

/** One engine run that buys; undefined when all went well and the plan can go on. */
async function buy(context: StepContext, view: StackView, toBuy: AttemptRow[]): Promise<StepResult | undefined> {
  await retryWhileAway(
    () =>
      withClaim(context.db, context.claim, (tx) =>
        markEngineRun(
          tx,
          toBuy.map((attempt) => attempt.id),
        ),
      ),
    10_000,
  );
  const fresh = await loadStack(context, view.stackId);
  const left = new Set(fresh.attempts.flatMap(({ id, status }) => (isWanted(status) ? [id] : [])));
  const buying = toBuy.filter((attempt) => left.has(attempt.id)); // some may have lost their race
  if (buying.length === 0) return undefined;
  // What is being destroyed stays in the program: destroying is its own operation's work.
  const held = new Set((await context.runner.readState(view.stackName))?.resources.map((resource) => resource.name));
  const wanted = new Set(buying.map((attempt) => attempt.id));
  const inProgram = fresh.attempts.filter((attempt) => wanted.has(attempt.id) || held.has(attempt.id));
  const outcome = await runStackUpdate(context, fresh, inProgram);
  if (context.kill.aborted) return { kind: 'release' };
  const unresolved = await applyOutcome(context, fresh, buying, outcome);
  const open = await keepWanted(context, buying);
  if (!unresolved.some(({ id }) => open.some((one) => one.id === id)) && !hasUnfinished(outcome, open))
    return undefined;
  if (context.cancel.aborted) return (await isCancelRequested(context)) ? undefined : { kind: 'release' };
  return troubleResult(context, outcome);
}

/** Without those that lost their race while the engine ran: their destroys resolve what is not known of them. */
async function keepWanted(context: StepContext, attempts: AttemptRow[]): Promise<AttemptRow[]> {
  const ids = attempts.map((attempt) => attempt.id);
  const now = await retryWhileAway(() => listAttemptsById(context.db, ids), 10_000);
  return now.filter((attempt) => isWanted(attempt.status));
}

/**
 * Nothing is bought where the listing of machines is not believed. `unsent` are those there that were never sent: another provider
 * may have a machine. The rest there waits, and holds up nobody else.
 */
async function sortByBelief(
  context: StepContext,
  attempts: AttemptRow[],
): Promise<{ believed: AttemptRow[]; unsent: AttemptRow[] }> {
  const believed: AttemptRow[] = [];
  const unsent: AttemptRow[] = [];
  for (const [provider, own] of Map.groupBy(attempts, (attempt) => attempt.provider as ProviderName)) {
    if (await isListingBelieved(listedProvider(context, provider), context.cancel)) believed.push(...own);
    else unsent.push(...own.filter((attempt) => attempt.status === 'reserved' && attempt.engine_runs === 0));
  }
  return { believed, unsent };
}

async function retireUnsent(context: StepContext, unsent: AttemptRow[]): Promise<void> {
  const failure = { code: 'provider_quarantined' as const, detail: "the provider's listing is not believed" };
  await retryWhileAway(
    () =>
      withClaim(context.db, context.claim, (tx) =>
        markGone(
          tx,
          unsent.map((attempt) => attempt.id),
          failure,
        ),
      ),
    10_000,
  );
}

function hasUnfinished(outcome: UpdateOutcome, wanted: AttemptRow[]): boolean {
  const ids = new Set(wanted.map((attempt) => attempt.id));
  return (outcome.state?.resources ?? []).some((resource) => ids.has(resource.name) && resource.initErrors.length > 0);
}

/** Applies what became of each purchase; returns those of which that is still unknown. */
async function applyOutcome(
  context: StepContext,
  view: StackView,
  toBuy: AttemptRow[],
  outcome: UpdateOutcome,
): Promise<AttemptRow[]> {
  const inState = new Map((outcome.state?.resources ?? []).map((resource) => [resource.name, resource]));
  const bought = toBuy.flatMap((attempt) => {
    const resource = inState.get(attempt.id);
    return resource?.id ? [{ attempt, id: resource.id, outputs: resource.outputs }] : [];
  });
  await applyBought(context, view, bought);
  const isPending = (attempt: AttemptRow) =>
    outcome.state?.pendingCreates.some((pending) => pending.name === attempt.id) ?? true;
  const refused = toBuy.flatMap((attempt) => {
    const created = outcome.failures[attempt.id];
    if (inState.get(attempt.id)?.id || isPending(attempt) || !created) return [];
    const failure = definiteFailure(created, attempt);
    return failure ? [{ attempt, failure }] : [];
  });
  await retryWhileAway(
    () =>
      withClaim(context.db, context.claim, async (tx) => {
        for (const { attempt, failure } of refused) {
          // Whether another provider has something, the next plan sees: it asks none again that refused the order or our credentials.
          await markGone(tx, [attempt.id], failure);
          await updateInstance(tx, attempt.instance_id, { note: failure.detail });
        }
        for (const attempt of toBuy) {
          const errorKind = outcome.failures[attempt.id]?.errorKind ?? null;
          const isBought = bought.some((one) => one.attempt.id === attempt.id);
          if (errorKind === 'internal' || (errorKind === null && !isBought)) continue;
          await recordProviderOutcome(tx, { provider: attempt.provider, source: 'purchase', errorKind });
        }
      }),
    10_000,
  );
  const known = new Set([...bought, ...refused].map(({ attempt }) => attempt.id));
  return toBuy.filter((attempt) => !known.has(attempt.id));
}

/**
 * Why nothing was bought, where that is certain. After an earlier run only `no_capacity` is: it comes after a believed look for the label,
 * while the others may come from the look itself.
 */
function definiteFailure(
  created: UpdateOutcome['failures'][string],
  attempt: AttemptRow,
): { code: ErrorCode; detail: string } | null {
  if (attempt.engine_runs > 0 && created.errorKind !== 'no_capacity') return null;
  switch (created.errorKind) {
    case 'no_capacity':
      return { code: 'no_capacity', detail: created.reason };
    case 'auth':
    case 'billing':
      return { code: 'provider_auth', detail: created.reason };
    case 'invalid':
      return { code: 'invalid_request', detail: created.reason };
    default:
      return null;
  }
}

/** The purchase may or may not have happened, or is half done: again, looking the label up first. */
function troubleResult(context: StepContext, outcome: UpdateOutcome): StepResult {
  const startedAt = context.operation.started_at ?? context.now();
  const reasons = Object.values(outcome.failures).map((one) => one.reason);
  const detail = reasons[0] ?? outcome.error?.detail ?? 'a machine is not set up completely';
  const { code } = engineErrorCode(outcome.error?.kind ?? 'resource_failed');
  if (context.now().getTime() - startedAt.getTime() > MAX_PURCHASE_TROUBLE_MS) {
    return { kind: 'fail', error: { code, detail } };
  }
  return { kind: 'retry', afterMs: 0, note: detail };
}

async function isCancelRequested(context: StepContext): Promise<boolean> {
  const row = await findOperation(context.db, null, context.operation.id);
  return row?.cancel_requested_at != null;
}

/** Everything that was begun is handed to destroy operations, in the transaction that ends this one. */
async function cancelProvision(context: StepContext): Promise<StepResult> {
  const row = await findOperation(context.db, null, context.operation.id);
  const reason = row?.cancel_reason ?? 'canceled';
  await withClaim(context.db, context.claim, async (tx) => {
    await destroyInstancesOf(tx, context.queue, context.operation.id, reason, { code: 'canceled', detail: reason });
    await finishOperation(tx, context.queue, context.operation.id, 'canceled', {
      error: { code: 'canceled', detail: reason },
    });
  });
  return { kind: 'recorded' };
}

/** Every instance has its winner, or is ending. */
async function finish(context: StepContext): Promise<StepResult> {
  const instances = await listInstancesOfOperation(context.db, context.operation.id);
  const ready = instances.filter((instance) => instance.status === 'ready').length;
  const givenBack = instances.length === 0 ? await findGivenBack(context.db, context.operation.id) : undefined;
  if (givenBack !== undefined) return { kind: 'fail', error: { code: 'no_capacity', detail: givenBack } };
  const asleep = instances.find((instance) => instance.status === 'hibernated');
  if (asleep) return describeSleepingOn(context, asleep);
  const failed = instances.find(
    (instance): instance is InstanceRow & { failure_code: string } => instance.failure_code !== null,
  );
  if (failed) {
    const detail = failed.failure_detail ?? new MusterError(failed.failure_code as ErrorCode, '').message;
    const prefix = instances.length > 1 ? `${ready} of ${instances.length} instances are ready; ` : '';
    return { kind: 'fail', error: { code: failed.failure_code as ErrorCode, detail: `${prefix}${detail}` } };
  }
  const note = ready === instances.length ? 'ready' : `${ready} of ${instances.length} instances are ready`;
  return { kind: 'done', note: `${note}${await describeOrigin(context, instances)}` };
}

/** A wake that came to nothing. */
async function describeSleepingOn(context: StepContext, instance: InstanceRow): Promise<StepResult> {
  const sleep = await findOpenHibernation(context.db, instance.id);
  const code = (sleep?.wake_failure_code ?? 'no_capacity') as ErrorCode;
  return { kind: 'fail', error: { code, detail: sleep?.wake_failure_detail ?? 'it could not be woken' } };
}

/** Of a serverless request: how many were warm. */
async function describeOrigin(context: StepContext, instances: InstanceRow[]): Promise<string> {
  if (!instances.some((instance) => instance.strategy === 'serverless')) return '';
  const ids = instances.flatMap(({ winner_attempt_id: id }) => (id === null ? [] : [id]));
  const warm = (await listAttemptsById(context.db, ids)).filter(
    (attempt) => attempt.pooled_instance_id !== null,
  ).length;
  return warm === 0 ? '; none was warm: started cold' : `; ${warm} of ${ids.length} from warm pools`;
}

function wait(context: StepContext, afterMs: number, note: string): StepResult {
  return { kind: 'wait', until: new Date(context.now().getTime() + afterMs), note };
}
