import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDatabase, type Database } from '../../db/database.ts';
import { ensureSealedSecret } from '../../db/sealed-secrets.ts';
import { makeLabelKey } from '../../secrets/deployment-secrets.ts';
import { createEnvelope, SealError } from '../../secrets/envelope.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let testDatabase: TestDatabase;
let database: Database;
beforeAll(async () => {
  testDatabase = await createTestDatabase();
  database = openDatabase({ url: testDatabase.url, applicationName: 'sealed-secrets-test' });
});
afterAll(async () => {
  await database?.close();
  await testDatabase?.drop();
});

describe('a sealed secret', () => {
  const envelope = createEnvelope(randomBytes(32));

  it('is made once, however many replicas ask at once', async () => {
    const secrets = await Promise.all(
      Array.from({ length: 8 }, () => ensureSealedSecret(database.kysely, envelope, 'label_key', makeLabelKey)),
    );
    expect(new Set(secrets.map((made) => made.secret)).size).toBe(1);
    const again = await ensureSealedSecret(database.kysely, envelope, 'label_key', () => {
      throw new Error('must not be made again');
    });
    expect(again).toEqual(secrets[0]);
  });

  it('is not in the database in clear; its public part is', async () => {
    await ensureSealedSecret(database.kysely, envelope, 'ssh_key', () => ({
      secret: 'private text',
      publicPart: 'open text',
    }));
    const row = await database.kysely
      .selectFrom('sealed_secrets')
      .selectAll()
      .where('name', '=', 'ssh_key')
      .executeTakeFirstOrThrow();
    expect(row.public_part).toBe('open text');
    expect(JSON.stringify(row)).not.toContain('private text');
  });

  it('does not open with another master key, and is not replaced then', async () => {
    const other = createEnvelope(randomBytes(32));
    await expect(ensureSealedSecret(database.kysely, other, 'label_key', makeLabelKey)).rejects.toThrow(SealError);
  });
});
