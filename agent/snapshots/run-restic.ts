/**
 * Running restic: a child in a process group of its own, which ends whole. Secrets go by environment, never by argument; its input is shut.
 * What goes wrong at the store it tries again by itself for a quarter of an hour: a file that is not there is not waited for.
 */
import { spawn } from 'node:child_process';
import { setPriority } from 'node:os';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

export interface ResticRun {
  args: readonly string[];
  /** All that it sees beside PATH. */
  env: Readonly<Record<string, string>>;
  cwd?: string;
  /** Ends it, and everything it started. */
  signal: AbortSignal;
  /** Of its standard output; each is bounded by restic itself. What it throws ends the run and is thrown. */
  onLine?: (line: string) => void;
  /** Takes its standard output instead. What it throws ends the run and is thrown. */
  consume?: (output: Readable) => Promise<void>;
  onStarted?: (pid: number) => void;
  /** Everything else on the machine comes first. @default false */
  isBackground?: boolean;
}

export interface ResticOutcome {
  /** null: it was ended. */
  code: number | null;
  /** What it said of errors: the last lines, without secrets. */
  trouble: string;
  /** Why we ended it: asked to, a file is missing at the store, or the store does not answer. */
  ended: 'asked' | 'missing' | 'unreachable' | null;
}

const GRACE_MS = 3_000;
const MAX_TROUBLE = 4_000;
/** So often may restic look for a file that the store says is not there: some stores show it late. */
const MISSING_TRIES = 3;
/** Longer without a success is no passing trouble. */
const UNREACHABLE_MS = 120_000;
const NICENESS = 10;
const RETRY = /returned error, retrying after/;
const MISSING = /no such file or directory|does not exist|specified key|not ?found|\b404\b/i;

/** Rejects only where the program cannot be started, or `consume` throws. */
export async function runRestic(program: string, run: ResticRun): Promise<ResticOutcome> {
  const child = spawn(program, [...run.args], {
    cwd: run.cwd,
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', ...run.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const closed = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code));
  });
  closed.catch(() => {});
  const group = createGroup(child.pid);
  const watch = watchTrouble(child.stderr, Object.values(run.env), group.end);
  const onAbort = () => {
    watch.ended ??= 'asked';
    group.end();
  };
  run.signal.addEventListener('abort', onAbort, { once: true });
  if (run.signal.aborted) onAbort();
  try {
    if (child.pid !== undefined) {
      if (run.isBackground === true) beNice(child.pid);
      run.onStarted?.(child.pid);
    }
    if (run.consume) await run.consume(child.stdout);
    else await readLines(child.stdout, run.onLine);
    const code = await closed;
    return { code: watch.ended === null ? code : null, trouble: watch.text(), ended: watch.ended };
  } catch (error) {
    group.end();
    await closed.catch(() => {});
    // Its output ended early because we ended it.
    if (watch.ended !== null) return { code: null, trouble: watch.text(), ended: watch.ended };
    throw error;
  } finally {
    run.signal.removeEventListener('abort', onAbort);
    group.forget();
    watch.stop();
  }
}

function createGroup(pid: number | undefined) {
  let timer: NodeJS.Timeout | undefined;
  const send = (signal: NodeJS.Signals) => {
    try {
      if (pid !== undefined) process.kill(-pid, signal);
    } catch {
      // It has ended.
    }
  };
  return {
    end() {
      if (timer !== undefined) return;
      send('SIGTERM');
      timer = setTimeout(() => send('SIGKILL'), GRACE_MS);
    },
    /** It has ended; whatever it left behind does too. */
    forget() {
      if (timer === undefined) return;
      clearTimeout(timer);
      send('SIGKILL');
    },
  };
}

interface TroubleWatch {
  ended: ResticOutcome['ended'];
  text(): string;
  stop(): void;
}

function watchTrouble(stderr: Readable, secrets: readonly string[], end: () => void): TroubleWatch {
  let kept = '';
  const missing = new Map<string, number>();
  let retryingSince: number | null = null;
  const hidden = secrets.filter((value) => value.length >= 8);
  const lines = createInterface({ input: stderr });
  lines.on('line', (raw) => {
    const line = hidden.reduce((text, secret) => text.replaceAll(secret, '[secret]'), raw).slice(0, 1_000);
    kept = `${kept}${line}\n`.slice(-MAX_TROUBLE);
    if (!RETRY.test(line)) return;
    const now = performance.now();
    retryingSince = retryingSince !== null && now - retryingSince < 2 * UNREACHABLE_MS ? retryingSince : now;
    const file = /<[^>]+>/.exec(line)?.[0] ?? '';
    const tries = (missing.get(file) ?? 0) + 1;
    if (line.startsWith('Load') && MISSING.test(line)) missing.set(file, tries);
    const why =
      (missing.get(file) ?? 0) >= MISSING_TRIES
        ? 'missing'
        : now - retryingSince > UNREACHABLE_MS
          ? 'unreachable'
          : null;
    if (why === null) return;
    watch.ended ??= why;
    end();
  });
  const watch: TroubleWatch = { ended: null, text: () => kept.trim(), stop: () => lines.close() };
  return watch;
}

async function readLines(output: Readable, onLine: ((line: string) => void) | undefined): Promise<void> {
  for await (const line of createInterface({ input: output })) onLine?.(line);
}

function beNice(pid: number): void {
  try {
    setPriority(pid, NICENESS);
  } catch {
    // It runs at ours then.
  }
}

/** What a program says of its version; null: it is no restic, or cannot be run here. */
export async function readResticVersion(program: string): Promise<string | null> {
  let text = '';
  try {
    const { code } = await runRestic(program, {
      args: ['version'],
      env: {},
      signal: AbortSignal.timeout(10_000),
      onLine: (line) => (text += line),
    });
    return code === 0 ? (/^restic (\d+\.\d+\.\d+)/.exec(text)?.[1] ?? null) : null;
  } catch {
    return null;
  }
}

/** 0.14 is the first whose repositories compress, and the oldest that is tried. */
export function isResticNewEnough(version: string, least: readonly [number, number] = [0, 14]): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > least[0] || (major === least[0] && minor >= least[1]);
}
