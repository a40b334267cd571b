/**
 * The readiness watcher: while something boots, one listing per provider and tick for all that boot; what runs is probed over SSH.
 * It records what it finds, the winner included, and wakes who waits; what follows is the planner's and the destroy operation's. Each
 * provider is a cron of its own: one that answers slowly holds up its own next tick and nobody else's.
 */
import type { CrashPoint } from '../../domain/crash-points.ts';
import type { ObservedInstance } from '../../domain/observed-instance.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { judgeProbe, judgeReadiness, type PromisedGpus, type SshProbe } from '../../domain/readiness.ts';
import {
  findAgentRegistration,
  listBooting,
  recordCheck,
  recordObservation,
  type AttemptRow,
} from '../../db/attempts.ts';
import { reportBoot } from '../../db/instances.ts';
import type { FleetCronOptions } from '../cron/each-provider.ts';
import type { Cron, TickCounts } from '../cron/scheduler.ts';
import { recordBelief, takeListing } from './list-instances.ts';
import { recordFailed, recordReady } from './outcomes.ts';
import { probeSsh } from './probe-ssh.ts';

/** Probes at once: each is a handshake of some 20 ms of processor time. */
const MAX_PROBES = 16;
const PROBE_TIMEOUT_MS = 10_000;
/** What a look found a moment ago is not looked for again when only the agent was missing. */
const FRESH_LOOK_MS = 10_000;

export interface ReadinessOptions extends FleetCronOptions {
  sshPrivateKey: string;
  crashPoint?: CrashPoint;
}

export function readinessCronName(provider: string): string {
  return `watch-readiness-${provider}`;
}

/** One for each provider. */
export function createReadinessCrons(options: ReadinessOptions): Cron[] {
  return options.providers.map((provider) => ({
    name: readinessCronName(provider),
    everyMs: options.everyMs,
    hasWork: async () => (await listBooting(options.db, provider)).length > 0,
    run: (signal) => watchProvider(options, provider, signal),
  }));
}

async function watchProvider(
  options: ReadinessOptions,
  provider: ProviderName,
  signal: AbortSignal,
): Promise<TickCounts> {
  const booting = await listBooting(options.db, provider);
  const counts = { booting: booting.length, ready: 0, failed: 0, quarantined: 0 };
  if (booting.length === 0) return counts;
  const listed = { ...options, provider, client: options.client(provider), lagMs: options.listLagMs(provider) };
  const listing = await takeListing(listed, signal);
  if (!listing) {
    counts.quarantined++;
    return counts;
  }
  const byId = new Map(listing.observed.map((instance) => [instance.providerInstanceId, instance]));
  const pending = [...booting];
  const judge = async () => {
    for (let attempt = pending.shift(); attempt && !signal.aborted; attempt = pending.shift()) {
      const verdict = await judgeOne(options, attempt, byId.get(attempt.provider_instance_id ?? '') ?? null);
      if (verdict !== 'not_yet') counts[verdict]++;
    }
  };
  await Promise.all(Array.from({ length: Math.min(MAX_PROBES, pending.length) }, judge));
  // Only now: a planner that believes again gives up whatever is past its deadline and was not found ready.
  if (!signal.aborted) await recordBelief(listed, listing);
  return counts;
}

async function judgeOne(
  options: ReadinessOptions,
  attempt: AttemptRow,
  observed: ObservedInstance | null,
): Promise<'ready' | 'failed' | 'not_yet'> {
  const { db, queue } = options;
  if (observed) await recordObservation(db, attempt.id, observed);
  // The phase of its own that a look at a registered machine is, however short.
  if (attempt.agent_registered_at) await reportBoot(db, attempt.instance_id, { phase: 'verifying' });
  const ssh =
    observed?.status === 'running' && observed.ssh
      ? (freshLook(attempt, observed.ssh, options.now()) ?? (await probe(observed.ssh, options.sshPrivateKey)))
      : null;
  const now = options.now();
  const isCarrier = attempt.agent_sealed !== null;
  // Read anew: it may have registered while it was probed.
  const registeredAt = attempt.agent_registered_at ?? (isCarrier ? await findAgentRegistration(db, attempt.id) : null);
  const verdict = judgeReadiness({
    observed,
    listingBelievable: true,
    ssh,
    promised: promisedOf(attempt),
    agent: isCarrier ? { registeredAt: registeredAt?.getTime() ?? null } : null,
    attempt: { purchasedAt: attempt.purchased_at?.getTime() ?? null },
    now: now.getTime(),
  });
  await recordCheck(db, attempt.id, {
    at: now.toISOString(),
    ssh,
    verdict: verdict.kind,
    reason: verdict.kind === 'ready' ? null : verdict.kind === 'failed' ? verdict.reason : verdict.note,
  });
  switch (verdict.kind) {
    case 'ready': {
      const won = await recordReady(db, queue, attempt, now);
      if (won) options.crashPoint?.('instance_ready_applied');
      if (won && won.losers > 0) options.crashPoint?.('losers_marked');
      break;
    }
    case 'failed':
      await recordFailed(db, queue, attempt, { code: verdict.code, detail: verdict.reason }, now);
      break;
    case 'not_yet':
      await reportBoot(db, attempt.instance_id, { phase: verdict.phase, note: verdict.note });
  }
  return verdict.kind;
}

/** What is to be known of a machine that lacked nothing but its agent, which is there now. null: look now. */
function freshLook(attempt: AttemptRow, { host, port }: { host: string; port: number }, now: Date): SshProbe | null {
  const { last_check: last, agent_registered_at: registeredAt } = attempt;
  if (registeredAt === null || last?.verdict !== 'not_yet' || last.ssh === null) return null;
  const isSame = attempt.ssh_host === host && attempt.ssh_port === port;
  const ageMs = now.getTime() - Date.parse(last.at);
  if (!isSame || ageMs < 0 || ageMs >= FRESH_LOOK_MS) return null;
  return judgeProbe(last.ssh, promisedOf(attempt)).kind === 'ready' ? last.ssh : null;
}

function promisedOf(attempt: AttemptRow): PromisedGpus {
  return { gpu: attempt.gpu ?? '', gpuCount: attempt.gpu_count ?? 1, gpuMemoryGib: attempt.gpu_memory_gib };
}

function probe(target: { host: string; port: number; user: string }, privateKey: string): Promise<SshProbe> {
  return probeSsh(target, privateKey, PROBE_TIMEOUT_MS);
}
