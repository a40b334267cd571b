/**
 * Operations on stacks that people made: preview, up, refresh, destroy, looking for drift. One path for each effect: an up is always
 * planned first, in the same operation, and held to the policies, to the ceiling and to the plan that was shown, before it makes anything.
 */
import { createHash } from 'node:crypto';
import type { ErrorCode } from '../../domain/error-table.ts';
import { checkPolicies, type PlannedResource, type PolicyViolation } from '../../domain/policy.ts';
import { diffPrices, type PlannedStep, type PriceDiff } from '../../domain/prices/price-diff.ts';
import { priceResource, worstPrice } from '../../domain/prices/resource-price.ts';
import { isRetryable, ProviderError } from '../../domain/provider-error.ts';
import { describePlanChanges, planText, type StackResourceView } from '../../domain/stack.ts';
import { acceptStackOperation } from '../../db/accept-stack.ts';
import { SYSTEM } from '../../db/audit.ts';
import { retryWhileAway, type Tx } from '../../db/database.ts';
import { markHostsOfStackRemoved } from '../../db/hosts.ts';
import { finishOperation, findOperation, saveProgress, withClaim, type NewEvent } from '../../db/operations.ts';
import { findStackPlan, saveStackPlan } from '../../db/stack-plans.ts';
import { findStack, saveDrift, saveStackState, setStackStatus, type StackRow } from '../../db/stacks.ts';
import { LEASE_MS } from '../../domain/operation.ts';
import { engineErrorCode } from '../engine/classify-error.ts';
import type { ResourceProgress } from '../engine/protocol.ts';
import type { StackState } from '../engine/state-backend.ts';
import type { UpdateHooks, UpdateOutcome } from '../engine/stack-runner.ts';
import { followStack, secretOutputsOf, type StackNews } from '../clusters/follow-stack.ts';
import { followStandbyStack } from '../standby/follow-stack.ts';
import { answerHostQuestion } from './host-questions.ts';
import { findPendingResource } from './pending-resource.ts';
import type { StepContext, StepResult } from './step.ts';

const APPLY_PATIENCE_MS = LEASE_MS;
const ENGINE_WAIT_MS = 2_000;
/** An update that keeps failing for reasons of the engine's own is given up: a person decides then. */
const MAX_FAILURES = 5;
/** A cloud may need most of an hour until what was begun is there. */
const MAX_LOOK_UPS = 60;

interface OperationInput {
  planHash?: string;
  updateKind?: 'up' | 'destroy';
  /** The engine compares with its state: what an outside hand changed is only undone when the state knows of it. */
  refreshFirst?: boolean;
}

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
        const ended = endOf(context, await run(context, stack, 'refresh'));
        if (ended) return failStack(context, stack, ended);
      }
      const plan = await planUpdate(context, stack, 'up');
      if ('result' in plan) return failStack(context, stack, plan.result);
      const refusal = await refusePlan(context, stack, plan);
      if (refusal) return refusal;
      await record(context, (tx) => saveProgress(tx, context.claim, { state: { isPlanned: true } }));
    }
    await record(context, (tx) => setStackStatus(tx, stack.id, 'updating'));
    const outcome = await run(context, stack, 'up');
    return settle(context, stack, outcome, () => ({ status: 'up' as const, note: summarize(outcome) }));
  });
}

/** Kind `refresh_stack`, target `stack`: the state learns what the clouds say; nothing at the clouds changes. */
export async function refreshStack(context: StepContext): Promise<StepResult> {
  return withStack(context, async (stack) => {
    await record(context, (tx) => setStackStatus(tx, stack.id, 'updating'));
    const outcome = await run(context, stack, 'refresh');
    if (outcome.isOk) await record(context, (tx) => saveDrift(tx, stack.id, outcome.drift));
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
    const outcome = await run(context, stack, 'destroy');
    const isGone = outcome.isOk && (outcome.state?.resources.length ?? 0) === 0;
    if (isGone) await context.runner.remove(stack.name);
    if (isGone) await record(context, (tx) => markHostsOfStackRemoved(tx, stack.id));
    return settle(context, stack, outcome, () => ({ status: 'destroyed' as const, note: 'nothing is left' }));
  });
}

/** Kind `check_stack_drift`, target `stack`: looks only; repairs where the stack says so, by an ordinary up after a refresh. */
export async function checkStackDrift(context: StepContext): Promise<StepResult> {
  return withStack(context, async (stack) => {
    const outcome = await run(context, stack, 'detect_drift');
    const ended = endOf(context, outcome);
    if (ended) return ended;
    const { drift } = outcome;
    await record(context, async (tx) => {
      await saveDrift(tx, stack.id, drift);
      if (drift.length === 0 || stack.on_drift !== 'repair') return;
      const order = {
        stack,
        kind: 'up_stack',
        actor: SYSTEM,
        refreshFirst: true,
        follows: context.operation.id,
      } as const;
      await acceptStackOperation(tx, context.queue, order);
    });
    if (drift.length > 0) await context.emit([{ type: 'drift', data: { resources: drift } }]);
    return { kind: 'done', note: drift.length === 0 ? 'nothing has changed' : `${drift.length} changed outside` };
  });
}

