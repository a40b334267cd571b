/**
 * The agent's life: register once, then a heartbeat every interval, and beside it the wait for what the node shall do, until it is told to
 * stop. It survives any outage of the control plane, and whatever goes wrong with the GPUs is something to report. A control plane that is
 * away for longer than the dead man's time has forgotten us: then the machine is switched off. Time, chance, disk and network are given,
 * so that tests are them.
 */
import type { GpuReading, HeartbeatBody, SystemFacts } from '../api/contract/nodes.ts';
import { backoffMs } from './backoff.ts';
import { CallError, type ControlPlane, type HeartbeatAnswer } from './control-plane.ts';
import type { DeadMan } from './dead-man.ts';
import type { Duties, Pods } from './duties.ts';
import { createGpuPeak } from './gpu/gpu-peak.ts';
import type { GpuReader } from './gpu/gpu-reader.ts';
import type { AgentKey, KeyStore } from './key-store.ts';
import { createLateSamples } from './late-samples.ts';
import type { Orders } from './orders.ts';
import { createReporter, type Reporter } from './reporter.ts';
import type { Updates } from './update.ts';

export interface AgentParts {
  controlPlane: ControlPlane;
  keys: KeyStore;
  gpus: GpuReader;
  /** Made with the word to say when something changed. */
  work: (changed: Reporter['changed']) => AgentWork;
  deadMan: DeadMan;
  updates: Updates;
  /** Throws where the machine cannot be switched off. */
  powerOff: () => Promise<void>;
  /** null: no token was given. */
  token: string | null;
  /** On a node of a cluster: its tokens as they are now. Throws where they cannot be read. null: on no such node. @default null */
  readClusterTokens?: (() => { token: string; proof: string }) | null;
  version: string;
  bootId: string;
  /** Above every sequence that an earlier process of this boot may have sent. */
  firstSequence: number;
  readSystem: () => SystemFacts;
  readActivity: () => HeartbeatBody['activity'];
  /** Milliseconds of a clock that only moves forward. */
  monotonicMs: () => number;
  /** Resolves early when `signal` is aborted. */
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  random: () => number;
  log: (message: string) => void;
}

export interface AgentWork {
  orders: Orders;
  /** null: no pods are run. */
  pods: Pods | null;
  duties: Duties;
}

/** A reading that takes longer is sent with the next heartbeat: a wedged driver must not silence the agent. */
const READING_PATIENCE_MS = 2_000;
const DESIRED_WAIT_MS = 25_000;
/** Where the wait for something new is not kept by whoever answers. */
const DESIRED_PAUSE_MS = 1_000;
const POWER_OFF_AGAIN_MS = 60_000;
/** Nobody has answered for long: the last word waits for no answer. */
const LAST_WORD_MS = 2_000;

const NOT_READ: GpuReading = {
  verdict: 'unknown',
  reason: 'the GPUs were not read yet',
  readAt: null,
  driverVersion: null,
  gpus: null,
};

/** What the two loops share. */
interface Link extends AgentWork {
  key: AgentKey;
  /** The control plane knows more than heartbeats; null: not known yet. */
  isCapable: boolean | null;
  watching: Promise<void> | null;
  /** Breaks off the wait for what is desired: a word was lost, there is something newer. */
  askAgain: () => void;
  /** Heartbeats in a row that told of something newer. */
  behind: number;
}

/** Resolves when `signal` is aborted or the agent was replaced. Throws where it can neither register nor find a key, or not keep one. */
export async function runAgent(parts: AgentParts, outside: AbortSignal): Promise<void> {
  const ending = new AbortController();
  const signal = AbortSignal.any([outside, ending.signal]);
  const key = parts.keys.read() ?? (await register(parts, signal));
  if (key === null) return;
  const reporter = createReporter(
    () => composeReports(link),
    async (body) => {
      try {
        link.orders.acknowledge((await parts.controlPlane.report(link.key.key, body)).acknowledgedOrders);
      } catch {
        // The next heartbeat has it.
      }
    },
  );
  const link: Link = {
    ...parts.work(reporter.changed),
    key,
    isCapable: null,
    watching: null,
    askAgain: () => {},
    behind: 0,
  };
  // At once: the first heartbeat waits for a reading of the GPUs, and a machine that is woken has files to restore.
  startWatching(parts, link, signal);
  try {
    await beat(parts, link, signal);
  } finally {
    ending.abort();
    reporter.stop();
    await link.watching;
  }
}

