/** The expire cron: instances past their hard lifetime are handed to the ordinary destroy, sessions are warned before. */
import { dueWarning, WARNING_MINUTES } from '../../domain/session.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { SYSTEM } from '../../db/audit.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import { listExpired } from '../../db/instances.ts';
import type { Queue } from '../../db/queue.ts';
import { listExpiring, warnSession } from '../../db/sessions.ts';
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
      let warned = 0;
      const soon = await listExpiring(db, now(), Math.max(...WARNING_MINUTES) * 60_000);
      for (const session of soon) {
        if (dueWarning(session.expires_at?.getTime() ?? null, session.warned_minutes, now().getTime()) === null)
          continue;
        if (await inTransaction(db, (tx) => warnSession(tx, session.id, now()))) warned++;
      }
      return { expired: expired.length, warned };
    },
  };
}
