/**
 * The world's engine: stands in for the pulumi program and its children, as a stack runner that keeps states in memory and buys and
 * destroys by the very code of the dynamic providers. A crash in the middle leaves its creates pending, as a killed engine does.
 */
import { randomUUID } from 'node:crypto';
import type { UpdateKind } from '../../automation/engine/protocol.ts';
import type { StackResource, StackState } from '../../domain/state/stack-state.ts';
import type {
  StackRunner,
  UpdateHooks,
  UpdateOutcome,
  UpdateRequest,
  UpdateSignals,
} from '../../automation/engine/stack-runner.ts';
import type { CrashPoint } from '../../domain/crash-points.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { ProviderName } from '../../domain/provider.ts';
import type { DestroyTimings } from '../../providers-dynamic/destroy-machine.ts';
import { PartialFailure, type DynamicCrud, type Properties } from '../../providers-dynamic/dynamic-crud.ts';
import { createMachineCrud, type CrudTimings } from '../../providers-dynamic/machine-crud.ts';
import type { ProviderClient } from '../../providers-dynamic/provider-client.ts';
import type { PurchaseRuntime } from '../../providers-dynamic/purchase-runtime.ts';
import type { InstanceArgs, InstanceAttempt } from '../../stacks/instance/program.ts';

/** The vendors of the world answer at once: what is not proven now is asked again by the operation, after its backoff. */
export const INSTANT: DestroyTimings = { verifyMs: 0, firstPollMs: 0, maxPollMs: 0 };
const TIMINGS: CrudTimings = { ...INSTANT, readBackPausesMs: [1] };

interface Stack {
  resources: Map<string, StackResource>;
  pending: Map<string, StackResource>;
}

export interface WorldEngine {
  /** The runner of one replica: states are shared, crashes are its own. */
  runnerFor(crashPoint: CrashPoint): StackRunner;
  /** Loses a stack's state, as a restored backup does. */
  forget(stackName: string): void;
  /** Stacks that hold anything, by name. */
  leftovers(): string[];
}

/** @param isCrash what a crash point throws; it ends the whole process, so nothing more is done for the update */
export function createWorldEngine(
  client: (provider: ProviderName) => ProviderClient,
  isCrash: (error: unknown) => boolean,
  listLagMs: number,
): WorldEngine {
  const stacks = new Map<string, Stack>();

  function createRunner(crashPoint: CrashPoint): StackRunner {
    async function run(update: UpdateKind, request: UpdateRequest, hooks: UpdateHooks, signals: UpdateSignals) {
      const stack = stacks.get(request.stackName) ?? { resources: new Map(), pending: new Map() };
      stacks.set(request.stackName, stack);
      await resolvePending(stack, hooks);
      hooks.onStarted?.(randomUUID());
      crashPoint('engine_starting');
      const life = new AbortController();
      const failures: UpdateOutcome['failures'] = {};
      let crash: unknown;
      const work = async (name: string, act: () => Promise<void>): Promise<void> => {
        try {
          await act();
        } catch (error) {
          if (isCrash(error) || isCrash((error as Error).cause) || life.signal.aborted) {
            crash ??= error;
            life.abort();
            return;
          }
          const errorKind = error instanceof ProviderError ? error.kind : 'internal';
          failures[name] = { errorKind, reason: error instanceof Error ? error.message : String(error) };
        }
      };
      const args = request.program?.args as InstanceArgs | undefined;
      const attempts = update === 'up' && args ? args.attempts : [];
      const wanted = new Set(attempts.map((attempt) => attempt.attemptId));
      const runtime = makeRuntime(request, hooks, signals, crashPoint, life.signal);
      await Promise.all([
        ...[...stack.resources.values()]
          .filter((resource) => !wanted.has(resource.name))
          .map((resource) => work(resource.name, () => remove(stack, resource, runtime))),
        ...attempts.map((attempt) =>
          work(attempt.attemptId, () => ensure(stack, attempt, runtime, hooks, life.signal)),
        ),
      ]);
      if (crash !== undefined) throw crash as Error;
      return endOf(update, stack, failures, signals.cancel.aborted);
    }

    return {
      preview: (request, hooks, signals) => run('preview', request, hooks, signals),
      previewDestroy: (request, hooks, signals) => run('preview_destroy', request, hooks, signals),
      detectDrift: (request, hooks, signals) => run('detect_drift', request, hooks, signals),
      up: (request, hooks, signals) => run('up', request, hooks, signals),
      refresh: (request, hooks, signals) => run('refresh', request, hooks, signals),
      destroy: (request, hooks, signals) => run('destroy', request, hooks, signals),
      readState: (name) => Promise.resolve(stacks.has(name) ? stateOf(stacks.get(name) as Stack) : null),
      remove(name) {
        const left = stacks.get(name)?.resources.size ?? 0;
        if (left > 0) return Promise.reject(new Error(`stack ${name} still has ${left} resources`));
        stacks.delete(name);
        return Promise.resolve();
      },
      extendLease() {},
    };
  }

  async function ensure(
    stack: Stack,
    attempt: InstanceAttempt,
    runtime: PurchaseRuntime,
    hooks: UpdateHooks,
    life: AbortSignal,
  ): Promise<void> {
    const crud = createMachineCrud(attempt.provider, runtime, TIMINGS);
    const inputs = await checkedInputs(crud, attempt);
    const held = stack.resources.get(attempt.attemptId);
    const diff = held && (await crud.diff(held.id as string, held.outputs, inputs));
    if (held && diff?.replaces.length === 0) {
      if (!diff.changes && held.initErrors.length === 0) return;
      return finish(held, crud.update(held.id as string, held.outputs, inputs), hooks, 'update');
    }
    if (held) await remove(stack, held, runtime);
    const resource = makeResource(attempt, inputs);
    // Written down before anything is sent, as the engine does.
    stack.pending.set(resource.name, resource);
    try {
      await finish(resource, crud.create(inputs), hooks, 'create', () => stack.resources.set(resource.name, resource));
    } catch (error) {
      // A handler that answered with an error ended its create; one whose process died did not.
      if (!isCrash(error) && !life.aborted) stack.pending.delete(resource.name);
      throw error;
    }
    stack.pending.delete(resource.name);
  }

  /** Keeps what came of it, half made machines too: the next update finishes those. */
  async function finish(
    resource: StackResource,
    work: Promise<{ id?: string; outs: Record<string, unknown> }>,
    hooks: UpdateHooks,
    op: 'create' | 'update',
    keep: () => void = () => {},
  ): Promise<void> {
    try {
      const { id = resource.id, outs } = await work;
      Object.assign(resource, { id, outputs: outs, initErrors: [] });
      keep();
    } catch (error) {
      if (!(error instanceof PartialFailure) || isCrash(error.cause)) throw error;
      Object.assign(resource, { id: error.id, outputs: error.properties, initErrors: error.reasons });
      keep();
      throw error;
    }
    const { name, type, id, outputs } = resource;
    hooks.onResources([{ name, type, op, status: 'done', outputs, id: id as string }]);
  }

  async function remove(stack: Stack, resource: StackResource, runtime: PurchaseRuntime): Promise<void> {
    const crud = createMachineCrud(resource.inputs['provider'] as ProviderName, runtime, TIMINGS);
    await crud.delete(resource.id as string, { ...resource.inputs, ...resource.outputs });
    stack.resources.delete(resource.name);
  }

  function makeRuntime(
    request: UpdateRequest,
    hooks: UpdateHooks,
    signals: UpdateSignals,
    crashPoint: CrashPoint,
    life: AbortSignal,
  ): PurchaseRuntime {
    return {
      client: (provider) => mortal(client(provider), life),
      async nextCandidate(label, _provider, _requirements, refused) {
        const answer = await hooks.answer('nextCandidate', { label, refused });
        return answer && { ...answer, priceMicroUsdPerHour: BigInt(answer.priceMicroUsdPerHour) };
      },
      mayExist: (label) => request.mayExist.includes(label),
      labelFor() {
        throw new Error('the control plane gives every attempt its label');
      },
      assertMaySpend() {
        if (signals.kill.aborted) throw new ProviderError('canceled', 'the lease is over');
      },
      listLagMs: () => listLagMs,
      deploymentSshPublicKeys: () => request.deploymentSshPublicKeys,
      signal: () => signals.cancel,
      progress: (label, message) => hooks.onProgress(`${label}: ${message}`),
      crashPoint,
    };
  }

  return {
    runnerFor: createRunner,
    forget: (stackName) => void stacks.delete(stackName),
    leftovers: () =>
      [...stacks].filter(([, stack]) => stack.resources.size + stack.pending.size > 0).map(([name]) => name),
  };
}

