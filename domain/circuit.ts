/**
 * A circuit: whether a provider is still bought from, judged by what came of calls to it. It stops buying only: what is rented is
 * listed and destroyed whatever its state.
 *
 *   closed     buy → open (calls fail, or one failed in a way that only a person can mend)
 *   open       buy nothing until openUntil; longer each time it opens again → half_open
 *   half_open  one purchase at a time probes it → closed (it went well) | open
 *
 * A provider has three. `purchase` judges purchases. `offers` and `instances` judge only whether such listings come and go: a provider
 * whose listing is not believed now is in quarantine (listing.ts), which ends with the next one that is, but one that flaps would be
 * bought from in every good minute, with purchases whose lost answers cannot be looked up in the next bad one.
 */
import type { ProviderErrorKind } from './provider-error.ts';

export const CIRCUIT_SOURCES = ['purchase', 'offers', 'instances'] as const;
export type CircuitSource = (typeof CIRCUIT_SOURCES)[number];

export const CIRCUIT_STATES = ['closed', 'half_open', 'open'] as const;
export type CircuitState = (typeof CIRCUIT_STATES)[number];

export interface Circuit {
  /** How often it opened without a whole window of good calls in between. */
  opens: number;
  /** When it last opened or closed; null: never opened. */
  changedAt: number | null;
  /** null: closed. */
  openUntil: number | null;
  reason: string | null;
  /** What the call came to that opened it. */
  cause: ProviderErrorKind | null;
  /** The purchase that probes it. */
  probeAttemptId: string | null;
  probeAt: number | null;
}

/** What came of one call. */
export interface CircuitOutcome {
  at: number;
  /** null: it went well. */
  errorKind: ProviderErrorKind | null;
}

export const CLOSED_CIRCUIT: Circuit = {
  opens: 0,
  changedAt: null,
  openUntil: null,
  reason: null,
  cause: null,
  probeAttemptId: null,
  probeAt: null,
};

/** Outcomes older than this say nothing of the provider now. */
export const CIRCUIT_WINDOW_MS = 10 * 60_000;
/** Purchases that failed in a row, or half of at least so many: one lost answer is bad luck, five are an outage. */
export const MAX_FAILURES_IN_ROW = 5;
export const MIN_OUTCOMES = 10;
/** Good listings that were followed by a bad one. */
export const MAX_FLAPS = 3;
const OPEN_MS: Record<CircuitSource, { baseMs: number; capMs: number }> = {
  purchase: { baseMs: 60_000, capMs: 10 * 60_000 },
  offers: { baseMs: 60_000, capMs: 2 * 60_000 },
  instances: { baseMs: 60_000, capMs: 2 * 60_000 },
};
/** A probe whose end nobody told is over after this long. */
export const PROBE_MS = 5 * 60_000;

/**
 * `ok` the provider answered as it should, a definite refusal included · `failure` it did not · `hopeless` it will not until a
 * person acts, so one is enough · `neutral` says nothing of it.
 */
export function judgeOutcome(errorKind: ProviderErrorKind | null): 'ok' | 'failure' | 'hopeless' | 'neutral' {
  switch (errorKind) {
    case null:
    case 'no_capacity':
    case 'not_found':
      return 'ok';
    case 'retryable':
    case 'unknown':
    case 'unbelievable':
      return 'failure';
    case 'auth':
    case 'billing':
      return 'hopeless';
    case 'invalid':
    case 'rate_limited':
    case 'canceled':
      return 'neutral';
  }
}

export function circuitState(circuit: Circuit, now: number): CircuitState {
  if (circuit.openUntil === null) return 'closed';
  return now < circuit.openUntil ? 'open' : 'half_open';
}

/** Whether a purchase may be begun: for `attemptId`, or (null) for some new one. */
export function mayBuy(circuit: Circuit, attemptId: string | null, now: number): boolean {
  switch (circuitState(circuit, now)) {
    case 'closed':
      return true;
    case 'open':
      return false;
    case 'half_open':
      return circuit.probeAttemptId === null || circuit.probeAttemptId === attemptId || isProbeOver(circuit, now);
  }
}

