/** The check-drift cron: asks, for stacks nobody has looked at for an hour, an operation to look. What to do about it is the stack's. */
import { acceptStackOperation, findStackUpdate } from '../../db/accept-stack.ts';
import { SYSTEM } from '../../db/audit.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import type { Queue } from '../../db/queue.ts';
import { listDueForDrift } from '../../db/stacks.ts';
import type { Cron } from './scheduler.ts';

const EVERY_MS = 60_000;
const DUE_AFTER_MS = 3_600_000;
/** Looking is an engine run each: a few at a time leave room for what people ask for. */
const AT_ONCE = 5;

export function createCheckDriftCron(db: Db, queue: Queue): Cron {
  return {
    name: 'check-drift',
    everyMs: EVERY_MS,
    hasWork: async () => (await listDueForDrift(db, DUE_AFTER_MS, 1)).length > 0,
    async run() {
      let asked = 0;
      for (const stack of await listDueForDrift(db, DUE_AFTER_MS, AT_ONCE)) {
        await inTransaction(db, async (tx) => {
          // Its own update looks better than we could.
          if (await findStackUpdate(tx, stack.id)) return;
          await acceptStackOperation(tx, queue, { stack, kind: 'check_stack_drift', actor: SYSTEM });
          asked++;
        });
      }
      return { asked };
    },
  };
}
