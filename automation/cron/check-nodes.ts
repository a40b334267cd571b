/**
 * The check-nodes cron: nodes whose heartbeat is late, or whose provider said that they do not run, are looked at by the other sources at
 * once: one listing for each provider and tick, SSH in parallel. What that makes of them is domain/failure.ts's; one that is dead leads to
 * a failover where its instance has a policy for it. The cron itself fences, buys and destroys nothing.
 *
 * A machine that dies is found within 20 s at heartbeats of 10 s: its next heartbeat is late 11 s after the last one, a tick is at most 2 s
 * away, listing and SSH take at most LISTING_MS beside each other, and the word of the provider is the second source.
 */
import {
  isLate,
  isMassSilence,
  judgeFailure,
  lateAfterMs,
  type ProviderWord,
  type SshWord,
} from '../../domain/failure.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { acceptFailover } from '../../db/accept-failover.ts';
import { recordObservation } from '../../db/attempts.ts';
import { SYSTEM } from '../../db/audit.ts';
import { inTransaction } from '../../db/database.ts';
import {
  countWatched,
  forgetWatches,
  listLateTimes,
  listWatched,
  saveWatch,
  type WatchedNode,
} from '../../db/node-watches.ts';
import { rescheduleLost } from '../../db/place-pods.ts';
import { readListening } from '../../db/pulses.ts';
import { recordBelief, takeListing } from '../readiness/list-instances.ts';
import { probeSsh } from '../readiness/probe-ssh.ts';
import { readSshBanner } from '../readiness/read-ssh-banner.ts';
import { forEachProvider, type FleetCronOptions } from './each-provider.ts';
import type { Cron, TickCounts } from './scheduler.ts';

export interface CheckNodesOptions extends Omit<FleetCronOptions, 'everyMs'> {
  /** Between two heartbeats. */
  intervalMs: number;
  sshPrivateKey: string;
  /** Failovers that may begin by themselves within domain/failover.ts's STORM_WINDOW_MS, in the whole deployment. */
  stormLimit: number;
  /** Bound on a try of SSH. @default 2500 */
  probeMs?: number;
  /** @default 2000 */
  everyMs?: number;
}

const EVERY_MS = 2_000;
/** A listing that takes longer says nothing this time. */
const LISTING_MS = 4_000;
const PROBE_MS = 2_500;
/** Each is a handshake of some 20 ms of processor time. */
const MAX_PROBES = 16;
/** More at once are no failures of machines. */
const MAX_LOOKED_AT = 200;
/** After so long a suspicion is looked at less often, so that a crashed agent costs no listing every other second. */
const FRESH_MS = 90_000;
const STALE_EVERY_MS = 15_000;

export function createCheckNodesCron(options: CheckNodesOptions): Cron {
  const lateMs = lateAfterMs(options.intervalMs);
  return {
    name: 'check-nodes',
    everyMs: options.everyMs ?? EVERY_MS,
    hasWork: async () => {
      const { late, remembered, doubted } = await countWatched(options.db, lateMs);
      return late + remembered + doubted > 0;
    },
    run: (signal) => checkNodes(options, lateMs, signal),
  };
}

async function checkNodes(options: CheckNodesOptions, lateMs: number, signal: AbortSignal): Promise<TickCounts> {
  const { db } = options;
  const { now } = await readListening(db);
  const all = await listWatched(db, { lateAfterMs: lateMs, limit: MAX_LOOKED_AT });
  const nodes = all.filter((node) => isDue(node, options.intervalMs, now));
  const dead = (node: WatchedNode) => node.watch?.verdict === 'dead';
  const asked = nodes.filter((node) => !dead(node));
  const [words, ssh] = await Promise.all([askProviders(options, asked, signal), askSsh(options, asked, now, signal)]);
  const counts = { looked: nodes.length, suspect: 0, dead: 0, failovers: 0, held: 0 };
  if (signal.aborted) return counts;
  // Read again, with the time: a heartbeat may have come while the others were asked, and asking took a while.
  const [after, listening, { watched }, late] = await Promise.all([
    listWatched(db, { ids: nodes.map((node) => node.nodeId) }),
    readListening(db),
    countWatched(db, lateMs),
    listLateTimes(db, lateMs),
  ]);
  for (const node of after) {
    const judged = judgeFailure(node.watch, {
      heardAt: node.heardAt.getTime(),
      intervalMs: options.intervalMs,
      listeningSince: listening.since?.getTime() ?? null,
      provider: words.get(node.nodeId) ?? 'unknown',
      ssh: ssh.get(node.nodeId) ?? 'unknown',
      isMassSilence: isMassSilence(node.heardAt.getTime(), late, watched),
      now: listening.now.getTime(),
    });
    const { watch } = judged;
    // Of one that is dead already nobody was asked again: what it was called dead for stands.
    const reasons = dead(node) && watch.verdict === 'dead' ? node.reasons : judged.reasons;
    await saveWatch(db, node.nodeId, watch, reasons, listening.now);
    if (watch.verdict === 'suspect') counts.suspect++;
    if (watch.verdict !== 'dead') continue;
    counts.dead++;
    if (!dead(node)) await inTransaction(db, (tx) => rescheduleLost(tx, node.nodeId, reasons.join('; ')));
    const begun = await failOver(options, node, reasons);
    if (begun !== null) counts[begun]++;
  }
  await forgetWatches(db);
  return counts;
}

