/** The lifetime of an instance: moving its end. What ends it then is the expire cron. */
import { sql } from 'kysely';
import type { Tx } from './database.ts';
import type { InstanceRow } from './instances.ts';

/** The caller holds the row. `overrideReason` null keeps the one there is. */
export function setExpiry(
  tx: Tx,
  instanceId: string,
  expiresAt: Date,
  overrideReason: string | null,
): Promise<InstanceRow> {
  return tx
    .updateTable('instances')
    .set({
      expires_at: expiresAt,
      updated_at: sql`now()`,
      ...(overrideReason === null ? {} : { override_reason: overrideReason }),
    })
    .where('id', '=', instanceId)
    .returningAll()
    .executeTakeFirstOrThrow();
}
