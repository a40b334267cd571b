/**
 * The embedded cluster: the folder `<data directory>/postgres` with everything that one Postgres needs between runs (data files, password, port, log),
 * made once and found again. Starting the server on it is embedded-postmaster.ts.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, readdir, realpath, rename, rm, stat, truncate, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { EmbeddedAccount } from './embedded-account.ts';
import { findBarrier, giveTo, makeSearchable } from './embedded-account.ts';
import type { EmbeddedBinaries } from './embedded-binaries.ts';

export interface EmbeddedCluster {
  /** The data files (PGDATA), owned by the account. */
  clusterDir: string;
  /** The name under which the account reaches the data files: the same, or the working directory where a parent is closed to it. */
  clusterPath: string;
  usersDir: string;
  logFile: string;
  password: string;
}

/** The owner's database; the superuser's name is Postgres's own. */
export const EMBEDDED_DATABASE = 'muster';
export const EMBEDDED_OWNER = 'postgres';

const LOG_LIMIT_BYTES = 5_000_000;
const MAJOR_VERSION = '18';
/** A process is already inside its working directory, whatever bars the way there, and this name leads to it. */
const INSIDE = '/proc/self/cwd';

/** Opens the cluster's folder, making its parts that are missing. Throws one message naming the parent directory that the account may not pass. Callers hold the cluster's lock. */
export async function openEmbeddedCluster(
  dataDir: string,
  account: EmbeddedAccount,
  binaries: EmbeddedBinaries,
  isDurable: boolean,
): Promise<EmbeddedCluster> {
  const home = await homeOf(dataDir, account);
  const clusterDir = join(home, 'cluster');
  const cluster = {
    clusterDir,
    clusterPath: await reachablePath(home, clusterDir, account),
    usersDir: join(home, 'users'),
    logFile: join(home, 'postgres.log'),
    password: await keepPassword(join(home, 'password')),
  };
  for (const name of await readdir(home))
    if (name.startsWith('cluster.new-')) await rm(join(home, name), { recursive: true, force: true });
  if (!(await isFolder(clusterDir))) await createCluster(cluster, home, account, binaries, isDurable);
  const version = (await readFile(join(clusterDir, 'PG_VERSION'), 'utf8')).trim();
  if (version !== MAJOR_VERSION) {
    throw new Error(
      `${clusterDir} was made by Postgres ${version}; this Muster brings ${MAJOR_VERSION}. Move it with pg_dump, or use another MUSTER_DATA_DIR.`,
    );
  }
  if ((await sizeOf(cluster.logFile)) > LOG_LIMIT_BYTES) await truncate(cluster.logFile, 0);
  return cluster;
}

/** The folder's real path, which also names the lock of everything in it. */
export async function homeOf(dataDir: string, account: EmbeddedAccount): Promise<string> {
  await makeSearchable(dataDir, account);
  const home = join(await realpath(dataDir), 'postgres');
  await makeSearchable(home, account);
  return home;
}

/** The port of the last start, so that what remembers the address finds the database again; a free one at first or when `isFresh` asks for another. */
export async function choosePort(cluster: EmbeddedCluster, isFresh = false): Promise<number> {
  const file = join(cluster.clusterDir, '..', 'port');
  const kept = Number(await readFile(file, 'utf8').catch(() => ''));
  if (!isFresh && Number.isInteger(kept) && kept > 0 && kept < 65_536) return kept;
  const port = await findFreePort();
  await writeFile(file, `${port}\n`);
  return port;
}

async function reachablePath(home: string, clusterDir: string, account: EmbeddedAccount): Promise<string> {
  const barrier = await findBarrier(home, account);
  if (!barrier) return clusterDir;
  if (process.platform === 'linux') return INSIDE;
  throw new Error(
    `The postgres user cannot reach ${home}: it may not pass ${barrier}. Make that directory searchable (chmod o+x ${barrier}), or set MUSTER_DATA_DIR to another one.`,
  );
}

async function keepPassword(file: string): Promise<string> {
  const kept = (await readFile(file, 'utf8').catch(() => '')).trim();
  if (kept) return kept;
  const password = randomBytes(24).toString('hex');
  const handle = await open(file, 'w', 0o600);
  await handle.writeFile(`${password}\n`);
  await handle.sync();
  await handle.close();
  return password;
}

/** Made beside its place and renamed into it, so that a kill in between leaves no half cluster. */
async function createCluster(
  cluster: EmbeddedCluster,
  home: string,
  account: EmbeddedAccount,
  binaries: EmbeddedBinaries,
  isDurable: boolean,
): Promise<void> {
  const fresh = join(home, `cluster.new-${process.pid}`);
  const isBarred = cluster.clusterPath === INSIDE;
  const at = isBarred ? INSIDE : fresh;
  await mkdir(fresh, { mode: 0o700 });
  await giveTo(account, fresh);
  // initdb wants an empty folder and the password in a file that its account can read: beside the folder, for the moment of the call.
  const handoverName = `.password-${process.pid}`;
  const handover = join(home, handoverName);
  try {
    await writeFile(handover, cluster.password, { mode: 0o600 });
    await giveTo(account, handover);
    const flags = [
      '--encoding=UTF8',
      '--locale=C',
      '--auth=scram-sha-256',
      `--username=${EMBEDDED_OWNER}`,
      isDurable ? [] : '--no-sync',
    ].flat();
    await runInside(fresh, account, binaries.initdb, [
      '-D',
      at,
      `--pwfile=${join(isBarred ? '..' : home, handoverName)}`,
      ...flags,
    ]);
    await runInside(
      fresh,
      account,
      binaries.postgres,
      ['--single', '-D', at, ...(isDurable ? [] : ['-F']), 'postgres'],
      `create database ${EMBEDDED_DATABASE}\n`,
    );
    await rename(fresh, cluster.clusterDir);
  } finally {
    await rm(handover, { force: true });
    await rm(fresh, { recursive: true, force: true });
  }
}

function runInside(
  folder: string,
  account: EmbeddedAccount,
  program: string,
  args: string[],
  input = '',
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: folder,
      stdio: 'pipe',
      env: { LC_ALL: 'C', PATH: '/usr/local/bin:/usr/bin:/bin' },
      ...account,
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.once('error', reject);
    child.once('close', (code, by) => {
      if (code === 0) resolve();
      else reject(new Error(`${program} failed (${String(by ?? code)}) in ${folder}:\n${output.slice(-2_000)}`));
    });
  });
}

function findFreePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isDirectory() ?? false;
}

async function sizeOf(path: string): Promise<number> {
  return (await stat(path).catch(() => null))?.size ?? 0;
}
