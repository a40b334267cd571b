/** Which master keys something is sealed with, and who runs with which: so that one can be replaced while everybody goes on. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

/** Of that day; later places are db/sealed-places.ts's. */
const SEALED = [
  ['attempts', 'agent_sealed'],
  ['cluster_access', 'access_sealed'],
  ['cluster_access', 'token_sealed'],
  ['cluster_enrolments', 'token_sealed'],
  ['cluster_joins', 'proof_sealed'],
  ['credentials', 'sealed'],
  ['instances', `request->>'envSealed'`],
  ['node_orders', 'secrets_sealed'],
  ['operations', `input->>'accessSealed'`],
  ['pods', 'secrets_sealed'],
  ['sealed_secrets', 'sealed'],
  ['sessions', 'ssh_private_key_sealed'],
  ['state_stacks', 'key_sealed'],
  ['webhooks', 'previous_secret_sealed'],
  ['webhooks', 'secret_sealed'],
  ['workspaces', 'password_sealed'],
];

const STATEMENTS = [
  `create table master_keys (
     -- Of the key's digest, as sealed values name it. The key itself is nowhere in the database.
     id text primary key,
     -- When a process last began to seal with it.
     taken_at timestamptz not null default now(),
     -- Nothing is sealed with it any more.
     retired_at timestamptz
   )`,
  // A row for each process that runs; one that is not seen any more is dead.
  `create table key_holders (
     process text primary key,
     seals_with text not null,
     opens text[] not null,
     seen_at timestamptz not null default now()
   )`,
  `insert into master_keys (id)
     select distinct split_part(sealed, '.', 2)
     from (${SEALED.map(([table, value]) => `select ${value} as sealed from ${table}`).join(' union all ')}) as found
     where sealed like 'v1.%'`,
];
