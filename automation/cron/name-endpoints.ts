/** The name-endpoints cron: a name that leads elsewhere than its endpoint has its stack changed, by an ordinary up. */
import type { Logger } from 'pino';
import { MusterError } from '../../domain/error-table.ts';
import { acceptStackOperation, findStackUpdate } from '../../db/accept-stack.ts';
import { SYSTEM } from '../../db/audit.ts';
import { inTransaction, type Db, type Tx } from '../../db/database.ts';
import { listStaleNames, lockEndpointName, recordTold } from '../../db/endpoint-names.ts';
import type { Queue } from '../../db/queue.ts';
import { changeStack, lockStack } from '../../db/stacks.ts';
import type { Cron } from './scheduler.ts';

/** Others keep the old answer for a minute anyway. */
const EVERY_MS = 2_000;
/** After an update that failed. */
const RETRY_MS = 60_000;
const MAX_NAMES = 100;

export function createNameEndpointsCron({ db, queue, log }: { db: Db; queue: Queue; log: Logger }): Cron {
  return {
    name: 'name-endpoints',
    everyMs: EVERY_MS,
    hasWork: async () => (await listStaleNames(db, RETRY_MS, 1)).length > 0,
    async run(signal) {
      const counts = { stale: 0, updated: 0 };
      for (const { stack_id: stackId } of await listStaleNames(db, RETRY_MS, MAX_NAMES)) {
        if (signal.aborted) break;
        counts.stale++;
        try {
          if (await inTransaction(db, (tx) => follow(queue, tx, stackId))) counts.updated++;
        } catch (error) {
          if (!(error instanceof MusterError)) throw error;
          log.info({ stack: stackId, code: error.code }, `a name does not follow yet: ${error.detail}`);
        }
      }
      return counts;
    },
  };
}

/** Whether an update was accepted. */
async function follow(queue: Queue, tx: Tx, stackId: string): Promise<boolean> {
  const name = await lockEndpointName(tx, stackId);
  const stack = await lockStack(tx, stackId);
  if (!name || !stack || stack.removed_at !== null || (await findStackUpdate(tx, stackId))) return false;
  const { host: address, port } = name;
  const config = { ...(stack.config as Record<string, unknown>), address, port };
  const changed = await changeStack(tx, stackId, { config });
  const operation = await acceptStackOperation(tx, queue, { stack: changed, kind: 'up_stack', actor: SYSTEM });
  await recordTold(tx, stackId, { version: name.version ?? 0n, operationId: operation.id });
  return true;
}
