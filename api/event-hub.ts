/**
 * The event hub: tells whoever waits in this process, event streams and agents, that there may be something new. One LISTEN connection
 * serves all of them; it carries no events, only the word to look. Those who wait read the tables themselves, so a lost word delays,
 * never loses.
 */
import type pg from 'pg';
import type { Logger } from 'pino';
import type { Database } from '../db/database.ts';
import { DESIRED_CHANNEL } from '../db/desired.ts';
import { LOGS_CHANNEL } from '../db/pod-logs.ts';
import { EVENTS_CHANNEL } from '../db/operations.ts';
import { UPDATE_CHANNEL } from '../db/update-events.ts';

const RECONNECT_MS = 500;

export interface EventHub {
  /**
   * `wake` is called for each word about that operation, that update, what that node shall be, or that stream of logs (null: any operation), and after every reconnect.
   * Returns how to stop it.
   */
  subscribe(id: string | null, wake: () => void): () => void;
  /** Ends the connection and wakes every stream a last time; they end themselves. */
  close(): Promise<void>;
  readonly isClosed: boolean;
  /** How many words came so far: whoever looked before he subscribed sees by it whether he may have missed one. */
  readonly heard: number;
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

  let heard = 0;

  const wakeAll = () => {
    heard++;
    for (const wakes of subscribers.values()) for (const wake of wakes) wake();
  };

  const listenOnce = async () => {
    const ended = Promise.withResolvers<void>();
    client = await database.connectListener();
    client.on('error', () => ended.resolve());
    client.on('end', () => ended.resolve());
    client.on('notification', ({ channel, payload }) => {
      heard++;
      for (const wake of subscribers.get(payload ?? null) ?? []) wake();
      if (channel === EVENTS_CHANNEL) for (const wake of subscribers.get(null) ?? []) wake();
    });
    await client.query(`listen ${EVENTS_CHANNEL}`);
    await client.query(`listen ${DESIRED_CHANNEL}`);
    await client.query(`listen ${LOGS_CHANNEL}`);
    await client.query(`listen ${UPDATE_CHANNEL}`);
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
    get heard() {
      return heard;
    },
    ready: () => {
      if (!abort.signal.aborted) running ??= run();
      return listening.promise;
    },
    subscribe(id, wake) {
      if (!abort.signal.aborted) running ??= run();
      const wakes = subscribers.get(id) ?? new Set();
      subscribers.set(id, wakes.add(wake));
      return () => {
        wakes.delete(wake);
        if (wakes.size === 0 && subscribers.get(id) === wakes) subscribers.delete(id);
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
