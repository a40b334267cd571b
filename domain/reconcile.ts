/**
 * Reconciling: comparing what is recorded with what one believable listing of one provider shows. It yields findings and what the
 * listing says of each attempt; it acts on nothing. It must not be asked about a listing that is not believed (listing.ts).
 *
 *   orphan     carries our signed label, no live row: unknown attempt, or one that is gone
 *   ghost      a live row whose machine is not listed; lost after two listings and a grace, and not while its agent reports
 *   stuck      in a transitional status past its deadline
 *   mismatch   another machine, GPU, count, image, price or label than was bought (mismatch.ts)
 *   duplicate  carries the label of an attempt whose recorded machine is listed too
 *
 * Foreign machines are counted and appear nowhere else.
 */
import type { AttemptStatus } from './attempt.ts';
import { describeDifferences } from './mismatch.ts';
import type { MicroUsd } from './money.ts';
import type { ObservedInstance } from './observed-instance.ts';
import type { ProviderName } from './provider.ts';

export const FINDING_CLASSES = ['orphan', 'ghost', 'stuck', 'mismatch', 'duplicate', 'standby_behind'] as const;
export type FindingClass = (typeof FINDING_CLASSES)[number];

/** An attempt as recorded. One that is not given counts as gone. */
export interface RecordedAttempt {
  attemptId: string;
  instanceId: string;
  label: string;
  status: AttemptStatus;
  providerInstanceId: string | null;
  machineId: string | null;
  gpu: string | null;
  gpuCount: number | null;
  priceMicroUsdPerHour: MicroUsd | null;
  /** The container image that was ordered; null: not known, or the vendor boots its own. */
  image: string | null;
  purchasedAt: number | null;
  bootDeadline: number | null;
  /** When it came into its status, or later. */
  statusSince: number;
  /** Of believable listings in a row without it; null and 0 where the last one showed it. */
  missingSince: number | null;
  missingCount: number;
  /** When an agent on it was last heard of; null: it carries none. */
  heardAt: number | null;
}

/** A finding is the same one as long as class, provider, providerInstanceId and attemptId are. */
export interface Finding {
  class: FindingClass;
  provider: ProviderName;
  providerInstanceId: string | null;
  attemptId: string | null;
  /** null where no live row has the attempt. */
  instanceId: string | null;
  label: string | null;
  /** A sentence for people. */
  detail: string;
  priceMicroUsdPerHour: MicroUsd | null;
  /** As listed; null where the finding is about a row. */
  machine: ObservedInstance | null;
  /** Believable listings in which it was seen, this one included. */
  sightings: number;
  firstSeenAt: number;
}

export type PreviousFinding = Pick<Finding, 'class' | 'providerInstanceId' | 'attemptId' | 'sightings' | 'firstSeenAt'>;

export type AttemptUpdate =
  | { kind: 'observed'; attemptId: string; observed: ObservedInstance }
  | { kind: 'missing'; attemptId: string; missingSince: number; missingCount: number }
  /** Missing for long enough: the attempt is lost. */
  | { kind: 'lost'; attemptId: string; detail: string };

export interface FleetInput {
  provider: ProviderName;
  /**
   * All attempts at this provider as they were before the listing was asked for, gone ones may be left out; with those of
   * `findUnrecorded` as they are after it.
   */
  recorded: readonly RecordedAttempt[];
  observed: readonly ObservedInstance[];
  readLabel: (label: string | null) => { owner: 'ours'; attemptId: string } | { owner: 'foreign' };
  /** How long a machine must be missing to be lost, and how long after its purchase it may not be listed yet. */
  graceMs: number;
  previousFindings: readonly PreviousFinding[];
  now: number;
}

export interface FleetDiff {
  findings: Finding[];
  updates: AttemptUpdate[];
  foreignCount: number;
}

/** Listings in a row without a machine before it can be lost, and with an orphan before it can be destroyed. */
export const MIN_SIGHTINGS = 2;
export const ORPHAN_GRACE_MS = 5 * 60_000;
/** An agent proves itself by its node's own key: whatever the listing says, the machine of one that was heard of so lately is there. */
const HEARD_MS = 60_000;