/** Whether it is worth waiting for: not where only a person can mend what opened it. */
export function mayReopen(circuit: Pick<Circuit, 'cause'>): boolean {
  return judgeOutcome(circuit.cause) !== 'hopeless';
}

/**
 * The circuit after the last of `outcomes` (oldest first; only those of the window and since `changedAt` count). While it is open,
 * late answers of calls begun before change nothing.
 */
export function nextCircuit(
  circuit: Circuit,
  source: CircuitSource,
  outcomes: readonly CircuitOutcome[],
  now: number,
): Circuit {
  const last = outcomes.at(-1);
  if (last === undefined) return circuit;
  const verdict = judgeOutcome(last.errorKind);
  const recent = outcomes.filter(
    (one) => now - one.at <= CIRCUIT_WINDOW_MS && (circuit.changedAt === null || one.at > circuit.changedAt),
  );
  switch (circuitState(circuit, now)) {
    case 'open':
      return circuit;
    case 'half_open':
      if (verdict === 'neutral') return { ...circuit, probeAttemptId: null, probeAt: null };
      if (verdict === 'ok') return { ...CLOSED_CIRCUIT, opens: circuit.opens, changedAt: now };
      return open(circuit, source, { reason: `the probe failed too: ${last.errorKind}`, cause: last.errorKind }, now);
    case 'closed': {
      const reason = source === 'purchase' ? whyPurchasesFail(recent) : whyListingsFlap(recent);
      if (reason !== null) return open(circuit, source, { reason, cause: last.errorKind }, now);
      const isProven = verdict === 'ok' && (circuit.changedAt === null || now - circuit.changedAt > CIRCUIT_WINDOW_MS);
      return isProven && circuit.opens > 0 ? CLOSED_CIRCUIT : circuit;
    }
  }
}

function open(circuit: Circuit, source: CircuitSource, why: Pick<Circuit, 'reason' | 'cause'>, now: number): Circuit {
  const { baseMs, capMs } = OPEN_MS[source];
  const forMs = Math.min(capMs, baseMs * 2 ** Math.min(20, circuit.opens));
  return {
    opens: circuit.opens + 1,
    changedAt: now,
    openUntil: now + forMs,
    ...why,
    probeAttemptId: null,
    probeAt: null,
  };
}

function whyPurchasesFail(recent: readonly CircuitOutcome[]): string | null {
  const last = recent.at(-1);
  if (last !== undefined && judgeOutcome(last.errorKind) === 'hopeless') {
    return last.errorKind === 'billing' ? 'the account cannot pay' : 'our credentials are refused';
  }
  const verdicts = recent.map((one) => judgeOutcome(one.errorKind)).filter((verdict) => verdict !== 'neutral');
  const inRow = verdicts.length - 1 - verdicts.lastIndexOf('ok');
  if (inRow >= MAX_FAILURES_IN_ROW) return `${inRow} purchases failed in a row, the last: ${last?.errorKind}`;
  const failed = verdicts.filter((verdict) => verdict !== 'ok').length;
  if (verdicts.length >= MIN_OUTCOMES && failed * 2 >= verdicts.length) {
    return `${failed} of ${verdicts.length} purchases failed, the last: ${last?.errorKind}`;
  }
  return null;
}

function whyListingsFlap(recent: readonly CircuitOutcome[]): string | null {
  const verdicts = recent.map((one) => judgeOutcome(one.errorKind)).filter((verdict) => verdict !== 'neutral');
  const flaps = verdicts.filter((verdict, index) => verdict !== 'ok' && verdicts[index - 1] === 'ok').length;
  return flaps >= MAX_FLAPS ? `its listings come and go: ${flaps} times in ten minutes` : null;
}

function isProbeOver(circuit: Circuit, now: number): boolean {
  return circuit.probeAt === null || now - circuit.probeAt >= PROBE_MS;
}
