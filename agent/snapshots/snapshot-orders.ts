/**
 * The orders `take_snapshot` and `restore_snapshot`: what they have in common. One at a time, whichever it is, because a restore replaces
 * the files that a snapshot reads. restic keeps a bounded cache beside the agent's other files.
 */
import { readFileSync, rmSync } from 'node:fs';
import { lstat, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type {
  RepositoryRoute,
  RestoreSnapshotInput,
  SnapshotSecrets,
  TakeSnapshotInput,
} from '../../api/contract/snapshot-orders.ts';
import { OrderError, type OrderContext, type OrderHandler } from '../orders.ts';
import { readIfThere, writePrivately } from '../private-file.ts';
import { obtainRestic, ResticMissing, type Restic } from './obtain-restic.ts';
import { restoreSnapshot } from './restore-snapshot.ts';
import type { ResticOutcome, ResticRun } from './run-restic.ts';
import { runRestic } from './run-restic.ts';
import { takeSnapshot } from './take-snapshot.ts';

export interface SnapshotParts {
  /** Of the control plane: scheme, host, port and path prefix. */
  url: string;
  /** The agent's own. */
  directory: string;
  /** Where a workspace lies whose order names no place. */
  workspace: string;
  searchPath: string;
  /** Asked with each order. @default looks for restic here, else downloads it */
  obtain?: (digests: Readonly<Record<string, string>>, signal: AbortSignal) => Promise<Restic>;
}

/** What a handler works with. */
export interface SnapshotWork {
  workspace: string;
  restic: Restic;
  /** Runs restic on the order's repository; throws OrderError for whatever is not an ordinary end. */
  run(run: Omit<ResticRun, 'env' | 'signal'>, isFine?: (code: number) => boolean): Promise<ResticOutcome>;
  context: OrderContext;
}

export interface SnapshotOrders {
  take_snapshot: OrderHandler;
  restore_snapshot: OrderHandler;
}

const MAX_CACHE_BYTES = 512 * 1024 * 1024;

export function createSnapshotOrders(parts: SnapshotParts): SnapshotOrders {
  const cache = join(parts.directory, 'restic-cache');
  const pidFile = join(parts.directory, 'restic.pid');
  const obtain = parts.obtain ?? ((digests, signal) => obtainRestic(parts, digests, signal));
  let last: Promise<unknown> = Promise.resolve();
  endLeftOver(pidFile);

  async function prepare(
    input: TakeSnapshotInput | RestoreSnapshotInput,
    context: OrderContext,
  ): Promise<SnapshotWork> {
    const env = environmentOf(input.repository, input as unknown as SnapshotSecrets, parts.url);
    const restic = await obtain(input.resticDigests, context.signal).catch((error: unknown) => {
      throw error instanceof ResticMissing ? new OrderError('restic_missing', error.message) : error;
    });
    return {
      workspace: input.path ?? parts.workspace,
      restic,
      context,
      async run(run, isFine = (code) => code === 0) {
        const outcome = await runRestic(restic.program, {
          ...run,
          args: [...run.args, '--cache-dir', cache],
          env: { ...env, RESTIC_PROGRESS_FPS: '1', HOME: parts.directory },
          signal: context.signal,
          onStarted: (pid) => writePrivately(pidFile, JSON.stringify({ pid, startedAt: startOf(pid) })),
        });
        rmSync(pidFile, { force: true });
        if (outcome.code !== null && isFine(outcome.code)) return outcome;
        throw failureOf(outcome);
      },
    };
  }

  function inTurn(work: (input: never, context: OrderContext) => Promise<unknown>): OrderHandler {
    return (order, context) => {
      const turn = last.then(async () => {
        context.signal.throwIfAborted();
        try {
          return await work(order.input as never, context);
        } finally {
          await boundCache(cache);
        }
      });
      last = turn.catch(() => {});
      return turn;
    };
  }

  return {
    take_snapshot: inTurn(async (input: TakeSnapshotInput, context) =>
      takeSnapshot(input, await prepare(input, context)),
    ),
    // It starts from what is there: files that it had put in place stay, the others come again.
    restore_snapshot: Object.assign(
      inTurn(async (input: RestoreSnapshotInput, context) => restoreSnapshot(input, await prepare(input, context))),
      { isRepeatable: true },
    ),
  };
}

/** Everything that is secret goes here, and nowhere else. */
function environmentOf(repository: RepositoryRoute, secrets: SnapshotSecrets, url: string): Record<string, string> {
  const common = { RESTIC_PASSWORD: secrets.password };
  if (repository.kind === 'direct') return { ...common, ...secrets.environment, RESTIC_REPOSITORY: repository.url };
  const place = new URL(`${url}${repository.path}`);
  place.username = 'node';
  place.password = secrets.token ?? '';
  return { ...common, RESTIC_REPOSITORY: `rest:${place.href}` };
}

function failureOf({ ended, code, trouble }: ResticOutcome): OrderError {
  const last = trouble.split('\n').slice(-5).join('\n');
  if (ended === 'asked') return new OrderError('canceled', 'restic was stopped');
  if (ended === 'missing') return new OrderError('repository_damaged', last);
  const isStore =
    ended === 'unreachable' || /connection refused|no such host|timeout|server response unexpected/i.test(last);
  if (isStore) return new OrderError('store_unreachable', last);
  return new OrderError('restic_failed', `restic ended with ${code ?? 'a signal'}: ${last}`);
}

/** What restic of an earlier life of this agent still does is of no order any more. */
function endLeftOver(pidFile: string): void {
  try {
    const { pid, startedAt } = JSON.parse(readIfThere(pidFile) ?? 'null') as { pid: number; startedAt: string | null };
    if (startedAt !== null && startOf(pid) === startedAt) process.kill(-pid, 'SIGKILL');
  } catch {
    // There is none, or it has ended.
  }
  rmSync(pidFile, { force: true });
}

/** When the process began, in the kernel's ticks: with its number it is one process and no other. null: there is none. */
function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

/** Whole, because a cache is only there to be quick. */
async function boundCache(cache: string): Promise<void> {
  try {
    if ((await sizeOf(cache)) > MAX_CACHE_BYTES) await rm(cache, { recursive: true, force: true });
  } catch {
    // Seen again after the next order.
  }
}

async function sizeOf(path: string): Promise<number> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true }).catch(() => []);
  let bytes = 0;
  for (const entry of entries) {
    if (entry.isFile()) bytes += (await lstat(join(entry.parentPath, entry.name)).catch(() => ({ size: 0 }))).size;
  }
  return bytes;
}
