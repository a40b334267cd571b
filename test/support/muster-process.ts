/** A real Muster in a process of its own, on a data directory of its own, against a sandbox that the test holds. */
import { spawn, type ChildProcess } from 'node:child_process';
import { createServer } from 'node:net';
import { join } from 'node:path';

const PROJECT = join(import.meta.dirname, '..', '..');
/** Seconds on a machine at rest; one that is crowded is not what tests are about. */
const START_BOUND_MS = 180_000;
const SLOWEST_LOOK_MS = 150;
export const ADMIN_KEY = 'mk_test0123456789abcdef0123456789abcdef';

export interface MusterProcessOptions {
  dataDir: string;
  sandboxPort: number;
  /** @default a free one, kept over restarts */
  port?: number;
  env?: Record<string, string>;
  /** @default ADMIN_KEY, which everybody knows */
  adminKey?: string;
  /** Module that node imports first. */
  preload?: string;
}

export interface MusterProcess {
  readonly url: string;
  readonly pid: number;
  readonly output: () => string;
  isRunning(): boolean;
  start(): Promise<void>;
  /** Resolves when the process is gone. */
  kill(signal: NodeJS.Signals): Promise<number | null>;
  request<T = Record<string, unknown>>(
    method: string,
    path: string,
    body?: unknown,
    headers?: Record<string, string>,
  ): Promise<{ status: number; body: T }>;
}

export async function createMusterProcess(options: MusterProcessOptions): Promise<MusterProcess> {
  const port = options.port ?? (await findFreePort());
  const url = `http://127.0.0.1:${port}`;
  const adminKey = options.adminKey ?? ADMIN_KEY;
  let child: ChildProcess | undefined;
  let output = '';
  const isRunning = () => child !== undefined && child.exitCode === null && child.signalCode === null;
  return {
    url,
    get pid() {
      return child?.pid ?? 0;
    },
    output: () => output,
    isRunning,
    async start() {
      const started = spawn(
        process.execPath,
        [
          ...(options.preload ? ['--import', options.preload] : []),
          '--max-semi-space-size=2',
          '--disable-warning=ExperimentalWarning',
          'main.ts',
        ],
        {
          cwd: PROJECT,
          env: {
            PATH: process.env['PATH'] ?? '',
            HOME: process.env['HOME'] ?? '',
            ...pick('XDG_CACHE_HOME', 'NODE_COMPILE_CACHE'),
            MUSTER_DATA_DIR: options.dataDir,
            MUSTER_PORT: String(port),
            MUSTER_SANDBOX_PORT: String(options.sandboxPort),
            MUSTER_ADMIN_API_KEY: adminKey,
            MUSTER_LOG_LEVEL: 'info',
            // Machines with agents are real processes: only where a test is about them.
            MUSTER_AGENT: 'off',
            MUSTER_MAX_INSTANCES: '1000',
            MUSTER_MAX_BURN_USD_PER_HOUR: '1000',
            ...options.env,
          },
          stdio: ['ignore', 'pipe', 'pipe'],
        },
      );
      child = started;
      for (const stream of [started.stdout, started.stderr]) {
        stream.on('data', (data: Buffer) => (output = (output + data.toString()).slice(-200_000)));
      }
      await waitFor(async () => {
        if (!isRunning()) throw new Error(`muster ended (${started.signalCode ?? started.exitCode}):\n${output}`);
        return fetch(`${url}/health`).then(
          (reply) => reply.ok,
          () => false,
        );
      }, START_BOUND_MS);
    },
    async kill(signal) {
      const victim = child;
      if (!victim || !isRunning()) return victim?.exitCode ?? null;
      const ended = new Promise<number | null>((resolve) => victim.once('exit', (code) => resolve(code)));
      victim.kill(signal);
      return ended;
    },
    async request(method, path, body, headers = {}) {
      const reply = await fetch(`${url}${path}`, {
        method,
        headers: {
          authorization: `Bearer ${adminKey}`,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(60_000),
      });
      const text = await reply.text();
      return { status: reply.status, body: (text === '' ? {} : JSON.parse(text)) as never };
    },
  };
}

function pick(...names: string[]): Record<string, string> {
  return Object.fromEntries(names.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])));
}

/** Level-triggered wait: asks until true or the bound; less often the longer it takes, for whoever is asked works meanwhile. */
export async function waitFor(
  check: () => Promise<boolean> | boolean,
  boundMs: number,
  what = 'a condition',
  everyMs = 25,
): Promise<void> {
  const deadline = performance.now() + boundMs;
  const slowestMs = Math.max(everyMs, SLOWEST_LOOK_MS);
  for (let pauseMs = everyMs; !(await check()); pauseMs = Math.min(slowestMs, pauseMs * 1.1)) {
    if (performance.now() > deadline) throw new Error(`${what} did not come true within ${boundMs / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

/** A port whose two neighbours above are free too, so that a sandbox fits. */
export async function findFreePort(width = 1): Promise<number> {
  for (let tries = 0; tries < 50; tries++) {
    const first = await probe(0);
    if (first === null) continue;
    const rest = await Promise.all(Array.from({ length: width - 1 }, (_, index) => probe(first + 1 + index)));
    if (rest.every((port) => port !== null)) return first;
  }
  throw new Error('no free ports');
}

function probe(port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(null));
    server.listen(port, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : null));
    });
  });
}
