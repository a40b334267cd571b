/** A database server that goes away and comes back: what was in the middle fails as such and can be done again, and the process lives. */
import { sql } from 'kysely';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { inTransaction, isConnectionError, openDatabase, retryWhileAway, type Database } from '../../db/database.ts';
import { openCutLine, type CutLine } from '../support/cut-line.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let test: TestDatabase;
let line: CutLine;
let database: Database;
beforeAll(async () => {
  test = await createTestDatabase();
  const url = new URL(test.url);
  line = await openCutLine(Number(url.port));
  url.port = String(line.port);
  database = openDatabase({ url: url.href, applicationName: 'away' });
});
afterAll(async () => {
  await database.close();
  await line.close();
  await test.drop();
});

/** The server does not look whether the client of a statement is still there. */
async function endSleepers(): Promise<void> {
  const client = new pg.Client({ connectionString: test.url });
  await client.connect();
  await client.query(`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'away'`);
  await client.end();
}

const ask = () => sql<{ n: number }>`select 1 as n`.execute(database.kysely).then(({ rows }) => rows[0]?.n);

// An event of a connection that nobody hears ends the process: the run then fails whatever this expects.
it('fails the statement that waits for it, and a transaction between two statements', async () => {
  let isBetween = () => {};
  const between = new Promise<void>((resolve) => (isBetween = resolve));
  let goOn = () => {};
  const cut = new Promise<void>((resolve) => (goOn = resolve));
  const failures = [
    sql`select pg_sleep(60)`.execute(database.kysely),
    inTransaction(database.kysely, async (tx) => {
      await sql`select 1`.execute(tx);
      isBetween();
      await cut;
      await sql`select 2`.execute(tx);
    }),
  ].map((work) =>
    work.then(
      () => 'done',
      (error: unknown) => isConnectionError(error),
    ),
  );
  await between;
  await line.cut();
  goOn();
  expect(await Promise.all(failures)).toEqual([true, true]);
  await endSleepers();
  await line.mend();
  expect(await retryWhileAway(ask, 5_000)).toBe(1);
});

it('is waited for as long as is said', async () => {
  await line.cut();
  await expect(retryWhileAway(ask, 150)).rejects.toSatisfy(isConnectionError);
  const answer = retryWhileAway(ask, 10_000);
  await line.mend();
  expect(await answer).toBe(1);
});
