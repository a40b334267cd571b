/** A vendor in memory that can lie in its lists and be down, over the scripted client; and a stack runner that buys and destroys there as the engine would. */
import { randomUUID } from 'node:crypto';
import { noCrash } from '../../domain/crash-points.ts';
import type { ObservedInstance, ObservedStatus } from '../../domain/observed-instance.ts';
import type { Offer } from '../../domain/offer.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { InstanceArgs, InstanceAttempt } from '../../stacks/instance/program.ts';
import type { EngineErrorKind } from '../../automation/engine/classify-error.ts';
import type { UpdateKind } from '../../automation/engine/protocol.ts';
import type { StackResource, StackState } from '../../domain/state/stack-state.ts';
import type {
  StackRunner,
  UpdateHooks,
  UpdateOutcome,
  UpdateRequest,
  UpdateSignals,
} from '../../automation/engine/stack-runner.ts';
import { buyOrAdopt } from '../../providers-dynamic/buy-machine.ts';
import { destroyVerified } from '../../providers-dynamic/destroy-machine.ts';
import type { ProviderClient } from '../../providers-dynamic/provider-client.ts';
import type { PurchaseRuntime } from '../../providers-dynamic/purchase-runtime.ts';
import { PRICE } from './fleet-database.ts';
import { createScriptedClient, type ScriptedClient } from './scripted-purchases.ts';

/** The ways of design.md's lying list. Reads of one machine by its id stay honest. */
export const LIES = ['empty', 'deprecated', 'html', 'shrunken'] as const;
export type Lie = (typeof LIES)[number];

export interface ScriptedVendor extends ScriptedClient {
  client: ProviderClient;
  /** What searchOffers lists. */
  offers: Offer[];
  lie: Lie | null;
  /** What does not work now, with an error that may pass. */
  outage: 'none' | 'destroy' | 'all';
  /** Where machines answer SSH once they run; null: nowhere. */
  ssh: ObservedInstance['ssh'];
  /** Calls of destroy that the vendor was asked for, answered or not. */
  readonly destroyCalls: number;
  run(label: string, status?: ObservedStatus): void;
  /** Takes the machine away until more than `untilBid` is bid for it. */
  interrupt(label: string, untilBid: bigint): void;
}

const INSTANT = { verifyMs: 0, firstPollMs: 0, maxPollMs: 0 };

export function createScriptedVendor(): ScriptedVendor {
  const scripted = createScriptedClient();
  let destroyCalls = 0;
  /** By label: the bid that has to be topped. */
  const interrupted = new Map<string, bigint>();

  const see = (observed: ObservedInstance): ObservedInstance => ({
    ...observed,
    machineId: observed.label === null ? null : machineOf(observed.label),
    priceMicroUsdPerHour: PRICE,
    ...(interrupted.has(observed.label ?? '') ? { status: 'stopped' as const, interrupted: true } : {}),
    ssh: observed.status === 'running' && !interrupted.has(observed.label ?? '') ? vendor.ssh : null,
  });
  const machineOf = (label: string): string | null =>
    scripted.orderOf(label)?.providerOfferId.replace('offer', 'machine') ?? null;
  const check = (what: 'destroy' | 'other'): void => {
    if (vendor.outage === 'all' || vendor.outage === what)
      throw new ProviderError('retryable', 'HTTP 503: the vendor is down');
  };
  /** The listing as the vendor tells it today. */
  const tell = <T>(all: T[]): T[] => {
    switch (vendor.lie) {
      case null:
        return all;
      case 'empty':
        return [];
      case 'shrunken':
        return all.slice(0, Math.floor(all.length / 4));
      case 'deprecated':
        throw new ProviderError('unbelievable', 'HTTP 410: this endpoint is deprecated', { httpStatus: 410 });
      case 'html':
        throw new ProviderError('unbelievable', 'the reply is no JSON: <html>');
    }
  };

  const client: ProviderClient = {
    ...scripted.client,
    async searchOffers(_query, signal) {
      check('other');
      signal?.throwIfAborted();
      return tell(vendor.offers);
    },
    async buy(order, signal, beforeSending) {
      check('other');
      return scripted.client.buy(order, signal, beforeSending);
    },
    async readInstance(id, signal) {
      check('other');
      const observed = await scripted.client.readInstance(id, signal);
      return observed && see(observed);
    },
    async listInstances(signal) {
      check('other');
      return tell((await scripted.client.listInstances(signal)).map(see));
    },
    async findByLabel(label, signal) {
      check('other');
      const all = tell((await scripted.client.listInstances(signal)).map(see));
      return all.filter((instance) => instance.label === label);
    },
    async changeBid(id, bid, signal) {
      check('other');
      await scripted.client.changeBid(id, bid, signal);
      const label = (await scripted.client.readInstance(id, signal))?.label ?? '';
      if (bid > (interrupted.get(label) ?? bid)) interrupted.delete(label);
    },
    async destroy(id, signal) {
      destroyCalls++;
      check('destroy');
      check('other');
      return scripted.client.destroy(id, signal);
    },
  };
  const vendor: ScriptedVendor = {
    ...scripted,
    client,
    offers: [],
    lie: null,
    outage: 'none',
    ssh: null,
    get destroyCalls() {
      return destroyCalls;
    },
    run: (label, status = 'running') => scripted.setStatus(label, status),
    interrupt: (label, untilBid) => void interrupted.set(label, untilBid),
  };
  return vendor;
}

