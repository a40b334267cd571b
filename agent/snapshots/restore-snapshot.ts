/**
 * Restoring a snapshot: it is first restored whole beside the files that are there, read again by restic and counted; only then they are
 * replaced. Killed at any moment and begun again, it ends the same; until the replacing begins, the files of before are untouched.
 */
import { existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { opendir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { RestoreSnapshotInput, RestoreSnapshotResult } from '../../api/contract/snapshot-orders.ts';
import { OrderError } from '../orders.ts';
import { readJson, writePrivately } from '../private-file.ts';
import { isResticNewEnough } from './run-restic.ts';
import type { SnapshotWork } from './snapshot-orders.ts';

const STAGING = '.muster-restore';
/** While it is there, files are being replaced. */
const SWAP = '.muster-swap';
/** What lies in a workspace and is no part of it. */
export const OWN_NAMES = [STAGING, SWAP, `${SWAP}.*`] as const;
/** restic takes no snapshot of nothing: this file stands for it. */
export const EMPTY = '.muster-empty';
/** The file system's own, where the workspace is a whole one. */
export const LOST_AND_FOUND = 'lost+found';

interface Swap {
  snapshotId: string;
  /** `clear`: the old files go. `fill`: the new ones come. */
  phase: 'clear' | 'fill';
  files: number;
  bytes: number;
}

export async function restoreSnapshot(input: RestoreSnapshotInput, work: SnapshotWork): Promise<RestoreSnapshotResult> {
  const { workspace, context } = work;
  const startedAt = performance.now();
  mkdirSync(workspace, { recursive: true });
  const begun = readJson(join(workspace, SWAP)) as Swap | null;
  let counted: Counted;
  if (begun?.snapshotId === input.snapshotId) {
    context.log('goes on with replacing the files');
    counted = begun;
    await swap(workspace, begun, context.signal);
  } else {
    counted = await stage(input, work);
    const next: Swap = { snapshotId: input.snapshotId, phase: 'clear', ...counted };
    writePrivately(join(workspace, SWAP), JSON.stringify(next));
    await swap(workspace, next, context.signal);
  }
  return {
    files: counted.files,
    bytes: counted.bytes,
    tookMs: Math.round(performance.now() - startedAt),
    resticVersion: work.restic.version,
  };
}

interface Counted {
  files: number;
  bytes: number;
}

/** The whole snapshot beside the workspace's files, read back and counted. */
async function stage(input: RestoreSnapshotInput, { workspace, run, restic, context }: SnapshotWork): Promise<Counted> {
  const staging = join(workspace, STAGING);
  await rm(staging, { recursive: true, force: true });
  mkdirSync(staging, { mode: 0o700 });
  context.progress({ percent: null, note: 'restoring' });
  await run({
    args: [
      'restore',
      input.resticId,
      '--target=.',
      '--verify',
      '--no-lock',
      ...(isResticNewEnough(restic.version, [0, 15]) ? ['--sparse'] : []),
      ...(input.downloadLimitKib === null ? [] : [`--limit-download=${input.downloadLimitKib}`]),
    ],
    cwd: staging,
  });
  const counted = await count(staging);
  if (counted.files !== input.files || counted.bytes !== input.bytes) {
    const detail = `${counted.files} files with ${counted.bytes} bytes came, ${input.files} with ${input.bytes} were expected`;
    throw new OrderError('restore_incomplete', detail);
  }
  rmSync(join(staging, EMPTY), { force: true });
  return counted;
}

async function swap(workspace: string, from: Swap, signal: AbortSignal): Promise<void> {
  const marker = join(workspace, SWAP);
  const staging = join(workspace, STAGING);
  if (from.phase === 'clear') {
    for (const name of namesOf(workspace)) {
      signal.throwIfAborted();
      await rm(join(workspace, name), { recursive: true, force: true });
    }
    writePrivately(marker, JSON.stringify({ ...from, phase: 'fill' } satisfies Swap));
  }
  if (existsSync(staging)) {
    for (const name of readdirSync(staging)) {
      signal.throwIfAborted();
      renameSync(join(staging, name), join(workspace, name));
    }
    rmSync(staging, { recursive: true, force: true });
  }
  rmSync(marker, { force: true });
}

function namesOf(workspace: string): string[] {
  return readdirSync(workspace).filter((name) => name !== STAGING && name !== LOST_AND_FOUND && !name.startsWith(SWAP));
}

/** Regular files and their bytes, as restic counts them: a file with two names counts twice. */
async function count(folder: string): Promise<Counted> {
  const counted = { files: 0, bytes: 0 };
  const folders = [folder];
  for (let next = folders.pop(); next !== undefined; next = folders.pop()) {
    for await (const entry of await opendir(next)) {
      const path = join(next, entry.name);
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isFile()) {
        counted.files++;
        counted.bytes += lstatSync(path).size;
      }
    }
  }
  return counted;
}
