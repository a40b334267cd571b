/**
 * Operations on stacks that people made: preview, up, refresh, destroy, looking for drift. One path for each effect: an up is always
 * planned first, in the same operation, and held to the policies, to the ceiling and to the plan that was shown, before it makes anything.
 */
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { ErrorCode } from '../../domain/error-table.ts';
import { decisionsOf, mergePending, type UndecidedCreate } from '../../domain/pending-creates/decision.ts';
import { checkPolicies, type PlannedResource, type PolicyViolation } from '../../domain/policy.ts';
import { diffPrices, type PlannedStep, type PriceDiff } from '../../domain/prices/price-diff.ts';
import { priceResource, worstPrice } from '../../domain/prices/resource-price.ts';
import { regionOf } from '../../domain/prices/state-price.ts';
import { isRetryable, ProviderError } from '../../domain/provider-error.ts';
import { describePlanChanges, planText } from '../../domain/stack.ts';
import type { Tx } from '../../db/database.ts';
import { reopenFindingsOf } from '../../db/findings.ts';
import { markHostsOfStackRemoved } from '../../db/hosts.ts';
import { finishOperation, findOperation, saveProgress } from '../../db/operations.ts';
import { findStackPlan, saveStackPlan } from '../../db/stack-plans.ts';
import { findStack, saveStackOutputs, saveStackPending, setStackStatus, type StackRow } from '../../db/stacks.ts';
import { engineErrorCode } from '../engine/classify-error.ts';
import type { UpdateOutcome } from '../engine/stack-runner.ts';
import { renewEnrolment } from '../clusters/enrolment.ts';
import { followStack, type StackNews } from '../clusters/follow-stack.ts';
import { UndecidedPending } from '../engine/undecided-pending.ts';
import { followStandbyStack } from '../standby/follow-stack.ts';
import { endFindings, healDrift, judgeDrift, recordRefresh } from './stack-drift.ts';
import { hasCarried, record, runStack, type OperationInput } from './stack-run.ts';
import type { StepContext, StepResult } from './step.ts';

const ENGINE_WAIT_MS = 2_000;
/** An update that keeps failing for reasons of the engine's own is given up: a person decides then. */
const MAX_FAILURES = 5;
/** A cloud may need most of an hour until what was begun is there. */
const MAX_LOOK_UPS = 60;

/** Kind `preview_stack`, target `stack`. */
export async function previewStack(context: StepContext): Promise<StepResult> {
  return withStack(context, async (stack) => {
    const { updateKind = 'up' } = context.operation.input as OperationInput;
    const plan = await planUpdate(context, stack, updateKind);
    if ('result' in plan) return plan.result;
    const count = plan.steps.filter((step) => step.op !== 'same').length;
    return { kind: 'done', note: `${count} change${count === 1 ? '' : 's'} planned` };
  });
}

/** Kind `up_stack`, target `stack`. */
export async function upStack(context: StepContext): Promise<StepResult> {
  return withStack(context, async (stack) => {
    // A step that goes on where another died is in the middle of its plan, which was checked before it began.
    if ((context.operation.state as { isPlanned?: boolean }).isPlanned !== true) {
      if ((context.operation.input as OperationInput).refreshFirst === true) {
        const refreshed = await runStack(context, stack, 'refresh');
        const ended = endOf(context, refreshed);
        if (ended) return failStack(context, stack, ended);
        await record(context, (tx) => recordRefresh(tx, stack, refreshed));
      }
      // A plan that was shown is held to, and has the token of then.
      if ((context.operation.input as OperationInput).planHash === undefined) await renewEnrolment(context, stack);
      const plan = await planUpdate(context, stack, 'up');
      if ('result' in plan) return failStack(context, stack, plan.result);
      const refusal = await refusePlan(context, stack, plan);
      if (refusal) return refusal;
      await record(context, (tx) => saveProgress(tx, context.claim, { state: { isPlanned: true } }));
    }
    await record(context, (tx) => setStackStatus(tx, stack.id, 'updating'));
    const outcome = await runStack(context, stack, 'up');
    context.crashPoint('stack_updated');
    const { refreshFirst = false } = context.operation.input as OperationInput;
    return settle(
      context,
      stack,
      outcome,
      () => ({ status: 'up' as const, note: summarize(outcome) }),
      (tx) => healDrift(tx, stack, refreshFirst),
    );
  });
}