/** Statuses that something drives on; longer than this in one of them and a person should know. `bought` has its own deadline. */
const STUCK_AFTER_MS: Partial<Record<AttemptStatus, number>> = {
  reserved: 15 * 60_000,
  buying: 15 * 60_000,
  lost: 10 * 60_000,
  destroying: 10 * 60_000,
};
/** Where a bought attempt has no deadline of its own. */
const DEFAULT_BOOT_MS = 60 * 60_000;

export function diffFleet(input: FleetInput): FleetDiff {
  const { observed } = input;
  const recorded = input.recorded.filter((one) => one.status !== 'gone');
  // By the whole label: an adopted machine keeps the label of the attempt that bought it.
  const byLabel = new Map(recorded.map((one) => [one.label, one]));
  const byMachine = new Map(
    recorded.flatMap((one) => (one.providerInstanceId === null ? [] : [[one.providerInstanceId, one] as const])),
  );
  const listed = new Set(observed.map((one) => one.providerInstanceId));
  const findings: Finding[] = [];
  const updates: AttemptUpdate[] = [];
  const shown = new Set<string>();
  let foreignCount = 0;
  for (const machine of observed) {
    const label = input.readLabel(machine.label);
    const owner = byMachine.get(machine.providerInstanceId);
    if (owner !== undefined) {
      shown.add(owner.attemptId);
      updates.push({ kind: 'observed', attemptId: owner.attemptId, observed: machine });
      const differences = describeDifferences(owner, machine);
      if (differences.length > 0) findings.push(mismatch(input, owner, machine, differences));
      continue;
    }
    if (label.owner === 'foreign') {
      foreignCount += 1;
      continue;
    }
    findings.push(...judgeUnrecorded(input, machine, label.attemptId, byLabel.get(machine.label ?? ''), listed));
  }
  for (const attempt of recorded) {
    if (!shown.has(attempt.attemptId)) noteMissing(input, attempt, findings, updates);
    const stuck = describeStuck(attempt, input);
    if (stuck !== null) findings.push(ofAttempt(input, 'stuck', attempt, stuck));
  }
  return { findings, updates, foreignCount };
}

/**
 * Signed labels in the listing that `recorded` does not hold. Read their attempts again before judging: what was bought since the
 * rows were read has its row committed before its machine exists.
 */
export function findUnrecorded(
  input: Pick<FleetInput, 'observed' | 'readLabel'> & { recorded: readonly { label: string }[] },
): string[] {
  const known = new Set(input.recorded.map((one) => one.label));
  const named = input.observed.flatMap(({ label }) =>
    label !== null && !known.has(label) && input.readLabel(label).owner === 'ours' ? [label] : [],
  );
  return [...new Set(named)];
}

/**
 * Whether a machine that should not be there is to be destroyed now: an orphan or duplicate, seen in two believable listings,
 * past its grace, where the policy says so. For an ignored finding it is not asked.
 */
export function shouldDestroyOrphan(
  finding: Pick<Finding, 'class' | 'providerInstanceId' | 'sightings' | 'firstSeenAt'>,
  policy: 'destroy' | 'alert',
  now: number,
  graceMs = ORPHAN_GRACE_MS,
): boolean {
  if (policy !== 'destroy' || finding.providerInstanceId === null) return false;
  if (finding.class !== 'orphan' && finding.class !== 'duplicate') return false;
  return finding.sightings >= MIN_SIGHTINGS && now - finding.firstSeenAt >= graceMs;
}

/** A machine with our label that no attempt records as its own. */
function judgeUnrecorded(
  input: FleetInput,
  machine: ObservedInstance,
  attemptId: string,
  attempt: RecordedAttempt | undefined,
  listed: ReadonlySet<string>,
): Finding[] {
  if (attempt === undefined) {
    const detail = `machine ${machine.providerInstanceId} carries the label of ${attemptId}, which has no live row`;
    return [ofMachine(input, 'orphan', machine, attemptId, null, detail)];
  }
  // A purchase under way, or one whose answer was lost: whoever buys adopts it by its label. One that is being destroyed is
  // looked up by its label too.
  if (attempt.providerInstanceId === null || attempt.status === 'destroying') return [];
  const detail = `machine ${machine.providerInstanceId} carries the label of ${attemptId}, whose machine is ${attempt.providerInstanceId}`;
  // Where the recorded one is not listed, this may be the same machine under a new id: nothing to be destroyed for.
  const isSecond = listed.has(attempt.providerInstanceId);
  return [ofMachine(input, isSecond ? 'duplicate' : 'mismatch', machine, attemptId, attempt.instanceId, detail)];
}

