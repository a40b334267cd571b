/** The drill cron: standbys whose policy says so are drilled when their time has come. What cannot begin now is tried at the next tick. */
import type { Logger } from 'pino';
import { MusterError } from '../../domain/error-table.ts';
import { acceptDrill } from '../../db/accept-drill.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import { listDueDrills } from '../../db/drills.ts';
import type { Queue } from '../../db/queue.ts';
import { findStandby } from '../../db/standbys.ts';
import type { Cron } from './scheduler.ts';

export interface DrillCronOptions {
  db: Db;
  queue: Queue;
  now: () => Date;
  log: Logger;
}

const EVERY_MS = 60_000;
/** Looked at in one tick. One begins: each takes a machine away, and many at once would be the storm that no failover begins in. */
const MAX_DUE = 50;
const ACTOR = 'drill';

export function createDrillCron({ db, queue, now, log }: DrillCronOptions): Cron {
  return {
    name: 'drill',
    everyMs: EVERY_MS,
    async run(signal) {
      const counts = { due: 0, begun: 0, refused: 0 };
      for (const standbyId of await listDueDrills(db, now(), MAX_DUE)) {
        if (signal.aborted || counts.begun > 0) break;
        counts.due++;
        const standby = await findStandby(db, null, standbyId);
        const policy = standby?.drill_policy ?? null;
        if (!standby || policy === null) continue;
        try {
          const actor = { kind: 'system', id: policy.consentBy ?? ACTOR } as const;
          const order = { standbyId, mode: policy.mode, targets: policy.targets, actor };
          await inTransaction(db, (tx) => acceptDrill(tx, queue, order));
          counts.begun++;
        } catch (error) {
          if (!(error instanceof MusterError)) throw error;
          counts.refused++;
          log.warn({ standby: standbyId, code: error.code }, `not drilled: ${error.detail}`);
        }
      }
      return counts;
    },
  };
}
