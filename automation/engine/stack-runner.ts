/**
 * The stack runner: runs one engine update on one stack (preview, up, refresh, destroy), cancels it, and says what is in the
 * state afterwards. It knows the engine, not operations: leases, attempts and retries are its callers' business.
 *
 * Before an update that changes anything: dead updates are ended and pending creates are resolved by label, because the engine
 * itself only warns about them and creates again.
 */
import { randomUUID } from 'node:crypto';
import type { ChildPool, RunHooks } from './child-pool.ts';
import { classifyEngineError, summarizeEngineError, type EngineErrorKind } from './classify-error.ts';
import type { PlannedStep } from '../../domain/prices/price-diff.ts';
import type { Drift } from '../../domain/stack.ts';
import { changesNothing, type ResourceFailure, type RunRequest, type RunResult, type UpdateKind } from './protocol.ts';
import type { PendingDecision } from '../../domain/pending-creates/decision.ts';
import { isCloudType } from '../../domain/pending-creates/find-rule.ts';
import { findPendingCreates, type LookUpTools } from './find-pending.ts';
import type { StackResource, StackState } from '../../domain/state/stack-state.ts';
import type { FoundResource } from '../../domain/state/adopt.ts';
import type { StateBackend } from './state-backend.ts';

export interface UpdateRequest {
  stackName: string;
  /** Whose progress its events are; absent: nobody follows it. */
  operationId?: string;
  program: { kind: string; args: unknown } | null;
  mayExist: string[];
  deploymentSshPublicKeys: string[];
  /** Outputs that the caller wants in clear after an up, to seal them. */
  secretOutputs?: string[];
  /** Before a destroy: what the state protects is no longer protected. */
  unprotect?: boolean;
  /** What persons said of pending creates, by urn. */
  decisions?: Record<string, PendingDecision>;
}

export interface UpdateHooks extends RunHooks {
  /**
   * The id at the provider of what a pending create of a machine made, by its inputs (label); null when the provider believably has none.
   * Throws ProviderError where that cannot be told: then the update does not start. What clouds made the runner looks up itself.
   */
  resolvePending(resource: StackResource): Promise<string | null>;
  /**
   * Nothing is pending any more, and the engine is about to begin with an update that changes something: what was decided of pending creates
   * is over, and must not be said of what comes.
   */
  onBeginning?(): Promise<void>;
  onStarted?(runId: string): void;
}

export interface UpdateOutcome {
  update: UpdateKind;
  isOk: boolean;
  error: { kind: EngineErrorKind; detail: string } | null;
  /** By resource name (the attempt's id). */
  failures: Record<string, ResourceFailure>;
  changes: Record<string, number>;
  /** The stack's outputs; the engine has replaced secrets by a mark. */
  outputs: Record<string, unknown>;
  /** Of an up that ended well: what `secretOutputs` asked for, in clear. Never to be logged, stored or shown unsealed. */
  secretOutputs?: Record<string, unknown>;
  /** Of a preview: every resource. */
  steps: PlannedStep[];
  /** Of a refresh, or of looking for drift. */
  drift: Drift[];
  /** What the state holds now; null: the stack is not there. */
  state: StackState | null;
  engineMs: number;
}

export interface UpdateSignals {
  cancel: AbortSignal;
  kill: AbortSignal;
}

export interface StackRunner {
  preview(request: UpdateRequest, hooks: UpdateHooks, signals: UpdateSignals): Promise<UpdateOutcome>;
  previewDestroy(request: UpdateRequest, hooks: UpdateHooks, signals: UpdateSignals): Promise<UpdateOutcome>;
  /** What a refresh would find, without recording it. */
  detectDrift(request: UpdateRequest, hooks: UpdateHooks, signals: UpdateSignals): Promise<UpdateOutcome>;
  up(request: UpdateRequest, hooks: UpdateHooks, signals: UpdateSignals): Promise<UpdateOutcome>;
  refresh(request: UpdateRequest, hooks: UpdateHooks, signals: UpdateSignals): Promise<UpdateOutcome>;
  destroy(request: UpdateRequest, hooks: UpdateHooks, signals: UpdateSignals): Promise<UpdateOutcome>;
  /** What the state holds, pending creates included; null: there is no such stack. */
  readState(stackName: string): Promise<StackState | null>;
  /** Forgets a stack that holds nothing. Idempotent. */
  remove(stackName: string): Promise<void>;
  extendLease(runId: string, validForMs: number): void;
}

/** Clouds tell what they just made only after a while (AWS: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/query-api-troubleshooting.html). */
const ABSENCE_SETTLES_MS = 60_000;

/**
 * @param absenceSettlesMs how long a cloud must be asked before its "there is none" of a pending create is believed
 */
