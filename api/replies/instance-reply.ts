/** An instance with its attempts as the API shows it. */
import { isWanted } from '../../domain/attempt.ts';
import { allowedActions } from '../../domain/instance.ts';
import type { ProvisionRequest } from '../../domain/provision-request.ts';
import { EVER, totalCost, unprovenCost, usageCost, type UsageInterval } from '../../domain/usage.ts';
import type { AttemptRow } from '../../db/attempts.ts';
import type { InstanceRow } from '../../db/instances.ts';
import type { OwnedInterval, UsageByAttempt } from '../../db/usage.ts';
import type { Attempt, Instance, InstanceCost } from '../contract/instances.ts';
import { iso, isoOrNull, micro, microOrNull } from '../reply-values.ts';
import { hibernationReply, NEVER_SLEPT, policyReply, savingsOf, type Sleeping } from './hibernation-reply.ts';

/** @param attempts of this instance, oldest first @param isFailingOver a failover of it is under way */
export function instanceReply(
  row: InstanceRow,
  attempts: AttemptRow[],
  usage: UsageByAttempt,
  now: number,
  sleeping: Sleeping = NEVER_SLEPT,
  isFailingOver = false,
): Instance {
  const request = row.request as ProvisionRequest;
  const shown = attemptShown(row, attempts);
  return {
    id: row.id,
    name: row.name,
    status: row.status,
    phase: row.phase,
    phaseAt: phaseTimes(row),
    note: row.note,
    allowedActions: allowedActions(row.status, {
      hasWorkspace: sleeping.workspace !== undefined,
      isWarmInPool: row.pool_id !== null,
      hasRestorePoint: row.restore_snapshot_id !== null,
      isFailingOver,
    }),
    provider: shown?.provider ?? null,
    providerInstanceId: shown?.provider_instance_id ?? null,
    machineId: shown?.machine_id ?? null,
    gpu: shown?.gpu ?? request.gpu,
    gpuCount: shown?.gpu_count ?? request.gpuCount,
    gpuMemoryGib: shown?.gpu_memory_gib ?? null,
    diskGib: request.diskGib,
    image: request.image,
    interruptible: request.interruptible,
    priceMicroUsdPerHour: microOrNull(shown?.price_micro_usd_per_hour ?? null),
    maxPriceMicroUsdPerHour: micro(row.max_price_micro_usd_per_hour),
    accruedMicroUsd: micro(totalCost(usageOf(row, attempts, usage), now)),
    ssh: sshOf(shown),
    region: shown?.region ?? null,
    strategy: request.strategy,
    attempts: attempts.map((attempt) => attemptReply(attempt, ownUsage(row, usage.get(attempt.id)), now)),
    createdAt: iso(row.created_at),
    readyAt: isoOrNull(row.ready_at),
    // Its lifetime stands still while it sleeps.
    expiresAt: row.status === 'hibernated' ? null : isoOrNull(row.expires_at),
    unbounded: row.unbounded,
    poolId: row.pool_id,
    claimedBy: row.claimed_by,
    destroyRequestedAt: isoOrNull(row.destroy_requested_at),
    destroyedAt: isoOrNull(row.destroyed_at),
    failureCode: row.failure_code,
    failureDetail: row.failure_detail,
    ...policyReply(request),
    hibernation: hibernationReply(sleeping),
    savings: savingsOf(sleeping, now),
    operationId: row.operation_id,
    stackId: row.stack_id,
    consumer: row.consumer,
  };
}