/** Kind `refresh_stack`, target `stack`: the state learns what the clouds say; nothing at the clouds changes. */
export async function refreshStack(context: StepContext): Promise<StepResult> {
  return withStack(context, async (stack) => {
    await record(context, (tx) => setStackStatus(tx, stack.id, 'updating'));
    const outcome = await runStack(context, stack, 'refresh');
    if (outcome.isOk) await record(context, (tx) => recordRefresh(tx, stack, outcome));
    return settle(context, stack, outcome, () => ({
      status: 'up' as const,
      note: `${outcome.drift.length} resource${outcome.drift.length === 1 ? '' : 's'} had changed`,
    }));
  });
}

/** Kind `destroy_stack`, target `stack`. The stack is forgotten when the engine says that nothing is left. */
export async function destroyStack(context: StepContext): Promise<StepResult> {
  return withStack(context, async (stack) => {
    await record(context, (tx) => setStatus(context, tx, stack, { status: 'destroying' }));
    const outcome = await runStack(context, stack, 'destroy');
    const isGone = outcome.isOk && (outcome.state?.resources.length ?? 0) === 0;
    if (isGone) await context.runner.remove(stack.name);
    context.crashPoint('stack_emptied');
    if (isGone) await record(context, (tx) => markHostsOfStackRemoved(tx, stack.id));
    return settle(
      context,
      stack,
      outcome,
      () => ({ status: 'destroyed' as const, note: 'nothing is left' }),
      (tx) => endFindings(tx, stack.id),
    );
  });
}

/** Kind `check_stack_drift`, target `stack`: looks only; repairs where the stack says so, by an ordinary up after a refresh. */
export async function checkStackDrift(context: StepContext): Promise<StepResult> {
  return withStack(context, async (stack) => {
    const outcome = await runStack(context, stack, 'detect_drift');
    const ended = endOf(context, outcome);
    if (ended) return ended;
    const drift = await judgeDrift(context, stack, outcome);
    if (drift.length > 0) await context.emit([{ type: 'drift', data: { resources: drift } }]);
    return { kind: 'done', note: drift.length === 0 ? 'nothing has changed' : `${drift.length} changed outside` };
  });
}

async function withStack(context: StepContext, act: (stack: StackRow) => Promise<StepResult>): Promise<StepResult> {
  const row = await findStack(context.db, null, context.operation.target_id);
  if (!row || row.status === 'destroyed') return { kind: 'done', note: 'the stack is gone' };
  const stack = hasCarried(context) ? { ...row, config: (context.operation.input as OperationInput).config } : row;
  // Asked for while it was planned, or while nobody held it: a step that began would only be interrupted again.
  if (context.operation.cancel_requested_at !== null) return endCanceled(context, stack);
  if (!context.engineReady()) {
    const until = new Date(context.now().getTime() + ENGINE_WAIT_MS);
    return { kind: 'wait', until, note: 'waiting for the engine' };
  }
  try {
    return await act(stack);
  } catch (error) {
    if (error instanceof ProviderError) return endUnbegun(context, stack, error);
    throw error;
  }
}

interface Failure {
  code: ErrorCode;
  detail: string;
}

/**
 * The rule of a carried configuration: it is the stack's from the moment on that the engine begins. What was made of it then nobody can
 * undo, so it stays what the stack is to be, also where the up fails.
 */
async function sayWhatHolds(context: StepContext, stack: StackRow, failure: Failure): Promise<Failure> {
  if (!hasCarried(context)) return failure;
  const now = await findStack(context.db, null, stack.id);
  const holds = isDeepStrictEqual(now?.config, stack.config)
    ? 'The changed configuration holds: the next up goes on with it, and another change takes it back'
    : 'The configuration is as it was before';
  return { ...failure, detail: `${failure.detail.slice(0, 3800)}. ${holds}` };
}

/** What an interrupted update left pending could not be looked up, so that the update did not begin. */
async function endUnbegun(context: StepContext, stack: StackRow, error: ProviderError): Promise<StepResult> {
  if (context.kill.aborted || context.cancel.aborted) return { kind: 'release' };
  const pending = mergePending(stack.pending ?? [], await listUndecided(context, stack, error));
  const isRetried = isRetryable(error.kind) && context.operation.failures < MAX_LOOK_UPS;
  const way = pending.length > 0 && !isRetried ? wayToDecide(stack) : '';
  const detail = `${error.message.slice(0, 3500)}${way}`;
  const failure = await sayWhatHolds(context, stack, { code: 'stack_refused', detail });
  await record(context, async (tx) => {
    await saveStackPending(tx, stack.id, pending.length > 0 ? pending : null);
    if (!isRetried) await setStatus(context, tx, stack, { status: 'failed', failure });
  });
  return isRetried
    ? { kind: 'retry', afterMs: error.retryAfterMs ?? 0, note: detail }
    : { kind: 'fail', error: failure };
}

