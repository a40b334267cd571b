/**
 * The pool of operation children: warm processes, each running one update at a time, each in a process group of its own together
 * with the engine it starts. A child is replaced after many runs, when it has grown, and when it dies.
 *
 * A run is lent a child by `run`; whatever way the run ends, nothing of it is left running.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { getCompileCacheDir } from 'node:module';
import { dirname, join } from 'node:path';
import { ProviderError } from '../../domain/provider-error.ts';
import type {
  ChildSettings,
  FromChild,
  Questions,
  ResourceProgress,
  RunRequest,
  RunResult,
  ToChild,
} from './protocol.ts';

/** Inline programs leak a little (RSS 191 → 200 MB over 8 runs); both bounds are generous. */
const MAX_RUNS = 50;
const MAX_RSS_BYTES = 450 * 1024 * 1024;
/** A child that is not ready by then is killed and replaced. */
const WARM_UP_MS = 60_000;
/** How long an interrupted update may take to wind down before its group is killed. */
const CANCEL_GRACE_MS = 60_000;
/**
 * One that has nothing under way and says nothing for so long will not: an engine that is interrupted between its last resource and the end
 * of its update was seen to wait for itself (3.259.0, with the state at a service). Its journal is whole by then.
 */
const IDLE_GRACE_MS = 10_000;
const GRACE_LOOK_MS = 500;

export interface RunHooks {
  answer<Q extends keyof Questions>(question: Q, input: Questions[Q]['ask']): Promise<Questions[Q]['answer']>;
  onResources(resources: ResourceProgress[]): void;
  onProgress(message: string): void;
}

export interface ChildPool {
  /** Runs one update. An aborted `cancel` interrupts the engine and lets it wind down; an aborted `kill` (lease lost) ends it at once. */
  run(request: RunRequest, hooks: RunHooks, signals: { cancel: AbortSignal; kill: AbortSignal }): Promise<RunResult>;
  /** Tells the running updates that their lease was renewed. */
  extendLease(runId: string, validForMs: number): void;
  /** Starts `size` children now instead of at the first run. */
  warm(): void;
  close(): Promise<void>;
}

export interface ChildPoolOptions {
  size: number;
  settings: Omit<ChildSettings, 'scratchDir'>;
  scratchDir: string;
  onChildError: (message: string) => void;
  /** How long an interrupted update that has nothing under way may be silent before its group is killed. @default 10000 */
  idleGraceMs?: number;
}

interface Child {
  process: ChildProcess;
  ready: Promise<void>;
  runs: number;
  rssBytes: number;
  scratchDir: string;
  /** The end of what it printed: why it ended, when it ended itself. */
  lastWords(): string;
}

export function createChildPool(options: ChildPoolOptions): ChildPool {
  const idle: Child[] = [];
  const all = new Set<Child>();
  const waiting: ((child: Child) => void)[] = [];
  const running = new Map<string, Child>();
  let isClosed = false;
  let serial = 0;
  rmSync(options.scratchDir, { recursive: true, force: true });
  mkdirSync(options.scratchDir, { recursive: true, mode: 0o700 });

  function start(): Child {
    const scratchDir = join(options.scratchDir, `child-${++serial}`);
    const child = startChild(options, scratchDir);
    all.add(child);
    child.process.once('exit', () => {
      all.delete(child);
      const at = idle.indexOf(child);
      if (at >= 0) idle.splice(at, 1);
      killGroup(child);
      rmSync(scratchDir, { recursive: true, force: true });
    });
    return child;
  }
  async function borrow(): Promise<Child> {
    const free = idle.pop() ?? (all.size < options.size ? start() : undefined);
    const child = free ?? (await new Promise<Child>((resolve) => waiting.push(resolve)));
    try {
      await child.ready;
      return child;
    } catch (error) {
      killGroup(child);
      // Whoever waits for a child must not wait for one that died while it started.
      const waiter = isClosed ? undefined : waiting.shift();
      if (waiter) waiter(start());
      options.onChildError(error instanceof Error ? error.message : String(error));
      throw error;
    }
  }
  function giveBack(child: Child): void {
    const isSpent = child.runs >= MAX_RUNS || child.rssBytes > MAX_RSS_BYTES || !child.process.connected;
    if (isSpent || isClosed) killGroup(child);
    if (isClosed) return;
    const next = isSpent ? start() : child;
    const waiter = waiting.shift();
    if (waiter) waiter(next);
    else idle.push(next);
  }
  return {
    async run(request, hooks, signals) {
      const child = await borrow();
      running.set(request.runId, child);
      try {
        return await runIn(child, request, hooks, signals, options.idleGraceMs ?? IDLE_GRACE_MS);
      } finally {
        running.delete(request.runId);
        giveBack(child);
      }
    },
    extendLease(runId, validForMs) {
      const child = running.get(runId);
      if (child) post(child, { type: 'lease', runId, validForMs });
    },
    warm() {
      while (!isClosed && all.size < options.size) idle.push(start());
      for (const child of idle) child.ready.catch((error: unknown) => options.onChildError(String(error)));
    },
    async close() {
      isClosed = true;
      const ended = [...all].map((child) => new Promise((resolve) => child.process.once('exit', resolve)));
      for (const child of all) killGroup(child);
      await Promise.all(ended);
    },
  };
}

