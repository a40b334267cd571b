/**
 * A test database: a copy of the migrated template, owned by one test file and dropped by it. A connection left open at the drop fails the test.
 */
import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { inject } from 'vitest';
import { acquireProcessLock } from '../../scripts/process-lock.mjs';

export interface TestDatabase {
  /** The owner's URL. */
  url: string;
  /** Throws when a connection to it stays open; the database is gone either way. */
  drop(): Promise<void>;
}

const DB_FOLDER = join(import.meta.dirname, '..', '..', 'db');
/** A server process outlives its closed connection by some milliseconds. */
const CLOSING_MS = 1_000;
const TEMPLATES_KEPT = 4;
let template: Promise<string> | null = null;

/** A new database with the schema of today, and no rows but what migrations put there. */
export async function createTestDatabase(): Promise<TestDatabase> {
  template ??= ensureTemplate();
  const source = await template;
  return createDatabase(`template ${source}`);
}

/** A new database without any table, for tests of the migrations themselves. */
export async function createEmptyTestDatabase(): Promise<TestDatabase> {
  return createDatabase('template template0');
}

async function createDatabase(clause: string): Promise<TestDatabase> {
  const name = `test_${process.pid}_${randomBytes(5).toString('hex')}`;
  await onServer((client) => client.query(`create database ${name} ${clause} strategy file_copy`));
  let dropped: Promise<void> | null = null;
  return { url: urlOf(name), drop: () => (dropped ??= dropDatabase(name)) };
}

async function dropDatabase(name: string): Promise<void> {
  await onServer(async (client) => {
    const until = performance.now() + CLOSING_MS;
    let open = await listConnections(client, name);
    while (open.length > 0 && performance.now() < until) open = await listConnections(client, name);
    await client.query(`drop database ${name} with (force)`);
    if (open.length > 0)
      throw new Error(`${open.length} connections were left open to the test database:\n${open.join('\n')}`);
  });
}

async function listConnections(client: pg.Client, database: string): Promise<string[]> {
  const { rows } = await client.query<{ connection: string }>(
    `select format('%s: %s (%s)', coalesce(nullif(application_name, ''), 'unnamed'), left(query, 120), state) as connection
     from pg_stat_activity, pg_sleep(0.02) where datname = $1 and backend_type = 'client backend'`,
    [database],
  );
  return rows.map((row) => row.connection);
}

/** The template's name carries a digest of db/, so a changed migration makes a new one and runs at once on different trees do not meet. */
async function ensureTemplate(): Promise<string> {
  const name = `template_${await digestOf(DB_FOLDER)}`;
  if (await isTemplate(name)) return name;
  const release = await acquireProcessLock(`test-template:${inject('testServerUrl')}:${name}`);
  try {
    if (await isTemplate(name)) return name;
    await onServer(async (client) => {
      await client.query(`drop database if exists ${name} with (force)`);
      await client.query(`create database ${name} template template0`);
    });
    const { migrateDatabase } = await import('../../db/migrate.ts');
    await migrateDatabase(urlOf(name));
    await onServer((client) => client.query(`alter database ${name} is_template true`));
    await dropOldTemplates();
    return name;
  } finally {
    await release();
  }
}

async function isTemplate(name: string): Promise<boolean> {
  const { rowCount } = await onServer((client) =>
    client.query('select 1 from pg_database where datname = $1 and datistemplate', [name]),
  );
  return rowCount === 1;
}

async function dropOldTemplates(): Promise<void> {
  await onServer(async (client) => {
    const { rows } = await client.query<{ datname: string }>(
      `select datname from pg_database where datname like 'template\\_%' order by oid desc offset $1`,
      [TEMPLATES_KEPT],
    );
    for (const { datname } of rows) {
      await client.query(`alter database ${datname} is_template false`);
      await client.query(`drop database if exists ${datname} with (force)`);
    }
  });
}

async function digestOf(folder: string): Promise<string> {
  const hash = createHash('sha256');
  const names = (await readdir(folder, { recursive: true })).filter((name) => /\.(ts|sql)$/.test(name)).sort();
  for (const name of names) hash.update(name).update(await readFile(join(folder, name)));
  return hash.digest('hex').slice(0, 16);
}

async function onServer<T>(act: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: inject('testServerUrl'), application_name: 'test support' });
  await client.connect();
  try {
    return await act(client);
  } finally {
    await client.end();
  }
}

function urlOf(database: string): string {
  const url = new URL(inject('testServerUrl'));
  url.pathname = `/${database}`;
  return url.href;
}
