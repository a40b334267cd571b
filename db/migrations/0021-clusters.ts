/**
 * Clusters: what is known of them, what was last read from them, and how they are reached. The last is a table of its own, so that no
 * list of clusters carries a credential, sealed or not.
 */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table clusters (
     id text primary key,
     org_id text not null references orgs(id),
     kind text not null check (kind in ('eks', 'aks', 'onprem', 'registered')),
     name text not null,
     status text not null default 'creating'
       check (status in ('creating', 'failed', 'available', 'degraded', 'unavailable', 'destroying', 'destroyed')),
     -- Null: a registered one, which somebody else made.
     stack_id text references stacks(id),
     region text,
     -- What its cloud calls it; null: not made yet, or no cloud's.
     cloud_name text,
     endpoint text,
     platform text,
     platform_version text,
     kubernetes_version text,
     -- Of its namespace kube-system, which is made once and never again: the identity of a cluster.
     namespace_uid text,
     -- Why it is not available; null: it is, or nobody has looked.
     reason text,
     -- Looks in a row on one side of its present health (domain/clusters/cluster.ts).
     streak jsonb,
     summary jsonb,
     checked_at timestamptz(3),
     -- The last look that got an answer.
     answered_at timestamptz(3),
     failure_code text,
     failure_detail text,
     created_by text not null,
     created_at timestamptz(3) not null default now(),
     removed_at timestamptz
   )`,
  `create unique index clusters_name on clusters (org_id, name) where removed_at is null`,
  // The same cluster registered twice in one org would be watched, billed and destroyed twice.
  `create unique index clusters_identity on clusters (org_id, namespace_uid)
     where removed_at is null and namespace_uid is not null`,
  `create unique index clusters_stack on clusters (stack_id) where stack_id is not null`,
  `create index clusters_org on clusters (org_id, created_at desc, id desc)`,
  `create index clusters_looked_at on clusters (checked_at nulls first)
     where status in ('creating', 'available', 'degraded', 'unavailable')`,
  `create table cluster_access (
     cluster_id text primary key references clusters(id) on delete cascade,
     access_sealed text not null,
     sealed_at timestamptz(3) not null default now(),
     -- A token that its cloud gave, for access that holds none of its own.
     token_sealed text,
     token_expires_at timestamptz(3),
     check ((token_sealed is null) = (token_expires_at is null))
   )`,
  `create table cluster_facts (
     cluster_id text primary key references clusters(id) on delete cascade,
     nodes jsonb not null,
     storage_classes jsonb not null,
     warnings jsonb not null,
     taken_at timestamptz(3) not null
   )`,
  `create function tell_webhooks_of_cluster() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'cluster', new.id, new.status, jsonb_build_object(
       'status', new.status, 'previousStatus', case when tg_op = 'UPDATE' then old.status end,
       'name', new.name, 'kind', new.kind, 'stackId', new.stack_id, 'reason', new.reason,
       'failureCode', new.failure_code, 'failureDetail', new.failure_detail));
     return null;
   end $$`,
  `create trigger webhooks_made after insert on clusters for each row execute function tell_webhooks_of_cluster()`,
  `create trigger webhooks_changed after update of status on clusters
     for each row when (old.status is distinct from new.status) execute function tell_webhooks_of_cluster()`,
];
