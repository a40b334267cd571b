/**
 * Events of pods: each change of a pod's status, in the order of the event feed (db/event-feed.ts), written in the transaction that changes
 * it. They go with the pod; of one that comes and goes the last hundred are kept.
 */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `create table pod_events (
     pod_id text not null references pods(id) on delete cascade,
     seq integer not null,
     org_id text not null references orgs(id),
     at timestamptz not null default now(),
     data jsonb not null,
     xid xid8 not null default pg_current_xact_id(),
     primary key (pod_id, seq)
   )`,
  `create index pod_events_feed on pod_events (xid, pod_id, seq)`,
  `create function record_pod_event() returns trigger language plpgsql as $$
   declare next_seq integer;
   begin
     -- The pod's row is held by this very statement: its events come one after another.
     select coalesce(max(seq), 0) + 1 into next_seq from pod_events where pod_id = new.id;
     insert into pod_events (pod_id, seq, org_id, data) values (new.id, next_seq, new.org_id, jsonb_build_object(
       'name', new.name, 'status', new.status, 'previousStatus', case when tg_op = 'UPDATE' then old.status end,
       'nodeId', new.node_id, 'run', new.run, 'reason', new.reason, 'exitCode', new.exit_code));
     delete from pod_events where pod_id = new.id and seq <= next_seq - 100;
     -- As for events of operations: whoever waits for the feed looks.
     perform pg_notify('operation_events', new.id);
     return null;
   end $$`,
  `create trigger events_made after insert on pods for each row execute function record_pod_event()`,
  `create trigger events_changed after update of status on pods
     for each row when (old.status is distinct from new.status) execute function record_pod_event()`,
];
