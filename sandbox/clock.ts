/**
 * The sandbox's clock and everything that happens by itself on it.
 * - `auto` and `real`: wall time plus an offset (the admin route can jump forward); they differ only in how long
 *   machines take, which is not decided here.
 * - `explicit`: time stands still until `advance` moves it.
 * Events run one after the other, in the order of their due time, and are told the time they were due: after a
 * pause of the process everything overdue happens as if it had happened on time.
 */

export const TIME_MODES = ['auto', 'real', 'explicit'] as const;
export type TimeMode = (typeof TIME_MODES)[number];

export interface SandboxClock {
  readonly mode: TimeMode;
  /** Epoch milliseconds of the sandbox. */
  now(): number;
  /** Moves time forward and resolves when everything due until then has happened. */
  advance(ms: number): Promise<void>;
  /** Runs `event` once at `atMs` (at once if that is past); the returned function takes it back. */
  schedule(atMs: number, event: ClockEvent): () => void;
  /** Resolves when everything due now has happened. */
  settle(): Promise<void>;
  /** What has to be kept so that a restarted sandbox continues at the same time. */
  position(): ClockPosition;
  stop(): void;
}

export type ClockEvent = (dueMs: number) => void | Promise<void>;

export interface ClockPosition {
  /** explicit mode: the time it is. */
  explicitMs: number;
  /** auto and real mode: how far ahead of the wall clock we are. */
  offsetMs: number;
}

interface Entry {
  atMs: number;
  sequence: number;
  event: ClockEvent;
}

/** A timer never sleeps longer than this: Node's limit is 2^31 ms, and wall clocks jump. */
const LONGEST_SLEEP_MS = 60_000;

export function createClock(mode: TimeMode, start: ClockPosition): SandboxClock {
  const entries: Entry[] = [];
  const position = { ...start };
  let sequence = 0;
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> = Promise.resolve();
  let isStopped = false;

  function now(): number {
    return mode === 'explicit' ? position.explicitMs : Date.now() + position.offsetMs;
  }

  function schedule(atMs: number, event: ClockEvent): () => void {
    const entry: Entry = { atMs, sequence: sequence++, event };
    entries.splice(findPlace(entries, atMs), 0, entry);
    if (entries[0] === entry) armTimer();
    return () => {
      const index = entries.indexOf(entry);
      if (index >= 0) entries.splice(index, 1);
    };
  }

  function armTimer(): void {
    clearTimeout(timer);
    const first = entries[0];
    if (isStopped || mode === 'explicit' || first === undefined) return;
    const sleepMs = Math.min(Math.max(first.atMs - now(), 0), LONGEST_SLEEP_MS);
    timer = setTimeout(() => void runUntil(now()), sleepMs);
    timer.unref();
  }

  /** Calls queue up behind each other, so no two events ever run at the same time. */
  function runUntil(targetMs: number): Promise<void> {
    running = running.then(async () => {
      for (let first = entries[0]; first !== undefined && first.atMs <= targetMs; first = entries[0]) {
        if (isStopped) return;
        entries.shift();
        if (mode === 'explicit') position.explicitMs = Math.max(position.explicitMs, first.atMs);
        await first.event(first.atMs);
      }
      if (mode === 'explicit') position.explicitMs = Math.max(position.explicitMs, targetMs);
      armTimer();
    });
    return running;
  }

  return {
    mode,
    now,
    schedule,
    async advance(ms) {
      const targetMs = now() + ms;
      if (mode !== 'explicit') position.offsetMs += ms;
      await runUntil(mode === 'explicit' ? targetMs : now());
    },
    settle: () => runUntil(now()),
    position: () => ({ ...position }),
    stop() {
      isStopped = true;
      clearTimeout(timer);
      entries.length = 0;
    },
  };
}

/** First index whose entry is due later: entries of the same time keep the order in which they came. */
function findPlace(entries: readonly Entry[], atMs: number): number {
  let low = 0;
  let high = entries.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (entries[middle]!.atMs <= atMs) low = middle + 1;
    else high = middle;
  }
  return low;
}