function startChild(options: ChildPoolOptions, scratchDir: string): Child {
  const child = fork(join(import.meta.dirname, 'child', 'main.ts'), [], {
    detached: true,
    cwd: options.settings.projectRoot,
    execArgv: [...importFlags(process.execArgv), '--disable-warning=ExperimentalWarning'],
    env: {
      PATH: process.execPath.replace(/\/[^/]*$/, '') + ':/usr/local/bin:/usr/bin:/bin',
      HOME: scratchDir,
      MUSTER_PROVIDER_ENTRY: join(options.settings.projectRoot, 'providers-dynamic', 'entry.ts'),
      NODE_COMPILE_CACHE: findCompileCache(options.scratchDir),
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  const said: string[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (data: Buffer) => {
      said.push(data.toString());
      if (said.length > 20) said.shift();
    });
  }
  const made: Child = {
    process: child,
    ready: Promise.resolve(),
    runs: 0,
    rssBytes: 0,
    scratchDir,
    lastWords: () => said.join('').slice(-500),
  };
  made.ready = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('an operation child did not become ready')), WARM_UP_MS);
    child.once('exit', (code, signal) => {
      clearTimeout(timer);
      reject(new Error(`an operation child ended (${signal ?? code}): ${made.lastWords()}`));
    });
    child.on('message', (message: FromChild) => {
      if (message.type !== 'ready') return;
      clearTimeout(timer);
      made.rssBytes = message.rssBytes;
      resolve();
    });
  });
  made.ready.catch(() => {});
  post(made, { type: 'settings', settings: { ...options.settings, scratchDir } });
  return made;
}

/** The one of this process where it has one (node gives its folder for one version of itself): most of the modules are the same. */
function findCompileCache(scratchDir: string): string {
  const ours = getCompileCacheDir();
  return ours === undefined ? join(scratchDir, '..', 'compile-cache') : dirname(ours);
}

/** Modules that this process was told to import first; its other flags (memory bounds) are not a child's. */
function importFlags(flags: readonly string[]): string[] {
  return flags.filter((flag, index) => flag.startsWith('--import') || flags[index - 1] === '--import');
}

function runIn(
  child: Child,
  request: RunRequest,
  hooks: RunHooks,
  signals: { cancel: AbortSignal; kill: AbortSignal },
  idleGraceMs: number,
): Promise<RunResult> {
  return new Promise((resolve) => {
    let graceTimer: NodeJS.Timeout | undefined;
    /** Resources, and questions, that something is being done about. */
    const underWay = new Set<string>();
    let heardAt = performance.now();
    const onExit = () => finish(died(`CLI was closed: the operation child ended. ${child.lastWords()}`.trim()));
    const onCancel = () => {
      post(child, { type: 'cancel', runId: request.runId });
      const askedAt = performance.now();
      graceTimer ??= setInterval(() => {
        const now = performance.now();
        const isIdle = underWay.size === 0 && now - Math.max(heardAt, askedAt) >= idleGraceMs;
        if (isIdle || now - askedAt >= CANCEL_GRACE_MS) killGroup(child);
      }, GRACE_LOOK_MS);
    };
    const onKill = () => killGroup(child);
    const onMessage = (message: FromChild) => {
      if (!('runId' in message) || message.runId !== request.runId) return;
      heardAt = performance.now();
      if (message.type === 'resources') {
        for (const { type, name, op, status } of message.resources) {
          if (status === 'started') underWay.add(`${op} ${type} ${name}`);
          else underWay.delete(`${op} ${type} ${name}`);
        }
        hooks.onResources(message.resources);
      } else if (message.type === 'progress') hooks.onProgress(message.message);
      else if (message.type === 'ask') {
        const asked = `question ${message.askId}`;
        underWay.add(asked);
        void answer(child, hooks, message).finally(() => underWay.delete(asked));
      } else if (message.type === 'result') {
        child.rssBytes = message.rssBytes;
        finish(message.result);
      }
    };
    function finish(result: RunResult): void {
      clearInterval(graceTimer);
      child.process.off('exit', onExit).off('message', onMessage);
      signals.cancel.removeEventListener('abort', onCancel);
      signals.kill.removeEventListener('abort', onKill);
      child.runs++;
      resolve(result);
    }
    child.process.on('message', onMessage).once('exit', onExit);
    signals.cancel.addEventListener('abort', onCancel, { once: true });
    signals.kill.addEventListener('abort', onKill, { once: true });
    if (signals.kill.aborted || !child.process.connected) {
      killGroup(child);
      return finish(died('killed before it began'));
    }
    post(child, { type: 'run', request });
    if (signals.cancel.aborted) onCancel();
  });
}

function died(errorText: string): RunResult {
  return { isOk: false, errorText, failures: {}, changes: {}, outputs: {}, steps: [], drift: [] };
}

async function answer(child: Child, hooks: RunHooks, ask: Extract<FromChild, { type: 'ask' }>): Promise<void> {
  try {
    const value = await hooks.answer(ask.question, ask.input as never);
    post(child, { type: 'answer', askId: ask.askId, value });
  } catch (error) {
    const kind = error instanceof ProviderError ? error.kind : null;
    post(child, {
      type: 'answer',
      askId: ask.askId,
      error: { kind, message: error instanceof Error ? error.message : String(error) },
    });
  }
}

function post(child: Child, message: ToChild): void {
  if (child.process.connected) child.process.send(message, () => {}); // a child that died meanwhile is noticed by its exit
}

function killGroup(child: Child): void {
  const pid = child.process.pid;
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // the group is gone
  }
}
