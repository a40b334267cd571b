/** What a request would make and cost, asked for and shown before it is sent: of whatever is made through a stack. */
import type { operationRef } from '../../api/contract/operations.ts';
import type { StackPlanReply } from '../../api/contract/stacks.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { formatMicroUsd, formatSum, orDash } from '../format.ts';
import { watchOperation } from '../watch-operation.ts';
import type { z } from 'zod';

interface LongPlan {
  operation: z.infer<typeof operationRef>;
}

/** By a dry run, waited for where it takes long. */
export async function planOf(
  { api, terminal }: Context,
  path: string,
  body: Record<string, unknown>,
): Promise<StackPlanReply> {
  const reply = await api.post<StackPlanReply | LongPlan>(path, { ...body, dryRun: true });
  if ('planHash' in reply) return reply;
  terminal.say(`The plan takes long; waiting for ${reply.operation.id}.`);
  const ended = await watchOperation(api, terminal, reply.operation.id);
  if (ended.status !== 'succeeded') throw new CliError(`The plan failed: ${orDash(ended.error?.detail)}`, EXIT.failed);
  return api.get<StackPlanReply>(`/stacks/${ended.targetId}/plans/${ended.id}`);
}

/** Shows it and asks. @returns false: only the plan was wanted */
export async function confirmPlan(
  { terminal }: Context,
  plan: StackPlanReply,
  options: { yes?: boolean; dryRun?: boolean },
): Promise<boolean> {
  if (terminal.isJson && options.dryRun) terminal.printJson(plan);
  else if (!terminal.isJson) await showPlan(terminal, plan);
  if (plan.violations.length > 0) throw new CliError('Nothing was made: a policy would be broken.', EXIT.wrongUse);
  if (options.dryRun) return false;
  const question = `Make it, for ${formatMicroUsd(plan.priceMicroUsdPerHour)} an hour?`;
  if (!options.yes && !(await terminal.confirm(question, 'Say --yes, or --dry-run to see the plan only.')))
    throw new CliError('Nothing was made.', EXIT.failed);
  return true;
}

async function showPlan(terminal: Context['terminal'], plan: StackPlanReply): Promise<void> {
  await terminal.printTable(
    ['WHAT', 'NAME', 'TYPE', 'USD/HOUR'],
    plan.changes.map(({ op, name, type, after }) => [
      op,
      name,
      type,
      after === null ? '-' : formatMicroUsd(after.microUsdPerHour),
    ]),
  );
  terminal.print(
    `${formatMicroUsd(plan.priceMicroUsdPerHour)} an hour, ${formatSum(plan.priceMicroUsdPer30Days)} in 30 days.`,
  );
  for (const { urn, why } of plan.unpriced) terminal.print(`not in it: ${urn.split('::').at(-1) ?? urn}: ${why}`);
  for (const { resource, message } of plan.violations) terminal.print(`policy: ${orDash(resource)}: ${message}`);
}
