/** Credentials of an org, sealed each to its row: what opens machines of its own. A value is opened only to be used, never shown. */
import { sql, type Selectable } from 'kysely';
import type { CredentialKind } from '../domain/credential.ts';
import type { Envelope } from '../secrets/envelope.ts';
import { identityAt } from '../secrets/sealed-place.ts';
import type { Executor, Tx } from './database.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

/** Without the value. */
export type CredentialRow = Omit<Selectable<Schema['credentials']>, 'sealed'>;

export interface NewCredential {
  orgId: string;
  name: string;
  kind: CredentialKind;
  value: string;
  publicPart: string | null;
  createdBy: string;
}

const SHOWN = ['id', 'org_id', 'name', 'kind', 'public_part', 'created_by', 'created_at'] as const;

/** @returns null where the name is taken */
export async function insertCredential(
  tx: Tx,
  envelope: Envelope,
  credential: NewCredential,
): Promise<CredentialRow | null> {
  const id = newId('credential');
  const row = await tx
    .insertInto('credentials')
    .values({
      id,
      org_id: credential.orgId,
      name: credential.name,
      kind: credential.kind,
      sealed: envelope.seal(credential.value, identityAt('credentials.sealed', id)),
      public_part: credential.publicPart,
      created_by: credential.createdBy,
    })
    .onConflict((conflict) => conflict.columns(['org_id', 'name']).doNothing())
    .returning(SHOWN)
    .executeTakeFirst();
  return row ?? null;
}

/** @param ref its id or its name */
export function findCredential(executor: Executor, orgId: string, ref: string): Promise<CredentialRow | undefined> {
  return executor
    .selectFrom('credentials')
    .select(SHOWN)
    .where('org_id', '=', orgId)
    .where((eb) => eb.or([eb('id', '=', ref), eb('name', '=', ref)]))
    .executeTakeFirst();
}

/** Newest first. */
export function listCredentials(
  executor: Executor,
  orgId: string,
  page: { limit: number; before?: { createdAt: Date; id: string } },
): Promise<CredentialRow[]> {
  let query = executor.selectFrom('credentials').select(SHOWN).where('org_id', '=', orgId);
  if (page.before) query = query.where(sql<boolean>`(created_at, id) < (${page.before.createdAt}, ${page.before.id})`);
  return query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(page.limit).execute();
}

/** The value; null: there is none of that kind. Throws SealError where it was sealed under another key or to another row. */
export async function openCredential(
  executor: Executor,
  envelope: Envelope,
  orgId: string,
  ref: string,
  kind: CredentialKind,
): Promise<string | null> {
  const row = await executor
    .selectFrom('credentials')
    .select(['id', 'sealed'])
    .where('org_id', '=', orgId)
    .where('kind', '=', kind)
    .where((eb) => eb.or([eb('id', '=', ref), eb('name', '=', ref)]))
    .executeTakeFirst();
  return row ? envelope.open(row.sealed, identityAt('credentials.sealed', row.id)) : null;
}

/** Ids of nodes that are reached by it, of pods whose image is fetched by it, and of stacks that name it. */
export async function listUsesOfCredential(executor: Executor, { id, org_id, name }: CredentialRow): Promise<string[]> {
  const hosts = await executor
    .selectFrom('hosts')
    .select('node_id')
    .where('credential_id', '=', id)
    .where('removed_at', 'is', null)
    .orderBy('node_id')
    .execute();
  const pods = await executor
    .selectFrom('pods')
    .select('id')
    .where('credential_id', '=', id)
    .where('removed_at', 'is', null)
    .orderBy('id')
    .execute();
  const stacks = await executor
    .selectFrom('stacks')
    .select('id')
    .where('org_id', '=', org_id)
    .where('removed_at', 'is', null)
    .where(
      sql<boolean>`jsonb_path_exists(config, '$.**.credentialRef ? (@ == $name || @ == $id)', jsonb_build_object('name', ${name}::text, 'id', ${id}::text))`,
    )
    .orderBy('id')
    .execute();
  return [...hosts.map((row) => row.node_id), ...pods.map((row) => row.id), ...stacks.map((row) => row.id)];
}

/** Hosts and pods that are gone keep their rows, without it. */
export async function deleteCredential(tx: Tx, credentialId: string): Promise<void> {
  await tx.updateTable('hosts').set({ credential_id: null }).where('credential_id', '=', credentialId).execute();
  await tx.updateTable('pods').set({ credential_id: null }).where('credential_id', '=', credentialId).execute();
  await tx.deleteFrom('credentials').where('id', '=', credentialId).execute();
}
