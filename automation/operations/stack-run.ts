/** One engine update of a stack that people made: its arguments from the row, its progress into events, its numbers onto the operation. */
import { decisionsOf } from '../../domain/pending-creates/decision.ts';
import { LEASE_MS } from '../../domain/operation.ts';
import { retryWhileAway, type Tx } from '../../db/database.ts';
import { saveProgress, withClaim, type NewEvent } from '../../db/operations.ts';
import { changeStack, saveStackPending, type StackRow } from '../../db/stacks.ts';
import { withEnrolment } from '../clusters/enrolment.ts';
import { secretOutputsOf } from '../clusters/follow-stack.ts';
import type { UpdateHooks, UpdateOutcome } from '../engine/stack-runner.ts';
import { answerHostQuestion } from './host-questions.ts';
import { findPendingResource } from './pending-resource.ts';
import type { StepContext } from './step.ts';

const APPLY_PATIENCE_MS = LEASE_MS;

export interface OperationInput {
  planHash?: string;
  updateKind?: 'up' | 'destroy';
  /** What the stack is to be from this up on, once it is planned and not refused. */
  config?: unknown;
  /** The engine compares with its state: what an outside hand changed is only undone when the state knows of it. */
  refreshFirst?: boolean;
  /** Autoscaled groups of nodes whose number this update sets. */
  resize?: string[];
}

type Update = 'preview' | 'preview_destroy' | 'detect_drift' | 'up' | 'refresh' | 'destroy';

/** What it comes to is the caller's to record. */
export async function runStack(context: StepContext, stack: StackRow, update: Update): Promise<UpdateOutcome> {
  const hooks = createHooks(context, stack, update);
  const request = {
    stackName: stack.name,
    operationId: context.operation.id,
    program: {
      kind: stack.kind,
      args: { ...programArgs(context, stack, update), config: await withEnrolment(context, stack) },
    },
    mayExist: [],
    deploymentSshPublicKeys: [context.deploymentSshPublicKey],
    unprotect: update === 'destroy' && !stack.protect,
    decisions: decisionsOf(stack.pending ?? []),
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
  const { resize } = context.operation.input as OperationInput;
  return {
    ...(resize === undefined ? {} : { resize }),
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

/** Whether the operation brings the configuration that the stack is to have from now on. */
export function hasCarried({ operation }: StepContext): boolean {
  return (operation.input as OperationInput).config !== undefined;
}

function createHooks(
  context: StepContext,
  stack: StackRow,
  update: Update,
): UpdateHooks & { settled(): Promise<void> } {
  let writing: Promise<void> = Promise.resolve();
  function emit(events: NewEvent[]): void {
    writing = writing
      .then(() => context.emit(events))
      .catch((error: unknown) => context.log.warn({ err: error }, 'progress of a stack could not be recorded'));
  }
  return {
    onStarted: (runId) => context.onRunStarted(runId),
    // What the engine tells is kept with the update (update-events.ts).
    onResources: () => {},
    onProgress: (message) => emit([{ type: 'progress', data: { message } }]),
    async answer(question, input) {
      const answer = answerHostQuestion(context, stack, question, input);
      if (answer === undefined) throw new Error(`a stack of kind ${stack.kind} asks for no ${question}`);
      return (await answer) as never;
    },
    resolvePending: (resource) => findPendingResource(context, stack, resource),
    async onBeginning() {
      const isCarried = update === 'up' && hasCarried(context);
      if (stack.pending === null && !isCarried) return;
      await record(context, async (tx) => {
        await saveStackPending(tx, stack.id, null);
        if (isCarried) await changeStack(tx, stack.id, { config: stack.config });
      });
    },
    settled: () => writing,
  };
}

/** For results that must not be lost: waits for a database that is away as long as the lease can last. */
export function record(context: StepContext, write: (tx: Tx) => Promise<void>): Promise<void> {
  return retryWhileAway(() => withClaim(context.db, context.claim, write), APPLY_PATIENCE_MS);
}
