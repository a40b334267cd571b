/** The plan of a stack as people are shown it before anything is made: every change with its price, what has no price, what a policy forbids. */
import type { StackPlanReply } from '../../api/contract/stacks.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import { formatMicroUsd, formatSum, orDash } from '../format.ts';
import { watchOperation } from '../watch-operation.ts';

/** The plan itself, also where the request was answered before it was there. */
export async function awaitPlan(
  { api, terminal }: Context,
  reply: StackPlanReply | { operation: { id: string } },
): Promise<StackPlanReply> {
  if ('planHash' in reply) return reply;
  terminal.say(`The preview takes long; waiting for ${reply.operation.id}.`);
  const ended = await watchOperation(api, terminal, reply.operation.id);
  if (ended.status !== 'succeeded')
    throw new CliError(`The preview failed: ${orDash(ended.error?.detail)}`, EXIT.failed);
  return api.get<StackPlanReply>(`/stacks/${ended.targetId}/plans/${ended.id}`);
}

export async function showPlan({ terminal }: Context, plan: StackPlanReply): Promise<void> {
  if (plan.changes.length === 0) terminal.print(`Nothing would change (${plan.unchangedCount} resources).`);
  else
    await terminal.printTable(
      ['WHAT', 'NAME', 'TYPE', 'CHANGES', 'USD/HOUR BEFORE', 'AFTER'],
      plan.changes.map((one) => [
        one.op,
        one.name,
        one.type,
        one.changedInputs.join(', '),
        priceText(one.before),
        priceText(one.after),
      ]),
    );
  const delta = plan.deltaMicroUsdPerHour;
  terminal.print(
    `${formatMicroUsd(plan.priceMicroUsdPerHour)} an hour in all (${delta >= 0 ? '+' : ''}${formatMicroUsd(delta)}), ${formatSum(plan.priceMicroUsdPer30Days)} in 30 days.`,
  );
  for (const note of plan.notes) terminal.print(`note: ${note}`);
  for (const { urn, why } of plan.unpriced) terminal.print(`not in it: ${urn.split('::').at(-1) ?? urn}: ${why}`);
  for (const { resource, message } of plan.violations) terminal.print(`policy: ${orDash(resource)}: ${message}`);
}

function priceText(price: StackPlanReply['changes'][number]['after']): string {
  if (price === null) return '-';
  return price.microUsdPerHour === null ? price.kind : formatMicroUsd(price.microUsdPerHour);
}

/** The plan of a request that makes something, by a dry run of it. */
export async function planOf(context: Context, path: string, body: Record<string, unknown>): Promise<StackPlanReply> {
  return awaitPlan(context, await context.api.post(path, { ...body, dryRun: true }));
}

/** Shows it and asks. @returns false: only the plan was wanted */
export async function confirmPlan(
  context: Context,
  plan: StackPlanReply,
  options: { yes?: boolean; dryRun?: boolean },
): Promise<boolean> {
  const { terminal } = context;
  if (terminal.isJson && options.dryRun) terminal.printJson(plan);
  else if (!terminal.isJson) await showPlan(context, plan);
  if (plan.violations.length > 0) throw new CliError('Nothing was made: a policy would be broken.', EXIT.wrongUse);
  if (options.dryRun) return false;
  const question = `Make it, for ${formatMicroUsd(plan.priceMicroUsdPerHour)} an hour?`;
  if (!options.yes && !(await terminal.confirm(question, 'Say --yes, or --dry-run to see the plan only.')))
    throw new CliError('Nothing was made.', EXIT.failed);
  return true;
}
