import { generateKeyPairSync } from 'node:crypto';
import ssh2 from 'ssh2';
import { describe, expect, it } from 'vitest';
import { explainBadSshKey } from '../../../api/contract/ssh-public-key.ts';

const { generateKeyPairSync: makeSsh } = ssh2.utils;
const ed25519 = makeSsh('ed25519').public;

describe('an SSH public key', () => {
  it.each([
    ['ed25519', ed25519],
    ['ed25519 with a comment and a line end', `${ed25519} me@here\n`],
    ['ecdsa of 256 bits', makeSsh('ecdsa', { bits: 256 }).public],
    ['ecdsa of 384 bits', makeSsh('ecdsa', { bits: 384 }).public],
    ['ecdsa of 521 bits', makeSsh('ecdsa', { bits: 521 }).public],
    ['rsa of 2048 bits', makeSsh('rsa', { bits: 2048 }).public],
  ])('is taken: %s', (_name, key) => {
    expect(explainBadSshKey(key)).toBeNull();
    expect(ssh2.utils.parseKey(key)).not.toBeInstanceOf(Error);
  });

  it('of rsa with too few bits is refused with both numbers', () => {
    expect(explainBadSshKey(makeSsh('rsa', { bits: 1024 }).public)).toBe(
      'is an RSA key of 1024 bits; at least 2048 are needed',
    );
  });

  it('is refused with any part of it missing or of another type', () => {
    const [type, blob] = ed25519.split(' ') as [string, string];
    for (let length = 0; length < blob.length - 2; length += 3) {
      expect(explainBadSshKey(`${type} ${blob.slice(0, length)}`), `${length}`).not.toBeNull();
    }
    for (const key of [
      '',
      'hello',
      type,
      blob,
      `ssh-rsa ${blob}`,
      `${type} ${blob}AAAA`,
      `${type}\n${blob}`,
      `command="x" ${ed25519}`,
    ]) {
      expect(explainBadSshKey(key), key).not.toBeNull();
    }
  });

  it('of a kind that we do not take is named with what we do', () => {
    const blob = Buffer.concat([
      Buffer.from([0, 0, 0, 7]),
      Buffer.from('ssh-dss'),
      Buffer.from([0, 0, 0, 1, 1]),
    ]).toString('base64');
    expect(explainBadSshKey(`ssh-dss ${blob}`)).toMatch(/ssh-dss.*allowed: ssh-ed25519/);
  });

  it('that is private is said to be so', () => {
    const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    expect(explainBadSshKey(pem)).toMatch(/private key/);
    expect(explainBadSshKey(makeSsh('ed25519').private)).toMatch(/private key/);
  });
});
