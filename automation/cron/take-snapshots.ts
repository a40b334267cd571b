/** The take-snapshots cron: begins the snapshots that workspaces promise, and says when a promise is not kept. domain/snapshots/schedule.ts decides. */
import { MusterError } from '../../domain/error-table.ts';
import { behindSince, isSnapshotDue } from '../../domain/snapshots/schedule.ts';
import { beginSnapshot } from '../../db/accept-snapshot.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import type { Queue } from '../../db/queue.ts';
import { listSchedules, recordBehind, type Schedule } from '../../db/snapshot-schedules.ts';
import type { Cron } from './scheduler.ts';

/** Against a crowd after an outage: the others are due at the next tick too. */
const MAX_BEGUN = 20;

export function createTakeSnapshotsCron(db: Db, queue: Queue, now: () => Date, everyMs = 5_000): Cron {
  async function begin({ instanceId }: Schedule): Promise<boolean> {
    try {
      await inTransaction(db, (tx) => beginSnapshot(tx, queue, { instanceId, cause: 'schedule' }));
      return true;
    } catch (error) {
      // Its writer changed meanwhile.
      if (error instanceof MusterError) return false;
      throw error;
    }
  }

  return {
    name: 'take-snapshots',
    everyMs,
    async run() {
      const counts = { workspaces: 0, begun: 0, behind: 0 };
      for (const schedule of await listSchedules(db)) {
        counts.workspaces++;
        const late = behindSince(schedule, now());
        if (late !== null) counts.behind++;
        if ((late === null) !== (schedule.behindSince === null)) {
          await inTransaction(db, (tx) => recordBehind(tx, schedule.instanceId, late));
        }
        if (!schedule.isNodeOnline || counts.begun >= MAX_BEGUN || !isSnapshotDue(schedule, now())) continue;
        if (await begin(schedule)) counts.begun++;
      }
      return counts;
    },
  };
}