export function createStackRunner(
  pool: ChildPool,
  backend: StateBackend,
  absenceSettlesMs = ABSENCE_SETTLES_MS,
): StackRunner {
  /** By urn: since when this process has asked for it. A new process asks as long again. */
  const askedSince = new Map<string, number>();

  /** Throws the ProviderError of a look-up that cannot be believed: see UpdateHooks. */
  async function resolvePendingCreates(
    { stackName, decisions = {} }: UpdateRequest,
    hooks: UpdateHooks,
    signals: UpdateSignals,
  ): Promise<void> {
    const state = await backend.readState(stackName);
    if (!state) return;
    const found: Record<string, FoundResource> = {};
    for (const resource of state.pendingCreates.filter(({ type }) => !isCloudType(type))) {
      const decision = decisions[resource.urn];
      if (decision?.kind === 'clear') continue;
      const id = decision?.id ?? (await hooks.resolvePending(resource));
      if (id !== null) found[resource.urn] = { id };
    }
    const ofClouds = state.pendingCreates.filter(({ type }) => isCloudType(type));
    const now = performance.now();
    for (const { urn } of ofClouds) if (!askedSince.has(urn)) askedSince.set(urn, now);
    if (ofClouds.length > 0)
      Object.assign(found, await findPendingCreates(createLookUpTools(signals), stackName, state, ofClouds, decisions));
    // Even without any: what is left of updates, deletes and components is no news to anybody.
    await backend.resolvePendingCreates(stackName, found);
    for (const { urn } of ofClouds) askedSince.delete(urn);
  }
  function createLookUpTools(signals: UpdateSignals): LookUpTools {
    return {
      backend,
      run: (request) => runEngine({ ...request, mayExist: [], deploymentSshPublicKeys: [] }, LOOK_UP_HOOKS, signals),
      isSettled: (urn) => performance.now() - (askedSince.get(urn) ?? Infinity) >= absenceSettlesMs,
    };
  }
  /** Whatever becomes of the engine, its right to write ends with it. */
  async function runEngine(
    request: Omit<RunRequest, 'state'>,
    hooks: RunHooks,
    signals: UpdateSignals,
    operationId: string | null = null,
  ): Promise<RunResult> {
    const { runId, stackName } = request;
    const { url, accessToken, close } = backend.openRun({ runId, stackName, operationId });
    let result: RunResult;
    try {
      result = await pool.run({ ...request, state: { url, accessToken } }, hooks, signals);
    } catch (error) {
      await close().catch(() => {}); // why the run failed says more; the next update of the stack ends what is left of it
      throw error;
    }
    await close();
    return result;
  }
  async function run(
    update: UpdateKind,
    request: UpdateRequest,
    hooks: UpdateHooks,
    signals: UpdateSignals,
  ): Promise<UpdateOutcome> {
    await backend.prepareStack(request.stackName);
    if (!changesNothing(update)) {
      await backend.endDeadUpdates(request.stackName);
      await resolvePendingCreates(request, hooks, signals);
      await hooks.onBeginning?.();
    }
    if (request.unprotect === true) await backend.unprotect(request.stackName);
    const runId = randomUUID();
    hooks.onStarted?.(runId);
    const startedAt = performance.now();
    const result = await runEngine(
      {
        runId,
        update,
        stackName: request.stackName,
        program: update === 'up' || update === 'preview' ? request.program : null,
        mayExist: request.mayExist,
        deploymentSshPublicKeys: request.deploymentSshPublicKeys,
        ...(update === 'up' && request.secretOutputs ? { secretOutputs: request.secretOutputs } : {}),
      },
      hooks,
      signals,
      request.operationId,
    );
    const engineMs = Math.round(performance.now() - startedAt);
    const errorText = result.errorText ?? '';
    return {
      update,
      isOk: result.isOk,
      error: result.isOk ? null : { kind: classifyEngineError(errorText), detail: summarizeEngineError(errorText) },
      failures: result.failures,
      changes: result.changes,
      outputs: result.outputs,
      ...(result.secretOutputs ? { secretOutputs: result.secretOutputs } : {}),
      steps: result.steps,
      drift: result.drift,
      state: await backend.readState(request.stackName),
      engineMs,
    };
  }
  return {
    preview: (request, hooks, signals) => run('preview', request, hooks, signals),
    previewDestroy: (request, hooks, signals) => run('preview_destroy', request, hooks, signals),
    detectDrift: (request, hooks, signals) => run('detect_drift', request, hooks, signals),
    up: (request, hooks, signals) => run('up', request, hooks, signals),
    refresh: (request, hooks, signals) => run('refresh', request, hooks, signals),
    destroy: (request, hooks, signals) => run('destroy', request, hooks, signals),
    readState: (stackName) => backend.readState(stackName),
    remove: (stackName) => backend.removeStack(stackName),
    extendLease: (runId, validForMs) => pool.extendLease(runId, validForMs),
  };
}

/** Nobody follows a look-up. */
const LOOK_UP_HOOKS: RunHooks = {
  answer: (question) => Promise.reject(new Error(`a look-up asks for no ${question}`)),
  onResources: () => {},
  onProgress: () => {},
};