function isDue(node: WatchedNode, intervalMs: number, now: Date): boolean {
  const { watch, checkedAt, heardAt } = node;
  const hasNews = watch !== null && heardAt.getTime() > watch.heardAt;
  if (watch === null || checkedAt === null || hasNews) return true;
  const isQuiet = watch.verdict === 'alive' && !isLate({ heardAt: heardAt.getTime(), intervalMs }, now.getTime());
  if (!isQuiet && watch.verdict !== 'dead' && now.getTime() - watch.since < FRESH_MS) return true;
  return now.getTime() - checkedAt.getTime() >= STALE_EVERY_MS;
}

/** What their providers say of them, by node; one that is missing here has said nothing that can be believed. */
async function askProviders(
  options: CheckNodesOptions,
  nodes: WatchedNode[],
  signal: AbortSignal,
): Promise<Map<string, ProviderWord>> {
  const words = new Map<string, ProviderWord>();
  const byProvider = Map.groupBy(nodes, (node) => node.provider);
  const providers = options.providers.filter((provider) => byProvider.has(provider));
  await forEachProvider(
    providers,
    async (provider, bound) => {
      for (const [nodeId, word] of await askProvider(options, provider, byProvider.get(provider) ?? [], bound)) {
        words.set(nodeId, word);
      }
      return {};
    },
    { signal, log: options.log, maxMs: LISTING_MS },
  );
  return words;
}

async function askProvider(
  options: CheckNodesOptions,
  provider: ProviderName,
  nodes: WatchedNode[],
  signal: AbortSignal,
): Promise<Map<string, ProviderWord>> {
  const lagMs = options.listLagMs(provider);
  const listed = { ...options, provider, client: options.client(provider), lagMs };
  const words = new Map<string, ProviderWord>();
  const listing = await takeListing(listed, signal);
  if (!listing || signal.aborted) return words;
  const byId = new Map(listing.observed.map((instance) => [instance.providerInstanceId, instance]));
  for (const node of nodes) {
    const observed = byId.get(node.providerInstanceId ?? '');
    if (observed) {
      await recordObservation(options.db, node.attemptId as string, observed);
      // Taken away by a higher bid: check-interruptible knows what is to be done then.
      words.set(node.nodeId, observed.interrupted ? 'running' : observed.status);
    } else if (node.purchasedAt !== null && options.now().getTime() - node.purchasedAt.getTime() > 2 * lagMs) {
      // takeListing has asked the vendor for it by id, else the listing would not be believed.
      words.set(node.nodeId, 'gone');
    }
  }
  await recordBelief(listed, listing);
  return words;
}

async function askSsh(
  options: CheckNodesOptions,
  nodes: WatchedNode[],
  now: Date,
  signal: AbortSignal,
): Promise<Map<string, SshWord>> {
  const words = new Map<string, SshWord>();
  const pending = nodes.filter(
    (node) =>
      node.ssh !== null && isLate({ heardAt: node.heardAt.getTime(), intervalMs: options.intervalMs }, now.getTime()),
  );
  const askNext = async () => {
    for (let node = pending.shift(); node && !signal.aborted; node = pending.shift()) {
      words.set(node.nodeId, await trySsh(options, node.ssh as NonNullable<WatchedNode['ssh']>));
    }
  };
  await Promise.all(Array.from({ length: Math.min(MAX_PROBES, pending.length) }, askNext));
  return words;
}

async function trySsh(options: CheckNodesOptions, target: NonNullable<WatchedNode['ssh']>): Promise<SshWord> {
  const probeMs = options.probeMs ?? PROBE_MS;
  if (!target.isRented) return (await readSshBanner(target, probeMs)) ? 'answers' : 'silent';
  const probe = await probeSsh(target, options.sshPrivateKey, probeMs);
  return probe.authenticated ? 'authenticated' : probe.reached ? 'answers' : 'silent';
}

async function failOver(
  options: CheckNodesOptions,
  node: WatchedNode,
  reasons: string[],
): Promise<'failovers' | 'held' | null> {
  const { instanceId, attemptId } = node;
  if (instanceId === null || attemptId === null) return null;
  const outcome = await inTransaction(options.db, (tx) =>
    acceptFailover(tx, options.queue, {
      instanceId,
      attemptId,
      cause: 'detected',
      reasons,
      lostAt: node.heardAt,
      actor: SYSTEM,
      stormLimit: options.stormLimit,
    }),
  );
  if (outcome.kind === 'accepted') {
    options.log.warn(
      { instance: instanceId, node: node.nodeId, failover: outcome.failover.id, reasons },
      'a node is dead',
    );
    return 'failovers';
  }
  if (outcome.kind === 'hold')
    options.log.warn({ instance: instanceId, reason: outcome.reason }, 'a failover is held back');
  return outcome.kind === 'hold' ? 'held' : null;
}
