/**
 * Write access to the workspace: whether this machine may change the files that outlive it. It is taken by a fence or by the dead man's
 * switch, which is remembered on disk before anything else is done, so that an agent that is started again, or whose machine is, begins
 * without it; only a word of the control plane gives it back. Pods, orders and their credentials are duties.ts's to end.
 */
import { readJson, writePrivately } from './private-file.ts';
import type { WorkspaceLock } from './workspace-lock.ts';

export interface WriteAccess {
  /** Why it was taken; null: it is there. */
  readonly taken: string | null;
  /** Remembered at once, over restarts of the agent and of the machine. */
  take(reason: string): void;
  /** Nothing can change the workspace any more, as far as this machine allows it. Idempotent, and never throws. */
  lock(): Promise<void>;
  /** The control plane says that it may. Never throws; where the lock cannot be taken off, writes go on failing. */
  give(): Promise<void>;
}

export interface WriteAccessParts {
  /** Where it is remembered. */
  file: string;
  lock: WorkspaceLock;
  /** A lock is of one boot: after another it is put on anew. */
  bootId: string;
  log: (message: string) => void;
}

interface Kept {
  reason: string;
  /** The boot in which we locked it; null: we did not. */
  lockedIn: string | null;
}

export function createWriteAccess({ file, lock, bootId, log }: WriteAccessParts): WriteAccess {
  let kept = readKept(file);

  function keep(next: Kept): void {
    kept = next;
    try {
      writePrivately(file, JSON.stringify(next));
    } catch (error) {
      log(`that writes are forbidden could not be kept (${(error as NodeJS.ErrnoException).code ?? 'unknown'})`);
    }
  }

  return {
    get taken() {
      return kept?.reason ?? null;
    },
    take(reason) {
      keep({ reason, lockedIn: kept?.lockedIn ?? null });
    },
    async lock() {
      if (kept === null || kept.lockedIn === bootId) return;
      const { reason } = kept;
      try {
        const isOurs = await lock.putOn();
        if (isOurs) keep({ reason, lockedIn: bootId });
        log(isOurs ? 'the workspace is read-only' : 'the workspace was read-only before, or is not there');
      } catch (error) {
        log(`the workspace cannot be made read-only here: ${describe(error)}`);
      }
    },
    async give() {
      if (kept === null) return;
      try {
        if (kept.lockedIn === bootId) await lock.takeOff();
        kept = null;
        writePrivately(file, 'null');
      } catch (error) {
        log(`the workspace could not be made writable again: ${describe(error)}`);
      }
    },
  };
}

function readKept(file: string): Kept | null {
  const found = readJson(file) as Partial<Kept> | null;
  if (found === null) return null;
  const { reason, lockedIn } = found;
  return {
    reason: typeof reason === 'string' ? reason : 'for a reason that could not be read',
    lockedIn: typeof lockedIn === 'string' ? lockedIn : null,
  };
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