export interface ScriptedRunner extends StackRunner {
  /** Awaited in the middle of every update, when everything is done at the vendor and nothing is told yet. */
  beforeResult: (() => Promise<void>) | null;
  /** Updates in order. */
  readonly updates: { update: UpdateKind; attempts: string[] }[];
  /** The next update's engine is killed after its purchases: creates without an end stay in the state, and nobody is told. */
  isKilledNext: boolean;
  /** A person's CLI was killed in the middle of a create of its own program. */
  leavePending(stackName: string, name: string, inputs: Record<string, unknown>): void;
}

interface Stack {
  resources: Map<string, StackResource>;
  pending: Map<string, StackResource>;
}

/** Like the engine with the dynamic provider: what is in the program and not in the state is bought, the other way round destroyed. */
export function createScriptedRunner(vendor: ScriptedVendor): ScriptedRunner {
  const stacks = new Map<string, Stack>();
  const updates: ScriptedRunner['updates'] = [];

  async function run(update: UpdateKind, request: UpdateRequest, hooks: UpdateHooks, signals: UpdateSignals) {
    const stack = stacks.get(request.stackName) ?? { resources: new Map(), pending: new Map() };
    stacks.set(request.stackName, stack);
    await resolvePending(stack, hooks);
    hooks.onStarted?.(randomUUID());
    const args = request.program?.args as InstanceArgs | undefined;
    const attempts = update === 'up' && args ? args.attempts : [];
    updates.push({ update, attempts: attempts.map((attempt) => attempt.attemptId) });
    const failures: UpdateOutcome['failures'] = {};
    const fail = (name: string, error: unknown): void => {
      if (!(error instanceof Error)) throw error;
      failures[name] = { errorKind: error instanceof ProviderError ? error.kind : 'internal', reason: error.message };
    };
    const wanted = new Map(attempts.map((attempt) => [attempt.attemptId, attempt]));
    await Promise.all([
      ...[...stack.resources.values()]
        .filter((resource) => !wanted.has(resource.name))
        .map((resource) => remove(stack, resource).catch((error: unknown) => fail(resource.name, error))),
      ...attempts
        .filter((attempt) => stack.resources.has(attempt.attemptId))
        .map((attempt) => ensure(stack, attempt).catch((error: unknown) => fail(attempt.attemptId, error))),
      ...attempts
        .filter((attempt) => !stack.resources.has(attempt.attemptId))
        .map((attempt) =>
          create(stack, attempt, request, hooks, signals).catch((error: unknown) => fail(attempt.attemptId, error)),
        ),
    ]);
    for (const resource of stack.resources.values()) resource.initErrors = [];
    await runner.beforeResult?.();
    const isKilled = runner.isKilledNext;
    runner.isKilledNext = false;
    return endOf(update, stack, failures, isKilled ? 'engine_gone' : signals.cancel.aborted ? 'canceled' : null);
  }

  /** What an update of a resource that is there changes: its bid. */
  async function ensure(stack: Stack, attempt: InstanceAttempt): Promise<void> {
    const resource = stack.resources.get(attempt.attemptId) as StackResource;
    const bid = attempt.bidMicroUsdPerHour;
    if (bid === null || resource.inputs['bidMicroUsdPerHour'] === bid) return;
    await vendor.client.changeBid(resource.id as string, BigInt(bid));
    resource.inputs['bidMicroUsdPerHour'] = bid;
  }

  async function create(
    stack: Stack,
    attempt: InstanceAttempt,
    request: UpdateRequest,
    hooks: UpdateHooks,
    signals: UpdateSignals,
  ): Promise<void> {
    const { requirements, image, env, onStart, provider } = attempt;
    const label = attempt.label as string;
    const { diskGib, interruptible } = requirements;
    const bought = await buyOrAdopt(
      createRuntime(vendor, request, hooks, signals),
      {
        provider,
        label,
        requirements: {
          ...requirements,
          maxPriceMicroUsdPerHour: BigInt(requirements.maxPriceMicroUsdPerHour),
          providers: [],
        },
        order: {
          image,
          diskGib,
          env: env as Record<string, string>,
          onStart,
          interruptible,
          bidMicroUsdPerHour: attempt.bidMicroUsdPerHour === null ? null : BigInt(attempt.bidMicroUsdPerHour),
          sshPublicKeys: [],
        },
      },
      INSTANT,
    );
    const price = bought.candidate?.priceMicroUsdPerHour;
    const outputs = {
      machineId: bought.candidate?.machineId ?? bought.observed?.machineId ?? null,
      ...(price === undefined ? {} : { priceMicroUsdPerHour: Number(price) }),
    };
    const resource = makeResource(attempt.attemptId, label, bought.providerInstanceId, outputs);
    resource.inputs['bidMicroUsdPerHour'] = attempt.bidMicroUsdPerHour;
    if (runner.isKilledNext) return void stack.pending.set(resource.name, { ...resource, id: null, outputs: {} });
    stack.resources.set(resource.name, resource);
    const { name, type, id } = resource;
    hooks.onResources([{ name, type, op: 'create', status: 'done', outputs, ...(id === null ? {} : { id }) }]);
  }

  async function remove(stack: Stack, resource: StackResource): Promise<void> {
    const machine = { providerInstanceId: resource.id as string, label: resource.inputs['label'] as string };
    await destroyVerified(vendor.client, machine, INSTANT);
    stack.resources.delete(resource.name);
  }

  const runner: ScriptedRunner = {
    preview: (request, hooks, signals) => run('preview', request, hooks, signals),
    previewDestroy: (request, hooks, signals) => run('preview_destroy', request, hooks, signals),
    detectDrift: (request, hooks, signals) => run('detect_drift', request, hooks, signals),
    up: (request, hooks, signals) => run('up', request, hooks, signals),
    refresh: (request, hooks, signals) => run('refresh', request, hooks, signals),
    destroy: (request, hooks, signals) => run('destroy', request, hooks, signals),
    readState(stackName) {
      const stack = stacks.get(stackName);
      return Promise.resolve(stack ? stateOf(stack) : null);
    },
    remove(stackName) {
      const left = stacks.get(stackName)?.resources.size ?? 0;
      if (left > 0) return Promise.reject(new Error(`stack ${stackName} still has ${left} resources`));
      stacks.delete(stackName);
      return Promise.resolve();
    },
    extendLease: () => {},
    beforeResult: null,
    updates,
    isKilledNext: false,
    leavePending(stackName, name, inputs) {
      const resource = makeResource(name, '', null, {});
      stacks.get(stackName)?.pending.set(name, { ...resource, inputs });
    },
  };
  return runner;
}

