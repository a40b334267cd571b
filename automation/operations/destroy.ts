/**
 * Destroying: the one path by which rented machines end. It takes everything of a stack that is marked destroying, lets the engine
 * delete it (the dynamic provider proves each gone), proves by label what never reached the engine's state, and only then says
 * destroyed. Trouble is retried for ever.
 */
import { retryDelayMs } from '../../domain/backoff.ts';
import { isWanted } from '../../domain/attempt.ts';
import { isRetryable, ProviderError } from '../../domain/provider-error.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { markDestroying, markGone, type AttemptRow } from '../../db/attempts.ts';
import { retryWhileAway } from '../../db/database.ts';
import { changeFinding, findFinding } from '../../db/findings.ts';
import { setInstanceStatus, updateInstance } from '../../db/instances.ts';
import { wakeOperation, withClaim } from '../../db/operations.ts';
import { markStackRemoved } from '../../db/stacks.ts';
import { destroyVerified } from '../../providers-dynamic/destroy-machine.ts';
import type { UpdateOutcome } from '../engine/stack-runner.ts';
import type { StackState } from '../../domain/state/stack-state.ts';
import { listBelievably } from '../readiness/list-instances.ts';
import {
  applyFound,
  loadStack,
  machineOfListing,
  machineOfState,
  runStackUpdate,
  type StackView,
} from './run-update.ts';
import { listedProvider, type StepContext, type StepResult } from './step.ts';

const ENGINE_WAIT_MS = 2_000;

/** Kind `destroy_instance`: everything rented for the instance, then the instance itself. */
export async function destroyInstance(context: StepContext): Promise<StepResult> {
  context.crashPoint('destroy_claimed');
  const view = await loadStack(context, context.operation.stack_id as string);
  const own = view.attempts.filter((attempt) => attempt.instance_id === context.operation.target_id);
  await retryWhileAway(
    () =>
      withClaim(context.db, context.claim, (tx) =>
        markDestroying(
          tx,
          own.map((attempt) => attempt.id),
          null,
        ),
      ),
    10_000,
  );
  return removeDestroying(context, view.stackId);
}

/** Kind `destroy_machine`: attempts that a stack gave up (target `attempt`), or an orphan (target `finding`). */
export function destroyMachine(context: StepContext): Promise<StepResult> {
  if (context.operation.target_kind === 'finding') return destroyFound(context);
  context.crashPoint('destroy_claimed');
  return removeDestroying(context, context.operation.stack_id as string);
}

async function removeDestroying(context: StepContext, stackId: string): Promise<StepResult> {
  const view = await loadStack(context, stackId);
  const destroying = view.attempts.filter((attempt) => attempt.status === 'destroying');
  const state = await context.runner.readState(view.stackName);
  await applyUnrecorded(context, destroying, state);
  let failures: Record<string, { reason: string }> = {};
  if (destroying.length > 0 && needsEngine(state, destroying)) {
    if (!context.engineReady()) return waitFor(context, ENGINE_WAIT_MS, 'waiting for the engine');
    const held = new Set(state?.resources.map((resource) => resource.name));
    const kept = view.attempts.filter((attempt) => isWanted(attempt.status) && held.has(attempt.id));
    const ran = await runEngine(context, view, kept);
    if ('kind' in ran) return ran;
    failures = ran.failures;
  }
  const after = await context.runner.readState(view.stackName);
  const { gone, trouble } = await proveGone(context, destroying, { before: state, after }, failures);
  await apply(context, view, gone);
  if (trouble) return retry(context, trouble);
  return settleStack(context, stackId);
}

/** The engine bought it and nobody lived to record it: it is recorded before it is destroyed, so that it is charged. */
async function applyUnrecorded(
  context: StepContext,
  destroying: AttemptRow[],
  state: StackState | null,
): Promise<void> {
  const held = new Map(state?.resources.map((resource) => [resource.name, resource]));
  for (const attempt of destroying) {
    const resource = held.get(attempt.id);
    if (attempt.purchased_at !== null || !resource?.id) continue;
    await applyFound(context, attempt, machineOfState(resource.id, resource.outputs));
  }
}

function needsEngine(state: StackState | null, destroying: AttemptRow[]): boolean {
  const held = namesIn(state);
  return destroying.some((attempt) => held.has(attempt.id));
}

async function runEngine(
  context: StepContext,
  view: StackView,
  kept: AttemptRow[],
): Promise<StepResult | UpdateOutcome> {
  try {
    const outcome = await runStackUpdate(context, view, kept);
    return context.kill.aborted || context.cancel.aborted ? { kind: 'release' } : outcome;
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    return retry(context, error.message); // a pending create could not be resolved
  }
}

/** Gone is what is in no state and, where its purchase may have been lost on the way, under whose label the vendor has nothing. */
async function proveGone(
  context: StepContext,
  destroying: AttemptRow[],
  states: { before: StackState | null; after: StackState | null },
  failures: Record<string, { reason: string }>,
): Promise<{ gone: AttemptRow[]; trouble: string | null }> {
  const held = namesIn(states.after);
  const heldBefore = namesIn(states.before);
  const gone: AttemptRow[] = [];
  let trouble: string | null = null;
  for (const attempt of destroying) {
    if (held.has(attempt.id)) {
      trouble ??= failures[attempt.id]?.reason ?? `${attempt.provider} has not confirmed that ${attempt.label} is gone`;
      continue;
    }
    try {
      // The engine proved what it held. An adopted machine it never held; a purchase whose answer was lost is known by its label only.
      if (attempt.provider_instance_id === null && attempt.engine_runs > 0) await destroyByLabel(context, attempt);
      else if (attempt.provider_instance_id !== null && !heldBefore.has(attempt.id))
        await destroyById(context, attempt);
      gone.push(attempt);
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
      trouble ??= error.message;
    }
  }
  return { gone, trouble };
}

