/** Clusters that were stopped as a whole: they are not looked at, and nothing of theirs is updated. */
import { sql, type Kysely } from 'kysely';

export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`alter table clusters drop constraint clusters_status_check`.execute(db);
  await sql`alter table clusters add constraint clusters_status_check check
    (status in ('creating', 'failed', 'available', 'degraded', 'unavailable', 'stopped', 'destroying', 'destroyed'))`.execute(
    db,
  );
}