async function resolvePending(stack: Stack, hooks: UpdateHooks): Promise<void> {
  for (const [name, resource] of stack.pending) {
    const id = await hooks.resolvePending(resource);
    if (id !== null) stack.resources.set(name, { ...resource, id, initErrors: ['adopted'] });
    stack.pending.delete(name);
  }
}

function createRuntime(
  vendor: ScriptedVendor,
  request: UpdateRequest,
  hooks: UpdateHooks,
  signals: UpdateSignals,
): PurchaseRuntime {
  return {
    client: () => vendor.client,
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
    listLagMs: () => 0,
    deploymentSshPublicKeys: () => request.deploymentSshPublicKeys,
    signal: () => signals.cancel,
    progress: (label, message) => hooks.onProgress(`${label}: ${message}`),
    crashPoint: noCrash,
  };
}

function makeResource(name: string, label: string, id: string | null, outputs: Record<string, unknown>): StackResource {
  const type = 'pulumi-nodejs:dynamic/vastai:VastaiInstance';
  return {
    urn: `urn:pulumi:test::muster::${type}::${name}`,
    name,
    type,
    id,
    parent: null,
    provider: null,
    isProtected: false,
    inputs: { label },
    outputs,
    initErrors: [],
  };
}

function stateOf(stack: Stack): StackState {
  return { resources: [...stack.resources.values()], pendingCreates: [...stack.pending.values()] };
}

function endOf(
  update: UpdateKind,
  stack: Stack,
  failures: UpdateOutcome['failures'],
  trouble: EngineErrorKind | null,
): UpdateOutcome {
  const failed = Object.values(failures)[0];
  const kind = trouble ?? (failed ? 'resource_failed' : null);
  const error = kind && { kind, detail: failed?.reason ?? `scripted ${kind}` };
  return {
    update,
    isOk: error === null,
    error,
    failures,
    changes: {},
    outputs: {},
    steps: [],
    drift: [],
    state: stateOf(stack),
    engineMs: 0,
  };
}
