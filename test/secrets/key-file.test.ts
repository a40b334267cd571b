import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEnvelope } from '../../secrets/envelope.ts';
import { ensureMasterKeys, KEY_FILE_NAME, openEnvelope, parseMasterKey } from '../../secrets/key-file.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'muster-key-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('the master key file', () => {
  it('is made once, with mode 600, and leaves nothing else behind', () => {
    const first = ensureMasterKeys(join(dir, 'data'));
    expect(first).toEqual([expect.objectContaining({ length: 32 })]);
    expect(ensureMasterKeys(join(dir, 'data'))).toEqual(first);
    expect(statSync(join(dir, 'data', KEY_FILE_NAME)).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(dir, 'data'))).toEqual([KEY_FILE_NAME]);
  });

  it('is tightened when others could read it', () => {
    writeFileSync(join(dir, KEY_FILE_NAME), Buffer.alloc(32, 7).toString('base64'), { mode: 0o644 });
    expect(ensureMasterKeys(dir)).toEqual([Buffer.alloc(32, 7)]);
    expect(statSync(join(dir, KEY_FILE_NAME)).mode & 0o777).toBe(0o600);
  });

  it('is never replaced when it is spoilt', () => {
    writeFileSync(join(dir, KEY_FILE_NAME), 'oops');
    expect(() => ensureMasterKeys(dir)).toThrow(/does not hold a master key/);
  });

  it('may hold several keys: the first seals, all open, and those of the configuration join them', () => {
    const [first, second, third] = [1, 2, 3].map((byte) => Buffer.alloc(32, byte).toString('base64')) as [
      string,
      string,
      string,
    ];
    const idOf = (text: string) => createEnvelope(Buffer.from(text, 'base64')).keyIds[0];
    writeFileSync(join(dir, KEY_FILE_NAME), `${first}\n\n${second}\n`);
    const access = { secretsKey: null, otherSecretsKeys: [{ reveal: () => third }, { reveal: () => first }] };
    expect(openEnvelope({ dataDir: dir, access }).keyIds).toEqual([first, second, third].map(idOf));
    const given = { secretsKey: { reveal: () => third }, otherSecretsKeys: [] };
    expect(openEnvelope({ dataDir: dir, access: given }).keyIds).toEqual([idOf(third)]);
    writeFileSync(join(dir, KEY_FILE_NAME), `${first}\n${second} # old\n`);
    expect(() => ensureMasterKeys(dir)).toThrow(/in each line/);
  });

  it('is 32 bytes in base64 and nothing else', () => {
    expect(parseMasterKey(`${Buffer.alloc(32, 1).toString('base64')}\n`)).toHaveLength(32);
    for (const text of ['', 'short', Buffer.alloc(31).toString('base64'), Buffer.alloc(33).toString('base64')]) {
      expect(parseMasterKey(text)).toBeNull();
    }
  });
});
