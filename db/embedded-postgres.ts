/**
 * The embedded Postgres: a real Postgres that Muster brings along when no DATABASE_URL is given, shared by every Muster process on one data directory.
 *
 * Whoever comes first starts the server; who comes later, or after a kill -9, adopts the live one. All of them watch it and the first to notice its death
 * starts it again on the same port, so that pools reconnect. The last one to leave stops it. It knows nothing of Muster's tables.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { acquireProcessLock } from '../scripts/process-lock.mjs';
import type { EmbeddedAccount } from './embedded-account.ts';
import { ensureEmbeddedAccount } from './embedded-account.ts';
import type { EmbeddedBinaries } from './embedded-binaries.ts';
import { prepareEmbeddedBinaries } from './embedded-binaries.ts';
import type { EmbeddedCluster } from './embedded-cluster.ts';
import { EMBEDDED_DATABASE, EMBEDDED_OWNER, choosePort, homeOf, openEmbeddedCluster } from './embedded-cluster.ts';
import type { Postmaster } from './embedded-postmaster.ts';
import { PortTaken, startPostmaster, stopPostmaster, waitUntilReady } from './embedded-postmaster.ts';
import { addUser, isProcessAlive, listUsers, removeUser } from './embedded-processes.ts';

/** `restarting`: the server died and is being started again; `failed`: given up after RESTART_LIMIT tries in a row. */
export type EmbeddedState = 'starting' | 'ready' | 'restarting' | 'failed' | 'stopped';

export interface EmbeddedPostgresOptions {
  /** The data directory (MUSTER_DATA_DIR); Postgres lives in its folder `postgres`. Under root it is made searchable (711). */
  dataDir: string;
  /** Where binaries are copied when the account cannot read them in node_modules. */
  cacheDir: string;
  log: (message: string) => void;
  onStateChange?: (state: EmbeddedState, detail: string) => void;
  /** Aborts the start; a server that was being started is stopped. */
  signal?: AbortSignal;
  /** False only in tests: no fsync, so a power cut may lose the cluster. @default true */
  isDurable?: boolean;
  /** @default 60 */
  maxConnections?: number;
}

export interface EmbeddedPostgres {
  /** The owner's (superuser's) URL of the database `muster`, password included: never log it. Constant through restarts. */
  url: string;
  port: number;
  /** Whether this process started the server or found it running. */
  isAdopted: boolean;
  /** The postmaster of now; changes at a restart. */
  readonly pid: number;
  readonly state: EmbeddedState;
  /** Leaves the server, and stops it when no other live process uses it. Idempotent. */
  stop(): Promise<void>;
}

const WATCH_INTERVAL_MS = 100;
/** A server that dies sooner than this after being ready counts as a failed start. */
const SETTLED_MS = 1_000;
const RESTART_LIMIT = 10;
const RESTART_BACKOFF_MS = [0, 100, 200, 500, 1_000, 2_000, 5_000];

/** Starts or adopts the server of the data directory and watches it from then on. Throws one clear message when it cannot be had. */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const supervision = createSupervision(options);
  return supervision.begin();
}

