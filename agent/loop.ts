/**
 * The agent's life: register once, then a heartbeat every interval until it is told to stop. It survives any outage of the control plane,
 * and whatever goes wrong with the GPUs is something to report. Time, chance, disk and network are given, so that tests are them.
 */
import type { GpuReading, HeartbeatBody, SystemFacts } from '../api/contract/nodes.ts';
import { backoffMs } from './backoff.ts';
import { CallError, type ControlPlane } from './control-plane.ts';
import type { GpuReader } from './gpu/gpu-reader.ts';
import type { AgentKey, KeyStore } from './key-store.ts';

export interface AgentParts {
  controlPlane: ControlPlane;
  keys: KeyStore;
  gpus: GpuReader;
  /** null: no token was given. */
  token: string | null;
  /** On a node of a cluster: its tokens as they are now. Throws where they cannot be read. null: on no such node. @default null */
  readClusterTokens?: (() => { token: string; proof: string }) | null;
  version: string;
  bootId: string;
  /** Above every sequence that an earlier process of this boot may have sent. */
  firstSequence: number;
  readSystem: () => SystemFacts;
  /** Milliseconds of a clock that only moves forward. */
  monotonicMs: () => number;
  /** Resolves early when `signal` is aborted. */
  sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  random: () => number;
  log: (message: string) => void;
}

/** A reading that takes longer is sent with the next heartbeat: a wedged driver must not silence the agent. */
const READING_PATIENCE_MS = 2_000;

const NOT_READ: GpuReading = {
  verdict: 'unknown',
  reason: 'the GPUs were not read yet',
  readAt: null,
  driverVersion: null,
  gpus: null,
};

/** Resolves when `signal` is aborted. Throws where it can neither register nor find a key, or not keep one. */
export async function runAgent(parts: AgentParts, signal: AbortSignal): Promise<void> {
  let key = parts.keys.read() ?? (await register(parts, signal));
  if (key === null) return;
  const readings = createReadings(parts);
  let sequence = parts.firstSequence;
  let failures = 0;
  let trouble: string | null = null;
  while (!signal.aborted) {
    const startedAt = parts.monotonicMs();
    const body = composeHeartbeat(parts, await readings.latest(signal), sequence++);
    try {
      const reply = await parts.controlPlane.heartbeat(key.key, body);
      if (trouble !== null) parts.log(`the control plane answers again after ${failures} tries`);
      failures = 0;
      trouble = null;
      if (reply.key !== undefined) key = adoptKey(parts, key, reply.key);
      await parts.sleep(Math.max(0, reply.intervalMs - (parts.monotonicMs() - startedAt)), signal);
    } catch (error) {
      const failure = asCallError(error);
      if (failure.message !== trouble) parts.log(`the heartbeat failed: ${failure.message}`);
      trouble = failure.message;
      await parts.sleep(delayOf(failure, failures++, parts), signal);
      // Its cluster vouches for it again: the node may have left and come back, or the key was replaced.
      if (failure.isRefused && parts.readClusterTokens && !signal.aborted) key = (await register(parts, signal)) ?? key;
    }
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

function composeHeartbeat(parts: AgentParts, gpu: GpuReading, sequence: number): HeartbeatBody {
  return {
    bootId: parts.bootId,
    sequence,
    agentVersion: parts.version,
    system: parts.readSystem(),
    gpu,
  };
}

/** One reading at a time; a heartbeat waits for it, but not long. */
function createReadings({ gpus, sleep, log }: AgentParts) {
  let last = NOT_READ;
  let underWay: Promise<void> | null = null;
  let verdict: string | null = null;
  async function read(): Promise<void> {
    last = await gpus.read();
    if (last.verdict !== verdict) log(`GPUs: ${last.verdict}${last.reason === null ? '' : `: ${last.reason}`}`);
    verdict = last.verdict;
    underWay = null;
  }
  return {
    async latest(signal: AbortSignal): Promise<GpuReading> {
      underWay ??= read();
      const patience = new AbortController();
      await Promise.race([underWay, sleep(READING_PATIENCE_MS, AbortSignal.any([signal, patience.signal]))]);
      patience.abort();
      return last;
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
