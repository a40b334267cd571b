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
