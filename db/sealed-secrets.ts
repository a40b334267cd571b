/** Sealed secrets: what is made once per deployment and kept encrypted. Never replaced once it is there. */
import type { Envelope } from '../secrets/envelope.ts';
import { identityAt } from '../secrets/sealed-place.ts';
import type { MadeSecret } from '../secrets/deployment-secrets.ts';
import type { Db } from './database.ts';

export type SealedSecretName = 'label_key' | 'token_signing_key' | 'ssh_key';

/**
 * The secret of that name, made by `make` when there is none. Any number of replicas at once get the same one: the first insert
 * wins and every caller reads it back. Throws SealError where the master key is not the one it was sealed with.
 */
export async function ensureSealedSecret(
  db: Db,
  envelope: Envelope,
  name: SealedSecretName,
  make: () => MadeSecret | Promise<MadeSecret>,
): Promise<MadeSecret> {
  const kept = await readSealedSecret(db, envelope, name);
  if (kept) return kept;
  const made = await make();
  await db
    .insertInto('sealed_secrets')
    .values({
      name,
      sealed: envelope.seal(made.secret, identityAt('sealed_secrets.sealed', name)),
      public_part: made.publicPart,
    })
    .onConflict((conflict) => conflict.column('name').doNothing())
    .execute();
  const won = await readSealedSecret(db, envelope, name);
  if (!won) throw new Error(`the sealed secret ${name} vanished`);
  return won;
}

async function readSealedSecret(db: Db, envelope: Envelope, name: SealedSecretName): Promise<MadeSecret | null> {
  const row = await db
    .selectFrom('sealed_secrets')
    .select(['sealed', 'public_part'])
    .where('name', '=', name)
    .executeTakeFirst();
  return row
    ? { secret: envelope.open(row.sealed, identityAt('sealed_secrets.sealed', name)), publicPart: row.public_part }
    : null;
}
