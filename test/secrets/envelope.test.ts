import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createEnvelope, SealError } from '../../secrets/envelope.ts';
import { openEnv, sealEnv } from '../../secrets/instance-env.ts';
import { identityAt } from '../../secrets/sealed-place.ts';

const HERE = identityAt('credentials.sealed', 'cred_a');
const ELSEWHERE = identityAt('credentials.sealed', 'cred_b');
const key = randomBytes(32);
const envelope = createEnvelope(key);

describe('envelope', () => {
  it('opens what it sealed, and never seals twice to the same text', () => {
    const sealed = envelope.seal('päss', HERE);
    expect(envelope.open(sealed, HERE)).toBe('päss');
    expect(envelope.seal('päss', HERE)).not.toBe(sealed);
    expect(sealed).not.toContain('päss');
    expect(envelope.open(envelope.seal('', HERE), HERE)).toBe('');
  });

  it('refuses a value that was moved to another row', () => {
    expect(() => envelope.open(envelope.seal('a', HERE), ELSEWHERE)).toThrow(SealError);
  });

  it('refuses a value with any byte changed', () => {
    const parts = envelope.seal('secret', HERE).split('.');
    for (const part of [2, 3]) {
      const changed = [...parts];
      const bytes = Buffer.from(changed[part] as string, 'base64url');
      bytes[0] = (bytes[0] as number) ^ 1;
      changed[part] = bytes.toString('base64url');
      expect(() => envelope.open(changed.join('.'), HERE)).toThrow(SealError);
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
      expect(() => envelope.open(text, HERE)).toThrow(SealError);
    }
  });

  it('opens with any of its keys and seals with the current one', () => {
    const old = envelope.seal('a', HERE);
    const rotated = createEnvelope(randomBytes(32), [key]);
    expect(rotated.keyIds).toEqual([rotated.seal('a', HERE).split('.')[1], envelope.keyIds[0]]);
    expect(rotated.open(old, HERE)).toBe('a');
    expect(() => envelope.open(rotated.seal('a', HERE), HERE)).toThrow(/not known here/);
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
