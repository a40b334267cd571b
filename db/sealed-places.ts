/** The rows of each place where sealed values lie (secrets/sealed-place.ts): how they are found, what they belong to, and how a value is put back. */
import { sql } from 'kysely';
import { SealError, type Envelope } from '../secrets/envelope.ts';
import { identityAt, type SealedPlace } from '../secrets/sealed-place.ts';
import type { Executor, Tx } from './database.ts';

/** SQL of the row's key as text, and of what the value belongs to where that is something else. */
interface Rows {
  id: string;
  owner?: string;
}

const ROWS: Record<SealedPlace, Rows> = {
  'attempts.agent_sealed': { id: 'id' },
  'cluster_access.access_sealed': { id: 'cluster_id' },
  'cluster_access.token_sealed': { id: 'cluster_id' },
  'cluster_enrolments.token_sealed': { id: 'cluster_id' },
  'cluster_joins.proof_sealed': { id: `cluster_id || '/' || encode(nonce_hash, 'hex')`, owner: 'cluster_id' },
  'credentials.sealed': { id: 'id' },
  'instances.request.envSealed': { id: 'id', owner: `coalesce(request->>'sealedToStack', stack_id)` },
  'node_orders.secrets_sealed': { id: 'id' },
  'operations.input.accessSealed': { id: 'id', owner: 'target_id' },
  'pods.secrets_sealed': { id: 'id' },
  'sealed_secrets.sealed': { id: 'name' },
  'sessions.ssh_private_key_sealed': { id: 'id' },
  'state_stacks.key_sealed': { id: 'uuid', owner: 'key_owner' },
  'webhooks.previous_secret_sealed': { id: 'id' },
  'webhooks.secret_sealed': { id: 'id' },
  'workspaces.password_sealed': { id: 'instance_id' },
};

export const SEALED_PLACES = Object.keys(ROWS) as SealedPlace[];

export interface SealedCount {
  place: SealedPlace;
  keyId: string;
  count: number;
  /** One of the rows. */
  example: string;
}

/** How much is sealed with which key. What is no sealed value at all is left out. */
export async function countSealed(executor: Executor): Promise<SealedCount[]> {
  const counts: SealedCount[] = [];
  for (const place of SEALED_PLACES) {
    const { table, value, id } = describe(place);
    const { rows } = await sql<{ key_id: string; count: bigint; example: string }>`
      select split_part(${value}, '.', 2) as key_id, count(*) as count, min(${id}) as example
      from ${table} where ${value} like 'v1.%' group by 1 order by 1`.execute(executor);
    counts.push(...rows.map((row) => ({ place, keyId: row.key_id, count: Number(row.count), example: row.example })));
  }
  return counts;
}

export interface ResealedBatch {
  resealed: number;
  /** Rows whose value does not open though its key is here: changed, or copied from elsewhere. */
  broken: string[];
  /** Where the next batch begins; null: there is no more. */
  last: string | null;
}

/**
 * Seals up to `limit` values of a place with the present key, in the order of their rows and only after the row `after`. It waits for nobody:
 * rows that somebody holds are left out. Whatever the values are, their rows are otherwise untouched.
 */
export async function resealBatch(
  tx: Tx,
  envelope: Envelope,
  place: SealedPlace,
  { after, limit }: { after: string; limit: number },
): Promise<ResealedBatch> {
  const { table, value, id, owner, put } = describe(place);
  const { rows } = await sql<{ row_id: string; owner: string; sealed: string }>`
    select ${id} as row_id, ${owner} as owner, ${value} as sealed from ${table}
    where ${value} like 'v1.%' and ${value} not like ${`v1.${envelope.keyIds[0]}.%`} and ${id} > ${after}
    order by ${id} limit ${limit} for update skip locked`.execute(tx);
  const done: { id: string; sealed: string }[] = [];
  const broken: string[] = [];
  for (const row of rows) {
    const sealed = sealAnew(envelope, place, row);
    if (sealed === null) broken.push(row.row_id);
    else done.push({ id: row.row_id, sealed });
  }
  if (done.length > 0) {
    await sql`update ${table} set ${put}
      from unnest(${done.map((row) => row.id)}::text[], ${done.map((row) => row.sealed)}::text[]) as anew (row_id, resealed)
      where ${id} = anew.row_id`.execute(tx);
  }
  const last = rows.length < limit ? null : (rows.at(-1)?.row_id ?? null);
  return { resealed: done.length, broken, last };
}

function sealAnew(envelope: Envelope, place: SealedPlace, row: { owner: string; sealed: string }): string | null {
  const identity = identityAt(place, row.owner);
  try {
    return envelope.seal(envelope.open(row.sealed, identity), identity);
  } catch (error) {
    if (error instanceof SealError) return null;
    throw error;
  }
}

/** As SQL. Nothing of it comes from outside. */
function describe(place: SealedPlace) {
  const [table, column, member] = place.split('.') as [string, string, string?];
  const { id, owner = id } = ROWS[place];
  const value = member === undefined ? column : `(${column}->>'${member}')`;
  const put =
    member === undefined
      ? `${column} = anew.resealed`
      : `${column} = jsonb_set(${column}, '{${member}}', to_jsonb(anew.resealed))`;
  return {
    table: sql.table(table),
    value: sql.raw(value),
    id: sql.raw(`(${id})`),
    owner: sql.raw(owner),
    put: sql.raw(put),
  };
}
