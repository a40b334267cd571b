import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CIRCUIT_WINDOW_MS,
  circuitState,
  CLOSED_CIRCUIT,
  mayBuy,
  nextCircuit,
  PROBE_MS,
  type Circuit,
  type CircuitOutcome,
  type CircuitSource,
} from '../../domain/circuit.ts';
import { PROVIDER_ERROR_KINDS, type ProviderErrorKind } from '../../domain/provider-error.ts';

const T0 = 1_800_000_000_000;
const SECOND = 1_000;

/** Runs outcomes one second apart; what the rows would hold. */
function run(kinds: (ProviderErrorKind | null)[], source: CircuitSource = 'purchase', start: Circuit = CLOSED_CIRCUIT) {
  let circuit = start;
  const outcomes: CircuitOutcome[] = [];
  let now = T0;
  for (const errorKind of kinds) {
    now += SECOND;
    outcomes.push({ at: now, errorKind });
    circuit = nextCircuit(circuit, source, outcomes, now);
  }
  return { circuit, now, state: circuitState(circuit, now) };
}

const repeat = (kind: ProviderErrorKind | null, times: number) =>
  Array.from({ length: times }, (): ProviderErrorKind | null => kind);

describe('a closed purchase circuit', () => {
  it('opens at the fifth failure in a row, not before', () => {
    expect(run(repeat('unknown', 4)).state).toBe('closed');
    expect(run(repeat('unknown', 5))).toMatchObject({
      state: 'open',
      circuit: { reason: expect.stringMatching(/5 purchases/) as string },
    });
  });

  it('opens when half of ten failed', () => {
    expect(
      run(['unknown', null, 'retryable', null, 'unknown', null, null, 'unknown', null, 'unbelievable']).state,
    ).toBe('open');
    expect(run([null, 'unknown', null, null, 'retryable', null, null, 'unknown', null, null]).state).toBe('closed');
  });

  it.each(['auth', 'billing'] as const)('opens at the first %s: only a person can mend it', (kind) => {
    expect(run([null, null, kind]).state).toBe('open');
  });

  it('never opens for a refusal: the vendor answered', () => {
    expect(run(repeat('no_capacity', 50)).state).toBe('closed');
    expect(run([...repeat('unknown', 4), 'no_capacity', ...repeat('unknown', 4)]).state).toBe('closed');
  });

  it('does not count what is our own fault, a cancel, or being asked to slow down', () => {
    for (const kind of ['invalid', 'canceled', 'rate_limited'] as const)
      expect(run(repeat(kind, 50)).state).toBe('closed');
  });

  it('forgets failures after its window', () => {
    const outcomes = [...Array(5).keys()].map((minute) => ({
      at: T0 + minute * 4 * 60_000,
      errorKind: 'unknown' as const,
    }));
    let circuit = CLOSED_CIRCUIT;
    for (let index = 1; index <= 5; index++) {
      circuit = nextCircuit(circuit, 'purchase', outcomes.slice(0, index), outcomes[index - 1]?.at ?? 0);
    }
    expect(circuit).toBe(CLOSED_CIRCUIT);
  });
});

describe('an open circuit', () => {
  const opened = run(repeat('unknown', 5));
  const until = opened.circuit.openUntil ?? 0;

  it('lets nothing be bought until its time, then one purchase', () => {
    expect(mayBuy(opened.circuit, null, until - 1)).toBe(false);
    expect(circuitState(opened.circuit, until)).toBe('half_open');
    expect(mayBuy(opened.circuit, 'a1', until)).toBe(true);
    const probed = { ...opened.circuit, probeAttemptId: 'a1', probeAt: until };
    expect(mayBuy(probed, 'a2', until + 1)).toBe(false);
    expect(mayBuy(probed, null, until + 1)).toBe(false);
    expect(mayBuy(probed, 'a1', until + 1)).toBe(true);
    expect(mayBuy(probed, 'a2', until + PROBE_MS)).toBe(true);
  });

  it('is moved by no late answer of a purchase begun before', () => {
    expect(nextCircuit(opened.circuit, 'purchase', [{ at: until - 1, errorKind: null }], until - 1)).toBe(
      opened.circuit,
    );
  });

  it('closes when the probe goes well, and opens for longer when it fails', () => {
    const well = nextCircuit(opened.circuit, 'purchase', [{ at: until, errorKind: null }], until);
    expect(circuitState(well, until)).toBe('closed');
    const failed = nextCircuit(opened.circuit, 'purchase', [{ at: until, errorKind: 'auth' }], until);
    expect((failed.openUntil ?? 0) - until).toBe(2 * (until - opened.now));
    const neutral = nextCircuit(
      { ...opened.circuit, probeAttemptId: 'a1', probeAt: until },
      'purchase',
      [{ at: until, errorKind: 'invalid' }],
      until,
    );
    expect(neutral).toMatchObject({ probeAttemptId: null, openUntil: until });
  });

  it('once closed forgets what was before, and how often it opened after a whole good window', () => {
    const well = nextCircuit(opened.circuit, 'purchase', [{ at: until, errorKind: null }], until);
    const old = [...Array(4).keys()].map((index) => ({ at: until - 10 + index, errorKind: 'unknown' as const }));
    const one = [...old, { at: until + SECOND, errorKind: 'unknown' as const }];
    expect(nextCircuit(well, 'purchase', one, until + SECOND).openUntil).toBeNull();
    const later = until + CIRCUIT_WINDOW_MS + SECOND;
    expect(nextCircuit(well, 'purchase', [{ at: later, errorKind: null }], later)).toEqual(CLOSED_CIRCUIT);
  });
});

describe('a listing circuit', () => {
  it('stays closed while the listing fails and fails: that is the quarantine’s', () => {
    expect(run(repeat('unbelievable', 50), 'offers').state).toBe('closed');
    expect(run(repeat('auth', 50), 'offers').state).toBe('closed');
  });

  it('opens when listings come and go three times', () => {
    const flap: (ProviderErrorKind | null)[] = [null, 'retryable'];
    expect(run([...flap, ...flap], 'offers').state).toBe('closed');
    expect(run([...flap, ...flap, ...flap], 'offers').state).toBe('open');
  });
});

describe('any circuit', () => {
  it('opens for at most ten minutes, and a good call after that closes it', () => {
    const kind = fc.option(fc.constantFrom(...PROVIDER_ERROR_KINDS), { nil: null });
    fc.assert(
      fc.property(
        fc.array(kind, { maxLength: 80 }),
        fc.constantFrom('purchase' as const, 'offers' as const),
        (kinds, source) => {
          const { circuit, now } = run(kinds, source);
          if (circuit.openUntil === null) return;
          expect(circuit.openUntil - now).toBeLessThanOrEqual(10 * 60_000);
          expect(circuit.reason).not.toBeNull();
          const after = circuit.openUntil;
          expect(nextCircuit(circuit, source, [{ at: after, errorKind: null }], after).openUntil).toBeNull();
        },
      ),
    );
  });
});
