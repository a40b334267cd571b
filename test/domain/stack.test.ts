import { describe, expect, it } from 'vitest';
import {
  describeDrift,
  describePriceDrift,
  driftAfterUp,
  mergeDrift,
  type Drift,
  type RecordedDrift,
} from '../../domain/stack.ts';

const changed = (name: string, ...properties: string[]): Drift => ({
  urn: name,
  name,
  type: 't',
  kind: 'changed',
  properties,
});
const recorded = (drift: Drift, isInState: boolean): RecordedDrift => ({ ...drift, isInState });

describe('what is known of drift', () => {
  it('is what the last look found, and what a refresh had taken into the state before', () => {
    const known = [recorded(changed('a', 'x'), true), recorded(changed('b', 'x'), false)];
    expect(mergeDrift(known, [changed('c', 'z')], false)).toEqual([
      recorded(changed('c', 'z'), false),
      recorded(changed('a', 'x'), true),
    ]);
    expect(mergeDrift(known, [], false)).toEqual([recorded(changed('a', 'x'), true)]);
  });

  it('of one resource is all that was ever changed of it', () => {
    const known = [recorded(changed('a', 'x'), true)];
    expect(mergeDrift(known, [changed('a', 'b')], true)).toEqual([recorded(changed('a', 'b', 'x'), true)]);
    const deleted: Drift = { ...changed('a'), kind: 'deleted' };
    expect(mergeDrift(known, [deleted], true)).toEqual([recorded(deleted, true)]);
  });

  it('is undone by an up as far as the state knows it, and all of it after a refresh', () => {
    const known = [recorded(changed('a', 'x'), true), recorded(changed('b', 'x'), false)];
    expect(driftAfterUp(known, false)).toEqual([recorded(changed('b', 'x'), false)]);
    expect(driftAfterUp(known, true)).toEqual([]);
  });

  it('is told with names, properties and what undoes it', () => {
    const deleted: Drift = { ...changed('b'), kind: 'deleted' };
    expect(describeDrift([recorded(changed('a', 'tags'), false), recorded(deleted, true)])).toBe(
      'a: tags changed; b was deleted: undone by an up after a refresh',
    );
    expect(describeDrift([recorded(deleted, true)])).toMatch(/the next up undoes it$/);
    const many = Array.from({ length: 12 }, (_, index) => recorded(changed(`r${index}`), false));
    expect(describeDrift(many)).toMatch(/r9 was changed; and 2 more: /);
  });
});

describe('a price that has moved', () => {
  it('is news from one percent on, either way', () => {
    expect(describePriceDrift(1_000_000n, 1_009_999n, null)).toBeNull();
    expect(describePriceDrift(1_000_000n, 1_010_000n, null)).toMatch(/\$1\.01 an hour .* \$1\.00 when/);
    expect(describePriceDrift(1_000_000n, 990_000n, null)).not.toBeNull();
    expect(describePriceDrift(0n, 0n, null)).toBeNull();
  });

  it('is news however little it moved where it crosses the ceiling', () => {
    expect(describePriceDrift(1_000_000n, 1_000_001n, 1_000_000n)).toMatch(/above its ceiling of \$1/);
    expect(describePriceDrift(1_000_000n, 999_999n, 1_000_000n)).toBeNull();
  });
});
