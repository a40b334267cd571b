/** The master key's file: where the key lives when the configuration gives none. Losing it loses every sealed value. */
import { randomBytes } from 'node:crypto';
import { chmodSync, linkSync, mkdirSync, readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MASTER_KEY_BYTES } from './envelope.ts';

export const KEY_FILE_NAME = 'secrets.key';

/** 32 bytes in base64; null for anything else. */
export function parseMasterKey(text: string): Buffer | null {
  const trimmed = text.trim();
  if (!/^[A-Za-z0-9+/]{43}=$/.test(trimmed)) return null;
  return Buffer.from(trimmed, 'base64');
}

/**
 * The key kept in `dataDir`, made there (mode 600) when there is none. Processes that start at once get the same key: it is
 * written aside and linked into place, so nobody reads a half-written one. Throws where the file holds no key: never replaced,
 * because what it sealed would be lost.
 */
export function ensureMasterKey(dataDir: string): Buffer {
  const path = join(dataDir, KEY_FILE_NAME);
  const kept = readKey(path);
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
  const key = readKey(path);
  if (!key) throw new Error(`the master key ${path} vanished while it was read`);
  return key;
}

function readKey(path: string): Buffer | null {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  const key = parseMasterKey(text);
  if (!key) throw new Error(`${path} does not hold a master key (32 bytes in base64); restore it from a backup`);
  if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  return key;
}
