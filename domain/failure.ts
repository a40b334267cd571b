/**
 * Failure of a node: whether what is known of it says that it is dead. Three sources are asked, and each alone proves nothing: its
 * heartbeats (an agent may crash, our network may), its provider (whose listing lags and errs) and SSH (whose port may be closed). One
 * that speaks against it is a suspicion, with its reason; death needs two that agree, and none that saw it alive.
 *
 *   alive     it is heard of in time
 *   suspect   one source speaks against it, or two that may have failed for one reason that lies with us
 *   dead      its work is to go on elsewhere
 *
 * Silence counts only while the control plane listened. Heartbeats and SSH both come over the network between the node and us: while the
 * provider says that the machine runs, or many nodes fall silent at once, their silence together may be ours, and more is asked for.
 * All times are epoch milliseconds of one clock, the database's. What follows from death is failover.ts's.
 */
export const FAILURE_VERDICTS = ['alive', 'suspect', 'dead'] as const;
export type FailureVerdict = (typeof FAILURE_VERDICTS)[number];

/** `gone`: the provider, asked for it by id, said not-found. `unknown`: it has no provider, or that gave nothing to be believed in time. */
export type ProviderWord = 'running' | 'starting' | 'stopped' | 'failed' | 'gone' | 'unknown';

/**
 * `authenticated` our key was accepted: the machine lives · `answers` something speaks SSH there, which may be the vendor's proxy ·
 * `silent` nothing did · `unknown` not tried, or there is no address.
 */
export type SshWord = 'authenticated' | 'answers' | 'silent' | 'unknown';

export interface NodeEvidence {
  /** Of its last heartbeat, or its registration where there was none. */
  heardAt: number;
  intervalMs: number;
  /** Since when the control plane has listened without a break; null: it does not now, or it is not known. */
  listeningSince: number | null;
  provider: ProviderWord;
  /** The last try since the last heartbeat. */
  ssh: SshWord;
  /** Of many nodes at once: see isMassSilence. */
  isMassSilence: boolean;
  now: number;
}

/** What is remembered of a node between two looks. */
export interface NodeWatch {
  verdict: FailureVerdict;
  /** When the verdict became this one. */
  since: number;
  /** Its heartbeat was late at the last look. */
  isSilent: boolean;
  /** Failed tries of SSH in a row since the last heartbeat. */
  failedProbes: number;
  /** When it was heard of again after it had been silent, within FLAP_WINDOW_MS; oldest first. */
  recoveries: readonly number[];
  /** The last heartbeat that was looked at. */
  heardAt: number;
}

export interface NodeJudgement {
  watch: NodeWatch;
  /** Why it is not alive, for people; empty where it is. */
  reasons: string[];
}

/** One try may meet a full queue or a lost packet. */
export const MIN_FAILED_PROBES = 2;
/** An agent that could not reach us comes back within its longest backoff (agent/backoff.ts) and the call itself. */
export const RECONNECT_MS = 65_000;
/** Silence and SSH against the word of the provider that it runs: longer than the outages of a home connection that heal by themselves. */
export const CONTRADICTED_MS = 45_000;
/** It boots again by itself. */
export const STARTING_MS = 180_000;
/** A node that fell silent and came back within this time may do so again. */
export const FLAP_WINDOW_MS = 600_000;
const MAX_FLAP_FACTOR = 4;
/** The least lateness that is no jitter. */
const MIN_LATENESS_MS = 500;
/** Two silent nodes of a few are a coincidence that hardly happens. */
const MIN_MASS = 2;
/** Some heartbeats of jitter and of outages that begin slowly. */
const MASS_WINDOW_MS = 60_000;

/** A heartbeat that is not there by then is late: the other sources are asked. A tenth of the interval is jitter. */
export function lateAfterMs(intervalMs: number): number {
  return intervalMs + Math.max(MIN_LATENESS_MS, intervalMs / 10);
}

/** How long silence and SSH must last where the provider says nothing: an outage of half of it may cost two heartbeats. */
export function unconfirmedAfterMs(intervalMs: number): number {
  return 3 * intervalMs;
}

/** Whether the other sources are to be asked for. */
export function isLate(node: { heardAt: number; intervalMs: number }, now: number): boolean {
  return now - node.heardAt > lateAfterMs(node.intervalMs);
}

/**
 * Whether so many nodes fell silent at once that the reason is probably with us. Those that fell silent long before or after are no part of
 * it, and not among those that could be heard either.
 * @param heardAt of the node that is judged
 * @param late when each late node was heard of last, itself included
 * @param watched how many nodes there are, late ones included
 */
export function isMassSilence(heardAt: number, late: readonly number[], watched: number): boolean {
  const together = late.filter((at) => Math.abs(at - heardAt) <= MASS_WINDOW_MS).length;
  return together >= MIN_MASS && together * 2 >= watched - (late.length - together);
}