function namesIn(state: StackState | null): Set<string> {
  return new Set([...(state?.resources ?? []), ...(state?.pendingCreates ?? [])].map((resource) => resource.name));
}

async function destroyById(context: StepContext, attempt: AttemptRow): Promise<void> {
  await destroyVerified(
    context.client(attempt.provider as ProviderName),
    { providerInstanceId: attempt.provider_instance_id as string, label: attempt.label },
    context.destroyTimings,
    { signal: context.kill, crashPoint: context.crashPoint },
  );
}

async function destroyByLabel(context: StepContext, attempt: AttemptRow): Promise<void> {
  const provider = attempt.provider as ProviderName;
  const client = context.client(provider);
  const endsAt = performance.now() + context.listLagMs(provider);
  for (;;) {
    for (const found of await client.findByLabel(attempt.label, context.kill)) {
      await applyFound(context, attempt, machineOfListing(found));
      await destroyVerified(
        client,
        { providerInstanceId: found.providerInstanceId, label: attempt.label },
        context.destroyTimings,
        { signal: context.kill, crashPoint: context.crashPoint },
      );
    }
    const leftMs = endsAt - performance.now();
    if (leftMs <= 0) return assertNotListed(context, provider, attempt.label);
    await new Promise((resolve) => setTimeout(resolve, Math.min(leftMs, 2_000)));
  }
}

/** An empty look-up proves nothing while the list lies: the provider's whole listing must be believed, and lack the label too. */
async function assertNotListed(context: StepContext, provider: ProviderName, label: string): Promise<void> {
  const listing = await listBelievably(listedProvider(context, provider), context.kill);
  if (listing === null) {
    throw new ProviderError('unbelievable', `${provider}'s listing is not believed: ${label} may still be there`);
  }
  if (listing.observed.some((instance) => instance.label === label)) {
    throw new ProviderError('retryable', `a machine with label ${label} is still listed`);
  }
}

async function apply(context: StepContext, view: StackView, gone: AttemptRow[]): Promise<void> {
  const goneIds = new Set(gone.map((attempt) => attempt.id));
  await retryWhileAway(
    () =>
      withClaim(context.db, context.claim, async (tx) => {
        await markGone(tx, [...goneIds]);
        for (const instance of view.instances) {
          if (instance.status !== 'destroying' && instance.status !== 'hibernating') continue;
          const left = view.attempts.filter(
            (attempt) => attempt.instance_id === instance.id && attempt.status !== 'gone' && !goneIds.has(attempt.id),
          );
          if (left.length > 0) continue;
          if (instance.status === 'destroying') await setInstanceStatus(tx, instance.id, 'destroyed');
          // It sleeps from now on: its own operation says so.
          else await wakeOperation(tx, context.queue, instance.operation_id);
        }
      }),
    10_000,
  );
  if (gone.length > 0) context.crashPoint('destroy_applied');
}

/** An empty stack is removed; one with something left stays. */
async function settleStack(context: StepContext, stackId: string): Promise<StepResult> {
  const view = await loadStack(context, stackId);
  const isEmpty =
    view.instances.every((instance) => instance.status === 'destroyed') &&
    view.attempts.every((attempt) => attempt.status === 'gone');
  if (isEmpty) {
    await context.runner.remove(view.stackName);
    context.crashPoint('stack_removed');
    await withClaim(context.db, context.claim, (tx) => markStackRemoved(tx, stackId));
  }
  return { kind: 'done', note: 'gone: the provider says not-found' };
}

/** An orphan has no stack: it is destroyed by its id, and only while it carries the label that the finding saw. */
async function destroyFound(context: StepContext): Promise<StepResult> {
  const finding = await findFinding(context.db, context.operation.target_id);
  if (!finding || finding.provider_instance_id === null || finding.label === null) {
    return { kind: 'fail', error: { code: 'not_found', detail: 'the finding names no machine of ours' } };
  }
  try {
    await destroyVerified(
      context.client(finding.provider as ProviderName),
      // A duplicate's label is that of a machine that is wanted.
      { providerInstanceId: finding.provider_instance_id, label: finding.label, sparesOthers: true },
      context.destroyTimings,
      { signal: context.kill, crashPoint: context.crashPoint },
    );
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    if (isRetryable(error.kind) || error.kind === 'auth') return retry(context, error.message);
    // Open again: the next reconcile resolves it when it sees no such machine of ours, and tries again when it does.
    await withClaim(context.db, context.claim, (tx) =>
      changeFinding(tx, finding.id, { status: 'open', from: ['resolving'] }),
    );
    return { kind: 'fail', error: { code: 'provider_unavailable', detail: error.message } };
  }
  await withClaim(context.db, context.claim, (tx) =>
    changeFinding(tx, finding.id, { status: 'resolved', from: ['resolving', 'open'], resolution: 'destroyed' }),
  );
  return { kind: 'done', note: 'gone: the provider says not-found' };
}

async function retry(context: StepContext, note: string): Promise<StepResult> {
  if (context.kill.aborted) return { kind: 'release' };
  if (context.operation.target_kind === 'instance') {
    await updateInstance(context.db, context.operation.target_id, { note: `destroying: ${note}` });
  }
  return { kind: 'retry', afterMs: retryDelayMs('destroy', context.operation.failures, Math.random()), note };
}

function waitFor(context: StepContext, afterMs: number, note: string): StepResult {
  return { kind: 'wait', until: new Date(context.now().getTime() + afterMs), note };
}
