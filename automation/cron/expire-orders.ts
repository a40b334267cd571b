/** The expire-orders cron: orders that no agent will end any more are failed, and those who wait for them told. */
import { inTransaction, type Db } from '../../db/database.ts';
import { failOrder, listLapsedOrders } from '../../db/orders.ts';
import type { Queue } from '../../db/queue.ts';
import type { Cron } from './scheduler.ts';

const DETAILS = {
  deadline_passed: 'the agent did not end it in time',
  node_gone: 'the machine of its node is gone',
} as const;

export function createExpireOrdersCron(db: Db, queue: Queue, everyMs = 5_000): Cron {
  return {
    name: 'expire-orders',
    everyMs,
    hasWork: async () => (await listLapsedOrders(db, 1)).length > 0,
    async run() {
      let failed = 0;
      for (const { id, code } of await listLapsedOrders(db)) {
        if (await inTransaction(db, (tx) => failOrder(tx, queue, id, { code, detail: DETAILS[code] }))) failed++;
      }
      return { failed };
    },
  };
}
