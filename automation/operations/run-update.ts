/**
 * One engine update of an operation's stack, with its progress applied: purchases are recorded the moment the engine reports
 * them, candidates are assigned from our reservations, and every question of the child is answered under the claim.
 */
import { isWanted } from '../../domain/attempt.ts';
import type { ObservedInstance } from '../../domain/observed-instance.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import { isProviderName, type ProviderName } from '../../domain/provider.ts';
import type { ProvisionRequest } from '../../domain/provision-request.ts';
import type { StackResource } from '../../domain/state/stack-state.ts';
import { priceCharged } from '../../domain/usage.ts';
import {
  listAttemptsOfStack,
  recordFound,
  recordPurchase,
  type AttemptRow,
  type BoughtMachine,
} from '../../db/attempts.ts';
import { retryWhileAway } from '../../db/database.ts';
import { listInstancesOfStack, setInstanceStatus, type InstanceRow } from '../../db/instances.ts';
import { saveProgress, withClaim } from '../../db/operations.ts';
import { findStackName } from '../../db/stacks.ts';
import { findAlive } from '../../providers-dynamic/buy-machine.ts';
import { standaloneLabel } from '../../providers-dynamic/standalone-runtime.ts';
import { LEASE_MS } from '../../domain/operation.ts';
import { openEnv } from '../../secrets/instance-env.ts';
import type { ResourceProgress } from '../engine/protocol.ts';
import type { UpdateHooks, UpdateOutcome } from '../engine/stack-runner.ts';
import { assignCandidate } from './candidates.ts';
import { startOf } from './equip-agent.ts';
import type { StepContext } from './step.ts';

/** How long a result that must be applied waits for a database that is away: as long as the lease can last. */
const APPLY_PATIENCE_MS = LEASE_MS;

export interface StackView {
  stackId: string;
  stackName: string;
  instances: InstanceRow[];
  attempts: AttemptRow[];
}

export async function loadStack(context: StepContext, stackId: string): Promise<StackView> {
  const [stackName, instances, attempts] = await Promise.all([
    findStackName(context.db, stackId),
    listInstancesOfStack(context.db, stackId),
    listAttemptsOfStack(context.db, stackId),
  ]);
  return { stackId, stackName, instances, attempts };
}

/** Makes the stack contain exactly `attempts`; what else is in its state is destroyed. */
export async function runStackUpdate(
  context: StepContext,
  view: StackView,
  attempts: AttemptRow[],
): Promise<UpdateOutcome> {
  const hooks = createHooks(context, view);
  const signals = { cancel: context.cancel, kill: context.kill };
  const request = {
    stackName: view.stackName,
    operationId: context.operation.id,
    program: { kind: 'instance', args: programArgs(context, view, attempts) },
    mayExist: attempts.filter((attempt) => attempt.engine_runs > 1).map((attempt) => attempt.label),
    deploymentSshPublicKeys: [context.deploymentSshPublicKey],
  };
  const outcome =
    attempts.length > 0
      ? await context.runner.up(request, hooks, signals)
      : await context.runner.destroy(request, hooks, signals);
  await hooks.settle();
  context.crashPoint('engine_finished');
  await retryWhileAway(
    () =>
      withClaim(context.db, context.claim, (tx) =>
        saveProgress(tx, context.claim, {
          update: {
            kind: outcome.update,
            at: context.now().toISOString(),
            engineMs: outcome.engineMs,
            changes: outcome.changes,
            error: outcome.error?.detail ?? null,
          },
        }),
      ),
    APPLY_PATIENCE_MS,
  );
  return outcome;
}

/** The arguments of the instance program. The same rows give the same arguments, so nothing changes that was not changed. */
function programArgs(context: StepContext, view: StackView, attempts: AttemptRow[]) {
  const instances = new Map(view.instances.map((instance) => [instance.id, instance]));
  return {
    attempts: attempts.map((attempt) => {
      // A machine that was handed over stays as it was bought: for the warm instance.
      const orderedBy = attempt.pooled_instance_id ?? attempt.instance_id;
      const request = (instances.get(orderedBy) as InstanceRow).request as ProvisionRequest;
      return {
        attemptId: attempt.id,
        provider: attempt.provider as ProviderName,
        label: attempt.label,
        requirements: {
          gpu: request.gpu,
          gpuCount: request.gpuCount,
          minGpuMemoryGib: request.minGpuMemoryGib,
          diskGib: request.diskGib,
          maxPriceMicroUsdPerHour: request.maxPriceMicroUsdPerHour,
          regions: request.regions,
          minReliability: request.minReliability,
          interruptible: request.interruptible,
        },
        bidMicroUsdPerHour: attempt.bid_micro_usd_per_hour === null ? null : Number(attempt.bid_micro_usd_per_hour),
        image: request.image,
        ...startOf(context, attempt, {
          env: openEnv(context.envelope, request.sealedToStack ?? view.stackId, request.envSealed),
          onStart: request.onStart,
        }),
        sshPublicKeys: request.sshPublicKeys,
      };
    }),
  };
}

