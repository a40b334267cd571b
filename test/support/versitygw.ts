/**
 * A real S3 server on a folder, for tests: versitygw, built once from its published Go module and kept outside the project. Where it cannot
 * be had, `versitygwMissing` says why.
 */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { acquireProcessLock } from '../../scripts/process-lock.mjs';
import { until } from './fleet-database.ts';

const VERSION = 'v1.8.0';
const CACHE = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'muster', 'versitygw');
const PROGRAM = join(CACHE, 'versitygw');

/** null: it is there. */
export const versitygwMissing: string | null = await obtain();

async function obtain(): Promise<string | null> {
  if (existsSync(PROGRAM)) return null;
  const release = await acquireProcessLock('test-versitygw');
  try {
    if (existsSync(PROGRAM)) return null;
    mkdirSync(CACHE, { recursive: true });
    execFileSync('go', ['install', `github.com/versity/versitygw/cmd/versitygw@${VERSION}`], {
      stdio: 'ignore',
      timeout: 300_000,
      cwd: tmpdir(),
      env: { ...process.env, GOBIN: CACHE },
    });
    return null;
  } catch (error) {
    return `versitygw ${VERSION} cannot be built: ${(error as Error).message.split('\n')[0]}`;
  } finally {
    await release();
  }
}

export interface S3Server {
  endpoint: string;
  /** What is in it lies here, a folder for each bucket. */
  folder: string;
  key: { accessKeyId: string; secretAccessKey: string };
  /** Stops answering, as a store that hangs. */
  freeze(): void;
  thaw(): void;
  close(): Promise<void>;
}

export async function startS3Server(buckets: readonly string[]): Promise<S3Server> {
  const folder = mkdtempSync(join(tmpdir(), 'muster-s3-'));
  for (const bucket of buckets) mkdirSync(join(folder, bucket));
  const key = { accessKeyId: 'test-access-key', secretAccessKey: 'test-secret-key-of-the-store' };
  const port = await freePort();
  const child = spawn(PROGRAM, ['--port', `127.0.0.1:${port}`, 'posix', folder], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      ROOT_ACCESS_KEY_ID: key.accessKeyId,
      ROOT_SECRET_ACCESS_KEY: key.secretAccessKey,
    },
  });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said = `${said}${chunk.toString()}`.slice(-2_000)));
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const endpoint = `http://127.0.0.1:${port}`;
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`versitygw ended: ${said}`);
    return (await fetch(endpoint).catch(() => null)) !== null;
  }, 'the S3 server answers');
  return {
    endpoint,
    folder,
    key,
    freeze: () => void child.kill('SIGSTOP'),
    thaw: () => void child.kill('SIGCONT'),
    async close() {
      child.kill('SIGKILL');
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
