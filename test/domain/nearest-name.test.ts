import { describe, expect, it } from 'vitest';
import { nearestNames } from '../../domain/nearest-name.ts';

describe('the nearest names', () => {
  it('are those with the fewest edits, case ignored, at most so many', () => {
    const known = ['RTX 3090', 'RTX 4090', 'H100 SXM', 'A100 PCIE'];
    expect(nearestNames('rtx 4O90', known, 2)).toEqual(['RTX 4090', 'RTX 3090']);
    expect(nearestNames('h100', known, 1)).toEqual(['H100 SXM']);
    expect(nearestNames('x', [], 3)).toEqual([]);
  });

  it('begin with those of which it is a part', () => {
    expect(nearestNames('h100', ['H200', 'A100', 'H100 SXM', 'H100 PCIE'], 3)).toEqual([
      'H100 SXM',
      'H100 PCIE',
      'A100',
    ]);
  });
});
