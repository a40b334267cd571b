/**
 * The event hub: tells this process's event streams that there may be something new. One LISTEN connection serves all of them; it
 * carries no events, only the word to look. Streams read the tables themselves (event-stream.ts), so a lost word delays, never loses.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import type { Database } from '../db/database.ts';
import { EVENTS_CHANNEL } from '../db/operations.ts';

const RECONNECT_MS = 500;

export interface EventHub {
  /** `wake` is called for each word about that operation (null: any), and after every reconnect. Returns how to stop it. */
  subscribe(operationId: string | null, wake: () => void): () => void;
  /** Ends the connection and wakes every stream a last time; they end themselves. */
  close(): Promise<void>;
  readonly isClosed: boolean;
  /** Resolves once the connection listens; for tests and for the first stream. */
  ready(): Promise<void>;
}

/** Connects with the first subscriber and stays. */
export function createEventHub(database: Database, logger: Logger): EventHub {
  const subscribers = new Map<string | null, Set<() => void>>();
  const abort = new AbortController();
  let client: pg.Client | null = null;
  let running: Promise<void> | null = null;
  let listening = Promise.withResolvers<void>();

  const wakeAll = () => {
    for (const wakes of subscribers.values()) for (const wake of wakes) wake();
  };

  const listenOnce = async () => {
    const ended = Promise.withResolvers<void>();
    client = await database.connectListener();
    client.on('error', () => ended.resolve());
    client.on('end', () => ended.resolve());
    client.on('notification', ({ payload }) => {
      for (const key of [payload ?? null, null]) for (const wake of subscribers.get(key) ?? []) wake();
    });
    await client.query(`listen ${EVENTS_CHANNEL}`);
    listening.resolve();
    wakeAll(); // what was said while nobody listened
    await ended.promise;
  };

  const run = async () => {
    while (!abort.signal.aborted) {
      try {
        await listenOnce();
      } catch (error) {
        logger.warn({ err: error }, 'event hub: cannot listen');
      }
      await client?.end().catch(() => {});
      client = null;
      if (abort.signal.aborted) return;
      listening = Promise.withResolvers();
      await pause(RECONNECT_MS, abort.signal);
    }
  };

  return {
    get isClosed() {
      return abort.signal.aborted;
    },
    ready: () => {
      if (!abort.signal.aborted) running ??= run();
      return listening.promise;
    },
    subscribe(operationId, wake) {
      if (!abort.signal.aborted) running ??= run();
      const wakes = subscribers.get(operationId) ?? new Set();
      subscribers.set(operationId, wakes.add(wake));
      return () => {
        wakes.delete(wake);
        if (wakes.size === 0) subscribers.delete(operationId);
      };
    },
    async close() {
      abort.abort();
      listening.resolve();
      wakeAll();
      await client?.end().catch(() => {});
      await running;
    },
  };
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
    function done() {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
  });
}
