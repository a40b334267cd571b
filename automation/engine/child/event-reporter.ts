/** Turns the engine's events into what the worker records: resource progress in small batches, plans, drift, the sum. */
import type { EngineEvent } from '@pulumi/pulumi/automation/index.js';
import { STEP_OPS, type PlannedStep, type StepOp } from '../../../domain/prices/price-diff.ts';
import type { Drift } from '../../../domain/stack.ts';
import { isBookkeeping, ROOT_STACK_TYPE } from '../../../domain/state/urn.ts';
import type { FromChild, ResourceProgress } from '../protocol.ts';

const BATCH_MS = 50;
const isShown = (type: string) => !isBookkeeping(type);

export interface EventReporter {
  onEvent(event: EngineEvent): void;
  finish(): {
    changes: Record<string, number>;
    outputs: Record<string, unknown>;
    steps: PlannedStep[];
    drift: Drift[];
  };
}

/** What a preview is asked for: only then is every resource kept, with its inputs. */
export interface Planning {
  steps: boolean;
  drift: boolean;
}

export function createEventReporter(
  runId: string,
  send: (message: FromChild) => void,
  planning: Planning,
): EventReporter {
  const steps: PlannedStep[] = [];
  const drift: Drift[] = [];
  let batch: ResourceProgress[] = [];
  let timer: NodeJS.Timeout | undefined;
  let changes: Record<string, number> = {};
  let outputs: Record<string, unknown> = {};

  function flush(): void {
    clearTimeout(timer);
    timer = undefined;
    if (batch.length > 0) send({ type: 'resources', runId, resources: batch });
    batch = [];
  }
  function add(progress: ResourceProgress): void {
    batch.push(progress);
    timer ??= setTimeout(flush, BATCH_MS);
  }
  return {
    onEvent(event) {
      const started = event.resourcePreEvent?.metadata;
      if (started && planning.steps && isShown(started.type)) steps.push(...plannedStep(started));
      if (started && isShown(started.type) && started.op !== 'same') add(describe(started, 'started'));
      const done = event.resOutputsEvent?.metadata;
      if (done && planning.drift && isShown(done.type)) drift.push(...driftOf(done));
      if (done && done.type === ROOT_STACK_TYPE)
        outputs = hideSecrets(done.new?.outputs ?? {}) as Record<string, unknown>;
      else if (done && isShown(done.type) && done.op !== 'same') add(withOutputs(describe(done, 'done'), done.new));
      const failed = event.resOpFailedEvent?.metadata;
      if (failed) add(describe(failed, 'failed'));
      if (event.summaryEvent) changes = event.summaryEvent.resourceChanges;
    },
    finish() {
      flush();
      return { changes, outputs, steps, drift };
    },
  };
}

function describe(
  metadata: { urn: string; type: string; op: string },
  status: ResourceProgress['status'],
): ResourceProgress {
  return { name: nameOf(metadata.urn), type: metadata.type, op: metadata.op, status };
}

/** The provider's text and the environment are of no use to the worker, and the latter may be secret. */
function withOutputs(
  progress: ResourceProgress,
  state: { id?: string; outputs?: Record<string, unknown> } | undefined,
): ResourceProgress {
  if (!state) return progress;
  const { __provider: _text, env: _env, ...outputs } = state.outputs ?? {};
  return { ...progress, outputs, ...(state.id ? { id: state.id } : {}) };
}

type StepMetadata = NonNullable<EngineEvent['resourcePreEvent']>['metadata'];

/** A replacement comes in three parts; the logical one tells all of it. */
function plannedStep(metadata: StepMetadata): PlannedStep[] {
  const op = metadata.op as string;
  if (!isStepOp(op)) return [];
  const { urn, type, old, new: next, detailedDiff, diffs } = metadata;
  const changed = op === 'update' || op === 'replace' ? (detailedDiff ? Object.keys(detailedDiff) : (diffs ?? [])) : [];
  return [
    {
      urn,
      name: nameOf(urn),
      type,
      op,
      changedInputs: changed.sort(),
      oldInputs: withoutInternals(old?.inputs),
      newInputs: op === 'delete' ? null : withoutInternals(next?.inputs),
    },
  ];
}

function driftOf(metadata: StepMetadata): Drift[] {
  const { op, urn, type, detailedDiff, diffs } = metadata;
  if (op !== 'update' && op !== 'delete') return [];
  const properties = op === 'update' ? (detailedDiff ? Object.keys(detailedDiff) : (diffs ?? [])).sort() : [];
  return [{ urn, name: nameOf(urn), type, kind: op === 'delete' ? 'deleted' : 'changed', properties }];
}

function withoutInternals(inputs: Record<string, unknown> | undefined): Record<string, unknown> | null {
  if (!inputs) return null;
  return Object.fromEntries(Object.entries(inputs).filter(([key]) => !key.startsWith('__')));
}

/** The engine's mark of a secret, which says nothing to people. */
const SECRET_KEY = '4dabf18193072939515e22adb298388d';

function hideSecrets(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(hideSecrets);
  if (typeof value !== 'object' || value === null) return value;
  if (SECRET_KEY in value) return '[secret]';
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, hideSecrets(inner)]));
}

function nameOf(urn: string): string {
  return urn.split('::').at(-1) ?? urn;
}

function isStepOp(op: string): op is StepOp {
  return (STEP_OPS as readonly string[]).includes(op);
}