export function instanceCostReply(
  row: InstanceRow,
  attempts: AttemptRow[],
  usage: UsageByAttempt,
  now: number,
): InstanceCost {
  const all = usageOf(row, attempts, usage);
  return {
    instanceId: row.id,
    accruedMicroUsd: micro(totalCost(all, now)),
    unprovenMicroUsd: micro(all.reduce((sum, interval) => sum + unprovenCost(interval, EVER, now), 0n)),
    burnMicroUsdPerHour: micro(
      all.reduce((sum, interval) => sum + (interval.isOpen ? interval.priceMicroUsdPerHour : 0n), 0n),
    ),
    asOf: iso(new Date(now)),
    attempts: attempts.map((attempt) => {
      const own = ownUsage(row, usage.get(attempt.id));
      return {
        id: attempt.id,
        provider: attempt.provider,
        status: attempt.status,
        priceMicroUsdPerHour: microOrNull(own.at(-1)?.priceMicroUsdPerHour ?? attempt.price_micro_usd_per_hour),
        accruedMicroUsd: micro(totalCost(own, now)),
        from: isoOrNull(attempt.purchased_at),
        to: isoOrNull(attempt.gone_at),
        usage: own.map((interval) => usageReply(interval, now)),
      };
    }),
  };
}

function usageReply(interval: UsageInterval, now: number): InstanceCost['attempts'][number]['usage'][number] {
  return {
    from: iso(new Date(interval.from)),
    to: interval.isOpen ? null : iso(new Date(interval.to)),
    provenUntil: iso(new Date(interval.provenUntil)),
    priceMicroUsdPerHour: micro(interval.priceMicroUsdPerHour),
    costMicroUsd: micro(usageCost(interval, EVER, now)),
  };
}

export function sshOf(attempt: AttemptRow | undefined): Instance['ssh'] {
  if (!attempt || !isWanted(attempt.status) || attempt.ssh_host === null || attempt.ssh_port === null) return null;
  return { host: attempt.ssh_host, port: attempt.ssh_port, user: attempt.ssh_user ?? 'root' };
}

/** When each phase began. */
export function phaseTimes(row: Pick<InstanceRow, 'phase_at'>): Record<string, string> {
  return Object.fromEntries(Object.entries(row.phase_at).map(([phase, at]) => [phase, iso(new Date(at))]));
}

/** The machine that stands for the instance: its winner, or the only one that may still become it. */
export function attemptShown(row: InstanceRow, attempts: AttemptRow[]): AttemptRow | undefined {
  const winner = attempts.find((attempt) => attempt.id === row.winner_attempt_id);
  if (winner) return winner;
  const wanted = attempts.filter((attempt) => isWanted(attempt.status));
  return wanted.length === 1 ? wanted[0] : undefined;
}

/** Of a machine that was handed over, each of its two instances has its part; the one it left has the attempt no more. */
function usageOf(row: InstanceRow, attempts: AttemptRow[], usage: UsageByAttempt): readonly OwnedInterval[] {
  const records = row.claimed_by === null ? attempts.map(({ id }) => usage.get(id)) : [...usage.values()];
  return records.flatMap((all) => ownUsage(row, all));
}

function ownUsage(row: InstanceRow, usage: readonly OwnedInterval[] | undefined): readonly OwnedInterval[] {
  return (usage ?? []).filter(({ instanceId }) => instanceId === row.id);
}

function attemptReply(attempt: AttemptRow, usage: readonly UsageInterval[], now: number): Attempt {
  return {
    id: attempt.id,
    status: attempt.status,
    provider: attempt.provider,
    providerInstanceId: attempt.provider_instance_id,
    machineId: attempt.machine_id,
    gpu: attempt.gpu,
    gpuCount: attempt.gpu_count,
    region: attempt.region,
    priceMicroUsdPerHour: microOrNull(attempt.price_micro_usd_per_hour),
    accruedMicroUsd: micro(totalCost(usage, now)),
    bidMicroUsdPerHour: microOrNull(attempt.bid_micro_usd_per_hour),
    interruptions: attempt.interruptions,
    interruptedAt: isoOrNull(attempt.interrupted_at),
    purchaseCalls: attempt.purchase_calls,
    refusals: attempt.refusals,
    observedStatus: attempt.observed_status,
    failureCode: attempt.failure_code,
    failureDetail: attempt.failure_detail,
    createdAt: iso(attempt.created_at),
    purchasedAt: isoOrNull(attempt.purchased_at),
    runningAt: isoOrNull(attempt.running_at),
    readyAt: isoOrNull(attempt.ready_at),
    goneAt: isoOrNull(attempt.gone_at),
  };
}
