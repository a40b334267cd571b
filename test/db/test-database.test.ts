import { describe, expect, it } from 'vitest';
import pg from 'pg';
import { createEmptyTestDatabase, createTestDatabase } from '../support/database.ts';

describe('test databases', () => {
  it('are copies of the migrated template, apart from each other', async () => {
    const [first, second] = await Promise.all([createTestDatabase(), createTestDatabase()]);
    const client = new pg.Client({ connectionString: first.url });
    await client.connect();
    const { rows } = await client.query<{ count: string }>(
      `select count(*) from information_schema.tables where table_name = 'operations'`,
    );
    await client.end();
    expect(Number(rows[0]?.count)).toBe(1);
    expect(first.url).not.toBe(second.url);
    await Promise.all([first.drop(), second.drop()]);
  });

  it('fail the test that leaves a connection open, naming what it did', async () => {
    const database = await createEmptyTestDatabase();
    const client = new pg.Client({ connectionString: database.url, application_name: 'leaky' });
    client.on('error', () => {});
    await client.connect();
    await client.query('select 42');
    await expect(database.drop()).rejects.toThrow(/leaky: select 42/);
  });
});
