/**
 * The postmaster: the one Postgres server process of a cluster folder, found by its pid file, started, and stopped.
 *
 * Everything here is level-triggered: it looks at the pid file and at /proc, so it judges a server that somebody else started as well as our own.
 * When to start or stop one is decided in embedded-postgres.ts.
 */
import { spawn } from 'node:child_process';
import { open, readFile, readdir, readlink, realpath, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { EmbeddedAccount } from './embedded-account.ts';
import { isProcessAlive } from './embedded-processes.ts';

export interface Postmaster {
  pid: number;
  port: number;
  isReady: boolean;
}

export interface PostmasterCommand {
  postgres: string;
  clusterDir: string;
  /** How Postgres itself names the cluster folder; differs from `clusterDir` where a parent bars its account. */
  clusterPath: string;
  logFile: string;
  port: number;
  settings: Record<string, string>;
  account: EmbeddedAccount;
}

const LOOK_INTERVAL_MS = 20;
/** Crash recovery replays at most max_wal_size (64 MB): seconds, even on a slow disk. */
const READY_TIMEOUT_MS = 60_000;
const LOCK_RETRY_MS = 5_000;
const LEFTOVER_GRACE_MS = 2_000;
const FAST_STOP_MS = 6_000;
const LOCK_ERROR = /lock file "[^"]*" already exists|pre-existing shared memory block|is another postmaster/;
const PORT_ERROR = /could not bind|Address already in use|could not create any TCP\/IP sockets/;

export class PortTaken extends Error {}

/** The live postmaster of the folder, whoever started it; null when there is none, or the pid file names a process that is not it. */
export async function findPostmaster(clusterDir: string): Promise<Postmaster | null> {
  const text = await readFile(join(clusterDir, 'postmaster.pid'), 'utf8').catch(() => null);
  if (!text) return null;
  const [pidLine, , , portLine, , , , statusLine] = text.split('\n');
  const pid = Number(pidLine);
  if (!Number.isInteger(pid) || pid <= 0 || !(await isServerOf(pid, clusterDir))) return null;
  return { pid, port: Number(portLine), isReady: statusLine?.trim() === 'ready' };
}

/** Starts a server and waits until it accepts connections. Throws PortTaken, or an error with the end of the server's log. */
export async function startPostmaster(command: PostmasterCommand, signal: AbortSignal): Promise<Postmaster> {
  const retryUntil = Date.now() + LOCK_RETRY_MS;
  for (;;) {
    signal.throwIfAborted();
    await clearDeadServer(command.clusterDir);
    const result = await tryStart(command, signal);
    if ('pid' in result) return result;
    if (PORT_ERROR.test(result.log)) throw new PortTaken(`port ${command.port} is taken`);
    if (!LOCK_ERROR.test(result.log) || Date.now() > retryUntil) {
      throw new Error(`Postgres did not start (${result.reason}). The end of ${command.logFile}:\n${result.log}`);
    }
    await delay(100, undefined, { signal });
  }
}

/** Waits until the server accepts connections; null when it ends first. */
export async function waitUntilReady(clusterDir: string, signal: AbortSignal): Promise<Postmaster | null> {
  const until = Date.now() + READY_TIMEOUT_MS;
  for (;;) {
    const found = await findPostmaster(clusterDir);
    if (!found || found.isReady) return found;
    if (Date.now() > until)
      throw new Error(`Postgres (pid ${found.pid}) was not ready within ${READY_TIMEOUT_MS / 1000} s`);
    await delay(LOOK_INTERVAL_MS, undefined, { signal });
  }
}

/** Fast shutdown (SIGINT: sessions are ended, a checkpoint is written), then immediate, then SIGKILL; each is safe for committed data. */
export async function stopPostmaster(clusterDir: string): Promise<void> {
  for (const [signal, waitMs] of [
    ['SIGINT', FAST_STOP_MS],
    ['SIGQUIT', 1_500],
    ['SIGKILL', 1_000],
  ] as const) {
    const found = await findPostmaster(clusterDir);
    if (!found) return;
    sendSignal(found.pid, signal);
    const until = Date.now() + waitMs;
    while (Date.now() < until) {
      if (!isProcessAlive(found.pid)) return;
      await delay(LOOK_INTERVAL_MS);
    }
  }
}

