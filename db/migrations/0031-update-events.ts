/**
 * An engine's events live once, with their update; what an operation's progress shows of them is a view. Updates of our stacks outlive the
 * stack that they destroyed, because they are its history. What a stack holds is asked of its state, so that its row only counts.
 */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `alter table state_updates
     drop constraint state_updates_stack_uuid_fkey,
     -- The stack of ours that it is of, and the operation of ours whose update it is; null: a person's own.
     add column stack_id text,
     add column operation_id text`,
  `update state_updates u set stack_id = k.id
   from state_stacks s join stacks k on k.name = s.name where s.uuid = u.stack_uuid and s.is_engine`,
  `create index state_updates_of_stack on state_updates (stack_id, created_at desc, id desc) where stack_id is not null`,
  `alter table state_events
     -- What it tells people, and of which resource (the last part of its urn); null: nothing.
     add column type text,
     add column resource text,
     -- Its place among the events of its operation, once it has one; events get theirs in the engine's order.
     add column operation_id text,
     add column operation_seq int,
     add column xid xid8`,
  `update state_events set type = 'summary' where event like '%"summaryEvent"%'`,
  `create index state_events_summary on state_events (update_id) where type = 'summary'`,
  `create index state_events_waiting on state_events (update_id, sequence)
     where operation_id is not null and operation_seq is null and type in ('resource', 'diagnostic')`,
  `create unique index state_events_operation on state_events (operation_id, operation_seq) where operation_seq is not null`,
  `create index state_events_feed on state_events (xid, operation_id, operation_seq) where operation_seq is not null`,
  `create view operation_log as
     select operation_id, seq, at, type, data, xid, null::text as event, null::text as resource from operation_events
     union all
     select operation_id, operation_seq, at, type, null::jsonb, xid, event, resource
     from state_events where operation_seq is not null`,
  `alter table stacks add column resource_count int not null default 0`,
  `update stacks set resource_count = jsonb_array_length(resources)`,
  `alter table stacks drop column resources`,
];
