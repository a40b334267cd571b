/**
 * Hears that an agent has registered: its machine runs, so it is looked at at once instead of at the next tick. A lost word costs that tick
 * and nothing else.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import { isConnectionError, type Database } from '../../db/database.ts';
import { REGISTRATION_CHANNEL } from '../../db/nodes.ts';

export interface RegistrationListener {
  close(): Promise<void>;
}

const RECONNECT_MS = 1_000;

/** @param onRegistered with the provider, and the moment by which replicas know one word from another */
export async function hearRegistrations(
  database: Database,
  onRegistered: (provider: string, at: Date) => void,
  log: Logger,
): Promise<RegistrationListener> {
  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;
  let isClosed = false;

  async function listen(): Promise<void> {
    if (isClosed) return;
    try {
      const fresh = await database.connectListener();
      fresh.on('error', () => {});
      fresh.on('end', again);
      fresh.on('notification', ({ payload }) => {
        const [provider, at] = (payload ?? '').split(' ');
        if (provider && Number(at) > 0) onRegistered(provider, new Date(Number(at)));
      });
      client = fresh;
      await fresh.query(`listen ${REGISTRATION_CHANNEL}`);
      if (isClosed) await fresh.end();
    } catch (error) {
      if (!isConnectionError(error)) log.error({ err: error }, 'registrations of agents cannot be heard');
      again();
    }
  }

  function again(): void {
    clearTimeout(timer);
    if (!isClosed) timer = setTimeout(() => void listen(), RECONNECT_MS);
  }

  await listen();
  return {
    async close() {
      isClosed = true;
      clearTimeout(timer);
      await client?.end().catch(() => {});
    },
  };
}
