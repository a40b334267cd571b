/**
 * The agent brings itself up to date: where the control plane hands out another one than this for some heartbeats, it is downloaded,
 * compared with the checksum, tried beside us (it must read our key and be answered), and put in our place; the process then ends, and its
 * service starts the new one. A new one that starts again and again, or is told by the control plane that it is not understood, puts the
 * old one back and is not tried again. One that does not come so far as to read this is put back by what starts it (start.sh of the
 * installer), which counts in a file of ours.
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
  /** Why this is not the agent that is handed out; null: it is, or will be. */
  readonly trouble: string | null;
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
  trouble: string | null;
}

/** While replicas of the control plane are replaced, they hand out different ones in turn. */
const SEEN_BEFORE = 3;
const MAX_STARTS = 5;
const MAX_COMPLAINTS = 5;
const MAX_REFUSED = 10;
const MAX_TROUBLE = 300;
/** Below the directory: how often start.sh has started one that was not answered yet, and that it put the one before back. */
export const UNPROVEN_STARTS = 'unproven-starts';
export const PUT_BACK = 'put-back';

/** @returns null where this very start put the one before back: end, and be started anew */
export function createUpdates(parts: UpdateParts): Updates | null {
  const { directory, program, log } = parts;
  if (program === null)
    return { consider: () => Promise.resolve(false), confirm: () => {}, complain: () => false, trouble: null };
  const stateFile = join(directory, 'update.json');
  const previousFile = `${program}.previous`;
  // By its name Node knows what it is.
  const nextFile = join(dirname(program), 'next.agent.mjs');
  const startsFile = join(directory, UNPROVEN_STARTS);
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
    refuse(own, reason);
    rmSync(startsFile, { force: true });
    renameSync(previousFile, program as string);
    return true;
  }

  function refuse(sha256: string, reason: string): void {
    const trouble = `the agent ${sha256.slice(0, 12)} was put out of use: ${reason}`.slice(0, MAX_TROUBLE);
    save({ trying: null, refused: [...state.refused, sha256].slice(-MAX_REFUSED), trouble });
  }

  /** What became of one that another start put in place, and that is not us. */
  function settleOther(): void {
    const putBackFile = join(directory, PUT_BACK);
    const wasPutBack = existsSync(putBackFile);
    if (state.trying !== null && state.trying.sha256 !== own) {
      if (wasPutBack) refuse(state.trying.sha256, 'it ended each time it was started, before it was answered');
      else save({ ...state, trying: null });
      rmSync(startsFile, { force: true });
    }
    if (wasPutBack) log(state.trouble ?? 'the agent of before was put back');
    rmSync(putBackFile, { force: true });
  }

  async function replace(sha256: string, file: string): Promise<boolean> {
    const text = await parts.download();
    if (digest(text) !== sha256) throw new Error('the download has another checksum than was announced');
    writePrivately(file, text);
    try {
      await parts.tryOut(file);
    } catch (error) {
      refuse(sha256, error instanceof Error ? error.message : String(error));
      throw error;
    }
    copyFileSync(program as string, previousFile);
    save({ ...state, trying: { sha256, previous: own, starts: 0 } });
    writePrivately(startsFile, '0\n');
    renameSync(file, program as string);
    log(`another agent (${sha256.slice(0, 12)}) is in place`);
    return true;
  }

  settleOther();
  if (state.trying?.sha256 === own) {
    const starts = state.trying.starts + 1;
    if (starts > MAX_STARTS && putBack(`it was started ${starts} times without being answered`)) return null;
    save({ ...state, trying: { ...state.trying, starts } });
  }

  return {
    get trouble() {
      return state.trouble;
    },
    async consider(sha256, { isBusy }) {
      if (sha256 === own && state.trouble !== null) save({ ...state, trouble: null });
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
      save({ ...state, trying: null, trouble: null });
      rmSync(startsFile, { force: true });
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
  const refused = Array.isArray(kept?.refused) ? kept.refused : [];
  return { trying: kept?.trying ?? null, refused, trouble: typeof kept?.trouble === 'string' ? kept.trouble : null };
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
