/**
 * Idempotency keys: one key of a caller on a route has one effect. The key, the effect and the answer are committed together, so
 * no crash comes between them; of two requests at once the second waits for the first one's commit and gets its answer.
 */
import { createHash } from 'node:crypto';
import { sql } from 'kysely';
import { MusterError } from '../domain/error-table.ts';
import type { Db, Tx } from './database.ts';

const KEPT_HOURS = 24;
/** How long a second request waits for the first one. */
const WAIT_MS = 5_000;
const LOCK_NOT_AVAILABLE = '55P03';

export interface IdempotencyScope {
  principalId: string;
  /** Method and path pattern. */
  route: string;
  key: string;
  /** Everything that the effect depends on: parameters and body. */
  content: unknown;
}

export interface KeptAnswer {
  status: number;
  body: unknown;
  location: string | null;
}

/**
 * Does `work` once for the key and answers again what it answered then; without a scope, just does it. What throws leaves no
 * trace and may be tried again. Throws MusterError `idempotency_key_reused` for other content, `idempotency_in_progress` when the
 * first request takes long.
 */
export async function doOnce(
  db: Db,
  scope: IdempotencyScope | null,
  work: (tx: Tx) => Promise<KeptAnswer>,
): Promise<KeptAnswer & { isReplay: boolean }> {
  return db.transaction().execute(async (tx) => {
    if (scope === null) return { ...(await work(tx)), isReplay: false };
    const kept = await takeKey(tx, scope);
    if (kept) return { ...kept, isReplay: true };
    const answer = await work(tx);
    await keyRow(tx, scope)
      .set({
        response_status: answer.status,
        response_body: JSON.stringify(answer.body ?? null),
        response_location: answer.location,
      })
      .execute();
    return { ...answer, isReplay: false };
  });
}

/** Inserts the key, or returns what was answered under it. */
async function takeKey(tx: Tx, scope: IdempotencyScope): Promise<KeptAnswer | null> {
  const bodyHash = hashContent(scope.content);
  if (await insertKey(tx, scope, bodyHash)) return null;
  const row = await tx
    .selectFrom('idempotency_keys')
    .select(['body_hash', 'response_status', 'response_body', 'response_location'])
    .select(sql<boolean>`created_at < now() - ${KEPT_HOURS} * interval '1 hour'`.as('is_over'))
    .where('principal_id', '=', scope.principalId)
    .where('route', '=', scope.route)
    .where('key', '=', scope.key)
    .forUpdate()
    .executeTakeFirstOrThrow();
  if (row.is_over) {
    await keyRow(tx, scope)
      .set({ body_hash: bodyHash, created_at: sql`now()` })
      .execute();
    return null;
  }
  if (!row.body_hash.equals(bodyHash)) {
    throw new MusterError(
      'idempotency_key_reused',
      `this Idempotency-Key was used for another request within ${KEPT_HOURS} hours`,
    );
  }
  return { status: row.response_status as number, body: row.response_body, location: row.response_location };
}

/** One statement: the bound on the wait is set while the row is made, before it can wait. */
async function insertKey(tx: Tx, scope: IdempotencyScope, bodyHash: Buffer): Promise<boolean> {
  try {
    const { numAffectedRows } = await sql`
      insert into idempotency_keys (principal_id, route, key, body_hash)
      select ${scope.principalId}, ${scope.route}, ${scope.key}, ${bodyHash}
      from (select set_config('lock_timeout', ${String(WAIT_MS)}, true)) as bound
      on conflict (principal_id, route, key) do nothing`.execute(tx);
    return numAffectedRows === 1n;
  } catch (error) {
    if ((error as { code?: string }).code !== LOCK_NOT_AVAILABLE) throw error;
    throw new MusterError(
      'idempotency_in_progress',
      'the first request with this Idempotency-Key has not finished yet',
    );
  }
}

function keyRow(tx: Tx, scope: IdempotencyScope) {
  return tx
    .updateTable('idempotency_keys')
    .where('principal_id', '=', scope.principalId)
    .where('route', '=', scope.route)
    .where('key', '=', scope.key);
}

function hashContent(content: unknown): Buffer {
  return createHash('sha256').update(JSON.stringify(content, sortKeys)).digest();
}

/** The order of a body's members means nothing. */
function sortKeys(_key: string, value: unknown): unknown {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