async function withStack(context: StepContext, act: (stack: StackRow) => Promise<StepResult>): Promise<StepResult> {
  const stack = await findStack(context.db, null, context.operation.target_id);
  if (!stack || stack.status === 'destroyed') return { kind: 'done', note: 'the stack is gone' };
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

/** What an interrupted update left pending could not be looked up, so that the update did not begin. */
async function endUnbegun(context: StepContext, stack: StackRow, error: ProviderError): Promise<StepResult> {
  if (context.kill.aborted || context.cancel.aborted) return { kind: 'release' };
  const detail = error.message.slice(0, 4000);
  if (isRetryable(error.kind) && context.operation.failures < MAX_LOOK_UPS)
    return { kind: 'retry', afterMs: error.retryAfterMs ?? 0, note: detail };
  const failure = { code: 'stack_refused' as const, detail };
  await record(context, (tx) => setStatus(context, tx, stack, { status: 'failed', failure }));
  return { kind: 'fail', error: failure };
}

async function endCanceled(context: StepContext, stack: StackRow): Promise<StepResult> {
  const { operation } = context;
  const wasUnderWay = stack.status === 'updating' || stack.status === 'destroying';
  const isUpdate =
    operation.kind === 'up_stack' || operation.kind === 'refresh_stack' || operation.kind === 'destroy_stack';
  const detail = wasUnderWay
    ? 'canceled in the middle: what was made is in the state'
    : 'canceled before anything was changed';
  const failure = { code: 'canceled', detail };
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
  const outcome = await run(context, stack, updateKind === 'up' ? 'preview' : 'preview_destroy');
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
  const { error } = result;
  await record(context, (tx) => setStatus(context, tx, stack, { status: stack.status, failure: error }));
  return result;
}

type Update = 'preview' | 'preview_destroy' | 'detect_drift' | 'up' | 'refresh' | 'destroy';

async function run(context: StepContext, stack: StackRow, update: Update): Promise<UpdateOutcome> {
  const hooks = createHooks(context, stack);
  const request = {
    stackName: stack.name,
    program: { kind: stack.kind, args: programArgs(context, stack, update) },
    mayExist: [],
    deploymentSshPublicKeys: [context.deploymentSshPublicKey],
    unprotect: update === 'destroy' && !stack.protect,
    secretOutputs: secretOutputsOf(stack.kind),
  };
  const signals = { cancel: context.cancel, kill: context.kill };
  const { runner } = context;
  const outcome = await {
    preview: runner.preview,
    preview_destroy: runner.previewDestroy,
    detect_drift: runner.detectDrift,
    up: runner.up,
    refresh: runner.refresh,
    destroy: runner.destroy,
  }[update](request, hooks, signals);
  await hooks.settled();
  await record(context, (tx) =>
    saveProgress(tx, context.claim, {
      update: {
        kind: outcome.update,
        at: context.now().toISOString(),
        engineMs: outcome.engineMs,
        changes: outcome.changes,
        error: outcome.error?.detail ?? null,
      },
    }),
  );
  return outcome;
}

/** The same row gives the same arguments, so nothing changes that was not changed. */
function programArgs(context: StepContext, stack: StackRow, update: Update) {
  return {
    config: stack.config,
    name: stack.title,
    tags: { owner: stack.owner, deployment: context.deploymentId, costCentre: stack.cost_centre },
    protect: stack.protect,
    // Where the agent of what it makes reports.
    ...(stack.kind === 'standby' ? { controlPlaneUrl: context.agentUrl } : {}),
    // A preview shows what is too dear, with its price; planning refuses it.
    ceilingMicroUsdPerHour:
      stack.ceiling_micro_usd_per_hour === null || update === 'preview'
        ? null
        : Number(stack.ceiling_micro_usd_per_hour),
  };
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

/** Records what an update left, whatever its end was. */
async function settle(
  context: StepContext,
  stack: StackRow,
  outcome: UpdateOutcome,
  onSuccess: () => { status: 'up' | 'destroyed'; note: string },
): Promise<StepResult> {
  const { state, error } = outcome;
  if (context.kill.aborted) return { kind: 'release' };
  await record(context, (tx) => saveState(tx, stack, outcome, state));
  if (context.cancel.aborted) {
    const isAsked = (await findOperation(context.db, null, context.operation.id))?.cancel_requested_at != null;
    if (!isAsked) return { kind: 'release' };
    const failure = { code: 'canceled', detail: 'canceled in the middle: what was made is in the state' };
    await record(context, async (tx) => {
      await setStatus(context, tx, stack, { status: 'failed', failure });
      await finishOperation(tx, context.queue, context.operation.id, 'canceled', { error: failure });
    });
    return { kind: 'recorded' };
  }
  if (outcome.isOk) {
    const { status, note } = onSuccess();
    const { outputs, secretOutputs = {} } = outcome;
    await record(context, (tx) => setStatus(context, tx, stack, { status, outputs, secretOutputs }));
    return { kind: 'done', note };
  }
  const { kind, detail } = error ?? { kind: 'unexpected' as const, detail: 'the engine gave no reason' };
  if ((kind === 'locked' || kind === 'engine_gone') && context.operation.failures < MAX_FAILURES)
    return { kind: 'retry', afterMs: 0, note: detail };
  const code: ErrorCode = kind === 'resource_failed' ? 'stack_failed' : engineErrorCode(kind).code;
  const text = describeFailures(outcome) || detail;
  await record(context, (tx) => setStatus(context, tx, stack, { status: 'failed', failure: { code, detail: text } }));
  return { kind: 'fail', error: { code, detail: text } };
}

/** A cluster or a standby follows the stack that makes it. */
async function setStatus(context: StepContext, tx: Tx, stack: StackRow, news: StackNews): Promise<void> {
  // A takeover holds the standby's row before the stack's.
  await followStandbyStack(tx, stack, news);
  await setStackStatus(tx, stack.id, news.status, news.failure ?? null);
  await followStack(tx, context.envelope, stack, news);
}

function describeFailures(outcome: UpdateOutcome): string {
  const failures = Object.entries(outcome.failures).map(([name, { reason }]) => `${name}: ${reason}`);
  return [...failures, ...(outcome.error ? [outcome.error.detail] : [])].join('; ').slice(0, 4000);
}

async function saveState(tx: Tx, stack: StackRow, outcome: UpdateOutcome, state: StackState | null): Promise<void> {
  const context = { region: regionOf(stack.config) };
  const unpriced: { urn: string; why: string }[] = [];
  let total = 0n;
  const resources: StackResourceView[] = (state?.resources ?? []).filter(isShown).map((resource) => {
    const price = priceResource(resource, context);
    if (price.kind === 'amount') total += price.microUsdPerHour;
    else unpriced.push({ urn: resource.urn, why: price.why });
    return {
      urn: resource.urn,
      name: resource.name,
      type: resource.type,
      id: resource.id,
      parent: resource.parent,
      isProtected: resource.isProtected,
      microUsdPerHour: price.kind === 'amount' ? Number(price.microUsdPerHour) : null,
    };
  });
  await saveStackState(tx, stack.id, {
    ...(outcome.update === 'up' && outcome.isOk ? { outputs: outcome.outputs } : {}),
    resources,
    priceMicroUsdPerHour: total,
    unpriced,
  });
}

function isShown({ type }: { type: string }): boolean {
  return type !== 'pulumi:pulumi:Stack' && !type.startsWith('pulumi:providers:');
}

function summarize({ changes }: UpdateOutcome): string {
  const parts = Object.entries(changes)
    .filter(([op, count]) => op !== 'same' && count > 0)
    .map(([op, count]) => `${count} ${op}`);
  return parts.length === 0 ? 'nothing had to change' : parts.join(', ');
}

/** Where a kind's configuration says that its resources are. */
function regionOf(config: unknown): string | null {
  const { region, location, zone } = (config ?? {}) as Record<string, unknown>;
  const found = region ?? location ?? zone;
  return typeof found === 'string' ? found : null;
}

function createHooks(context: StepContext, stack: StackRow): UpdateHooks & { settled(): Promise<void> } {
  let writing: Promise<void> = Promise.resolve();
  function emit(events: NewEvent[]): void {
    writing = writing
      .then(() => context.emit(events))
      .catch((error: unknown) => context.log.warn({ err: error }, 'progress of a stack could not be recorded'));
  }
  return {
    onStarted: (runId) => context.onRunStarted(runId),
    onResources: (resources) => emit(resources.map((one) => ({ type: 'resource', data: describe(one) }))),
    onDiagnostic: (severity, message) =>
      emit([{ type: severity === 'info' ? 'progress' : 'diagnostic', data: { severity, message } }]),
    async answer(question, input) {
      const answer = answerHostQuestion(context, stack, question, input);
      if (answer === undefined) throw new Error(`a stack of kind ${stack.kind} asks for no ${question}`);
      return (await answer) as never;
    },
    resolvePending: (resource) => findPendingResource(context, stack, resource),
    settled: () => writing,
  };
}

/** Outputs stay where they are: some are secret. */
function describe({ name, type, op, status, id }: ResourceProgress): Record<string, unknown> {
  return { resource: name, type, op, status, id: id ?? null };
}

function record(context: StepContext, write: (tx: Tx) => Promise<void>): Promise<void> {
  return retryWhileAway(() => withClaim(context.db, context.claim, write), APPLY_PATIENCE_MS);
}
