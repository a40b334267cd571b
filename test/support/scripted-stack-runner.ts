/** A stack runner whose updates end as the test says, for operations on stacks that people made. No engine runs. */
import { randomUUID } from 'node:crypto';
import { changesNothing, type UpdateKind } from '../../automation/engine/protocol.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import { saveHoldings } from '../../db/stack-holdings.ts';
import type { StackResource } from '../../domain/state/stack-state.ts';
import type { StackRunner, UpdateOutcome, UpdateRequest } from '../../automation/engine/stack-runner.ts';
import type { PlannedStep, StepOp } from '../../domain/prices/price-diff.ts';
import type { ProviderError } from '../../domain/provider-error.ts';
import { until } from './fleet-database.ts';

export interface ScriptedStackRunner extends StackRunner {
  /** Every update that ran, in order. */
  ran: { update: UpdateKind; request: UpdateRequest }[];
  /** How the next updates of a kind end; the rest ends well with `steps` and `resources`. */
  outcomes: Partial<Record<UpdateKind, Partial<UpdateOutcome>>>;
  /** The next update of a kind does not begin, for this reason: once. */
  refusals: Partial<Record<UpdateKind, ProviderError>>;
  steps: PlannedStep[];
  resources: StackResource[];
  /** While set, an up runs until it is canceled. */
  isHanging: boolean;
}

/** @param db where an update's state tells what its stack holds, as that of a real one does */
export function createScriptedStackRunner(db: Db): ScriptedStackRunner {
  const run =
    (update: UpdateKind): StackRunner['up'] =>
    async (request, hooks, signals) => {
      const refusal = runner.refusals[update];
      delete runner.refusals[update];
      if (refusal) throw refusal;
      runner.ran.push({ update, request });
      if (!changesNothing(update)) await hooks.onBeginning?.();
      hooks.onStarted?.(randomUUID());
      if (update === 'up' && runner.isHanging) await until(() => signals.cancel.aborted, 'the up is canceled');
      if (update === 'destroy' && runner.outcomes.destroy === undefined) runner.resources = [];
      const state = { resources: runner.resources, pendingCreates: [] };
      if (!changesNothing(update)) await inTransaction(db, (tx) => saveHoldings(tx, request.stackName, state));
      return {
        update,
        isOk: !signals.cancel.aborted,
        error: null,
        failures: {},
        changes: {},
        outputs: {},
        steps: update === 'preview' || update === 'preview_destroy' ? runner.steps : [],
        drift: [],
        state,
        engineMs: 1,
        ...runner.outcomes[update],
      };
    };
  const runner: ScriptedStackRunner = {
    ran: [],
    outcomes: {},
    refusals: {},
    steps: [],
    resources: [],
    isHanging: false,
    preview: run('preview'),
    previewDestroy: run('preview_destroy'),
    detectDrift: run('detect_drift'),
    up: run('up'),
    refresh: run('refresh'),
    destroy: run('destroy'),
    readState: () => Promise.resolve({ resources: runner.resources, pendingCreates: [] }),
    remove: () => Promise.resolve(),
    extendLease() {},
  };
  return runner;
}

export function makeStep(type: string, name: string, op: StepOp, inputs: Record<string, unknown>): PlannedStep {
  return {
    urn: `urn:pulumi:test::muster::${type}::${name}`,
    name,
    type,
    op,
    changedInputs: [],
    oldInputs: op === 'create' ? null : inputs,
    newInputs: op === 'delete' ? null : inputs,
  };
}

export function makeStackResource(type: string, name: string, inputs: Record<string, unknown>): StackResource {
  return {
    urn: `urn:pulumi:test::muster::${type}::${name}`,
    name,
    type,
    id: `${name}-id`,
    parent: null,
    provider: null,
    isProtected: false,
    inputs,
    outputs: {},
    initErrors: [],
  };
}
