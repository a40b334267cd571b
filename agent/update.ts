/**
 * The agent brings itself up to date: where the control plane hands out another one than this for some heartbeats, it is downloaded,
 * compared with the checksum, tried beside us (it must read our key and be answered), and put in our place; the process then ends, and its
 * service starts the new one. A new one that starts again and again, or is told by the control plane that it is not understood, puts the
 * old one back and is not tried again.
 */
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readIfThere, readJson, writePrivately } from './private-file.ts';

export interface Updates {
  /** What the control plane hands out now; null: not known. @returns whether the file was changed: end, and be started anew */
  consider(sha256: string | null, options: { isBusy: boolean }): Promise<boolean>;
  /** This agent is answered as it should be. */
  confirm(): void;
  /** This agent is not understood. @returns whether the one before was put back: end, and be started anew */
  complain(): boolean;
}

export interface UpdateParts {
  /** Where the state is kept. */
  directory: string;
  /** The one file that we run from; null: updates are off. */
  program: string | null;
  download: () => Promise<string>;
  /** Runs a program beside us until it was answered. Throws what is wrong with it. */
  tryOut: (program: string) => Promise<void>;
  monotonicMs: () => number;
  random: () => number;
  /** Over which a fleet spreads its downloads. */
  spreadMs: number;
  log: (message: string) => void;
}

interface State {
  /** Put in place and not confirmed. */
  trying: { sha256: string; previous: string; starts: number } | null;
  /** Not to be tried again. */
  refused: string[];
}

/** While replicas of the control plane are replaced, they hand out different ones in turn. */
const SEEN_BEFORE = 3;
const MAX_STARTS = 5;
const MAX_COMPLAINTS = 5;
const MAX_REFUSED = 10;

/** @returns null where this very start put the one before back: end, and be started anew */
export function createUpdates(parts: UpdateParts): Updates | null {
  const { directory, program, log } = parts;
  if (program === null) return { consider: () => Promise.resolve(false), confirm: () => {}, complain: () => false };
  const stateFile = join(directory, 'update.json');
  const previousFile = `${program}.previous`;
  // By its name Node knows what it is.
  const nextFile = join(dirname(program), 'next.agent.mjs');
  const own = digest(readIfThere(program) ?? '');
  let state = readState(stateFile);
  let seen = { sha256: own, times: 0, dueAtMs: 0 };
  let complaints = 0;
  let isUnderWay = false;

  function save(next: State): void {
    state = next;
    writePrivately(stateFile, JSON.stringify(next));
  }

  function putBack(reason: string): boolean {
    const { trying } = state;
    if (trying?.sha256 !== own || !existsSync(previousFile)) return false;
    log(`this agent is put out of use again: ${reason}`);
    save({ trying: null, refused: [...state.refused, own].slice(-MAX_REFUSED) });
    renameSync(previousFile, program as string);
    return true;
  }

  async function replace(sha256: string, file: string): Promise<boolean> {
    const text = await parts.download();
    if (digest(text) !== sha256) throw new Error('the download has another checksum than was announced');
    writePrivately(file, text);
    try {
      await parts.tryOut(file);
    } catch (error) {
      save({ ...state, refused: [...state.refused, sha256].slice(-MAX_REFUSED) });
      throw error;
    }
    copyFileSync(program as string, previousFile);
    save({ ...state, trying: { sha256, previous: own, starts: 0 } });
    renameSync(file, program as string);
    log(`another agent (${sha256.slice(0, 12)}) is in place`);
    return true;
  }

  if (state.trying?.sha256 === own) {
    const starts = state.trying.starts + 1;
    if (starts > MAX_STARTS && putBack(`it was started ${starts} times without being answered`)) return null;
    save({ ...state, trying: { ...state.trying, starts } });
  }

  return {
    async consider(sha256, { isBusy }) {
      if (sha256 === null || sha256 === own || isUnderWay || state.refused.includes(sha256)) return false;
      const now = parts.monotonicMs();
      if (seen.sha256 !== sha256) seen = { sha256, times: 0, dueAtMs: now + parts.random() * parts.spreadMs };
      seen.times++;
      if (isBusy || seen.times < SEEN_BEFORE || now < seen.dueAtMs) return false;
      isUnderWay = true;
      const file = nextFile;
      try {
        return await replace(sha256, file);
      } catch (error) {
        log(`the update to ${sha256.slice(0, 12)} failed: ${error instanceof Error ? error.message : String(error)}`);
        seen = { sha256, times: 0, dueAtMs: now + parts.spreadMs };
        return false;
      } finally {
        rmSync(file, { force: true });
        isUnderWay = false;
      }
    },
    confirm() {
      complaints = 0;
      if (state.trying?.sha256 !== own) return;
      save({ ...state, trying: null });
      log('this agent is confirmed');
    },
    complain() {
      complaints++;
      return complaints >= MAX_COMPLAINTS && putBack(`it was not understood ${complaints} times`);
    },
  };
}

function readState(file: string): State {
  const kept = readJson(file) as Partial<State> | null;
  return { trying: kept?.trying ?? null, refused: Array.isArray(kept?.refused) ? kept.refused : [] };
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
