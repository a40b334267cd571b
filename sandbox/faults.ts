/**
 * The faults a test or a person has switched on, for all simulated vendors.
 * This file decides which fault hits which call; what a fault looks like on the wire is the vendor server's matter.
 */
import { createRandom, type Random } from './random.ts';

/** Faults that hit one call of the vendor's API. */
export const CALL_FAULT_KINDS = [
  'refuse',
  'stale_offer',
  'rate_limit',
  'status',
  'html',
  'malformed',
  'empty',
  'shrink',
  'delay',
  'drop',
  'timeout',
  'lose_response',
  'execute_then_status',
  'execute_then_timeout',
] as const;
/** Faults that hit a machine, at its purchase or (with match.instanceId) at once. */
export const MACHINE_FAULT_KINDS = [
  'slow_boot',
  'failed_boot',
  'ssh_never_answers',
  'wrong_gpu',
  'host_loss',
  'host_return',
  'power_off',
  'outbid',
  'reclaim',
] as const;
export type CallFaultKind = (typeof CALL_FAULT_KINDS)[number];
export type MachineFaultKind = (typeof MACHINE_FAULT_KINDS)[number];

export interface FaultInput {
  provider: string;
  /** The vendor's endpoint by our name for it, `*` for every one, or `machine` for the machine faults. */
  endpoint: string;
  kind: CallFaultKind | MachineFaultKind;
  /** Share of the matching calls (or purchases) it hits; 1 when absent. */
  probability?: number | undefined;
  /** How often it hits before it is used up; without end when absent. */
  times?: number | undefined;
  /** For how long it lasts on the sandbox's clock; without end when absent. */
  forMs?: number | undefined;
  match?: FaultMatch | undefined;
  /** status, execute_then_status: the answer (default 503). */
  status?: number | undefined;
  /** status, execute_then_status, refuse: the answer's body. */
  body?: unknown;
  /** delay: how long, in real milliseconds (default 1000). host_loss, outbid, reclaim: after how long of running (default 0). */
  delayMs?: number | undefined;
  /** shrink: which share of the rows is kept (default 0.5). */
  keepShare?: number | undefined;
  /** slow_boot: how many times longer (default 10). */
  factor?: number | undefined;
  /** ssh_never_answers: accept and say nothing (`silent`, default) or refuse the connection (`refused`). */
  mode?: 'silent' | 'refused' | undefined;
  /** wrong_gpu: what nvidia-smi shows instead (default: one RTX 3060). */
  gpuName?: string | undefined;
  numGpus?: number | undefined;
}

export interface FaultMatch {
  label?: string | undefined;
  labelPrefix?: string | undefined;
  /** The vendor's id; a number and its text are the same. */
  instanceId?: number | string | undefined;
}

export interface Fault extends FaultInput {
  id: string;
  /** How often it has hit. */
  hits: number;
  /** When it ends by itself (epoch ms of the sandbox), or null. */
  untilMs: number | null;
}

/** What a call or a purchase is about, as far as the sandbox can tell. */
export interface FaultSubject {
  label?: string | undefined;
  instanceId?: number | string | undefined;
}

export interface FaultBook {
  add(input: FaultInput): Fault;
  list(): Fault[];
  remove(id: string): boolean;
  clear(): void;
  /** The faults that hit this call, in the order in which they were added; each counts as a hit. */
  take(provider: string, endpoint: string, subject: FaultSubject): Fault[];
}

/** `onChange` is called after every change that must survive a restart. */
export function createFaultBook(
  seed: number,
  now: () => number,
  restored: readonly Fault[],
  onChange: (faults: readonly Fault[]) => void,
): FaultBook {
  let faults: Fault[] = restored.map((fault) => ({ ...fault }));
  let nextNumber = 1 + Math.max(0, ...faults.map((fault) => Number(fault.id.slice('fault-'.length))));
  const randoms = new Map<string, Random>();

  function dropEnded(): void {
    const alive = faults.filter((fault) => fault.untilMs === null || fault.untilMs > now());
    if (alive.length === faults.length) return;
    faults = alive;
    onChange(faults);
  }

  function isHit(fault: Fault): boolean {
    if (fault.probability === undefined || fault.probability >= 1) return true;
    let random = randoms.get(fault.id);
    if (random === undefined) randoms.set(fault.id, (random = createRandom(seed, `fault ${fault.id} ${fault.hits}`)));
    return random.next() < fault.probability;
  }

  return {
    add(input) {
      const fault: Fault = {
        ...input,
        id: `fault-${nextNumber++}`,
        hits: 0,
        untilMs: input.forMs === undefined ? null : now() + input.forMs,
      };
      faults.push(fault);
      onChange(faults);
      return fault;
    },
    list() {
      dropEnded();
      return faults.map((fault) => ({ ...fault }));
    },
    remove(id) {
      const before = faults.length;
      faults = faults.filter((fault) => fault.id !== id);
      if (faults.length !== before) onChange(faults);
      return faults.length !== before;
    },
    clear() {
      faults = [];
      onChange(faults);
    },
    take(provider, endpoint, subject) {
      if (faults.length === 0) return [];
      dropEnded();
      const hit = faults.filter(
        (fault) => appliesTo(fault, provider, endpoint) && isAbout(fault.match, subject) && isHit(fault),
      );
      for (const fault of hit) fault.hits++;
      if (hit.some((fault) => fault.times !== undefined)) {
        faults = faults.filter((fault) => fault.times === undefined || fault.hits < fault.times);
        onChange(faults);
      }
      return hit;
    },
  };
}

export function isMachineFault(kind: string): kind is MachineFaultKind {
  return (MACHINE_FAULT_KINDS as readonly string[]).includes(kind);
}

function appliesTo(fault: Fault, provider: string, endpoint: string): boolean {
  if (fault.provider !== provider) return false;
  // `*` means every call of the API; a machine is no call.
  return fault.endpoint === endpoint || (fault.endpoint === '*' && endpoint !== 'machine');
}

function isAbout(match: FaultMatch | undefined, subject: FaultSubject): boolean {
  if (match === undefined) return true;
  if (match.label !== undefined && match.label !== subject.label) return false;
  if (match.labelPrefix !== undefined && !(subject.label ?? '').startsWith(match.labelPrefix)) return false;
  return match.instanceId === undefined || String(match.instanceId) === String(subject.instanceId);
}
