import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDatabase, type Database } from '../../db/database.ts';
import { createRateLimit } from '../../db/rate-limits.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let testDatabase: TestDatabase;
let database: Database;
beforeAll(async () => {
  testDatabase = await createTestDatabase();
  database = openDatabase({ url: testDatabase.url, applicationName: 'rate-limits-test' });
});
afterAll(async () => {
  await database?.close();
  await testDatabase?.drop();
});

describe('a rate limit', () => {
  it('is shared by replicas: of many at once exactly so many pass', async () => {
    const replicas = [0, 1, 2].map(() => createRateLimit(database.pool, { name: 'shared', points: 20, seconds: 60 }));
    const waits = await Promise.all(
      replicas.flatMap((replica) => Array.from({ length: 15 }, () => replica.take('key'))),
    );
    expect(waits.filter((wait) => wait === null)).toHaveLength(20);
    for (const wait of waits) if (wait !== null) expect(wait).toBeGreaterThan(0);
    expect(await replicas[0]?.take('another key')).toBeNull();
  });

  it('starts anew when its window is over', async () => {
    const limit = createRateLimit(database.pool, { name: 'window', points: 1, seconds: 60 });
    expect(await limit.take('key')).toBeNull();
    await database.kysely
      .updateTable('rate_limits')
      .set({ expire: BigInt(Date.now() - 1) })
      .where('key', '=', 'window:key')
      .execute();
    const replica = createRateLimit(database.pool, { name: 'window', points: 1, seconds: 60 });
    expect(await replica.take('key')).toBeNull();
    expect(await replica.take('key')).toBeGreaterThan(50_000);
  });

  it('counts in the process while Postgres is away', async () => {
    const away = new pg.Pool({ connectionString: 'postgres://nobody@127.0.0.1:1/none' });
    const limit = createRateLimit(away, { name: 'away', points: 2, seconds: 60 });
    expect([await limit.take('key'), await limit.take('key')]).toEqual([null, null]);
    expect(await limit.take('key')).toBeGreaterThan(0);
  });
});
