import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cutCidr,
  describeOverlaps,
  formatCidr,
  isInside,
  isOverlapping,
  parseCidr,
  type Cidr,
} from '../../domain/cidr.ts';

const network = fc
  .record({ prefix: fc.integer({ min: 0, max: 32 }), bits: fc.integer({ min: 0, max: 2 ** 32 - 1 }) })
  .map(({ prefix, bits }): Cidr => ({ prefix, base: bits - (bits % 2 ** (32 - prefix)) }));

describe('networks', () => {
  it('are read as they are written', () => {
    fc.assert(
      fc.property(network, (cidr) => {
        expect(parseCidr(formatCidr(cidr))).toEqual(cidr);
      }),
    );
    for (const text of [
      '10.0.0.1/16',
      '256.0.0.0/8',
      '10.0.0.0',
      '10.0.0.0/33',
      'a.b.c.d/8',
      '10.0.0.0/-1',
      ' 10.0.0.0/8',
    ])
      expect(parseCidr(text)).toBeNull();
  });

  it('overlap when one has an address of the other', () => {
    fc.assert(
      fc.property(network, network, (a, b) => {
        const last = (cidr: Cidr) => cidr.base + 2 ** (32 - cidr.prefix) - 1;
        expect(isOverlapping(a, b)).toBe(Math.max(a.base, b.base) <= Math.min(last(a), last(b)));
        expect(isOverlapping(a, b)).toBe(isOverlapping(b, a));
      }),
    );
  });

  it('are cut into parts that are inside and apart', () => {
    const outer = parseCidr('10.60.0.0/16') as Cidr;
    const parts = [0, 1, 2, 3].map((index) => cutCidr(outer, 18, index));
    expect(parts.map(formatCidr)).toEqual(['10.60.0.0/18', '10.60.64.0/18', '10.60.128.0/18', '10.60.192.0/18']);
    expect(parts.every((part) => isInside(part, outer))).toBe(true);
    expect(() => cutCidr(outer, 18, 4)).toThrow(RangeError);
    expect(() => cutCidr(outer, 8, 0)).toThrow(RangeError);
  });

  it('that are connected may overlap each other, not ours', () => {
    const named = (name: string, cidr: string) => ({ name, cidr });
    expect(
      describeOverlaps([named('a', '10.0.0.0/16')], [named('b', '10.1.0.0/16'), named('c', '10.1.0.0/17')]),
    ).toEqual([]);
    expect(describeOverlaps([named('a', '10.0.0.0/16')], [named('b', '10.0.1.0/24')])).toHaveLength(1);
    expect(describeOverlaps([named('a', '10.0.0.0/16'), named('b', 'nonsense')])).toEqual([]);
  });
});