/** Where the look-up itself had trouble, a person may know better of each. */
async function listUndecided(
  context: StepContext,
  stack: StackRow,
  error: ProviderError,
): Promise<readonly UndecidedCreate[]> {
  if (error instanceof UndecidedPending) return error.resources;
  const known = decisionsOf(stack.pending ?? []);
  const state = await context.runner.readState(stack.name);
  return (state?.pendingCreates ?? [])
    .filter(({ urn }) => known[urn] === undefined)
    .map(({ urn, name, type }) => ({ urn, name, type, why: error.message.slice(0, 500), found: [] }));
}

function wayToDecide({ id }: StackRow): string {
  return (
    `. This update did not begin. Decide it by POST /stacks/${id}/pending/decide (muster stacks pending list ${id}), ` +
    `and the next update goes on from there`
  );
}

async function endCanceled(context: StepContext, stack: StackRow): Promise<StepResult> {
  const { operation } = context;
  const wasUnderWay = stack.status === 'updating' || stack.status === 'destroying';
  const isUpdate =
    operation.kind === 'up_stack' || operation.kind === 'refresh_stack' || operation.kind === 'destroy_stack';
  const detail = wasUnderWay
    ? 'canceled in the middle: what was made is in the state'
    : 'canceled before anything was changed';
  const failure = await sayWhatHolds(context, stack, { code: 'canceled', detail });
  await record(context, async (tx) => {
    if (isUpdate) await setStatus(context, tx, stack, { status: wasUnderWay ? 'failed' : stack.status, failure });
    await finishOperation(tx, context.queue, operation.id, 'canceled', { error: failure });
  });
  return { kind: 'recorded' };
}

interface Planned {
  steps: PlannedStep[];
  prices: PriceDiff;
  violations: PolicyViolation[];
  planHash: string;
}

/** Plans and keeps the plan; `result` where it could not be planned. */
async function planUpdate(
  context: StepContext,
  stack: StackRow,
  updateKind: 'up' | 'destroy',
): Promise<Planned | { result: StepResult }> {
  const outcome = await runStack(context, stack, updateKind === 'up' ? 'preview' : 'preview_destroy');
  const ended = endOf(context, outcome);
  if (ended) return { result: ended };
  const { steps } = outcome;
  const region = regionOf(stack.config);
  const prices = diffPrices(steps, { region });
  const violations = updateKind === 'destroy' ? [] : checkPlan(stack, steps, region);
  const planHash = createHash('sha256')
    .update(JSON.stringify([stack.id, updateKind, planText(steps, prices)]))
    .digest('hex');
  await record(context, (tx) =>
    saveStackPlan(tx, {
      stackId: stack.id,
      orgId: stack.org_id,
      operationId: context.operation.id,
      updateKind,
      planHash,
      steps,
      prices,
      violations,
    }),
  );
  return { steps, prices, violations, planHash };
}

function checkPlan(stack: StackRow, steps: readonly PlannedStep[], region: string | null): PolicyViolation[] {
  const kept = steps.filter((step) => step.op !== 'delete' && step.newInputs !== null);
  const resources = kept.map((step) => ({
    name: step.name,
    type: step.type,
    inputs: step.newInputs as Record<string, unknown>,
    region,
  }));
  return checkPolicies(resources, {
    ceilingMicroUsdPerHour: stack.ceiling_micro_usd_per_hour,
    priceOf: (resource: PlannedResource) => worstPrice(priceResource(resource, { region })),
  });
}

/** null: the plan may be carried out. */
async function refusePlan(context: StepContext, stack: StackRow, plan: Planned): Promise<StepResult | null> {
  const { planHash } = context.operation.input as OperationInput;
  if (plan.violations.length > 0) {
    const detail = plan.violations.map(({ resource, message }) => `${resource ?? 'stack'}: ${message}`).join('; ');
    return refuse(context, stack, 'policy_violated', `nothing was made: ${detail}`);
  }
  if (planHash === undefined || planHash === plan.planHash) return null;
  const shown = await findStackPlan(context.db, stack.id, planHash);
  const changes = shown
    ? describePlanChanges(
        { steps: shown.steps, afterMicroUsdPerHour: BigInt(shown.prices.afterMicroUsdPerHour) },
        { steps: plan.steps, afterMicroUsdPerHour: plan.prices.afterMicroUsdPerHour },
      )
    : ['the plan is not known any more'];
  return refuse(context, stack, 'plan_changed', `nothing was made, preview again: ${changes.slice(0, 20).join('; ')}`);
}

function refuse(context: StepContext, stack: StackRow, code: ErrorCode, detail: string): Promise<StepResult> {
  return failStack(context, stack, { kind: 'fail', error: { code, detail: detail.slice(0, 4000) } });
}

