/**
 * A worker that dies as a killed process does: from a named place on nothing of it reaches the database, and its lease stands until somebody
 * sees that it is dead.
 */
import { createWorker } from '../../automation/operations/worker.ts';
import { openDatabase } from '../../db/database.ts';
import { expireLeases } from '../../db/operations.ts';
import type { CrashPointName } from '../../domain/crash-points.ts';
import type { ScriptedAutomation } from './scripted-automation.ts';

const OWNER = 'doomed';

/** Runs one until it passes `point` and is dead; then another process finds that out. `meanwhile` runs beside it. */
export async function runDoomedWorker(
  automation: ScriptedAutomation,
  point: CrashPointName,
  meanwhile: () => Promise<unknown> = () => Promise.resolve(),
): Promise<void> {
  const database = openDatabase({ url: automation.url, applicationName: OWNER, poolSize: 6 });
  let isDead = false;
  const connect = database.pool.connect.bind(database.pool);
  database.pool.connect = ((...args: Parameters<typeof connect>) =>
    isDead ? Promise.reject(new Error(`killed at ${point}`)) : connect(...args)) as typeof database.pool.connect;
  const crashPoint = (name: CrashPointName) => {
    if (name === point) isDead = true;
    if (isDead) throw new Error(`killed at ${point}`);
  };
  const services = { ...automation.services, db: database.kysely, crashPoint };
  const worker = createWorker({ services, database, owner: OWNER, concurrency: 6 });
  await worker.start();
  await meanwhile();
  await automation.until(() => isDead, `it passes ${point}`);
  await worker.drain();
  await database.close();
  await expireLeases(automation.db, OWNER);
}
