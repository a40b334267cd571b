/** The first admin: the org and the key with which a new deployment is entered. */
import { sql } from 'kysely';
import { hasAdminKey, insertApiKey, revokeApiKey } from '../db/api-keys.ts';
import { appendAudit, SYSTEM } from '../db/audit.ts';
import type { Db, Tx } from '../db/database.ts';
import { findOrgByName, insertOrg } from '../db/orgs.ts';
import { hashCredential, makeApiKeySecret, shownPrefix } from './credential.ts';

const DEFAULT_ORG = 'default';
const CONFIGURED_NAME = 'configured admin';
const MADE_NAME = 'first admin';
/** Replicas that start at once take turns. */
const LOCK_KEY = 7_306_188_216;

/**
 * Sees to it that an admin can enter. With a configured key: that one works, and one configured earlier no longer does. Without:
 * when no admin key exists one is made and returned, to be printed this once; otherwise null.
 */
export function ensureFirstAdmin(db: Db, configuredKey: string | null): Promise<string | null> {
  return db.transaction().execute(async (tx) => {
    await sql`select pg_advisory_xact_lock(${LOCK_KEY})`.execute(tx);
    if (configuredKey !== null) {
      await keepConfiguredKey(tx, configuredKey);
      return null;
    }
    if (await hasAdminKey(tx)) return null;
    const key = makeApiKeySecret();
    await insertAdminKey(tx, key, MADE_NAME);
    return key;
  });
}

async function keepConfiguredKey(tx: Tx, key: string): Promise<void> {
  const keyHash = hashCredential(key);
  const rows = await tx
    .selectFrom('api_keys')
    .select(['id', 'key_hash', 'name', 'is_admin', 'revoked_at'])
    .where((eb) => eb.or([eb('key_hash', '=', keyHash), eb('name', '=', CONFIGURED_NAME)]))
    .execute();
  for (const row of rows) {
    const isOutdated = row.name === CONFIGURED_NAME && row.is_admin && !row.key_hash.equals(keyHash);
    if (isOutdated && row.revoked_at === null) await revokeApiKey(tx, row.id);
  }
  if (!rows.some((row) => row.key_hash.equals(keyHash))) await insertAdminKey(tx, key, CONFIGURED_NAME);
}

async function insertAdminKey(tx: Tx, key: string, name: string): Promise<void> {
  const org = (await findOrgByName(tx, DEFAULT_ORG)) ?? (await insertOrg(tx, DEFAULT_ORG));
  const row = await insertApiKey(tx, {
    orgId: org.id,
    userId: null,
    name,
    role: 'owner',
    isAdmin: true,
    keyHash: hashCredential(key),
    prefix: shownPrefix(key),
    expiresAt: null,
  });
  await appendAudit(tx, {
    orgId: org.id,
    actor: SYSTEM,
    action: 'api_key.create',
    targetKind: 'api_key',
    targetId: row.id,
    detail: { name },
  });
}
