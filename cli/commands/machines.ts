/** `muster machines …`: what became of our attempts on each physical machine, and which ones nothing is bought on. */
import type { Machine, MachineDetail } from '../../api/contract/machines.ts';
import type { Context } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatShare, formatSpan, orDash } from '../format.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

const HEAD = [
  'PROVIDER',
  'MACHINE',
  'ATTEMPTS',
  'READY',
  'LOST',
  'CHANCE',
  'TIME TO READY',
  'DENYLISTED UNTIL',
  'REASON',
];

export function listMachineHistory(
  context: Context,
  _args: string[],
  options: PageOptions & { provider?: string },
): Promise<ExitCode> {
  return showPage<Machine>(context, '/machines/history', { provider: options.provider }, options, HEAD, toRow);
}

export function listDenylist(
  context: Context,
  _args: string[],
  options: PageOptions & { provider?: string },
): Promise<ExitCode> {
  return showPage<Machine>(context, '/machines/denylist', { provider: options.provider }, options, HEAD, toRow);
}

export async function getMachine(context: Context, args: string[]): Promise<ExitCode> {
  const { terminal } = context;
  const found = await context.api.get<MachineDetail>(pathOf(args));
  if (terminal.isJson) {
    terminal.printJson(found);
    return EXIT.done;
  }
  await terminal.printTable(HEAD, [toRow(found)]);
  for (const { at, action, by, until, reason } of found.denylistings)
    terminal.print(`${at}  ${action} by ${by}${until === null ? '' : ` until ${until}`}: ${orDash(reason)}`);
  return EXIT.done;
}

/** Nothing is bought on it for a time; what runs on it stays. */
export async function denylistMachine(
  context: Context,
  args: string[],
  options: { reason: string; for?: string },
): Promise<ExitCode> {
  const body = { reason: options.reason, ...(options.for === undefined ? {} : { for: options.for }) };
  return showOne(context, await context.api.post<Machine>(`${pathOf(args)}/denylist`, body, { isPlain: true }));
}

export async function liftDenylisting(context: Context, args: string[]): Promise<ExitCode> {
  return showOne(context, await context.api.delete<Machine>(`${pathOf(args)}/denylist`));
}

async function showOne({ terminal }: Context, machine: Machine): Promise<ExitCode> {
  if (terminal.isJson) terminal.printJson(machine);
  else await terminal.printTable(HEAD, [toRow(machine)]);
  return EXIT.done;
}

function toRow(machine: Machine): string[] {
  return [
    machine.provider,
    machine.machineId,
    String(machine.attempts),
    String(machine.successes),
    String(machine.losses),
    formatShare(machine.chanceOfSuccess),
    formatSpan(machine.p50ReadyMs),
    machine.denylisted ? orDash(machine.denylistedUntil) : '-',
    orDash(machine.denylisted ? machine.denylistReason : machine.lastFailureCode),
  ];
}

const pathOf = ([provider, machineId]: string[]) =>
  `/machines/${encodeURIComponent(provider as string)}/${encodeURIComponent(machineId as string)}`;
