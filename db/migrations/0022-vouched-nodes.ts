/** Nodes of clusters whose agents join by their cluster's token, and by what their cluster says of them. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table cluster_enrolments (
     cluster_id text primary key references clusters(id) on delete cascade,
     token_hash bytea not null unique,
     -- Sealed, because every up of its stack must put the same one there.
     token_sealed text not null,
     made_at timestamptz not null default now(),
     -- The one before, good for as long as it takes until no Pod has it.
     previous_hash bytea unique,
     previous_until timestamptz,
     -- Where its agents run: a service account of another namespace is nobody's.
     namespace text not null,
     check ((previous_hash is null) = (previous_until is null))
   )`,
  // What a cluster is asked about those who want to join; gone when their node has its key.
  `create table cluster_joins (
     cluster_id text not null references clusters(id) on delete cascade,
     nonce_hash bytea not null,
     proof_hash bytea not null,
     -- Null once the cluster was asked.
     proof_sealed text,
     status text not null default 'asked' check (status in ('asked', 'proven', 'refused')),
     node_name text,
     node_uid text,
     reason text,
     asked_at timestamptz not null default now(),
     judged_at timestamptz,
     primary key (cluster_id, nonce_hash),
     check ((status = 'asked') = (proof_sealed is not null)),
     check (status <> 'proven' or (node_name is not null and node_uid is not null))
   )`,
  `create index cluster_joins_asked on cluster_joins (asked_at) where status = 'asked'`,
  `alter table nodes
     add column cluster_id text references clusters(id),
     add column kubernetes_name text,
     add column kubernetes_uid text,
     -- Its cluster says that it is no node any more, or is no more itself.
     add column left_at timestamptz,
     add check ((cluster_id is null) = (kubernetes_name is null) and (cluster_id is null) = (kubernetes_uid is null))`,
  `create unique index nodes_kubernetes on nodes (cluster_id, kubernetes_uid) where cluster_id is not null`,
];
