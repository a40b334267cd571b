import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fadeConfidence, isStale, STALE_AFTER_MS } from '../../domain/offer-freshness.ts';

describe('the confidence of an offer', () => {
  it('is that of its listing until it is stale, and halves each ten minutes from then', () => {
    expect(fadeConfidence(0.9, 0)).toBe(0.9);
    expect(fadeConfidence(0.9, STALE_AFTER_MS)).toBe(0.9);
    expect(isStale(STALE_AFTER_MS)).toBe(false);
    expect(isStale(STALE_AFTER_MS + 1)).toBe(true);
    expect(fadeConfidence(0.9, STALE_AFTER_MS + 600_000)).toBe(0.45);
    expect(fadeConfidence(0.8, STALE_AFTER_MS + 1_200_000)).toBe(0.2);
  });

  it('never grows with age and stays between 0 and what was listed', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.nat(10_000_000),
        fc.nat(10_000_000),
        (listed, a, b) => {
          const [young, old] = [Math.min(a, b), Math.max(a, b)];
          expect(fadeConfidence(listed, old)).toBeLessThanOrEqual(fadeConfidence(listed, young));
          expect(fadeConfidence(listed, old)).toBeGreaterThanOrEqual(0);
          expect(fadeConfidence(listed, young)).toBeLessThanOrEqual(Math.round(listed * 1000) / 1000);
        },
      ),
    );
  });
});
