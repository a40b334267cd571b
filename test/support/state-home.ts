/** A state backend with its state service on loopback and a database of its own, for tests and benches that run the engine. */
import { randomBytes } from 'node:crypto';
import pino from 'pino';
import { openStateListener } from '../../api/state-service/state-listener.ts';
import { createStateBackend, type StateBackend } from '../../automation/engine/state-backend.ts';
import { openDatabase, type Database } from '../../db/database.ts';
import { createEnvelope, type Envelope } from '../../secrets/envelope.ts';

export interface StateHome {
  backend: StateBackend;
  database: Database;
  envelope: Envelope;
  url: string;
  close(): Promise<void>;
}

/**
 * @param databaseUrl of a migrated database; whoever gives it drops it after the close
 * @param envelope of whoever works on the database too
 */
export async function openStateHome(
  databaseUrl: string,
  envelope: Envelope = createEnvelope(randomBytes(32)),
): Promise<StateHome> {
  const database = openDatabase({ url: databaseUrl, applicationName: 'state-home' });
  const db = database.kysely;
  const service = await openStateListener({ database, envelope, log: pino({ level: 'error' }, pino.destination(2)) });
  return {
    backend: createStateBackend({ db, envelope, service }),
    database,
    envelope,
    url: service.url,
    async close() {
      await service.close();
      await database.close();
    },
  };
}
