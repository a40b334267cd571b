import { sql } from 'kysely';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDatabase, type Database } from '../../db/database.ts';
import { migrateDatabase } from '../../db/migrate.ts';
import { createEmptyTestDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts';

describe('migrating', () => {
  it('works with three replicas at once, and again changes nothing', async () => {
    const empty = await createEmptyTestDatabase();
    await Promise.all([1, 2, 3].map(() => migrateDatabase(empty.url)));
    const before = await describeSchema(empty.url);
    await migrateDatabase(empty.url);
    expect(await describeSchema(empty.url)).toEqual(before);
    const names = before.map((row) => row.name);
    for (const table of ['operations', 'attempts', 'audit_log']) expect(names).toContain(`public.${table}`);
    await empty.drop();
  });

  it('says what is wrong when it cannot connect', async () => {
    await expect(migrateDatabase('postgres://nobody@127.0.0.1:1/none')).rejects.toThrow(/ECONNREFUSED/);
  });
});

describe("the program's role", () => {
  let testDatabase: TestDatabase;
  let database: Database;
  beforeAll(async () => {
    testDatabase = await createTestDatabase();
    database = openDatabase({ url: testDatabase.url, applicationName: 'role-test' });
    await sql
      .raw(
        `insert into audit_log (actor_kind, actor_id, action, target_kind, target_id) values ('system', 's', 'a.b', 't', 'i')`,
      )
      .execute(database.kysely);
  });
  afterAll(async () => {
    await database?.close();
    await testDatabase?.drop();
  });

  it.each([
    ['rewrite the audit log', `update audit_log set actor_id = 'somebody else'`],
    ['delete from the audit log', 'delete from audit_log'],
    ['empty the audit log', 'truncate audit_log'],
    ['make tables', 'create table loot (id integer)'],
    ['make schemas', 'create schema loot'],
    ['change tables', 'alter table operations add column loot text'],
    ['drop tables', 'drop table operations'],
    ['make roles', 'create role loot'],
    ['see the state of migrations', 'select * from kysely_migration'],
    ["change the queue's tables", 'drop table pgboss.job'],
  ])('cannot %s', async (_what, statement) => {
    await expect(sql.raw(statement).execute(database.kysely)).rejects.toMatchObject({ code: '42501' });
  });

  it('can read the audit log and append to it', async () => {
    const { rows } = await sql<{ action: string }>`select action from audit_log`.execute(database.kysely);
    expect(rows).toEqual([{ action: 'a.b' }]);
  });
});

async function describeSchema(url: string): Promise<{ name: string; columns: string }[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const { rows } = await client.query<{ name: string; columns: string }>(
    `select table_schema || '.' || table_name as name, string_agg(column_name || ' ' || data_type, ', ' order by ordinal_position) as columns
     from information_schema.columns where table_schema in ('public', 'pgboss') group by 1 order by 1`,
  );
  await client.end();
  return rows;
}