async function beat(parts: AgentParts, link: Link, signal: AbortSignal): Promise<void> {
  const { deadMan, updates } = parts;
  const readings = createReadings(parts);
  const late = createLateSamples(parts.monotonicMs);
  let sequence = parts.firstSequence;
  let failures = 0;
  let trouble: string | null = null;
  while (!signal.aborted) {
    // An agent that did not run for so long has not asked yet: perhaps it is answered.
    if (failures > 0 && deadMan.remainingMs() === 0) return switchOff(parts, link, signal);
    const startedAt = parts.monotonicMs();
    const body = composeHeartbeat(parts, link, await readings.latest(signal), sequence++);
    const told = link.isCapable === true ? late.next() : [];
    try {
      const sent = told.length > 0 ? { ...body, samples: told } : body;
      const reply = await parts.controlPlane.heartbeat(link.key.key, sent);
      if (trouble !== null) parts.log(`the control plane answers again after ${failures} tries`);
      failures = 0;
      trouble = null;
      late.drop(told.length);
      deadMan.sign();
      updates.confirm();
      takeAnswer(parts, link, reply, signal);
      if (await updates.consider(reply.agentSha256 ?? null, { isBusy: isBusy(link) })) return;
      await parts.sleep(Math.max(0, reply.intervalMs - (parts.monotonicMs() - startedAt)), signal);
    } catch (error) {
      const failure = asCallError(error);
      late.keep(body);
      if (failure.message !== trouble) parts.log(`the heartbeat failed: ${failure.message}`);
      trouble = failure.message;
      // Perhaps it is an older one by now.
      if (failure.isMisunderstood) link.isCapable = null;
      if (failure.isMisunderstood && updates.complain()) return;
      await parts.sleep(Math.min(delayOf(failure, failures++, parts), deadMan.remainingMs()), signal);
      // Its cluster vouches for it again: the node may have left and come back, or the key was replaced.
      if (failure.isRefused && parts.readClusterTokens && !signal.aborted)
        link.key = (await register(parts, signal)) ?? link.key;
    }
  }
}

function takeAnswer(parts: AgentParts, link: Link, reply: HeartbeatAnswer, signal: AbortSignal): void {
  if (reply.key !== undefined) link.key = adoptKey(parts, link.key, reply.key);
  link.isCapable = typeof reply.desiredRevision === 'number';
  if (!link.isCapable) return;
  // Never so short that a beat or two that are lost are the end.
  parts.deadMan.declare(reply.deadManMs === null ? null : Math.max(reply.deadManMs, 3 * reply.intervalMs));
  link.orders.acknowledge(reply.acknowledgedOrders);
  link.duties.fence(reply.isFenced);
  link.behind = reply.desiredRevision === link.duties.revision ? 0 : link.behind + 1;
  if (link.behind > 1) link.askAgain();
  startWatching(parts, link, signal);
}

function startWatching(parts: AgentParts, link: Link, signal: AbortSignal): void {
  link.watching ??= watch(parts, link, signal).finally(() => (link.watching = null));
}

/** Ends where the control plane turns out to be an older one. */
async function watch(parts: AgentParts, link: Link, signal: AbortSignal): Promise<void> {
  const { controlPlane, deadMan, monotonicMs } = parts;
  let failures = 0;
  while (!signal.aborted && link.isCapable !== false) {
    const startedAt = monotonicMs();
    const again = new AbortController();
    link.askAgain = () => again.abort();
    try {
      const after = link.duties.revision;
      const ask = { after, waitMs: DESIRED_WAIT_MS, signal: AbortSignal.any([signal, again.signal]) };
      const desired = await controlPlane.desired(link.key.key, ask);
      failures = 0;
      if (signal.aborted) return;
      deadMan.sign();
      link.duties.apply(desired);
      const isEarly = desired.revision === after && monotonicMs() - startedAt < DESIRED_PAUSE_MS;
      if (isEarly) await parts.sleep(DESIRED_PAUSE_MS, signal);
    } catch (error) {
      if (again.signal.aborted) continue;
      // Whatever was wrong with what we were told: heartbeats go on.
      const failure = error instanceof CallError ? error : new CallError(String(error));
      if (failures === 0) parts.log(`asking for what to do failed: ${failure.message}`);
      await parts.sleep(delayOf(failure, failures++, parts), signal);
    }
  }
}

/** Nobody will ever ask for this machine again: it works no more, and costs nothing where that is in our power. Until it is off, or we are told to stop. */
async function switchOff(parts: AgentParts, link: Link, signal: AbortSignal): Promise<void> {
  const reason = 'no sign of life from the control plane';
  parts.log(`${reason} for the declared time: this machine stops its pods and switches itself off`);
  await link.duties.abandon(reason);
  while (!signal.aborted) {
    const told = parts.controlPlane.report(link.key.key, { poweringOff: { reason } }).catch(() => {});
    await Promise.race([told, parts.sleep(LAST_WORD_MS, signal)]);
    await parts.powerOff().catch((error: unknown) => {
      parts.log(`the machine cannot be switched off: ${error instanceof Error ? error.message : String(error)}`);
    });
    await parts.sleep(POWER_OFF_AGAIN_MS, signal);
  }
}

