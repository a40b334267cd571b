import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createEnvelope, SealError } from '../../secrets/envelope.ts';
import { openEnv, sealEnv } from '../../secrets/instance-env.ts';

const key = randomBytes(32);
const envelope = createEnvelope(key);

describe('envelope', () => {
  it('opens what it sealed, and never seals twice to the same text', () => {
    const sealed = envelope.seal('päss', 'row/1');
    expect(envelope.open(sealed, 'row/1')).toBe('päss');
    expect(envelope.seal('päss', 'row/1')).not.toBe(sealed);
    expect(sealed).not.toContain('päss');
    expect(envelope.open(envelope.seal('', 'row/1'), 'row/1')).toBe('');
  });

  it('refuses a value that was moved to another row', () => {
    expect(() => envelope.open(envelope.seal('a', 'row/1'), 'row/2')).toThrow(SealError);
  });

  it('refuses a value with any byte changed', () => {
    const parts = envelope.seal('secret', 'row/1').split('.');
    for (const part of [2, 3]) {
      const changed = [...parts];
      const bytes = Buffer.from(changed[part] as string, 'base64url');
      bytes[0] = (bytes[0] as number) ^ 1;
      changed[part] = bytes.toString('base64url');
      expect(() => envelope.open(changed.join('.'), 'row/1')).toThrow(SealError);
    }
  });

  it('refuses text that is no sealed value, without repeating it', () => {
    for (const text of [
      '',
      'plain',
      'v1.a.b.c',
      'v2.12345678.aaaaaaaaaaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
      'v1....',
    ]) {
      expect(() => envelope.open(text, 'row/1')).toThrow(SealError);
    }
  });

  it('opens with a previous key and seals with the current one', () => {
    const old = envelope.seal('a', 'row/1');
    const rotated = createEnvelope(randomBytes(32), [key]);
    expect(rotated.open(old, 'row/1')).toBe('a');
    expect(() => envelope.open(rotated.seal('a', 'row/1'), 'row/1')).toThrow(/not known here/);
  });

  it('takes only keys of 32 bytes', () => {
    expect(() => createEnvelope(randomBytes(16))).toThrow(RangeError);
  });

  it('binds an environment to its stack', () => {
    const sealed = sealEnv(envelope, 'stk_a', { TOKEN: 'x' });
    expect(openEnv(envelope, 'stk_a', sealed)).toEqual({ TOKEN: 'x' });
    expect(() => openEnv(envelope, 'stk_b', sealed)).toThrow(SealError);
    expect(sealEnv(envelope, 'stk_a', {})).toBeNull();
    expect(openEnv(envelope, 'stk_a', null)).toEqual({});
  });
});