function createHooks(context: StepContext, view: StackView): UpdateHooks & { settle(): Promise<void> } {
  const byId = new Map(view.attempts.map((attempt) => [attempt.id, attempt]));
  let writing: Promise<void> = Promise.resolve();
  let failure: unknown;
  function enqueue(work: () => Promise<void>): void {
    writing = writing.then(work).catch((error: unknown) => {
      failure = error;
      context.log.warn({ err: error }, 'progress of an update could not be recorded');
    });
  }
  return {
    onStarted: (runId) => context.onRunStarted(runId),
    onResources(resources) {
      enqueue(() => applyPurchases(context, view, byId, resources));
    },
    onProgress(message) {
      enqueue(() => context.emit([{ type: 'progress', data: { message } }]));
    },
    async answer(question, input) {
      switch (question) {
        case 'acquire': {
          const { provider, endpoint } = input as { provider: ProviderName; endpoint: string };
          await context.limiter.acquire(provider, endpoint, context.cancel);
          return null;
        }
        case 'slowDown': {
          const { provider, endpoint, forMs } = input as { provider: ProviderName; endpoint: string; forMs: number };
          await context.limiter.slowDown(provider, endpoint, forMs);
          return null;
        }
        default:
          return await assignCandidate(context, view, input as Parameters<typeof assignCandidate>[2]);
      }
    },
    resolvePending: (resource) => resolvePending(context, byId, resource),
    async settle() {
      await writing;
      if (failure) context.log.debug('the end of the step applies what its progress could not');
    },
  };
}

/** Looks the label up for as long as the vendor's list may lag; an answer that cannot be had throws. */
async function resolvePending(
  context: StepContext,
  attempts: Map<string, AttemptRow>,
  resource: StackResource,
): Promise<string | null> {
  const attempt = attempts.get(resource.name);
  const { provider, label } = attempt
    ? { provider: attempt.provider as ProviderName, label: attempt.label }
    : rentedByHand(resource);
  const client = context.client(provider);
  const endsAt = performance.now() + context.listLagMs(provider);
  for (;;) {
    // A machine that a refused purchase left was destroyed there, and a list may show it for a while.
    const [found] = await findAlive(client, label, context.kill);
    if (found) {
      if (attempt && !isWanted(attempt.status)) await applyFound(context, attempt, machineOfListing(found));
      return found.providerInstanceId;
    }
    const leftMs = endsAt - performance.now();
    if (leftMs <= 0) return null;
    await new Promise((resolve) => setTimeout(resolve, Math.min(leftMs, 2_000)));
  }
}

/** A person's CLI ran a program of its own on the stack: the next update of ours destroys what that made, once it is known. */
function rentedByHand({ name, type, inputs }: StackResource): { provider: ProviderName; label: string } {
  const [, provider = ''] = /^pulumi-nodejs:dynamic\/([a-z]+):/.exec(type) ?? [];
  const { label, resourceKey } = inputs;
  const known =
    typeof label === 'string' ? label : typeof resourceKey === 'string' ? standaloneLabel(resourceKey) : null;
  if (known !== null && isProviderName(provider)) return { provider, label: known };
  throw new ProviderError('invalid', `a pending create of ${name} (${type}) is nothing that Muster rents`);
}

async function applyPurchases(
  context: StepContext,
  view: StackView,
  attempts: Map<string, AttemptRow>,
  resources: ResourceProgress[],
): Promise<void> {
  const bought = resources.filter(
    (one) => one.status === 'done' && (one.op === 'create' || one.op === 'update') && one.id,
  );
  if (bought.length === 0) return;
  await applyBought(
    context,
    view,
    bought.flatMap((one) => {
      const attempt = attempts.get(one.name);
      return attempt ? [{ attempt, id: one.id as string, outputs: one.outputs ?? {} }] : [];
    }),
  );
}

/** Records machines that the state holds as bought. Idempotent; what is no longer wanted stays as it is. */
export async function applyBought(
  context: StepContext,
  view: StackView,
  bought: { attempt: AttemptRow; id: string; outputs: Record<string, unknown> }[],
): Promise<void> {
  const instances = new Map(view.instances.map((instance) => [instance.id, instance]));
  await retryWhileAway(
    () =>
      withClaim(context.db, context.claim, async (tx) => {
        for (const { attempt, id, outputs } of bought) {
          const request = (instances.get(attempt.instance_id) as InstanceRow).request as ProvisionRequest;
          await recordPurchase(tx, attempt.id, machineOfState(id, outputs), request.bootTimeoutMs);
          if (isWanted(attempt.status))
            await setInstanceStatus(tx, attempt.instance_id, 'booting', { phase: 'starting' });
        }
      }),
    APPLY_PATIENCE_MS,
  );
  context.crashPoint('purchase_applied');
}

/** Records the machine of a purchase that nobody waits for any more: before it is destroyed, so that it is charged whatever happens. */
export async function applyFound(context: StepContext, attempt: AttemptRow, machine: BoughtMachine): Promise<void> {
  await retryWhileAway(
    () => withClaim(context.db, context.claim, (tx) => recordFound(tx, attempt.id, machine)),
    APPLY_PATIENCE_MS,
  );
}

export function machineOfListing(observed: ObservedInstance): BoughtMachine {
  return {
    providerInstanceId: observed.providerInstanceId,
    machineId: observed.machineId,
    priceMicroUsdPerHour: priceCharged(observed),
    startedAt: readStart(observed.startedAt),
  };
}

export function machineOfState(id: string, outputs: Record<string, unknown>): BoughtMachine {
  const { machineId, priceMicroUsdPerHour: price } = outputs;
  return {
    providerInstanceId: id,
    machineId: typeof machineId === 'string' ? machineId : null,
    priceMicroUsdPerHour: typeof price === 'number' ? BigInt(price) : null,
    startedAt: readStart(outputs['startedAt']),
  };
}

function readStart(value: unknown): Date | null {
  const at = typeof value === 'string' ? new Date(value) : null;
  return at === null || Number.isNaN(at.getTime()) ? null : at;
}
