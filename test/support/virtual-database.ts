/**
 * A database on a virtual clock: `now()` and `clock_timestamp()` in everything that is ours, defaults and the queue included, come from a
 * schema found before pg_catalog, and run as far ahead of the real clock as the test says. A week passes in one statement.
 */
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { migrateDatabase } from '../../db/migrate.ts';

export interface VirtualDatabase {
  url: string;
  /** The clock of processes, in step with the database's. */
  now(): Date;
  advance(ms: number): Promise<void>;
  drop(): Promise<void>;
}

export interface VirtualServer {
  /**
   * A copy of the migrated template. @param pace how fast its clock runs while nobody advances it; below 1 what a busy machine takes longer
   * for does not become hours of the test. @default 1
   */
  create(pace?: number): Promise<VirtualDatabase>;
  close(): Promise<void>;
}

/** Public first, because what migrations make goes into the first schema of the path. */
const SEARCH_PATH = 'public, virtual, pg_catalog';
const CLOCK = [
  `create schema virtual`,
  `create table virtual.clock (ahead interval not null, since timestamptz not null, pace float8 not null)`,
  `insert into virtual.clock values (interval '0', pg_catalog.now(), 1)`,
  `create function virtual.now() returns timestamptz language sql stable
     as 'select since + (pg_catalog.now() - since) * pace + ahead from virtual.clock'`,
  `create function virtual.clock_timestamp() returns timestamptz language sql volatile
     as 'select since + (pg_catalog.clock_timestamp() - since) * pace + ahead from virtual.clock'`,
  `grant usage on schema virtual to public`,
  `grant select on virtual.clock to public`,
];

/** @param serverUrl a login that may create databases */
export async function openVirtualServer(serverUrl: string): Promise<VirtualServer> {
  const prefix = `test_${process.pid}_world`;
  const template = `${prefix}_template_${randomBytes(3).toString('hex')}`;
  const urlOf = (name: string): string => Object.assign(new URL(serverUrl), { pathname: `/${name}` }).href;
  const server = new pg.Pool({ connectionString: serverUrl, max: 1, application_name: 'world' });
  server.on('error', () => undefined);
  await server.query(`create database ${template} template template0 strategy file_copy`);
  await server.query(`alter database ${template} set search_path = ${SEARCH_PATH}`);
  const setUp = new pg.Client({ connectionString: urlOf(template) });
  await setUp.connect();
  for (const statement of CLOCK) await setUp.query(statement);
  await setUp.end();
  await migrateDatabase(urlOf(template));
  return {
    async create(pace = 1) {
      const name = `${prefix}_${randomBytes(4).toString('hex')}`;
      await server.query(`create database ${name} template ${template} strategy file_copy`);
      await server.query(`alter database ${name} set search_path = ${SEARCH_PATH}`);
      const owner = new pg.Pool({ connectionString: urlOf(name), max: 1, application_name: 'world clock' });
      owner.on('error', () => undefined); // its end does not wait for the connection's, which a forced drop may cut
      let aheadMs = 0;
      const since = Date.now();
      await owner.query(`update virtual.clock set since = to_timestamp($1), pace = $2`, [since / 1_000, pace]);
      return {
        url: urlOf(name),
        now: () => new Date(since + (Date.now() - since) * pace + aheadMs),
        async advance(ms) {
          aheadMs += ms;
          await owner.query(`update virtual.clock set ahead = $1 * interval '1 millisecond'`, [aheadMs]);
        },
        async drop() {
          await owner.end();
          await server.query(`drop database ${name} with (force)`);
        },
      };
    },
    async close() {
      await server.query(`drop database ${template} with (force)`);
      await server.end();
    },
  };
}