/** A client whose process may have died: then it sends nothing any more. */
function mortal(client: ProviderClient, life: AbortSignal): ProviderClient {
  return new Proxy(client, {
    get(target, name) {
      const value = Reflect.get(target, name) as unknown;
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        if (life.aborted) return Promise.reject(new Error('this process is dead'));
        return (value as (...all: unknown[]) => unknown).apply(target, args);
      };
    },
  });
}

async function resolvePending(stack: Stack, hooks: UpdateHooks): Promise<void> {
  for (const [name, resource] of stack.pending) {
    const id = await hooks.resolvePending(resource);
    if (id !== null) stack.resources.set(name, { ...resource, id, initErrors: ['adopted'] });
    stack.pending.delete(name);
  }
}

/** What rentMachine of the instance program and the resource's constructor make of an attempt. */
async function checkedInputs(crud: DynamicCrud, attempt: InstanceAttempt): Promise<Properties> {
  const { requirements, image, env, onStart, sshPublicKeys, label, bidMicroUsdPerHour } = attempt;
  const news = {
    ...requirements,
    image,
    env,
    onStart,
    sshPublicKeys,
    label,
    bidMicroUsdPerHour,
    resourceKey: attempt.attemptId,
  };
  const { inputs, failures } = await crud.check({}, news);
  if (failures.length > 0) throw new Error(`${attempt.attemptId}: ${JSON.stringify(failures)}`);
  return inputs;
}

function makeResource(attempt: InstanceAttempt, inputs: Properties): StackResource {
  const type = `pulumi-nodejs:dynamic/${attempt.provider}:Instance`;
  return {
    urn: `urn:pulumi:world::muster::${type}::${attempt.attemptId}`,
    name: attempt.attemptId,
    type,
    id: null,
    parent: null,
    provider: null,
    isProtected: false,
    inputs: { ...inputs, provider: attempt.provider },
    outputs: {},
    initErrors: [],
  };
}

function stateOf(stack: Stack): StackState {
  return {
    resources: [...stack.resources.values()].map((one) => ({ ...one })),
    pendingCreates: [...stack.pending.values()].map((one) => ({ ...one })),
  };
}

function endOf(
  update: UpdateKind,
  stack: Stack,
  failures: UpdateOutcome['failures'],
  isCanceled: boolean,
): UpdateOutcome {
  const failed = Object.values(failures)[0];
  const kind = isCanceled ? 'canceled' : failed ? 'resource_failed' : null;
  const error = kind && { kind, detail: failed?.reason ?? 'canceled' };
  return {
    update,
    isOk: error === null,
    error,
    failures,
    changes: {},
    state: stateOf(stack),
    engineMs: 0,
  } as UpdateOutcome;
}
