/** Since when the writer of a workspace writes: what is older was restored by it, so that only what came later can be lost. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of STATEMENTS) await sql.raw(statement).execute(db);
}

const STATEMENTS = [
  'alter table workspaces add column writer_since timestamptz',
  `update workspaces w set writer_since = coalesce(s.serving_since, i.ready_at, w.created_at)
   from instances i left join standbys s on s.instance_id = i.id and s.status = 'serving'
   where i.id = w.instance_id and (w.writer_attempt_id is not null or w.writer_standby_id is not null)`,
  `alter table workspaces add constraint workspaces_writer_since_check
   check ((writer_since is not null) = (writer_attempt_id is not null or writer_standby_id is not null))`,
];
