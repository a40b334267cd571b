/** `muster stacks …`: what is made of cloud resources. The preview with its price comes first, and what was shown is what is made. */
import { readFile } from 'node:fs/promises';
import type { z } from 'zod';
import type { Operation } from '../../api/contract/operations.ts';
import type {
  stackAccepted,
  stackDrift,
  StackPlanReply,
  StackReply,
  stackResources,
} from '../../api/contract/stacks.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatAge, formatMicroUsd, formatSum, orDash } from '../format.ts';
import { reportEnd, watchOperation } from '../watch-operation.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';
import { awaitPlan, showPlan } from './stack-plan.ts';

type StackAccepted = z.infer<typeof stackAccepted>;

const HEAD = ['STACK', 'NAME', 'KIND', 'STATUS', 'RESOURCES', 'USD/HOUR', 'USD/30 DAYS', 'DRIFTED'];
const HOURS_PER_30_DAYS = 720;

export interface StackListOptions extends PageOptions {
  kind?: string;
  status?: string;
}

export function listStacks(context: Context, _args: string[], options: StackListOptions): Promise<ExitCode> {
  const { kind, status } = options;
  return showPage<StackReply>(context, '/stacks', { kind, status }, options, HEAD, (stack) => [
    stack.id,
    stack.name,
    stack.kind,
    stack.status,
    String(stack.resourceCount),
    priceOf(stack),
    stack.priceMicroUsdPerHour === null ? '-' : formatSum(stack.priceMicroUsdPerHour * HOURS_PER_30_DAYS),
    stack.driftedCount === null ? '-' : String(stack.driftedCount),
  ]);
}

export async function getStack(context: Context, [id]: string[]): Promise<ExitCode> {
  return showStack(context, await context.api.get<StackReply>(pathOf(id)));
}

export interface CreateStackOptions {
  name: string;
  kind: string;
  config: string;
  costCentre: string;
  owner?: string;
  ceilingUsdPerHour?: string;
  protect?: boolean;
  onDrift?: string;
}

export async function createStack(context: Context, _args: string[], options: CreateStackOptions): Promise<ExitCode> {
  const { name, kind, costCentre, owner, ceilingUsdPerHour, protect, onDrift } = options;
  const given = { name, kind, costCentre, owner, ceilingUsdPerHour, protect, onDrift };
  const body = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const config = await readConfig(options.config);
  return showStack(context, await context.api.post<StackReply>('/stacks', { ...body, config }));
}

export interface ChangeStackOptions {
  config?: string;
  ceilingUsdPerHour?: string;
  protect?: boolean;
  onDrift?: string;
}

export async function changeStack(context: Context, [id]: string[], options: ChangeStackOptions): Promise<ExitCode> {
  const { ceilingUsdPerHour, protect, onDrift } = options;
  const body: Record<string, unknown> = Object.fromEntries(
    Object.entries({ ceilingUsdPerHour, protect, onDrift }).filter(([, value]) => value !== undefined),
  );
  if (options.config !== undefined) body['config'] = await readConfig(options.config);
  if (Object.keys(body).length === 0)
    throw new CliError('Say what is to change, such as --config stack.json.', EXIT.wrongUse);
  return showStack(context, await context.api.patch<StackReply>(pathOf(id), body));
}

export async function previewStack(
  context: Context,
  [id]: string[],
  options: { destroy?: boolean },
): Promise<ExitCode> {
  const plan = await previewOf(context, id as string, options.destroy === true ? 'destroy' : 'up');
  if (context.terminal.isJson) context.terminal.printJson(plan);
  else await showPlan(context, plan);
  return plan.violations.length === 0 ? EXIT.done : EXIT.wrongUse;
}

/** What the preview showed is what is made: its planHash goes along. */
export async function upStack(
  context: Context,
  [id]: string[],
  options: { yes?: boolean; watch?: boolean },
): Promise<ExitCode> {
  const { terminal } = context;
  const plan = await previewOf(context, id as string, 'up');
  if (!terminal.isJson) await showPlan(context, plan);
  if (plan.violations.length > 0) throw new CliError('Nothing was made: a policy would be broken.', EXIT.wrongUse);
  const question = `Carry it out, for ${formatMicroUsd(plan.priceMicroUsdPerHour)} an hour in all?`;
  if (!options.yes && !(await terminal.confirm(question, 'Say --yes.')))
    throw new CliError('Nothing was made.', EXIT.failed);
  return follow(context, id as string, 'up', { planHash: plan.planHash }, options.watch);
}

export function refreshStack(context: Context, [id]: string[], options: { watch?: boolean }): Promise<ExitCode> {
  return follow(context, id as string, 'refresh', {}, options.watch);
}

export async function destroyStack(
  context: Context,
  [id]: string[],
  options: { yes?: boolean; watch?: boolean },
): Promise<ExitCode> {
  const { terminal, api } = context;
  if (!options.yes) {
    const stack = await api.get<StackReply>(pathOf(id));
    const question = `Destroy ${stack.kind} ${stack.name} with its ${stack.resourceCount} resources?`;
    if (!(await terminal.confirm(question, 'Say --yes.'))) throw new CliError('Nothing was destroyed.', EXIT.failed);
  }
  return follow(context, id as string, 'destroy', {}, options.watch);
}

