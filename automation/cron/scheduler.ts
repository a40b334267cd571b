/**
 * The scheduler: fires each cron at the multiples of its interval, on every replica that has the cron role; one of them claims the
 * tick by a row. A cron takes no input, is idempotent, and returns counts; it enqueues what is to be done and never destroys.
 */
import type { Logger } from 'pino';
import { isConnectionError, type Db } from '../../db/database.ts';
import { claimTick, finishTick } from '../../db/processes.ts';

export type TickCounts = Record<string, number | string | null>;

export interface Cron {
  name: string;
  everyMs: number;
  /** Asked before the tick is claimed: false costs nothing. Default: always. */
  hasWork?: () => Promise<boolean>;
  run(signal: AbortSignal): Promise<TickCounts>;
}

export interface Scheduler {
  start(): void;
  /**
   * Something happened that its next tick is too late for: a tick of that moment, by one of all replicas that heard of it. Behind the one
   * that runs; several while it runs are one.
   */
  ring(name: string, at: Date): void;
  /** Runs a cron now, outside its schedule; waits for a run under way first. */
  runNow(name: string): Promise<TickCounts>;
  stop(): Promise<void>;
}

export function createScheduler(crons: Cron[], options: { db: Db; owner: string; log: Logger }): Scheduler {
  const { db, owner, log } = options;
  const abort = new AbortController();
  const timers = new Map<string, NodeJS.Timeout>();
  const running = new Map<string, Promise<TickCounts>>();
  const ticking = new Map<string, Promise<void>>();
  const rung = new Map<string, Date>();

  function schedule(cron: Cron): void {
    if (abort.signal.aborted) return;
    const now = Date.now();
    const tickAt = (Math.floor(now / cron.everyMs) + 1) * cron.everyMs;
    timers.set(
      cron.name,
      setTimeout(() => {
        void tickOrSkip(cron, new Date(tickAt)).finally(() => schedule(cron));
      }, tickAt - now),
    );
  }

  /** A long run is not overlapped by the next tick. */
  async function tickOrSkip(cron: Cron, tickAt: Date): Promise<void> {
    const { name } = cron;
    if (running.has(name) || ticking.has(name)) return;
    const ticked = tick(cron, tickAt);
    ticking.set(name, ticked);
    await ticked;
    ticking.delete(name);
    const next = rung.get(name);
    rung.delete(name);
    if (next !== undefined && !abort.signal.aborted) await tickOrSkip(cron, next);
  }

  /** Never throws. */
  async function tick(cron: Cron, tickAt: Date): Promise<void> {
    try {
      if (cron.hasWork && !(await cron.hasWork())) return;
      if (!(await claimTick(db, cron.name, tickAt, owner))) return;
      const { counts, error } = await runOnce(cron);
      await finishTick(db, cron.name, tickAt, counts, error);
    } catch (error) {
      if (!isConnectionError(error)) log.error({ err: error, cron: cron.name }, 'a tick failed');
    }
  }

  async function runOnce(cron: Cron): Promise<{ counts: TickCounts; error: string | null }> {
    const run = cron.run(abort.signal);
    running.set(cron.name, run);
    try {
      return { counts: await run, error: null };
    } catch (error) {
      if (!isConnectionError(error)) log.error({ err: error, cron: cron.name }, 'a cron failed');
      return { counts: {}, error: error instanceof Error ? error.message : String(error) };
    } finally {
      running.delete(cron.name);
    }
  }

  return {
    start() {
      for (const cron of crons) schedule(cron);
    },
    ring(name, at) {
      const cron = crons.find((one) => one.name === name);
      if (!cron || abort.signal.aborted) return;
      if (running.has(name) || ticking.has(name)) rung.set(name, at);
      else void tickOrSkip(cron, at);
    },
    async runNow(name) {
      const cron = crons.find((one) => one.name === name);
      if (!cron) throw new Error(`there is no cron ${name}`);
      while (running.has(name)) await running.get(name)?.catch(() => {});
      const { counts, error } = await runOnce(cron);
      if (error !== null) throw new Error(error);
      return counts;
    },
    async stop() {
      abort.abort();
      for (const timer of timers.values()) clearTimeout(timer);
      await Promise.allSettled([...running.values(), ...ticking.values()]);
    },
  };
}
