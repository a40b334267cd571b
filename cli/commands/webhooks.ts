/** `muster webhooks …`: addresses that are told what happens, and the log of what they were told. */
import type { Delivery, Webhook } from '../../api/contract/webhooks.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { orDash } from '../format.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

const HEAD = ['WEBHOOK', 'URL', 'EVENTS', 'ENABLED', 'FAILING SINCE', 'DESCRIPTION'];
const DELIVERIES = ['DELIVERY', 'TYPE', 'OBJECT', 'STATUS', 'TRIES', 'ANSWER', 'NEXT TRY', 'ERROR'];

export function listWebhooks(context: Context, _args: string[], options: PageOptions): Promise<ExitCode> {
  return showPage<Webhook>(context, '/webhooks', {}, options, HEAD, (hook) => [
    hook.id,
    hook.url,
    hook.events.join(','),
    hook.enabled ? 'yes' : `no: ${orDash(hook.disabledReason)}`,
    orDash(hook.failingSince),
    orDash(hook.description),
  ]);
}

/** The secret is shown this once. */
export async function createWebhook(
  { api, terminal }: Context,
  [url]: string[],
  options: { events?: string[]; description?: string },
): Promise<ExitCode> {
  const { events, description } = options;
  const body = { url, ...(events ? { events } : {}), ...(description === undefined ? {} : { description }) };
  const made = await api.post<Webhook & { secret: string }>('/webhooks', body);
  if (terminal.isJson) terminal.printJson(made);
  else {
    terminal.print(`webhook  ${made.id}`);
    terminal.print(`secret   ${made.secret}`);
    terminal.say('The secret is shown only now; what is sent is signed with it.');
  }
  return EXIT.done;
}

export async function deleteWebhook(
  { api, terminal }: Context,
  [id]: string[],
  options: { yes?: boolean },
): Promise<ExitCode> {
  if (!options.yes && !(await terminal.confirm(`Delete ${id} with its log?`, 'Say --yes.')))
    throw new CliError('Nothing was deleted.', EXIT.failed);
  await api.delete(pathOf(id));
  if (!terminal.isJson) terminal.print(`${id} is deleted.`);
  return EXIT.done;
}

export async function testWebhook({ api, terminal }: Context, [id]: string[]): Promise<ExitCode> {
  const sent = await api.post<Delivery>(`${pathOf(id)}/test`, {}, { isPlain: true });
  if (terminal.isJson) terminal.printJson(sent);
  else terminal.print(`${sent.id} is ${sent.status}: see muster webhooks deliveries ${id}`);
  return EXIT.done;
}

export function listDeliveries(
  context: Context,
  [id]: string[],
  options: PageOptions & { status?: string },
): Promise<ExitCode> {
  const filters = { status: options.status };
  return showPage<Delivery>(context, `${pathOf(id)}/deliveries`, filters, options, DELIVERIES, (delivery) => [
    delivery.id,
    delivery.type,
    delivery.object.id,
    delivery.status,
    String(delivery.tries),
    orDash(delivery.responseStatus),
    orDash(delivery.nextTryAt),
    orDash(delivery.error),
  ]);
}

const pathOf = (id: string | undefined) => `/webhooks/${encodeURIComponent(id as string)}`;