function noteMissing(input: FleetInput, attempt: RecordedAttempt, findings: Finding[], updates: AttemptUpdate[]): void {
  if (attempt.status !== 'bought' && attempt.status !== 'ready') return;
  if (attempt.providerInstanceId === null) return;
  if (attempt.purchasedAt !== null && input.now - attempt.purchasedAt < input.graceMs) return;
  const missingSince = attempt.missingSince ?? input.now;
  const missingCount = attempt.missingCount + 1;
  const { attemptId, providerInstanceId } = attempt;
  const isHeard = attempt.heardAt !== null && input.now - attempt.heardAt < HEARD_MS;
  const times = missingCount === 1 ? '1 time' : `${missingCount} times`;
  const detail = `machine ${providerInstanceId} is not in the listing, ${times} in a row${isHeard ? ', and its agent reports' : ''}`;
  findings.push(ofAttempt(input, 'ghost', attempt, detail));
  updates.push({ kind: 'missing', attemptId, missingSince, missingCount });
  if (!isHeard && missingCount >= MIN_SIGHTINGS && input.now - missingSince >= input.graceMs) {
    updates.push({ kind: 'lost', attemptId, detail });
  }
}

function describeStuck(attempt: RecordedAttempt, input: FleetInput): string | null {
  const deadline =
    attempt.status === 'bought'
      ? (attempt.bootDeadline ?? (attempt.purchasedAt ?? attempt.statusSince) + DEFAULT_BOOT_MS) + input.graceMs
      : attempt.statusSince + (STUCK_AFTER_MS[attempt.status] ?? Infinity);
  if (input.now <= deadline) return null;
  const minutes = Math.round((input.now - attempt.statusSince) / 60_000);
  return `${attempt.status} for ${minutes} minutes`;
}

function mismatch(
  input: FleetInput,
  attempt: RecordedAttempt,
  machine: ObservedInstance,
  differences: string[],
): Finding {
  const detail = `machine ${machine.providerInstanceId} is not as bought: ${differences.join(', ')}`;
  return ofMachine(input, 'mismatch', machine, attempt.attemptId, attempt.instanceId, detail);
}

function ofMachine(
  input: FleetInput,
  kind: FindingClass,
  machine: ObservedInstance,
  attemptId: string,
  instanceId: string | null,
  detail: string,
): Finding {
  const { providerInstanceId, label, priceMicroUsdPerHour } = machine;
  const about = { class: kind, providerInstanceId, attemptId };
  return {
    ...about,
    provider: input.provider,
    instanceId,
    label,
    detail,
    priceMicroUsdPerHour,
    machine,
    ...sight(input, about),
  };
}

function ofAttempt(input: FleetInput, kind: FindingClass, attempt: RecordedAttempt, detail: string): Finding {
  const { providerInstanceId, attemptId, instanceId, label, priceMicroUsdPerHour } = attempt;
  const about = { class: kind, providerInstanceId, attemptId };
  return {
    ...about,
    provider: input.provider,
    instanceId,
    label,
    detail,
    priceMicroUsdPerHour,
    machine: null,
    ...sight(input, about),
  };
}

function sight(
  input: FleetInput,
  about: Pick<Finding, 'class' | 'providerInstanceId' | 'attemptId'>,
): Pick<Finding, 'sightings' | 'firstSeenAt'> {
  const previous = input.previousFindings.find(
    (one) =>
      one.class === about.class &&
      one.providerInstanceId === about.providerInstanceId &&
      one.attemptId === about.attemptId,
  );
  if (previous === undefined) return { sightings: 1, firstSeenAt: input.now };
  return { sightings: previous.sightings + 1, firstSeenAt: previous.firstSeenAt };
}
