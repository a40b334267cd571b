/** The master key as an operator replaces it: real processes, the real command, one database. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEnvelope } from '../../secrets/envelope.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createMusterProcess, findFreePort, type MusterProcess } from '../support/muster-process.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const [OLD, NEW] = [randomBytes(32), randomBytes(32)] as const;
const [OLD_ID, NEW_ID] = [createEnvelope(OLD).keyIds[0], createEnvelope(NEW).keyIds[0]];

let dir: string;
let testDatabase: TestDatabase;
let sandboxPort: number;
const started: MusterProcess[] = [];
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'muster-keys-'));
  testDatabase = await createTestDatabase();
  sandboxPort = await findFreePort(5);
});
afterAll(async () => {
  for (const muster of started) await muster.kill('SIGKILL');
  await testDatabase?.drop();
  rmSync(dir, { recursive: true, force: true });
});

function environment(key: Buffer, others: Buffer[]): Record<string, string> {
  return {
    DATABASE_URL: testDatabase.url,
    MUSTER_SECRETS_KEY: key.toString('base64'),
    MUSTER_SECRETS_OTHER_KEYS: others.map((other) => other.toString('base64')).join(','),
  };
}

async function start(key: Buffer, ...others: Buffer[]): Promise<MusterProcess> {
  const env = { ...environment(key, others), MUSTER_ROLES: 'api' };
  const muster = await createMusterProcess({ dataDir: join(dir, 'data'), sandboxPort, env });
  started.push(muster);
  await muster.start();
  return muster;
}

async function runKeys(args: string[], key: Buffer, ...others: Buffer[]): Promise<{ code: number; output: string }> {
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: dir,
    MUSTER_DATA_DIR: join(dir, 'data'),
    ...environment(key, others),
  };
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', 'keys.ts', ...args], {
    cwd: PROJECT,
    env,
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data: Buffer) => (output += data.toString()));
  const code = await new Promise<number>((resolve) => child.once('close', (exit) => resolve(exit ?? -1)));
  return { code, output };
}

describe('a new master key', () => {
  it('comes in while Muster serves; the old one goes only when nobody seals with it; and a start without a needed one is refused', async () => {
    const muster = await start(OLD, NEW);
    const credential = { name: 'login', kind: 'registry', registry: 'ghcr.io', value: 'me:sesame' };
    expect((await muster.request('POST', '/api/v1/credentials', credential)).status).toBe(201);

    const resealed = await runKeys(['reseal'], NEW, OLD);
    expect(resealed.output).toMatch(/credentials\.sealed: 1 sealed anew/);
    expect(resealed.output).toMatch(new RegExp(`the key ${OLD_ID} must stay: \\S+ still seal with it`));
    expect(resealed.code).toBe(1);
    expect((await muster.request('GET', '/api/v1/credentials')).status).toBe(200);
    expect(resealed.output).not.toContain('sesame');

    await muster.kill('SIGTERM');
    await expect(start(OLD)).rejects.toThrow(
      new RegExp(`sealed with the master key ${NEW_ID}, which is not here; configured: ${OLD_ID}`),
    );
    const shown = await runKeys([], NEW, OLD);
    expect(shown.output).toMatch(new RegExp(`${NEW_ID}  seals, \\d+ values`));
    expect(shown.output).toMatch(new RegExp(`${OLD_ID}  opens, 0 values`));
    expect(shown.code).toBe(0);
  });
});
