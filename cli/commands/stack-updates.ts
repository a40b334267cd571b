/** `muster stacks history|events|cancel`: who updated a stack, what the engine told of it, and ending what holds it. */
import type { StackCanceledReply, StackUpdateEvent, StackUpdateReply } from '../../api/contract/stacks.ts';
import type { Context } from '../context.ts';
import { followEvents } from '../event-stream.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatAge, formatSpan, orDash } from '../format.ts';
import { describeEvent } from '../operation-progress.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

const HEAD = ['UPDATE', 'KIND', 'RESULT', 'WHO', 'OPERATION', 'VERSION', 'CHANGES', 'STARTED', 'TOOK', 'WHY'];

export function listUpdates(context: Context, [id]: string[], options: PageOptions): Promise<ExitCode> {
  const now = Date.now();
  return showPage<StackUpdateReply>(context, `${pathOf(id)}/history`, {}, options, HEAD, (update) => [
    update.id,
    update.kind,
    update.result,
    update.who,
    orDash(update.operationId),
    update.version === null ? '-' : String(update.version),
    describeChanges(update.changes),
    update.startedAt === null ? '-' : `${formatAge(update.startedAt, now)} ago`,
    update.startedAt === null || update.endedAt === null
      ? '-'
      : formatSpan(Date.parse(update.endedAt) - Date.parse(update.startedAt)),
    orDash(update.reason),
  ]);
}

/** Ends with the update. Without its id: the newest one. */
export async function showEvents(context: Context, [id, updateId]: string[]): Promise<ExitCode> {
  const { api, terminal } = context;
  const wanted = updateId ?? (await findNewest(context, id));
  const stop = new AbortController();
  const interrupt = () => stop.abort();
  process.on('SIGINT', interrupt);
  try {
    const path = `${pathOf(id)}/updates/${encodeURIComponent(wanted)}/events`;
    const onLost = () => terminal.say('connection lost; trying again');
    for await (const { data } of followEvents(api, path, { signal: stop.signal, onLost })) {
      const event = JSON.parse(data) as StackUpdateEvent;
      if (terminal.isJson) terminal.printJsonLine(event);
      else terminal.print(`${event.at.slice(11, 19)}  ${tell(event)}`);
    }
  } finally {
    process.off('SIGINT', interrupt);
  }
  return stop.signal.aborted ? EXIT.interrupted : EXIT.done;
}

export async function cancelStack(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal, api } = context;
  const reply = await api.post<StackCanceledReply>(`${pathOf(id)}/cancel`, {});
  if (terminal.isJson) terminal.printJson(reply);
  else if (reply.operation)
    terminal.print(`${reply.operation.id} is being canceled; what was made stays in the state.`);
  else if (reply.update)
    terminal.print(
      `The ${reply.update.kind} of ${reply.update.who} has ended: what it had written is kept, and it can write no more.`,
    );
  return EXIT.done;
}

async function findNewest({ api }: Context, id: string | undefined): Promise<string> {
  const { items } = await api.get<{ items: StackUpdateReply[] }>(`${pathOf(id)}/history`, { limit: 1 });
  if (items[0]) return items[0].id;
  throw new CliError('Nobody has updated it yet.', EXIT.notFound);
}

function tell(event: StackUpdateEvent): string {
  if (event.type !== 'summary') return describeEvent(event) ?? event.type;
  return describeChanges((event.data['changes'] ?? {}) as Record<string, number>);
}

function describeChanges(changes: Record<string, number>): string {
  const parts = Object.entries(changes).filter(([op, count]) => op !== 'same' && count > 0);
  return parts.map(([op, count]) => `${count} ${op}`).join(', ') || '-';
}

function pathOf(id: string | undefined): string {
  return `/stacks/${encodeURIComponent(id as string)}`;
}
