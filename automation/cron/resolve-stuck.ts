/**
 * The resolve-stuck cron: whatever is on its way to another state while nothing drives it there is handed to the ordinary destroy, or
 * turned back where it has files that only its sleep keeps.
 * What is driven has its own deadlines: purchases in the provision, boots by their boot deadline, destroys none, they never end.
 */
import type { Logger } from 'pino';
import { acceptAttemptDestroy } from '../../db/accept-attempt-destroy.ts';
import { acceptDestroy } from '../../db/accept-destroy.ts';
import { resumeHibernation, stayAwake } from '../../db/accept-hibernate.ts';
import { sleepOn } from '../../db/accept-wake.ts';
import type { AttemptRow } from '../../db/attempts.ts';
import { SYSTEM } from '../../db/audit.ts';
import { inTransaction, type Db, type Tx } from '../../db/database.ts';
import type { Queue } from '../../db/queue.ts';
import { listStuckAttempts, listStuckInstances, listStuckSleepers } from '../../db/stuck.ts';
import type { Cron } from './scheduler.ts';

export function createResolveStuckCron(db: Db, queue: Queue, log: Logger, everyMs = 60_000): Cron {
  return {
    name: 'resolve-stuck',
    everyMs,
    async run() {
      const instances = await listStuckInstances(db);
      for (const { id, status } of instances) {
        const detail = `it was ${status} and nothing worked on it`;
        log.error({ instance: id, status }, 'a stuck instance is destroyed');
        await inTransaction(db, (tx) =>
          acceptDestroy(tx, queue, {
            orgId: null,
            instanceId: id,
            actor: SYSTEM,
            reason: detail,
            ...(status === 'destroying' ? {} : { failure: { code: 'internal', detail } }),
          }),
        );
      }
      const sleepers = await listStuckSleepers(db);
      for (const { id, status } of sleepers) {
        log.error({ instance: id, status }, 'a stuck instance goes back to where it was');
        await inTransaction(db, (tx) => turnBack(tx, queue, id, `it was ${status} and nothing worked on it`));
      }
      const taken = new Set(instances.map((instance) => instance.id));
      const attempts = (await listStuckAttempts(db)).filter((attempt) => !taken.has(attempt.instance_id));
      for (const attempt of attempts) {
        log.error({ attempt: attempt.id, status: attempt.status }, 'a stuck attempt is destroyed');
        await destroyAttempt(db, queue, attempt);
      }
      return { instances: instances.length + sleepers.length, attempts: attempts.length };
    },
  };
}

/** It stays awake or sleeps on; one whose machine was given up already goes on to sleep. */
async function turnBack(tx: Tx, queue: Queue, instanceId: string, detail: string): Promise<void> {
  const failure = { code: 'internal', detail };
  if (await stayAwake(tx, instanceId, failure)) return;
  if (await sleepOn(tx, queue, instanceId, failure)) return;
  await resumeHibernation(tx, queue, instanceId);
}

function destroyAttempt(db: Db, queue: Queue, attempt: AttemptRow): Promise<void> {
  return inTransaction(db, async (tx) => {
    const detail = `it was ${attempt.status} and nothing worked on it`;
    await acceptAttemptDestroy(tx, queue, attempt, { failure: { code: 'internal', detail }, by: 'resolve-stuck' });
  });
}
