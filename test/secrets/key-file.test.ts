import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ensureMasterKey, KEY_FILE_NAME, parseMasterKey } from '../../secrets/key-file.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'muster-key-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('the master key file', () => {
  it('is made once, with mode 600, and leaves nothing else behind', () => {
    const first = ensureMasterKey(join(dir, 'data'));
    expect(first).toHaveLength(32);
    expect(ensureMasterKey(join(dir, 'data')).equals(first)).toBe(true);
    expect(statSync(join(dir, 'data', KEY_FILE_NAME)).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(dir, 'data'))).toEqual([KEY_FILE_NAME]);
  });

  it('is tightened when others could read it', () => {
    writeFileSync(join(dir, KEY_FILE_NAME), Buffer.alloc(32, 7).toString('base64'), { mode: 0o644 });
    expect(ensureMasterKey(dir).equals(Buffer.alloc(32, 7))).toBe(true);
    expect(statSync(join(dir, KEY_FILE_NAME)).mode & 0o777).toBe(0o600);
  });

  it('is never replaced when it is spoilt', () => {
    writeFileSync(join(dir, KEY_FILE_NAME), 'oops');
    expect(() => ensureMasterKey(dir)).toThrow(/does not hold a master key/);
  });

  it('is 32 bytes in base64 and nothing else', () => {
    expect(parseMasterKey(`${Buffer.alloc(32, 1).toString('base64')}\n`)).toHaveLength(32);
    for (const text of ['', 'short', Buffer.alloc(31).toString('base64'), Buffer.alloc(33).toString('base64')]) {
      expect(parseMasterKey(text)).toBeNull();
    }
  });
});