function createSupervision(options: EmbeddedPostgresOptions) {
  const { log, onStateChange } = options;
  const stopping = new AbortController();
  const signal = options.signal ? AbortSignal.any([stopping.signal, options.signal]) : stopping.signal;
  let state: EmbeddedState = 'starting';
  let place: Place;
  let server: Postmaster;
  let userName: string;
  let stopped: Promise<void> | null = null;
  let watching: Promise<void> = Promise.resolve();

  function enter(next: EmbeddedState, detail: string): void {
    state = next;
    log(detail);
    onStateChange?.(next, detail);
  }

  async function begin(): Promise<EmbeddedPostgres> {
    const account = await ensureEmbeddedAccount();
    const binaries = await prepareEmbeddedBinaries(account, options.cacheDir);
    const lockName = `postgres:${await homeOf(options.dataDir, account)}`;
    const release = await acquireProcessLock(lockName, {
      signal,
      onWait: () => log('Postgres is being started by another process; waiting'),
    });
    let isAdopted = false;
    try {
      const cluster = await openEmbeddedCluster(options.dataDir, account, binaries, options.isDurable ?? true);
      place = { account, binaries, cluster, lockName, settings: settingsOf(options) };
      const found = await waitUntilReady(cluster.clusterDir, signal);
      isAdopted = found !== null;
      server = found ?? (await startAnywhere(place, signal));
      userName = await addUser(cluster.usersDir);
    } finally {
      await release();
    }
    enter('ready', `Postgres ${isAdopted ? 'adopted' : 'started'} on port ${server.port} (pid ${server.pid})`);
    watching = watch();
    const { port } = server;
    const { password } = place.cluster;
    return {
      url: `postgres://${EMBEDDED_OWNER}:${password}@127.0.0.1:${port}/${EMBEDDED_DATABASE}`,
      port,
      isAdopted,
      get pid() {
        return server.pid;
      },
      get state() {
        return state;
      },
      stop: () => (stopped ??= stop()),
    };
  }

  async function watch(): Promise<void> {
    let failures = 0;
    while (!stopping.signal.aborted) {
      const readySince = Date.now();
      while (isProcessAlive(server.pid)) {
        if (!(await pause(WATCH_INTERVAL_MS, stopping.signal))) return;
      }
      failures = Date.now() - readySince < SETTLED_MS ? failures + 1 : 0;
      const port = server.port;
      enter('restarting', `Postgres (pid ${server.pid}) died; starting it again on port ${port}`);
      for (;;) {
        if (failures >= RESTART_LIMIT)
          return enter(
            'failed',
            `Postgres could not be kept alive: ${failures} starts in a row failed. See ${place.cluster.logFile}`,
          );
        if (!(await pause(RESTART_BACKOFF_MS[Math.min(failures, RESTART_BACKOFF_MS.length - 1)] ?? 0, stopping.signal)))
          return;
        try {
          server = await revive(port);
          break;
        } catch (error) {
          if (stopping.signal.aborted) return;
          failures += 1;
          log(`Postgres restart ${failures} of ${RESTART_LIMIT} failed: ${(error as Error).message}`);
        }
      }
      enter('ready', `Postgres is back on port ${server.port} (pid ${server.pid})`);
    }
  }

  /** Another process that watches the same server may have been quicker. */
  async function revive(port: number): Promise<Postmaster> {
    const release = await acquireProcessLock(place.lockName, { signal: stopping.signal });
    try {
      const found = await waitUntilReady(place.cluster.clusterDir, stopping.signal);
      return found ?? (await startOn(place, port, stopping.signal));
    } finally {
      await release();
    }
  }

  async function stop(): Promise<void> {
    stopping.abort(new Error('Postgres is being stopped'));
    await watching;
    const release = await acquireProcessLock(place.lockName);
    try {
      await removeUser(place.cluster.usersDir, userName);
      const others = await listUsers(place.cluster.usersDir);
      if (others.length === 0) await stopPostmaster(place.cluster.clusterDir);
      enter(
        'stopped',
        others.length === 0 ? 'Postgres stopped' : `Postgres left running for process ${others.join(', ')}`,
      );
    } finally {
      await release();
    }
  }

  return { begin };
}

interface Place {
  account: EmbeddedAccount;
  binaries: EmbeddedBinaries;
  cluster: EmbeddedCluster;
  lockName: string;
  settings: Record<string, string>;
}

/** On the port of last time, or another one when somebody else took it meanwhile: at a first start nobody of ours remembers it. */
async function startAnywhere(place: Place, signal: AbortSignal): Promise<Postmaster> {
  for (let triesLeft = 5; ; triesLeft -= 1) {
    const port = await choosePort(place.cluster, triesLeft < 5);
    try {
      return await startOn(place, port, signal);
    } catch (error) {
      if (!(error instanceof PortTaken) || triesLeft === 0) throw error;
    }
  }
}

function startOn(place: Place, port: number, signal: AbortSignal): Promise<Postmaster> {
  const { account, binaries, cluster, settings } = place;
  const { clusterDir, clusterPath, logFile } = cluster;
  return startPostmaster(
    { postgres: binaries.postgres, clusterDir, clusterPath, logFile, port, settings, account },
    signal,
  );
}

/** Small on purpose: an idle server is to stay under 60 MB. What guards data (fsync, synchronous_commit, full_page_writes) stays on outside tests. */
function settingsOf({ isDurable = true, maxConnections = 60 }: EmbeddedPostgresOptions): Record<string, string> {
  return {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: String(maxConnections),
    shared_buffers: '16MB',
    huge_pages: 'off',
    jit: 'off',
    // No replicas hang on an embedded server; these also spare two idle processes.
    wal_level: 'minimal',
    max_wal_senders: '0',
    max_logical_replication_workers: '0',
    io_method: 'sync',
    max_wal_size: '64MB',
    min_wal_size: '32MB',
    max_parallel_workers: '2',
    autovacuum_max_workers: '1',
    log_timezone: 'UTC',
    timezone: 'UTC',
    log_line_prefix: '%m [%p] ',
    synchronous_commit: isDurable ? 'on' : 'off',
    ...(isDurable ? {} : { fsync: 'off', full_page_writes: 'off' }),
  };
}

/** False when stopped meanwhile. Does not keep the process alive. */
function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  return delay(ms, true, { signal, ref: false }).catch(() => false);
}
