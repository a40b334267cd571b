/** The place-pods cron: pods of machines that are gone are given up by their policies, and pods that wait are placed where there is room now. */
import { inTransaction, type Db } from '../../db/database.ts';
import { listLeftNodes, listWaitingOrgs, placePending, rescheduleLost } from '../../db/place-pods.ts';
import type { Cron } from './scheduler.ts';

/** What waits is mostly placed where room is made (a pod that ends, leaves or is deleted); this is for nodes that came or went. */
const EVERY_MS = 5_000;

export function createPlacePodsCron({ db, intervalMs }: { db: Db; intervalMs: number }): Cron {
  return {
    name: 'place-pods',
    everyMs: EVERY_MS,
    hasWork: async () => (await listWaitingOrgs(db)).length > 0 || (await listLeftNodes(db, 1)).length > 0,
    async run(signal) {
      const sum = { rescheduled: 0, lost: 0, placed: 0, waiting: 0 };
      for (const { nodeId, reason } of await listLeftNodes(db)) {
        if (signal.aborted) break;
        const { rescheduled, lost } = await inTransaction(db, (tx) => rescheduleLost(tx, nodeId, reason));
        sum.rescheduled += rescheduled;
        sum.lost += lost;
      }
      for (const orgId of await listWaitingOrgs(db)) {
        if (signal.aborted) break;
        const { placed, waiting, lost } = await inTransaction(db, (tx) => placePending(tx, orgId, intervalMs));
        sum.placed += placed;
        sum.waiting += waiting;
        sum.lost += lost;
      }
      return sum;
    },
  };
}