/** Tries for ever: the control plane may be away at this moment. null: told to stop. */
async function register(parts: AgentParts, signal: AbortSignal): Promise<AgentKey | null> {
  if (parts.token === null && !parts.readClusterTokens)
    throw new Error('MUSTER_AGENT_TOKEN: is needed, because no key is kept yet');
  const nonce = parts.keys.readNonce();
  let trouble: string | null = null;
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      const { hostname } = parts.readSystem();
      const { token, proof } = readTokens(parts);
      const body = { nonce, agentVersion: parts.version, hostname, ...(proof && { kubernetesToken: proof }) };
      const reply = await parts.controlPlane.register(token, body);
      const key = { nodeId: reply.nodeId, key: reply.key };
      parts.keys.write(key);
      parts.log(`registered as ${key.nodeId}`);
      return key;
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      if (error.message !== trouble) parts.log(`the registration failed: ${error.message}`);
      trouble = error.message;
      await parts.sleep(delayOf(error, failures, parts), signal);
    }
  }
  return null;
}

function readTokens({ token, readClusterTokens }: AgentParts): { token: string; proof: string | null } {
  if (!readClusterTokens) return { token: token ?? '', proof: null };
  try {
    return readClusterTokens();
  } catch (error) {
    throw new CallError(
      `the tokens of the cluster cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`,
    );
  }
}

/** A key that cannot be kept is not used; the old one stays good until the new one is, and another is offered later. */
function adoptKey(parts: AgentParts, old: AgentKey, next: string): AgentKey {
  const key = { nodeId: old.nodeId, key: next };
  try {
    parts.keys.write(key);
    return key;
  } catch (error) {
    parts.log(`the new key could not be kept (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`);
    return old;
  }
}

type Reading = { gpu: GpuReading; gpuPeakPercent: number | null };

/** An older control plane is told what it knows. */
function composeHeartbeat(parts: AgentParts, link: Link, reading: Reading, sequence: number): HeartbeatBody {
  const { bootId, version: agentVersion } = parts;
  const system = parts.readSystem();
  if (link.isCapable !== true) {
    return { bootId, sequence, agentVersion, system: withoutNewFacts(system), gpu: withoutTrouble(reading.gpu) };
  }
  const orders = link.orders.reports();
  const pods = link.pods?.report();
  const activity = parts.readActivity();
  const { trouble } = parts.updates;
  return {
    bootId,
    sequence,
    agentVersion,
    system: trouble === null ? system : { ...system, agentUpdateTrouble: trouble },
    ...reading,
    ...(activity === undefined ? {} : { activity }),
    ...(link.duties.revision < 0 ? {} : { desiredRevision: link.duties.revision }),
    ...(orders.length === 0 ? {} : { orders }),
    ...(pods === undefined ? {} : { pods }),
  };
}

function withoutTrouble({ trouble: _trouble, ...old }: GpuReading): GpuReading {
  return old;
}

function withoutNewFacts(system: SystemFacts): SystemFacts {
  const {
    cpuPercent: _cpu,
    memoryUsedMib: _memory,
    disks: _disks,
    networkReceivedBytes: _received,
    networkSentBytes: _sent,
    networkReceivedBytesPerSecond: _receiving,
    networkSentBytesPerSecond: _sending,
    ...old
  } = system;
  return old;
}

function composeReports(link: Link) {
  if (link.isCapable !== true) return null;
  const orders = link.orders.reports();
  const pods = link.pods?.report();
  return orders.length === 0 && pods === undefined ? null : { orders, ...(pods === undefined ? {} : { pods }) };
}

function isBusy({ orders }: Link): boolean {
  return orders.reports().some(({ status }) => status === 'running');
}

/** One reading at a time; a heartbeat waits for it, but not long. */
function createReadings({ gpus, sleep, log, monotonicMs }: AgentParts) {
  const peak = createGpuPeak(monotonicMs);
  let last = NOT_READ;
  let underWay: Promise<void> | null = null;
  let verdict: string | null = null;
  async function read(): Promise<void> {
    last = await gpus.read();
    peak.add(last);
    if (last.verdict !== verdict) log(`GPUs: ${last.verdict}${last.reason === null ? '' : `: ${last.reason}`}`);
    verdict = last.verdict;
    underWay = null;
  }
  return {
    async latest(signal: AbortSignal): Promise<Reading> {
      underWay ??= read();
      const patience = new AbortController();
      await Promise.race([underWay, sleep(READING_PATIENCE_MS, AbortSignal.any([signal, patience.signal]))]);
      patience.abort();
      return { gpu: last, gpuPeakPercent: peak.percent() };
    },
  };
}

function delayOf(error: CallError, failures: number, { random }: AgentParts): number {
  return backoffMs(failures, random(), { isRefused: error.isRefused, askedMs: error.retryAfterMs });
}

function asCallError(error: unknown): CallError {
  if (error instanceof CallError) return error;
  throw error;
}
