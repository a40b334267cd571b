/** The expire cron: instances past their hard lifetime are handed to the ordinary destroy. */
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { SYSTEM } from '../../db/audit.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import { listExpired } from '../../db/instances.ts';
import type { Queue } from '../../db/queue.ts';
import type { Cron } from './scheduler.ts';

export function createExpireCron(db: Db, queue: Queue, now: () => Date, everyMs = 30_000): Cron {
  return {
    name: 'expire',
    everyMs,
    async run() {
      const expired = await listExpired(db, now());
      for (const instance of expired) {
        const detail = `its lifetime ended at ${instance.expires_at?.toISOString()}`;
        await inTransaction(db, (tx) =>
          acceptDestroy(tx, queue, {
            orgId: null,
            instanceId: instance.id,
            actor: SYSTEM,
            reason: detail,
            failure: { code: 'expired', detail },
          }),
        );
      }
      return { expired: expired.length };
    },
  };
}
