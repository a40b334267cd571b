/**
 * One embedded Postgres for every test run of this user: kept in memory or a temporary folder, adopted when another run (or the remains of a killed one) has it,
 * so that a start costs 70 ms and a kill -9 leaks nothing for good. Not durable: fsync is off.
 */
import { statfsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { homedir, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import pg from 'pg';
import type { EmbeddedPostgres } from '../../db/embedded-postgres.ts';
import { startEmbeddedPostgres } from '../../db/embedded-postgres.ts';
import { isProcessAlive } from '../../db/embedded-processes.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** The owner's URL of the shared server; tests take databases from createTestDatabase() and leave this one alone. */
    testServerUrl: string;
  }
}

/** A database is some 900 files, and most tests begin with one: in memory that takes 30 ms, on a disk up to 0.8 s. */
const MEMORY_DIR = '/dev/shm';
const MEMORY_NEEDED = 2 * 1024 ** 3;
const DATA_DIR = join(hasRoomInMemory() ? MEMORY_DIR : tmpdir(), `muster-tests-${userInfo().uid}`);

export default async function setUp(project: TestProject): Promise<() => Promise<void>> {
  const server = await start().catch(async () => {
    // Without fsync a power cut may have spoilt the cluster: nothing in it is worth keeping.
    await rm(DATA_DIR, { recursive: true, force: true });
    return start();
  });
  await dropAbandoned(server.url);
  project.provide('testServerUrl', server.url);
  return () => server.stop();
}

function start(): Promise<EmbeddedPostgres> {
  return startEmbeddedPostgres({
    dataDir: DATA_DIR,
    cacheDir: join(homedir(), '.cache', 'muster'),
    log: () => {},
    isDurable: false,
    maxConnections: 300,
  });
}

function hasRoomInMemory(): boolean {
  try {
    const { bavail, bsize } = statfsSync(MEMORY_DIR);
    return bavail * bsize >= MEMORY_NEEDED;
  } catch {
    return false; // not every system has it
  }
}

/** A killed test process cannot drop its databases; their names carry its pid. */
async function dropAbandoned(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query<{ datname: string }>(
      `select datname from pg_database where datname ~ '^test_[0-9]+_'`,
    );
    for (const { datname } of rows) {
      if (!isProcessAlive(Number(datname.split('_')[1])))
        await client.query(`drop database if exists ${datname} with (force)`);
    }
  } finally {
    await client.end();
  }
}
