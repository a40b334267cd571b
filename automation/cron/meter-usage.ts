/** The meter-usage cron: the records of everything that may be billed are brought up to now, in batches, and those of what is gone are closed. */
import { inTransaction, type Db } from '../../db/database.ts';
import { lockUnmetered, meterAttempts } from '../../db/usage.ts';
import type { Cron } from './scheduler.ts';

/** Attempts in one transaction: their rows are held while it lasts. */
const BATCH = 200;

export function createMeterUsageCron(db: Db, everyMs = 60_000): Cron {
  return {
    name: 'meter-usage',
    everyMs,
    async run(signal) {
      const counts = { attempts: 0, written: 0 };
      for (let after: string | undefined = ''; after !== undefined && !signal.aborted;) {
        const since: string = after;
        const { ids, written } = await inTransaction(db, async (tx) => {
          const batch = await lockUnmetered(tx, since, BATCH);
          return { ids: batch, written: await meterAttempts(tx, batch) };
        });
        counts.attempts += ids.length;
        counts.written += written;
        after = ids.length < BATCH ? undefined : ids.at(-1);
      }
      return counts;
    },
  };
}
