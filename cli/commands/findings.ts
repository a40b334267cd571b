/** `muster findings …`: what is recorded otherwise than the providers list it or the clouds have it, and what is to be done about it. */
import type { Finding } from '../../api/contract/findings.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd, formatSum, orDash } from '../format.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

export interface FindingListOptions extends PageOptions {
  status?: string;
  class?: string;
  provider?: string;
  stackId?: string;
}

const HEAD = [
  'FINDING',
  'CLASS',
  'STATUS',
  'PROVIDER',
  'MACHINE OR STACK',
  'USD/HOUR',
  'COST',
  'SEEN',
  'MAY',
  'DETAIL',
];

export function listFindings(context: Context, _args: string[], options: FindingListOptions): Promise<ExitCode> {
  const { status, class: classes, provider, stackId } = options;
  return showPage<Finding>(context, '/findings', { status, class: classes, provider, stackId }, options, HEAD, toRow);
}

export async function destroyFound(
  context: Context,
  [id]: string[],
  options: { reason?: string; yes?: boolean },
): Promise<ExitCode> {
  if (!options.yes && !(await context.terminal.confirm(`Destroy the machine of ${id} for good?`, 'Say --yes.')))
    throw new CliError('Nothing was destroyed.', EXIT.failed);
  return act(context, id, 'destroy', given({ reason: options.reason }));
}

export function adoptFound(
  context: Context,
  [id]: string[],
  options: { name?: string; consumer?: string; maxLifetime?: string; overrideReason?: string; reason?: string },
): Promise<ExitCode> {
  const { name, consumer, maxLifetime, overrideReason, reason } = options;
  return act(context, id, 'adopt', given({ name, consumer, maxLifetime, overrideReason, reason }));
}

export function repairFound(context: Context, [id]: string[], options: { reason?: string }): Promise<ExitCode> {
  return act(context, id, 'repair', given({ reason: options.reason }));
}

export function ignoreFound(
  context: Context,
  [id]: string[],
  options: { reason: string; until?: string },
): Promise<ExitCode> {
  return act(context, id, 'ignore', given({ reason: options.reason, until: options.until }));
}

async function act(
  { terminal, api }: Context,
  id: string | undefined,
  verb: 'destroy' | 'adopt' | 'repair' | 'ignore',
  body: Record<string, string>,
): Promise<ExitCode> {
  const reply = await api.post<Finding | { finding: Finding; operation: { id: string } }>(
    `/findings/${encodeURIComponent(id as string)}/${verb}`,
    body,
    { isPlain: verb === 'ignore' },
  );
  if (terminal.isJson) terminal.printJson(reply);
  else if ('finding' in reply)
    terminal.print(`${reply.finding.id} is ${reply.finding.status} by ${reply.operation.id}.`);
  else terminal.print(`${reply.id} is ${reply.status}.`);
  return EXIT.done;
}

/** Only what was said is sent. */
function given(options: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(options).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

function toRow(finding: Finding): string[] {
  return [
    finding.id,
    finding.class,
    finding.status,
    orDash(finding.provider),
    orDash(finding.providerInstanceId ?? finding.stackId),
    formatMicroUsd(finding.priceMicroUsdPerHour),
    formatSum(finding.accruedMicroUsd),
    String(finding.sightings),
    orDash(finding.allowedActions.join(', ')),
    finding.detail,
  ];
}
