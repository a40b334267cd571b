/**
 * The reap-silent cron: machines that switched themselves off, by their agent and by their provider (domain/reaping.ts), are handed to the
 * ordinary destroy of their instance. It asks providers only while some agent is silent for that long.
 */
import { judgeReaping } from '../../domain/reaping.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { recordObservation } from '../../db/attempts.ts';
import { SYSTEM } from '../../db/audit.ts';
import { inTransaction } from '../../db/database.ts';
import { listSilentMachines, type SilentMachineRow } from '../../db/silent-machines.ts';
import { recordBelief, takeListing } from '../readiness/list-instances.ts';
import { forEachProvider, type FleetCronOptions } from './each-provider.ts';
import type { Cron, TickCounts } from './scheduler.ts';

export interface ReapSilentOptions extends Omit<FleetCronOptions, 'everyMs'> {
  /** null: agents switch nothing off by themselves. */
  deadManMs: number | null;
  /** @default 30000 */
  everyMs?: number;
}

const EVERY_MS = 30_000;

export function createReapSilentCron(options: ReapSilentOptions): Cron {
  const { db, deadManMs } = options;
  return {
    name: 'reap-silent',
    everyMs: options.everyMs ?? EVERY_MS,
    hasWork: async () => (await listSilentMachines(db, { deadManMs, limit: 1 })).length > 0,
    run: (signal) =>
      forEachProvider(options.providers, (provider, bound) => reapProvider(options, provider, bound), {
        signal,
        log: options.log,
      }),
  };
}

async function reapProvider(
  options: ReapSilentOptions,
  provider: ProviderName,
  signal: AbortSignal,
): Promise<TickCounts> {
  const { db, deadManMs } = options;
  const silent = await listSilentMachines(db, { deadManMs, provider });
  if (silent.length === 0) return {};
  const listed = { ...options, provider, client: options.client(provider), lagMs: options.listLagMs(provider) };
  const listing = await takeListing(listed, signal);
  if (!listing) return { quarantined: 1 };
  const byId = new Map(listing.observed.map((instance) => [instance.providerInstanceId, instance]));
  let reaped = 0;
  for (const machine of silent) {
    const observed = byId.get(machine.provider_instance_id ?? '');
    if (!observed || signal.aborted) continue;
    await recordObservation(db, machine.id, observed);
    const reason = judgeReaping({
      heardAt: machine.heard_at.getTime(),
      poweringOffAt: machine.powering_off_at?.getTime() ?? null,
      deadManMs,
      observed: observed.status,
      isInterrupted: observed.interrupted || machine.interrupted_at !== null,
      now: options.now().getTime(),
    });
    if (reason !== null && (await reap(options, machine, reason))) reaped++;
  }
  if (!signal.aborted) await recordBelief(listed, listing);
  return { silent: silent.length, reaped };
}

/** Looks once more in the transaction: a heartbeat may have come while the provider was asked. */
function reap(
  { db, queue, deadManMs }: ReapSilentOptions,
  machine: SilentMachineRow,
  reason: string,
): Promise<boolean> {
  return inTransaction(db, async (tx) => {
    const still = await listSilentMachines(tx, { deadManMs, provider: machine.provider });
    if (!still.some(({ id }) => id === machine.id)) return false;
    await acceptDestroy(tx, queue, {
      orgId: null,
      instanceId: machine.instance_id,
      actor: SYSTEM,
      reason,
      failure: { code: 'powered_off', detail: reason },
    });
    return true;
  });
}
