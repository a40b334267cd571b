/** `muster operations list|get|watch|cancel`. */
import type { Operation } from '../../api/contract/operations.ts';
import type { Context } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatAge, formatSpan, orDash } from '../format.ts';
import { reportEnd, watchOperation } from '../watch-operation.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

export interface OperationListOptions extends PageOptions {
  status?: string;
  kind?: string;
  targetId?: string;
}

const HEAD = ['OPERATION', 'KIND', 'STATUS', 'TARGET', 'AGE', 'TOOK', 'NOTE'];

export function listOperations(context: Context, _args: string[], options: OperationListOptions): Promise<ExitCode> {
  const { status, kind, targetId } = options;
  const now = Date.now();
  return showPage<Operation>(context, '/operations', { status, kind, targetId }, options, HEAD, (operation) => [
    operation.id,
    operation.kind,
    operation.status,
    operation.targetId,
    formatAge(operation.createdAt, now),
    formatDuration(operation),
    orDash(operation.error?.detail ?? operation.note),
  ]);
}

export async function getOperation(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal } = context;
  const operation = await context.api.get<Operation>(`/operations/${encodeURIComponent(id as string)}`);
  if (terminal.isJson) terminal.printJson(operation);
  const rows: [string, string | null][] = [
    ['id', operation.id],
    ['kind', operation.kind],
    ['status', operation.status],
    ['target', `${operation.targetKind} ${operation.targetId}`],
    ['note', operation.note],
    ['error', operation.error && `${operation.error.detail} (${operation.error.code})`],
    ['claims', String(operation.claim)],
    ['engine runs', String(operation.updates.length)],
    ['created', operation.createdAt],
    ['started', operation.startedAt],
    ['finished', operation.finishedAt],
    ['took', operation.finishedAt === null ? null : formatDuration(operation)],
    ['cancel asked', operation.cancelRequestedAt],
    ['actions', operation.allowedActions.join(', ') || null],
  ];
  for (const [name, value] of rows) if (value !== null) terminal.print(`${name.padEnd(14)}${value}`);
  return EXIT.done;
}

export async function watch(context: Context, [id]: string[]): Promise<ExitCode> {
  return reportEnd(context.terminal, await watchOperation(context.api, context.terminal, id as string));
}

export async function cancelOperation(
  context: Context,
  [id]: string[],
  options: { reason?: string; watch?: boolean },
): Promise<ExitCode> {
  const { terminal, api } = context;
  const body = options.reason === undefined ? {} : { reason: options.reason };
  const answer = await api.post<unknown>(`/operations/${encodeURIComponent(id as string)}/cancel`, body);
  if (terminal.isJson) (options.watch ? terminal.printJsonLine : terminal.printJson)(answer);
  terminal.print(`Cancel of ${id} requested; what it has bought is destroyed.`);
  if (!options.watch) return EXIT.done;
  const operation = await watchOperation(api, terminal, id as string);
  // What was asked for has happened: that is no failure here.
  return operation.status === 'canceled' ? EXIT.done : reportEnd(terminal, operation);
}

function formatDuration(operation: Operation): string {
  if (operation.startedAt === null) return '-';
  const end = operation.finishedAt === null ? Date.now() : Date.parse(operation.finishedAt);
  return formatSpan(end - Date.parse(operation.startedAt));
}