export function judgeFailure(previous: NodeWatch | null, evidence: NodeEvidence): NodeJudgement {
  const { now, heardAt } = evidence;
  const heardAgain = previous !== null && heardAt > previous.heardAt;
  const recoveries = [
    ...(previous?.recoveries ?? []),
    ...(heardAgain && previous.isSilent ? [Math.min(now, heardAt)] : []),
  ].filter((at) => at <= now && now - at <= FLAP_WINDOW_MS);
  const failedBefore = previous === null || heardAgain ? 0 : previous.failedProbes;
  const isHeard = !isLate(evidence, now);
  const failedProbes = isHeard
    ? 0
    : evidence.ssh === 'silent'
      ? failedBefore + 1
      : evidence.ssh === 'unknown'
        ? failedBefore
        : 0;
  const { verdict, reasons } = judge(evidence, failedProbes, recoveries.length);
  // Death is the end of a node's story: one that comes back is fenced, and its instance has gone on.
  const kept = previous?.verdict === 'dead' && !heardAgain ? 'dead' : verdict;
  const since = previous?.verdict === kept ? previous.since : now;
  return { watch: { verdict: kept, since, isSilent: !isHeard, failedProbes, recoveries, heardAt }, reasons };
}

interface Verdict {
  verdict: FailureVerdict;
  reasons: string[];
}

function judge(evidence: NodeEvidence, failedProbes: number, recoveries: number): Verdict {
  const { provider, ssh, now, heardAt } = evidence;
  const isDown = provider === 'stopped' || provider === 'failed' || provider === 'gone';
  const said =
    provider === 'gone' ? 'the provider says that there is no such machine' : `the provider says ${provider}`;
  if (!isLate(evidence, now)) {
    if (!isDown) return { verdict: 'alive', reasons: [] };
    return { verdict: 'suspect', reasons: [`${said}, and its agent reports`] };
  }
  const silentMs = countedSilence(evidence);
  const isSilent = silentMs !== null && silentMs > lateAfterMs(evidence.intervalMs);
  const isCutOff = failedProbes >= MIN_FAILED_PROBES;
  const reasons = [describeSilence(evidence, silentMs, now - heardAt)];
  if (isDown) reasons.push(said);
  if (failedProbes > 0) reasons.push(`SSH does not answer (${failedProbes} ${failedProbes === 1 ? 'try' : 'tries'})`);
  if (ssh === 'authenticated')
    return { verdict: 'suspect', reasons: [...reasons, 'SSH lets us in: the machine lives'] };
  if (isDown) return { verdict: isSilent || isCutOff ? 'dead' : 'suspect', reasons };
  if (!isSilent || !isCutOff) return { verdict: 'suspect', reasons };
  if (evidence.isMassSilence) {
    const why = 'many nodes fell silent at once, which is probably our network: it takes the word of the provider';
    return { verdict: 'suspect', reasons: [...reasons, why] };
  }
  const neededMs = neededSilence(evidence, recoveries);
  if (silentMs >= neededMs) return { verdict: 'dead', reasons };
  const patience = `${whyPatient(provider, recoveries)}: it has until ${seconds(neededMs)} of silence`;
  return { verdict: 'suspect', reasons: [...reasons, patience] };
}

/**
 * Only what passed while we listened; where nothing was heard since we began to, an agent may still be waiting to try again. null: we do
 * not listen, so that nothing is known.
 */
function countedSilence({ heardAt, listeningSince, now }: NodeEvidence): number | null {
  if (listeningSince === null || listeningSince > now) return null;
  const from = heardAt >= listeningSince ? heardAt : listeningSince + RECONNECT_MS;
  return Math.max(0, now - from);
}

function neededSilence({ provider, intervalMs }: NodeEvidence, recoveries: number): number {
  const factor = Math.min(MAX_FLAP_FACTOR, 1 + recoveries);
  const leastMs = unconfirmedAfterMs(intervalMs);
  if (provider === 'starting') return Math.max(STARTING_MS, leastMs * factor);
  if (provider === 'running') return Math.max(CONTRADICTED_MS, 1.5 * leastMs) * factor;
  return leastMs * factor;
}

function whyPatient(provider: ProviderWord, recoveries: number): string {
  if (provider === 'running') return 'the provider says running';
  if (provider === 'starting') return 'the provider says that it starts';
  const silent = 'the provider says nothing';
  return recoveries > 0
    ? `${silent}, and it came back ${recoveries === 1 ? 'once' : `${recoveries} times`} lately`
    : silent;
}

function describeSilence(evidence: NodeEvidence, countedMs: number | null, silentMs: number): string {
  const text = `no heartbeat for ${seconds(silentMs)}`;
  if (evidence.listeningSince === null) return `${text}, while we did not listen`;
  if (evidence.heardAt < evidence.listeningSince) {
    return `${text}, of which ${seconds(countedMs ?? 0)} count: we have listened for ${seconds(evidence.now - evidence.listeningSince)}`;
  }
  return text;
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}
