/**
 * The master key's file: where the key lives when the configuration gives none. Losing it loses every sealed value. One key a line: the first
 * seals and all open, so that a key can be replaced (docs/runbooks/rotate-keys.md).
 */
import { randomBytes } from 'node:crypto';
import { chmodSync, linkSync, mkdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createEnvelope, MASTER_KEY_BYTES, type Envelope } from './envelope.ts';

export const KEY_FILE_NAME = 'secrets.key';

/** 32 bytes in base64; null for anything else. */
export function parseMasterKey(text: string): Buffer | null {
  const trimmed = text.trim();
  if (!/^[A-Za-z0-9+/]{43}=$/.test(trimmed)) return null;
  return Buffer.from(trimmed, 'base64');
}

type MasterKeys = [current: Buffer, ...others: Buffer[]];

/** As config.ts reads them. */
export interface KeySettings {
  dataDir: string;
  access: {
    /** 32 bytes in base64; null: the data directory's. */
    secretsKey: { reveal(): string } | null;
    /** They open too, and do not seal. */
    otherSecretsKeys: readonly { reveal(): string }[];
  };
}

/** The envelope of a process. Throws where a key is none. */
export function openEnvelope({ dataDir, access }: KeySettings): Envelope {
  const given = access.secretsKey?.reveal();
  const [current, ...others] = given === undefined ? ensureMasterKeys(dataDir) : [requireKey(given)];
  return createEnvelope(current, [...others, ...access.otherSecretsKeys.map((key) => requireKey(key.reveal()))]);
}

function requireKey(text: string): Buffer {
  const key = parseMasterKey(text);
  if (!key) throw new Error('a configured master key is not 32 bytes in base64');
  return key;
}

/**
 * The keys kept in `dataDir`, one made there (mode 600) when there is none. Processes that start at once get the same key: it is
 * written aside and linked into place, so nobody reads a half-written one. Throws where the file holds anything but keys: never replaced,
 * because what it sealed would be lost.
 */
export function ensureMasterKeys(dataDir: string): MasterKeys {
  const path = join(dataDir, KEY_FILE_NAME);
  const kept = readKeys(path);
  if (kept) return kept;
  mkdirSync(dataDir, { recursive: true });
  const aside = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  writeFileSync(aside, `${randomBytes(MASTER_KEY_BYTES).toString('base64')}\n`, {
    mode: 0o600,
    flag: 'wx',
    flush: true,
  });
  try {
    linkSync(aside, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    unlinkSync(aside);
  }
  const keys = readKeys(path);
  if (!keys) throw new Error(`the master key ${path} vanished while it was read`);
  return keys;
}

function readKeys(path: string): MasterKeys | null {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  const [current, ...others] = text
    .trim()
    .split(/\s*\n\s*/)
    .map(parseMasterKey);
  if (!current || !others.every((key) => key !== null))
    throw new Error(`${path} does not hold a master key (32 bytes in base64) in each line; restore it from a backup`);
  if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  return [current, ...others];
}
