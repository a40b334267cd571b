/**
 * Taking a snapshot: restic reads the workspace and adds to the repository what is not there yet. Files that could not be read are a
 * failure: half a workspace is none. The control plane reads the snapshot back before it relies on it.
 */
import { existsSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { TakeSnapshotInput, TakeSnapshotResult } from '../../api/contract/snapshot-orders.ts';
import { OrderError } from '../orders.ts';
import { EMPTY, LOST_AND_FOUND, OWN_NAMES } from './restore-snapshot.ts';
import type { SnapshotWork } from './snapshot-orders.ts';

/** restic: some files could not be read. */
const INCOMPLETE = 3;
/** A file that is removed while restic reads is one of those: the next time it is not listed any more. */
const TRIES = 3;

interface Summary {
  message_type: 'summary';
  snapshot_id: string;
  total_files_processed: number;
  total_bytes_processed: number;
  data_added: number;
}

export async function takeSnapshot(input: TakeSnapshotInput, work: SnapshotWork): Promise<TakeSnapshotResult> {
  assertWorkspace(work.workspace, input.isFirst);
  const startedAt = performance.now();
  for (let tries = 1; ; tries++) {
    const { summary, trouble } = await backUpWhatIsThere(input, work);
    if (summary !== null) {
      return {
        resticId: summary.snapshot_id,
        files: summary.total_files_processed,
        bytes: summary.total_bytes_processed,
        addedBytes: summary.data_added,
        tookMs: Math.round(performance.now() - startedAt),
        resticVersion: work.restic.version,
      };
    }
    if (tries === TRIES) throw new OrderError('snapshot_incomplete', `files could not be read: ${trouble}`);
    work.context.log(`files could not be read, once more: ${trouble}`);
  }
}

/** Also of an empty workspace. */
async function backUpWhatIsThere(input: TakeSnapshotInput, work: SnapshotWork) {
  try {
    return await backUp(input, work);
  } catch (error) {
    if (!(error instanceof OrderError) || !/snapshot is empty/.test(error.message)) throw error;
  }
  const stand = join(work.workspace, EMPTY);
  try {
    writeFileSync(stand, '');
    return await backUp(input, work);
  } finally {
    rmSync(stand, { force: true });
  }
}

/** `summary` null: files could not be read. */
async function backUp(
  input: TakeSnapshotInput,
  { workspace, run, context }: SnapshotWork,
): Promise<{ summary: Summary | null; trouble: string }> {
  let summary: Summary | null = null;
  const outcome = await run(
    {
      args: [
        'backup',
        '.',
        '--json',
        `--host=${input.instanceId}`,
        `--tag=${input.snapshotId}`,
        ...[...OWN_NAMES, join(workspace, LOST_AND_FOUND), ...input.excludes].map((pattern) => `--exclude=${pattern}`),
        ...(input.uploadLimitKib === null ? [] : [`--limit-upload=${input.uploadLimitKib}`]),
      ],
      cwd: workspace,
      isBackground: true,
      onLine(line) {
        const message = parse(line);
        if (message?.message_type === 'summary') summary = message;
        else if (message?.message_type === 'status') context.progress(describe(message));
      },
    },
    (code) => code === 0 || code === INCOMPLETE,
  );
  if (outcome.code === INCOMPLETE) return { summary: null, trouble: outcome.trouble.split('\n').slice(-3).join('; ') };
  if (summary === null) throw new OrderError('restic_failed', 'restic did not say what it did');
  return { summary, trouble: '' };
}

function assertWorkspace(workspace: string, isFirst: boolean): void {
  if (existsSync(workspace)) {
    if (statSync(workspace).isDirectory()) return;
    throw new OrderError('workspace_missing', `${workspace} is no folder`);
  }
  // Where there were files before, their absence is a loss and no change.
  if (!isFirst) throw new OrderError('workspace_missing', `${workspace} is not there any more`);
  if (!existsSync(dirname(workspace))) throw new OrderError('workspace_missing', `there is no ${dirname(workspace)}`);
  mkdirSync(workspace);
}

interface Status {
  message_type: 'status';
  percent_done?: number;
  bytes_done?: number;
  total_bytes?: number;
  files_done?: number;
}

function describe(status: Status): { percent: number | null; note: string } {
  const mib = (bytes: number | undefined) => Math.round((bytes ?? 0) / 1_048_576);
  return {
    percent: status.percent_done === undefined ? null : Math.min(100, Math.round(status.percent_done * 100)),
    note: `${mib(status.bytes_done)} of ${mib(status.total_bytes)} MiB, ${status.files_done ?? 0} files`,
  };
}

function parse(line: string): Summary | Status | null {
  try {
    return JSON.parse(line) as Summary | Status;
  } catch {
    return null;
  }
}
