/**
 * The check-idle cron: what has done nothing for long enough, or is to sleep by the clock, is put to sleep; what slept by the clock is woken
 * when its window ends; and of what has slept for half an hour it is proven once more that nothing is left at any provider. All by ordinary
 * operations.
 */
import { MusterError } from '../../domain/error-table.ts';
import { PROVE_EMPTY_AFTER_MS, RETRY_AFTER_MS, type HibernationCause } from '../../domain/hibernation.ts';
import { judgeIdle, type IdleVerdict } from '../../domain/idle.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { decideBySchedule } from '../../domain/sleep-schedule.ts';
import { acceptHibernate } from '../../db/accept-hibernate.ts';
import { acceptWake } from '../../db/accept-wake.ts';
import { SYSTEM } from '../../db/audit.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import { listUnprovenSleeps, markProvenEmpty } from '../../db/hibernations.ts';
import { listSleepers, readIdleInput, type Sleeper } from '../../db/idle-instances.ts';
import { listBelievably } from '../readiness/list-instances.ts';
import type { FleetCronOptions } from './each-provider.ts';
import type { Cron, TickCounts } from './scheduler.ts';

export interface CheckIdleOptions extends Omit<FleetCronOptions, 'everyMs'> {
  /** @default 60000 */
  everyMs?: number;
}

const EVERY_MS = 60_000;

export function createCheckIdleCron(options: CheckIdleOptions): Cron {
  const { db } = options;
  return {
    name: 'check-idle',
    everyMs: options.everyMs ?? EVERY_MS,
    async run(signal) {
      const counts: TickCounts & Record<'checked' | 'hibernated' | 'woken' | 'refused', number> = {
        checked: 0,
        hibernated: 0,
        woken: 0,
        refused: 0,
      };
      for (const sleeper of await listSleepers(db)) {
        if (signal.aborted) break;
        counts.checked++;
        const outcome = await attend(options, sleeper);
        if (outcome !== null) counts[outcome]++;
      }
      return { ...counts, proven: await proveEmpty(options, signal) };
    },
  };
}

async function attend(options: CheckIdleOptions, sleeper: Sleeper): Promise<'hibernated' | 'woken' | 'refused' | null> {
  // What failed is tried again later, not at every tick.
  if (sleeper.failedAt !== null && sleeper.now - sleeper.failedAt < RETRY_AFTER_MS) return null;
  const asked = sleeper.schedule === null ? null : decideBySchedule(sleeper.schedule, sleeper, sleeper.now);
  try {
    if (asked === 'wake') return await wake(options, sleeper);
    const idle = await judge(options.db, sleeper);
    if (asked === 'hibernate' && (sleeper.schedule?.evenIfBusy || idle?.kind === 'idle'))
      return await hibernate(options, sleeper, 'schedule', 'hibernated by its schedule');
    if (sleeper.rule !== null && idle?.kind === 'idle') {
      const minutes = Math.floor((sleeper.now - idle.since) / 60_000);
      return await hibernate(options, sleeper, 'idle', `it has been idle for ${minutes} minutes`);
    }
    return null;
  } catch (error) {
    if (!(error instanceof MusterError)) throw error;
    options.log.warn(
      { instance: sleeper.instanceId, code: error.code },
      `not ${asked ?? 'hibernated'}: ${error.detail}`,
    );
    return 'refused';
  }
}

/** By its rule; by its schedule alone, what is quiet at this moment may sleep. */
async function judge(db: Db, { attemptId, rule, schedule, status }: Sleeper): Promise<IdleVerdict | null> {
  if (status !== 'ready' || attemptId === null || (rule === null && schedule === null)) return null;
  return judgeIdle(await readIdleInput(db, attemptId, rule ?? { belowPercent: QUIET_PERCENT, forMs: 0 }));
}

const QUIET_PERCENT = 5;

async function hibernate(
  { db, queue }: CheckIdleOptions,
  sleeper: Sleeper,
  cause: HibernationCause,
  reason: string,
): Promise<'hibernated'> {
  const order = { orgId: null, instanceId: sleeper.instanceId, actor: SYSTEM, cause, reason };
  await inTransaction(db, (tx) => acceptHibernate(tx, queue, order));
  return 'hibernated';
}

async function wake({ db, queue }: CheckIdleOptions, sleeper: Sleeper): Promise<'woken'> {
  const order = { orgId: null, instanceId: sleeper.instanceId, actor: SYSTEM, cause: 'schedule' as const, hold: null };
  await inTransaction(db, (tx) => acceptWake(tx, queue, order));
  return 'woken';
}

/**
 * Every machine was proven gone before it slept. This looks once more, in one believed listing of each provider that it ever was at; what
 * carries a label of it is an orphan, which reconcile-fleet destroys.
 */
async function proveEmpty(options: CheckIdleOptions, signal: AbortSignal): Promise<number> {
  const sleeps = await listUnprovenSleeps(options.db, PROVE_EMPTY_AFTER_MS);
  const labels = new Map<ProviderName, Set<string | null> | null>();
  for (const provider of new Set(sleeps.flatMap((sleep) => sleep.providers))) {
    if (signal.aborted) return 0;
    labels.set(provider, await listLabels(options, provider, signal));
  }
  let proven = 0;
  for (const { id, instanceId, providers, labels: own } of sleeps) {
    const listed = providers.map((provider) => labels.get(provider) ?? null);
    if (listed.includes(null)) continue;
    const found = own.find((label) => listed.some((all) => all?.has(label)));
    if (found === undefined) {
      await markProvenEmpty(options.db, id);
      proven++;
    } else options.log.error({ instance: instanceId, label: found }, 'something of an instance that sleeps is listed');
  }
  return proven;
}

/** null: the provider is off, or its listing is not believed. */
async function listLabels(
  options: CheckIdleOptions,
  provider: ProviderName,
  signal: AbortSignal,
): Promise<Set<string | null> | null> {
  if (!options.providers.includes(provider)) return null;
  const listed = { ...options, provider, client: options.client(provider), lagMs: options.listLagMs(provider) };
  const listing = await listBelievably(listed, signal);
  return listing && new Set(listing.observed.map(({ label }) => label));
}
