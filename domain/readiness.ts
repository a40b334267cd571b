/**
 * Readiness: whether a bought machine is what was paid for and can be used. Ready means that the vendor says running, and SSH
 * lets our key in, and nvidia-smi shows the promised GPUs with the promised memory, and the agent, where there is one, has registered. What is not known is never held against a
 * machine: only its boot deadline is, and that is the planner's.
 */
import type { ErrorCode } from './error-table.ts';
import { hasPromisedMemory, isSameGpuModel } from './gpu-model.ts';
import type { Phase } from './instance.ts';
import type { ObservedInstance } from './observed-instance.ts';

/** One GPU as nvidia-smi reports it; null: the driver gave no usable value. */
export interface ReportedGpu {
  name: string | null;
  memoryMib: number | null;
}

/** What a try to reach the machine over SSH found. */
export interface SshProbe {
  /** Something spoke SSH at the address. */
  reached: boolean;
  /** Our key was accepted. */
  authenticated: boolean;
  /** null: nvidia-smi was not run or gave nothing readable. */
  gpus: ReportedGpu[] | null;
  /** What happened, for people. */
  detail: string | null;
}

/** The last look at a machine, kept for people: what SSH and nvidia-smi said and what followed. */
export interface AttemptCheck {
  /** RFC 3339. */
  at: string;
  /** null: SSH was not tried (no address yet). */
  ssh: SshProbe | null;
  verdict: 'not_yet' | 'ready' | 'failed';
  /** null: ready. */
  reason: string | null;
}

export interface PromisedGpus {
  gpu: string;
  gpuCount: number;
  /** Of one GPU; null: nothing was promised. */
  gpuMemoryGib: number | null;
}

export type Readiness =
  | { kind: 'not_yet'; phase: Phase; note: string }
  | { kind: 'ready' }
  | { kind: 'failed'; code: ErrorCode; reason: string };

/**
 * A vendor may show a new machine as stopped or failed before its host has reported for the first time; Vast.ai's own page waits
 * 30 s before it says that a start is not going to happen.
 */
export const FAILED_STATUS_GRACE_MS = 30_000;

/** Seen in captures of drivers 590 to 610 and in the tool's own help. */
const NOT_A_VALUE = new Set([
  '',
  'n/a',
  'not supported',
  'not found',
  'function not found',
  'unknown error',
  'insufficient permissions',
  'gpu is lost',
  'gpu requires reset',
  'requested functionality has been deprecated',
  'no data',
]);

export function judgeReadiness(input: {
  /** null: not in the listing. */
  observed: ObservedInstance | null;
  /** While the listing is not believed, nothing is concluded from it. */
  listingBelievable: boolean;
  /** null: not tried (no address yet). */
  ssh: SshProbe | null;
  promised: PromisedGpus;
  /** null: the machine carries no agent. */
  agent: { registeredAt: number | null } | null;
  attempt: { purchasedAt: number | null };
  now: number;
}): Readiness {
  const { observed, ssh } = input;
  if (!input.listingBelievable) return notYet('starting', "the provider's listing is not believed");
  // Lag of the listing, or a loss: reconcile tells them apart.
  if (observed === null) return notYet('starting', 'not in the listing yet');
  if (observed.status !== 'running') return judgeVendorStatus(observed, input.attempt.purchasedAt, input.now);
  if (ssh === null) return notYet('starting', 'running; no SSH address yet');
  const verdict = judgeProbe(ssh, input.promised);
  if (!ssh.authenticated) return verdict;
  const isAgentMissing = input.agent !== null && input.agent.registeredAt === null;
  if (!isAgentMissing || verdict.kind === 'failed') return verdict;
  const rest = verdict.kind === 'ready' ? 'SSH and GPUs are as promised' : verdict.note;
  return notYet('waiting_registration', `${rest}; the agent has not registered yet`);
}

