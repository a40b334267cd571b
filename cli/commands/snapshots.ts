/** `muster snapshots …`: copies of workspaces. What replaces or removes data asks first. */
import type { OperationRef } from '../../api/contract/operations.ts';
import type { Snapshot, SnapshotAccepted, Workspace } from '../../api/contract/snapshots.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatAge, formatMicroUsd, formatSpan, orDash } from '../format.ts';
import { reportEnd, watchOperation } from '../watch-operation.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

const HEAD = ['SNAPSHOT', 'INSTANCE', 'STATUS', 'CAUSE', 'FILES', 'SIZE', 'ADDED', 'DATA FROM', 'TROUBLE'];

interface WatchOptions {
  watch?: boolean;
}

export function listSnapshots(
  context: Context,
  _args: string[],
  options: PageOptions & { instance?: string; status?: string[] },
): Promise<ExitCode> {
  const { instance: instanceId, status } = options;
  const filters = {
    ...(instanceId === undefined ? {} : { instanceId }),
    ...(status === undefined ? {} : { status: status.join(',') }),
  };
  const now = Date.now();
  return showPage<Snapshot>(context, '/snapshots', filters, options, HEAD, (snapshot) => [
    snapshot.id,
    snapshot.instanceId,
    snapshot.status,
    snapshot.cause,
    orDash(snapshot.files),
    formatBytes(snapshot.bytes),
    formatBytes(snapshot.addedBytes),
    formatAge(snapshot.dataAt, now),
    orDash(snapshot.failureDetail ?? snapshot.failureCode),
  ]);
}

export async function getSnapshot(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal, api } = context;
  const snapshot = await api.get<Snapshot>(pathOf(id));
  if (terminal.isJson) terminal.printJson(snapshot);
  else describe(context, snapshot);
  return EXIT.done;
}

export async function createSnapshot(context: Context, [id]: string[], options: WatchOptions): Promise<ExitCode> {
  const accepted = await context.api.post<SnapshotAccepted>(
    `/instances/${encodeURIComponent(id as string)}/snapshots`,
    {},
  );
  return follow(context, accepted, options, `${accepted.snapshot.id} is taken, then read back`);
}

export async function verifySnapshot(context: Context, [id]: string[], options: WatchOptions): Promise<ExitCode> {
  const accepted = await context.api.post<SnapshotAccepted>(`${pathOf(id)}/verify`, {});
  return follow(context, accepted, options, `${accepted.snapshot.id} is read back`);
}

export async function restoreSnapshot(
  context: Context,
  [id]: string[],
  options: WatchOptions & { snapshot?: string; node?: string; yes?: boolean },
): Promise<ExitCode> {
  const { terminal, api } = context;
  const question = `Replace the files of ${options.node ?? id} by those of ${options.snapshot ?? 'the newest verified snapshot'}?`;
  if (!options.yes && !(await terminal.confirm(question, 'Say --yes.'))) {
    throw new CliError('Nothing was restored.', EXIT.failed);
  }
  const body = {
    ...(options.snapshot === undefined ? {} : { snapshotId: options.snapshot }),
    ...(options.node === undefined ? {} : { nodeId: options.node }),
  };
  const accepted = await api.post<{ operation: OperationRef }>(
    `/instances/${encodeURIComponent(id as string)}/restore`,
    body,
  );
  return follow(context, accepted, options, 'The files are restored');
}

export async function deleteSnapshots(context: Context, ids: string[], options: { yes?: boolean }): Promise<ExitCode> {
  const { terminal, api } = context;
  const what = ids.length === 1 ? `the snapshot ${ids[0]}` : `${ids.length} snapshots`;
  if (!options.yes && !(await terminal.confirm(`Delete ${what} for ever?`, 'Say --yes.'))) {
    throw new CliError('Nothing was deleted.', EXIT.failed);
  }
  for (const id of ids) {
    const accepted = await api.delete<SnapshotAccepted>(pathOf(id));
    if (terminal.isJson) terminal.printJsonLine(accepted);
    else terminal.print(`${id} is deleted; its data is removed by ${accepted.operation.id}.`);
  }
  return EXIT.done;
}

