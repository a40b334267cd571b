/** The master key as an operator replaces it: real processes, the real command, one database. */
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { inTransaction, openDatabase } from '../../db/database.ts';
import { holdMasterKeys } from '../../db/key-holders.ts';
import { resealEverything } from '../../db/reseal.ts';
import { createEnvelope, type Envelope } from '../../secrets/envelope.ts';
import { identityAt } from '../../secrets/sealed-place.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createMusterProcess, findFreePort, waitFor, type MusterProcess } from '../support/muster-process.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const [OLD, NEW] = [randomBytes(32), randomBytes(32)] as const;
const [OLD_ID, NEW_ID] = [createEnvelope(OLD).keyIds[0], createEnvelope(NEW).keyIds[0]];

let dir: string;
let testDatabase: TestDatabase;
let sandboxPort: number;
const started: MusterProcess[] = [];
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'muster-keys-'));
  testDatabase = await createTestDatabase();
  sandboxPort = await findFreePort(5);
});
afterEach(async () => {
  for (const muster of started.splice(0)) await muster.kill('SIGKILL');
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

interface KeysCommand {
  child: ChildProcess;
  /** A code of -1: a signal ended it. */
  ended: Promise<{ code: number; output: string }>;
}

async function runKeys(args: string[], key: Buffer, ...others: Buffer[]): Promise<{ code: number; output: string }> {
  return startKeys(args, key, ...others).ended;
}

function startKeys(args: string[], key: Buffer, ...others: Buffer[]): KeysCommand {
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
  const ended = new Promise<{ code: number; output: string }>((resolve) =>
    child.once('close', (exit) => resolve({ code: exit ?? -1, output })),
  );
  return { child, ended };
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

describe('a reseal that is killed in the middle', () => {
  const VALUES = 3_000;
  const KILLED_AT = 1_000;

  it('leaves each value as it was or sealed anew, the next run seals the rest, and the old key is needed no more', async () => {
    const [before, rotating, after] = [createEnvelope(OLD, [NEW]), createEnvelope(NEW, [OLD]), createEnvelope(NEW)];
    const { kysely: db, pool, close } = openDatabase({ url: testDatabase.url, applicationName: 'rotate-keys-test' });
    await (await holdMasterKeys(db, before)).release();
    await inTransaction(db, (tx) => tx.insertInto('sealed_secrets').values(sealValues(before)).execute());
    const readAll = () => db.selectFrom('sealed_secrets').selectAll().orderBy('name').execute();
    const countAnew = async () => {
      const query = `select count(*)::int as count from sealed_secrets where sealed like 'v1.${NEW_ID}.%'`;
      return (await pool.query<{ count: number }>(query)).rows[0]?.count ?? 0;
    };
    const expectOpen = async (envelope: Envelope) => {
      for (const { name, sealed } of await readAll())
        expect(envelope.open(sealed, identityAt('sealed_secrets.sealed', name))).toBe(`value of ${name}`);
    };

    // What somebody holds is left for later, so that the command cannot come to its end before the kill.
    const holder = await pool.connect();
    await holder.query('begin');
    await holder.query('select from sealed_secrets order by name desc limit 500 for update');
    const { child, ended } = startKeys(['reseal'], NEW, OLD);
    await waitFor(async () => (await countAnew()) >= KILLED_AT, 60_000, 'the middle', 1);
    child.kill('SIGKILL');
    expect((await ended).code).toBe(-1);
    await holder.query('rollback');
    holder.release();
    const done = await countAnew();
    expect(done).toBeGreaterThanOrEqual(KILLED_AT);
    expect(done).toBeLessThan(VALUES);
    expect(await readAll()).toHaveLength(VALUES);
    await expectOpen(before);
    await expectOpen(rotating);

    // As the command does, but for the quarter of a minute that it waits for values that are being written.
    const again = await holdMasterKeys(db, rotating);
    const report = await resealEverything(db, rotating, { settleMs: 0 });
    await again.release();
    expect(report).toEqual({ resealed: VALUES - done, broken: [], retired: [OLD_ID], inUse: [] });
    await expectOpen(after);
    const shown = await runKeys([], NEW);
    expect(shown.output).toMatch(new RegExp(`${NEW_ID}  seals, ${VALUES} values`));
    expect(shown.output).toMatch(new RegExp(`${OLD_ID}  not here, retired: nothing needs it`));
    expect(shown.code).toBe(0);
    await (await holdMasterKeys(db, after)).release();
    await close();
  });

  function sealValues(envelope: Envelope): { name: string; sealed: string }[] {
    return Array.from({ length: VALUES }, (_, index) => {
      const name = `s${String(index).padStart(5, '0')}`;
      return { name, sealed: envelope.seal(`value of ${name}`, identityAt('sealed_secrets.sealed', name)) };
    });
  }
});