/** What a look by SSH alone says of a machine that runs. */
export function judgeProbe(ssh: SshProbe, promised: PromisedGpus): Readiness {
  if (!ssh.reached) return notYet('starting', `running; SSH does not answer yet${withDetail(ssh.detail)}`);
  if (!ssh.authenticated)
    return notYet('installing', `SSH answers; our key is not accepted yet${withDetail(ssh.detail)}`);
  return judgeGpus(ssh, promised);
}

/**
 * Reads `nvidia-smi --query-gpu=name,memory.total --format=csv,noheader,nounits`. A value that is one of nvidia-smi's many ways to
 * say nothing is null, never 0. Output that is no such table (an error text, a warning between the rows, nothing at all) is
 * null as a whole.
 */
export function parseNvidiaSmiCsv(text: string): ReportedGpu[] | null {
  const lines = text.split(/\r?\n/).filter((line) => line.trim() !== '');
  if (lines.length === 0) return null;
  const gpus: ReportedGpu[] = [];
  for (const line of lines) {
    const comma = line.lastIndexOf(',');
    if (comma < 0) return null;
    const name = readCell(line.slice(0, comma));
    const memory = readCell(line.slice(comma + 1));
    const match = memory === null ? null : /^(\d{1,9}(?:\.\d+)?)(?:\s*MiB)?$/.exec(memory);
    if (memory !== null && match === null) return null;
    const memoryMib = match === null ? 0 : Number(match[1]);
    gpus.push({ name, memoryMib: memoryMib > 0 ? memoryMib : null });
  }
  return gpus;
}

function judgeVendorStatus(observed: ObservedInstance, purchasedAt: number | null, now: number): Readiness {
  const words = withDetail(observed.statusDetail);
  if (observed.status === 'starting') return notYet('starting', `the machine is starting${words}`);
  if (observed.status === 'unknown' || observed.status === 'running') {
    return notYet('starting', `the provider does not tell the machine's status${words}`);
  }
  if (purchasedAt === null || now - purchasedAt < FAILED_STATUS_GRACE_MS) {
    return notYet('starting', `the provider says ${observed.status}${words}`);
  }
  const outbid = observed.interrupted
    ? 'interrupted by the provider while it booted'
    : `the provider says ${observed.status}`;
  return { kind: 'failed', code: 'boot_failed', reason: `${outbid}${words}` };
}

function judgeGpus(ssh: SshProbe, promised: PromisedGpus): Readiness {
  const { gpus } = ssh;
  const readable = gpus?.flatMap(({ name, memoryMib }) =>
    name === null || memoryMib === null ? [] : [{ name, memoryMib }],
  );
  if (gpus === null || readable === undefined || gpus.length === 0 || readable.length < gpus.length) {
    return notYet('verifying', `SSH works; nvidia-smi gives nothing readable yet${withDetail(ssh.detail)}`);
  }
  if (readable.length !== promised.gpuCount) {
    return wrong(`${promised.gpuCount} × ${promised.gpu} promised, nvidia-smi shows ${readable.length} GPUs`);
  }
  for (const { name, memoryMib } of readable) {
    if (!isSameGpuModel(promised.gpu, name)) return wrong(`${promised.gpu} promised, nvidia-smi shows ${name}`);
    if (promised.gpuMemoryGib !== null && !hasPromisedMemory(promised.gpuMemoryGib, memoryMib)) {
      return wrong(`${promised.gpuMemoryGib} GiB per GPU promised, nvidia-smi shows ${memoryMib} MiB on ${name}`);
    }
  }
  return { kind: 'ready' };
}

/** nvidia-smi's tokens for "not a value" are null: bracketed or bare, in any case; an empty cell too. */
function readCell(text: string): string | null {
  const cell = text.trim();
  return NOT_A_VALUE.has(cell.replace(/^\[(.*)\]$/, '$1').toLowerCase()) ? null : cell;
}

function notYet(phase: Phase, note: string): Readiness {
  return { kind: 'not_yet', phase, note };
}

function wrong(reason: string): Readiness {
  return { kind: 'failed', code: 'wrong_hardware', reason: `not what was paid for: ${reason}` };
}

function withDetail(detail: string | null): string {
  return detail === null || detail === '' ? '' : ` (${detail})`;
}
