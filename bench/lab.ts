/** What every measurement needs: a Muster of its own, a sandbox of its own, percentiles. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres, type EmbeddedPostgres } from '../db/embedded-postgres.ts';
import { migrateDatabase } from '../db/migrate.ts';
import { startSandbox, type Sandbox, type SandboxOptions } from '../sandbox/server.ts';
import { createMusterProcess, findFreePort, waitFor, type MusterProcess } from '../test/support/muster-process.ts';

export interface Lab {
  dir: string;
  sandbox: Sandbox;
  muster: MusterProcess;
  close(): Promise<void>;
}

export async function openLab(
  options: { sandbox?: Partial<SandboxOptions>; env?: Record<string, string> } = {},
): Promise<Lab> {
  const dir = mkdtempSync(join(tmpdir(), 'muster-bench-'));
  const sandboxPort = await findFreePort(5);
  const sandbox = await startSandbox({ port: sandboxPort, dir: join(dir, 'sandbox'), ...options.sandbox });
  const muster = await createMusterProcess({
    dataDir: join(dir, 'data'),
    sandboxPort,
    env: {
      MUSTER_LOG_LEVEL: 'warn',
      MUSTER_MAX_INSTANCES: '100000',
      MUSTER_MAX_BURN_USD_PER_HOUR: '100000',
      ...options.env,
    },
  });
  return {
    dir,
    sandbox,
    muster,
    async close() {
      await muster.kill('SIGTERM');
      await sandbox.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** A migrated database of its own, durable as in production; for what is measured without the sandbox. The caller stops it. */
export async function startDatabase(dir: string): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({
    dataDir: join(dir, 'database'),
    cacheDir: join(homedir(), '.cache', 'muster'),
    log: () => {},
  });
  await migrateDatabase(postgres.url);
  return postgres;
}

export async function waitUntilReady(muster: MusterProcess): Promise<void> {
  await waitFor(
    () =>
      fetch(`${muster.url}/ready`).then(
        (reply) => reply.ok,
        () => false,
      ),
    120_000,
    '/ready',
  );
}

export function percentile(values: number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)] ?? NaN;
}

export function median(values: number[]): number {
  return percentile(values, 0.5);
}

/** Proportional set size in MB: shared pages are counted once over all processes. */
export function readPssMb(pid: number): number {
  try {
    const line = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8').match(/^Pss:\s+(\d+) kB/m);
    return Number(line?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

export function readRssMb(pid: number): number {
  const line = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+) kB/m);
  return Number(line?.[1] ?? 0) / 1024;
}

export function childrenOf(parent: number): number[] {
  return readdirSync('/proc').flatMap((entry) => {
    const pid = Number(entry);
    if (!Number.isInteger(pid)) return [];
    try {
      return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[1]) === parent ? [pid] : [];
    } catch {
      return [];
    }
  });
}