async function tryStart(
  command: PostmasterCommand,
  signal: AbortSignal,
): Promise<Postmaster | { reason: string; log: string }> {
  const log = await open(command.logFile, 'a', 0o600);
  const logStart = (await log.stat()).size;
  let ended: string | null = null;
  try {
    const settings = Object.entries(command.settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    // Its own session: a terminal's Ctrl-C must reach us, who drain first, and not the database under us.
    const child = spawn(command.postgres, ['-D', command.clusterPath, '-p', String(command.port), ...settings], {
      cwd: command.clusterDir,
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
      env: { LC_ALL: 'C', PATH: '/usr/local/bin:/usr/bin:/bin' },
      ...command.account,
    });
    child.once('error', (error) => (ended = error.message));
    child.once('exit', (code, by) => (ended = `exit ${String(by ?? code)}`));
    child.unref();
    const until = Date.now() + READY_TIMEOUT_MS;
    while (ended === null && Date.now() < until) {
      if (signal.aborted && child.pid) sendSignal(child.pid, 'SIGINT');
      const found = await findPostmaster(command.clusterDir);
      if (found?.pid === child.pid && found?.isReady) return found;
      await delay(LOOK_INTERVAL_MS);
    }
    if (ended === null && child.pid) sendSignal(child.pid, 'SIGQUIT');
  } finally {
    await log.close();
  }
  const text = await readFile(command.logFile);
  return {
    reason: ended ?? `not ready within ${READY_TIMEOUT_MS / 1000} s`,
    log: text.subarray(logStart).toString('utf8').slice(-2_000),
  };
}

/**
 * What a killed postmaster leaves: backends that still hold its shared memory (they notice within moments, unless busy), and a pid file whose number may
 * by now belong to an unrelated process, which would make Postgres refuse to start. Called only when no postmaster of this folder lives. The pid file of
 * a dead process stays: with it Postgres itself checks that the old shared memory is free.
 */
async function clearDeadServer(clusterDir: string): Promise<void> {
  const graceUntil = Date.now() + LEFTOVER_GRACE_MS;
  const giveUpAt = graceUntil + LOCK_RETRY_MS;
  for (;;) {
    if (await findPostmaster(clusterDir)) return;
    const leftovers = await findProcessesIn(clusterDir);
    if (leftovers.length === 0) break;
    if (Date.now() > giveUpAt)
      throw new Error(`Processes of a dead Postgres still use ${clusterDir}: ${leftovers.join(', ')}`);
    if (Date.now() > graceUntil) for (const pid of leftovers) sendSignal(pid, 'SIGKILL');
    await delay(LOOK_INTERVAL_MS);
  }
  const pidFile = join(clusterDir, 'postmaster.pid');
  const pid = Number((await readFile(pidFile, 'utf8').catch(() => '')).split('\n')[0]);
  if (process.platform === 'linux' && pid > 0 && isProcessAlive(pid)) await rm(pidFile, { force: true });
}

async function isServerOf(pid: number, clusterDir: string): Promise<boolean> {
  if (!isProcessAlive(pid)) return false;
  if (process.platform !== 'linux') return true;
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  const [program] = commandLine.split('\0');
  return /(^|\/)postgres$/.test(program ?? '') && (await worksIn(pid, await realpath(clusterDir)));
}

async function findProcessesIn(clusterDir: string): Promise<number[]> {
  if (process.platform !== 'linux') return [];
  const folder = await realpath(clusterDir);
  const pids = (await readdir('/proc')).map(Number).filter((pid) => pid > 0 && pid !== process.pid);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
      return name.trim() === 'postgres' && isProcessAlive(pid) && (await worksIn(pid, folder));
    }),
  );
  return pids.filter((_, index) => found[index]);
}

/** Every Postgres process works in its cluster folder, however it was named on the command line. */
async function worksIn(pid: number, folder: string): Promise<boolean> {
  const [cwd, own] = await Promise.all([
    readlink(`/proc/${pid}/cwd`).catch(() => ''),
    stat(`/proc/${pid}/cwd`).catch(() => null),
  ]);
  return own !== null && cwd === folder;
}

function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
