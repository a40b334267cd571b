/**
 * The dead man's switch: how long nothing was heard of the control plane, by a clock that only moves forward and goes on over restarts of
 * the agent. It decides only that the time is over; what is done then is loop.ts's. A clock that is set, or a machine that slept, does
 * not count as silence.
 */
import { readJson, writePrivately } from './private-file.ts';

export interface DeadMan {
  /** The control plane lives and knows us. */
  sign(): void;
  /** What the control plane declared; null: never. */
  declare(deadManMs: number | null): void;
  /** Infinity: never. 0: it is over. */
  remainingMs(): number;
}

export interface DeadManParts {
  /** Where the last sign is kept. */
  file: string;
  bootId: string;
  /** Milliseconds since the boot, of a clock that is never set. */
  uptimeMs: () => number;
  /** What the machine's owner says: it goes before what the control plane declares. null: nothing. */
  own: 'off' | number | null;
  log: (message: string) => void;
}

interface Kept {
  bootId: string;
  heardAtMs: number;
  deadManMs: number | null;
}

/** How exact the kept sign is, as a part of the declared time: a restart counts at most so much too long a silence. */
const KEEP_EVERY = 0.1;
const KEEP_EVERY_MS = 60_000;

export function createDeadMan({ file, bootId, uptimeMs, own, log }: DeadManParts): DeadMan {
  const kept = readKept(file);
  const startedAtMs = uptimeMs();
  // Another boot has another clock: from its beginning nothing was heard.
  let heardAtMs = Math.min(kept?.bootId === bootId ? kept.heardAtMs : startedAtMs, startedAtMs);
  let keptAtMs = -Infinity;
  let declaredMs = kept?.deadManMs ?? null;

  const limitMs = (): number => (own === 'off' ? Infinity : (own ?? declaredMs ?? Infinity));

  function keep(): void {
    try {
      writePrivately(file, JSON.stringify({ bootId, heardAtMs, deadManMs: declaredMs } satisfies Kept));
      keptAtMs = heardAtMs;
    } catch (error) {
      log(
        `the last sign of the control plane could not be kept (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`,
      );
    }
  }

  return {
    sign() {
      heardAtMs = uptimeMs();
      if (limitMs() !== Infinity && heardAtMs - keptAtMs >= Math.min(KEEP_EVERY_MS, limitMs() * KEEP_EVERY)) keep();
    },
    declare(next) {
      if (next === declaredMs) return;
      declaredMs = next;
      keep();
    },
    remainingMs: () => Math.max(0, limitMs() - (uptimeMs() - heardAtMs)),
  };
}

/** What was declared is true of every boot: a machine that its vendor starts again would run for ever where nobody is left to say it anew. */
function readKept(file: string): Kept | null {
  const kept = readJson(file) as Partial<Kept> | null;
  if (typeof kept?.bootId !== 'string' || typeof kept.heardAtMs !== 'number') return null;
  const { bootId, heardAtMs, deadManMs } = kept;
  return { bootId, heardAtMs, deadManMs: typeof deadManMs === 'number' ? deadManMs : null };
}
