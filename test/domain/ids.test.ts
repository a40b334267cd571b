import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatId, ID_PREFIXES, isId, toBase32, type IdKind } from '../../domain/ids.ts';

const KINDS = Object.keys(ID_PREFIXES) as IdKind[];
const tenBytes = fc.uint8Array({ minLength: 10, maxLength: 10 });

describe('ids', () => {
  it('of every kind are recognised as that kind and no other', () => {
    fc.assert(
      fc.property(fc.constantFrom(...KINDS), tenBytes, (kind, random) => {
        const id = formatId(kind, random);
        expect(id).toMatch(/^[a-z]+_[a-z2-7]{16}$/);
        expect(KINDS.filter((one) => isId(one, id))).toEqual([kind]);
      }),
    );
  });

  it('differ where their random bytes differ', () => {
    fc.assert(
      fc.property(tenBytes, tenBytes, (a, b) => {
        expect(toBase32(a) === toBase32(b)).toBe(Buffer.from(a).equals(b));
      }),
    );
  });

  it('need exactly ten bytes', () => {
    expect(() => formatId('instance', new Uint8Array(9))).toThrow(RangeError);
    expect(() => formatId('instance', new Uint8Array(11))).toThrow(RangeError);
  });

  it.each([
    '',
    'ins_',
    'ins_short',
    'ins_ABCDEFGHIJKLMNOP',
    'ins_abcdefghijklmno1',
    'att_abcdefghijklmnop',
    'ins_abcdefghijklmnopq',
  ])('refuse %j as an instance id', (text) => expect(isId('instance', text)).toBe(false));

  it('follow RFC 4648', () => {
    expect(toBase32(new TextEncoder().encode('foobar'))).toBe('mzxw6ytboi');
  });
});
