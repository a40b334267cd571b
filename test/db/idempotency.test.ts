import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDatabase, type Database } from '../../db/database.ts';
import { doOnce, type IdempotencyScope } from '../../db/idempotency.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let testDatabase: TestDatabase;
let database: Database;
beforeAll(async () => {
  testDatabase = await createTestDatabase();
  database = openDatabase({ url: testDatabase.url, applicationName: 'idempotency-test' });
});
afterAll(async () => {
  await database?.close();
  await testDatabase?.drop();
});

const scope = (key: string, content: unknown = {}): IdempotencyScope => ({
  principalId: 'p',
  route: 'post /x',
  key,
  content,
});
const answer = { status: 202, body: { made: 1 }, location: '/x' };

describe('doOnce', () => {
  it('keeps key and answer together with the effect, or none of them', async () => {
    const failing = doOnce(database.kysely, scope('a'), async (tx) => {
      await tx.insertInto('orgs').values({ id: 'org_a', name: 'a' }).execute();
      throw new Error('the effect failed late');
    });
    await expect(failing).rejects.toThrow('failed late');
    expect(await database.kysely.selectFrom('orgs').select('id').execute()).toEqual([]);
    expect(await database.kysely.selectFrom('idempotency_keys').select('key').execute()).toEqual([]);
    expect(await doOnce(database.kysely, scope('a'), () => Promise.resolve(answer))).toEqual({
      ...answer,
      isReplay: false,
    });
    const again = await doOnce(database.kysely, scope('a'), () => Promise.reject(new Error('done twice')));
    expect(again).toEqual({ ...answer, isReplay: true });
  });

  it('lets a second request wait for the first, and gives up with a retryable error when that takes long', async () => {
    const started = Promise.withResolvers<void>();
    const finish = Promise.withResolvers<void>();
    const first = doOnce(database.kysely, scope('b'), async () => {
      started.resolve();
      await finish.promise;
      return answer;
    });
    await started.promise;
    const impatient = doOnce(database.kysely, scope('b'), () => Promise.reject(new Error('done twice')));
    await expect(impatient).rejects.toMatchObject({ code: 'idempotency_in_progress' });
    const patient = doOnce(database.kysely, scope('b'), () => Promise.reject(new Error('done twice')));
    finish.resolve();
    expect(await first).toMatchObject({ isReplay: false });
    expect(await patient).toMatchObject({ isReplay: true });
  });

  it('without a key does the work each time', async () => {
    let times = 0;
    const work = () => Promise.resolve({ ...answer, body: ++times });
    await doOnce(database.kysely, null, work);
    expect((await doOnce(database.kysely, null, work)).body).toBe(2);
  });
});
