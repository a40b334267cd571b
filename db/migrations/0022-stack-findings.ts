/** Findings about stacks: drift, and prices that have moved. Such a finding names a stack and no provider. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  `alter table findings
     add column stack_id text references stacks(id),
     alter column provider drop not null,
     add constraint findings_of_something check (provider is not null or stack_id is not null),
     drop constraint findings_resolution_check,
     add constraint findings_resolution_check check (resolution in ('destroyed', 'adopted', 'repaired', 'unseen'))`,
  `drop index findings_open`,
  `create unique index findings_open on findings
     (class, coalesce(provider, ''), coalesce(provider_instance_id, ''), coalesce(attempt_id, ''), coalesce(stack_id, ''))
     where status in ('open', 'resolving')`,
  `create index findings_stack on findings (stack_id) where stack_id is not null`,
  // Drift also says whether a refresh took it into the state; what is there was found by looking, as far as anybody knows.
  `update stacks set drift =
     (select coalesce(jsonb_agg(one || '{"isInState": false}'), '[]') from jsonb_array_elements(drift) as one)
     where drift is not null`,
  `create or replace function tell_webhooks_of_finding() returns trigger language plpgsql as $$
   begin
     perform record_webhook_event(new.org_id, 'finding', new.id, new.status, jsonb_build_object(
       'status', new.status, 'previousStatus', case when tg_op = 'UPDATE' then old.status end,
       'class', new.class, 'provider', new.provider, 'providerInstanceId', new.provider_instance_id,
       'instanceId', new.instance_id, 'stackId', new.stack_id, 'detail', new.detail));
     return null;
   end $$`,
];