export async function showResources(context: Context, [id]: string[]): Promise<ExitCode> {
  const reply = await context.api.get<z.infer<typeof stackResources>>(`${pathOf(id)}/resources`);
  if (context.terminal.isJson) context.terminal.printJson(reply);
  else
    await context.terminal.printTable(
      ['NAME', 'TYPE', 'ID', 'USD/HOUR', 'PROTECTED'],
      reply.items.map((one) => [
        one.name,
        one.type,
        orDash(one.id),
        formatMicroUsd(one.priceMicroUsdPerHour),
        one.isProtected ? 'yes' : 'no',
      ]),
    );
  return EXIT.done;
}

export async function showDrift(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal, api } = context;
  const reply = await api.get<z.infer<typeof stackDrift>>(`${pathOf(id)}/drift`);
  if (terminal.isJson) terminal.printJson(reply);
  else if (reply.checkedAt === null) terminal.print('Nobody has looked yet; the cron looks every hour.');
  else if (reply.items.length === 0) terminal.print(`Nothing had changed at ${reply.checkedAt}.`);
  else
    await terminal.printTable(
      ['NAME', 'TYPE', 'WHAT', 'PROPERTIES'],
      reply.items.map((one) => [one.name, one.type, one.kind, one.properties.join(', ')]),
    );
  return EXIT.done;
}

export async function showOutputs(context: Context, [id]: string[]): Promise<ExitCode> {
  const reply = await context.api.get<{ outputs: Record<string, unknown> }>(`${pathOf(id)}/outputs`);
  context.terminal.printJson(reply.outputs);
  return EXIT.done;
}

async function previewOf(context: Context, id: string, update: 'up' | 'destroy'): Promise<StackPlanReply> {
  const reply = await context.api.post<StackPlanReply | { operation: { id: string } }>(`${pathOf(id)}/preview`, {
    update,
  });
  return awaitPlan(context, reply);
}

async function follow(
  context: Context,
  id: string,
  verb: 'up' | 'refresh' | 'destroy',
  body: object,
  isWatched: boolean | undefined,
): Promise<ExitCode> {
  const { api, terminal } = context;
  const accepted = await api.post<StackAccepted>(`${pathOf(id)}/${verb}`, body);
  if (isWatched) {
    const ended: Operation = await watchOperation(api, terminal, accepted.operation.id);
    return reportEnd(terminal, ended);
  }
  if (terminal.isJson) terminal.printJson(accepted);
  else {
    const { id: operationId } = accepted.operation;
    terminal.print(`Accepted as ${operationId}. Watch it: muster operations watch ${operationId}`);
  }
  return EXIT.done;
}

function showStack({ terminal }: Context, stack: StackReply): ExitCode {
  if (terminal.isJson) {
    terminal.printJson(stack);
    return EXIT.done;
  }
  terminal.print(`stack         ${stack.id}  ${stack.kind} ${stack.name}  ${stack.status}`);
  terminal.print(`holds         ${stack.resourceCount} resources`);
  terminal.print(
    `price         ${priceOf(stack)} an hour${stack.unpricedCount > 0 ? `, without ${stack.unpricedCount}` : ''}`,
  );
  terminal.print(`ceiling       ${formatMicroUsd(stack.ceilingMicroUsdPerHour)}`);
  terminal.print(`owner         ${stack.owner}, cost centre ${stack.costCentre}`);
  terminal.print(`protected     ${stack.protect ? 'yes' : 'no'}; drift is ${stack.onDrift}ed`);
  terminal.print(`drift         ${driftOf(stack)}`);
  if (stack.pendingCount > 0)
    terminal.print(`to decide     ${stack.pendingCount} interrupted creates: muster stacks pending list ${stack.id}`);
  if (stack.operation) terminal.print(`under way     ${stack.operation.kind} ${stack.operation.id}`);
  if (stack.failure) terminal.print(`failed        ${stack.failure.detail} (${stack.failure.code})`);
  return EXIT.done;
}

function driftOf({ driftedCount, driftCheckedAt }: StackReply): string {
  if (driftedCount === null || driftCheckedAt === null) return 'nobody has looked yet; the cron looks every hour';
  const count = `${driftedCount} resource${driftedCount === 1 ? '' : 's'}`;
  return `${count}, looked at ${formatAge(driftCheckedAt, Date.now())} ago`;
}

function priceOf(stack: StackReply): string {
  return formatMicroUsd(stack.priceMicroUsdPerHour);
}

/** @param file `-` is standard input */
async function readConfig(file: string): Promise<unknown> {
  const text = await (file === '-' ? readStandardInput() : readFile(file, 'utf8')).catch((error: Error) => {
    throw new CliError(`The configuration could not be read: ${error.message}`, EXIT.wrongUse);
  });
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CliError(`${file} is no JSON: ${(error as Error).message}`, EXIT.wrongUse);
  }
}

async function readStandardInput(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function pathOf(id: string | undefined): string {
  return `/stacks/${encodeURIComponent(id as string)}`;
}