export async function showWorkspace(
  context: Context,
  [id]: string[],
  options: { every?: string; keepLast?: number; keepDaily?: number; keepWeekly?: number },
): Promise<ExitCode> {
  const { terminal, api } = context;
  const path = `/instances/${encodeURIComponent(id as string)}/workspace`;
  let workspace = await api.get<Workspace>(path);
  const { every, keepLast, keepDaily, keepWeekly } = options;
  const changesKeep = keepLast !== undefined || keepDaily !== undefined || keepWeekly !== undefined;
  if (every !== undefined || changesKeep) {
    const { last, daily, weekly } = workspace.keep;
    workspace = await api.patch<Workspace>(path, {
      ...(every === undefined ? {} : { snapshotEvery: every === 'off' ? null : every }),
      ...(changesKeep
        ? { keep: { last: keepLast ?? last, daily: keepDaily ?? daily, weekly: keepWeekly ?? weekly } }
        : {}),
    });
  }
  if (terminal.isJson) terminal.printJson(workspace);
  else describeWorkspace(context, workspace);
  return EXIT.done;
}

function describeWorkspace({ terminal }: Context, workspace: Workspace): void {
  const { keep, writer } = workspace;
  const now = Date.now();
  terminal.print(`workspace   ${workspace.path} of ${workspace.instanceId}`);
  terminal.print(`written by  ${writer?.attemptId ?? writer?.standbyId ?? 'nobody'} (epoch ${workspace.epoch})`);
  terminal.print(
    `snapshots   ${workspace.snapshotEveryMs === null ? 'on request' : `every ${formatSpan(workspace.snapshotEveryMs)}`}`,
  );
  terminal.print(
    `safe        ${workspace.recoveryPointAt === null ? 'nothing yet' : `data from ${formatAge(workspace.recoveryPointAt, now)}`}`,
  );
  if (workspace.behindSince !== null) terminal.print(`behind      for ${formatAge(workspace.behindSince, now)}`);
  terminal.print(`keeps       ${keep.last} newest, one of ${keep.daily} days, one of ${keep.weekly} weeks`);
  terminal.print(
    `stored      ${formatBytes(workspace.storedBytes)}, ${formatMicroUsd(workspace.storageMicroUsdPerMonth)} a month (${orDash(workspace.store)})`,
  );
}

function describe({ terminal }: Context, snapshot: Snapshot): void {
  const rows: [string, string | number | null][] = [
    ['snapshot', snapshot.id],
    ['instance', snapshot.instanceId],
    ['status', snapshot.status],
    ['taken by', snapshot.nodeId],
    ['data from', snapshot.dataAt],
    ['files', snapshot.files],
    ['size', formatBytes(snapshot.bytes)],
    ['added', formatBytes(snapshot.addedBytes)],
    ['read back', snapshot.verifiedAt],
    ['trouble', snapshot.failureDetail],
  ];
  for (const [name, value] of rows) terminal.print(`${name.padEnd(11)} ${orDash(value)}`);
}

async function follow(
  context: Context,
  accepted: { operation: OperationRef },
  options: WatchOptions,
  what: string,
): Promise<ExitCode> {
  const { terminal, api } = context;
  if (terminal.isJson) terminal.printJsonLine(accepted);
  else terminal.print(`${what} (${accepted.operation.id}).`);
  return options.watch ? reportEnd(terminal, await watchOperation(api, terminal, accepted.operation.id)) : EXIT.done;
}

function formatBytes(bytes: number | null): string {
  if (bytes === null) return '-';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, bytes < 1 ? 0 : Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

function pathOf(id: string | undefined): string {
  return `/snapshots/${encodeURIComponent(id as string)}`;
}