/** A refusal leaves the stack as it is, with the reason; a stack that never was anything stays `created`. */
async function failStack(context: StepContext, stack: StackRow, result: StepResult): Promise<StepResult> {
  if (result.kind !== 'fail') return result;
  const error = await sayWhatHolds(context, stack, result.error);
  await record(context, (tx) => setStatus(context, tx, stack, { status: stack.status, failure: error }));
  return { kind: 'fail', error };
}

/** Interruptions and failures of an update that changes nothing; null: it went well. */
function endOf(context: StepContext, outcome: UpdateOutcome): StepResult | null {
  if (context.kill.aborted) return { kind: 'release' };
  if (context.cancel.aborted) return { kind: 'release' };
  if (outcome.isOk) return null;
  const { kind, detail } = outcome.error ?? { kind: 'unexpected' as const, detail: 'the engine gave no reason' };
  if ((kind === 'locked' || kind === 'engine_gone') && context.operation.failures < MAX_FAILURES)
    return { kind: 'retry', afterMs: 0, note: detail };
  return { kind: 'fail', error: { code: refusalCode(detail), detail } };
}

/** A program that breaks a policy stops before the engine hears of any resource, and says so in words of its own. */
function refusalCode(detail: string): ErrorCode {
  return /the stack breaks \d+ polic/.test(detail) ? 'policy_violated' : 'stack_refused';
}

/** Records how an update ended. What it left of the stack its state has told already (stack-holdings.ts). */
async function settle(
  context: StepContext,
  stack: StackRow,
  outcome: UpdateOutcome,
  onSuccess: () => { status: 'up' | 'destroyed'; note: string },
  follow: (tx: Tx) => Promise<void> = () => Promise.resolve(),
): Promise<StepResult> {
  const { error } = outcome;
  if (context.kill.aborted) return { kind: 'release' };
  if (outcome.update === 'up' && outcome.isOk)
    await record(context, (tx) => saveStackOutputs(tx, stack.id, outcome.outputs));
  if (context.cancel.aborted) {
    const isAsked = (await findOperation(context.db, null, context.operation.id))?.cancel_requested_at != null;
    if (!isAsked) return { kind: 'release' };
    const detail = 'canceled in the middle: what was made is in the state';
    const failure = await sayWhatHolds(context, stack, { code: 'canceled', detail });
    await record(context, async (tx) => {
      await setStatus(context, tx, stack, { status: 'failed', failure });
      await finishOperation(tx, context.queue, context.operation.id, 'canceled', { error: failure });
    });
    return { kind: 'recorded' };
  }
  if (outcome.isOk) {
    const { status, note } = onSuccess();
    const { outputs, secretOutputs = {} } = outcome;
    await record(context, async (tx) => {
      await setStatus(context, tx, stack, { status, outputs, secretOutputs });
      await follow(tx);
    });
    return { kind: 'done', note };
  }
  const { kind, detail } = error ?? { kind: 'unexpected' as const, detail: 'the engine gave no reason' };
  if ((kind === 'locked' || kind === 'engine_gone') && context.operation.failures < MAX_FAILURES)
    return { kind: 'retry', afterMs: 0, note: detail };
  const code: ErrorCode = kind === 'resource_failed' ? 'stack_failed' : engineErrorCode(kind).code;
  const failure = await sayWhatHolds(context, stack, { code, detail: describeFailures(outcome) || detail });
  await record(context, (tx) => setStatus(context, tx, stack, { status: 'failed', failure }));
  return { kind: 'fail', error: failure };
}

/** A cluster or a standby follows the stack that makes it; a finding that it was to end is open again. */
async function setStatus(context: StepContext, tx: Tx, stack: StackRow, news: StackNews): Promise<void> {
  // A takeover holds the standby's row before the stack's.
  await followStandbyStack(tx, stack, news);
  await setStackStatus(tx, stack.id, news.status, news.failure ?? null);
  if (news.failure) await reopenFindingsOf(tx, context.operation.id);
  await followStack(tx, context.envelope, stack, news);
}

function describeFailures(outcome: UpdateOutcome): string {
  const failures = Object.entries(outcome.failures).map(([name, { reason }]) => `${name}: ${reason}`);
  return [...failures, ...(outcome.error ? [outcome.error.detail] : [])].join('; ').slice(0, 4000);
}

function summarize({ changes }: UpdateOutcome): string {
  const parts = Object.entries(changes)
    .filter(([op, count]) => op !== 'same' && count > 0)
    .map(([op, count]) => `${count} ${op}`);
  return parts.length === 0 ? 'nothing had to change' : parts.join(', ');
}
