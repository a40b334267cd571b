/** `muster instances hibernate|wake`: putting a rented machine to sleep, and bringing it back for a price that is shown first. */
import type { InstanceAccepted, WakePlan } from '../../api/contract/instances.ts';
import { ApiError } from '../api-client.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd, formatSpan } from '../format.ts';
import { reportEnd, watchOperation } from '../watch-operation.ts';
import { formatSsh, readInstance } from './instances.ts';

export async function hibernateInstance(
  context: Context,
  [id]: string[],
  options: { reason?: string; watch?: boolean },
): Promise<ExitCode> {
  const body = options.reason === undefined ? {} : { reason: options.reason };
  const accepted = await context.api.post<InstanceAccepted>(pathOf(id as string, 'hibernate'), body);
  return follow(
    context,
    accepted,
    options,
    'goes to sleep: its files are copied and read back, then its machine is destroyed',
  );
}

export interface WakeOptions {
  dryRun?: boolean;
  yes?: boolean;
  watch?: boolean;
}

export async function wakeInstance(context: Context, [id]: string[], options: WakeOptions): Promise<ExitCode> {
  const { terminal } = context;
  const path = pathOf(id as string, 'wake');
  if (options.dryRun) {
    const plan = await askForPlan(context, path);
    if (terminal.isJson) terminal.printJson(plan);
    else showPlan(context, plan);
    return plan.candidates.length === 0 ? EXIT.noCapacity : EXIT.done;
  }
  if (!options.yes && !terminal.isInteractive) {
    const detail = 'Waking rents a machine and nobody can be asked here: say --yes, or --dry-run for the price.';
    throw new CliError(detail, EXIT.wrongUse);
  }
  const accepted = await wakeAsAgreed(context, path, options.yes === true);
  const code = await follow(context, accepted, options, 'wakes');
  if (options.watch && !terminal.isJson) {
    const instance = await readInstance(context, id as string);
    terminal.print(`${instance.name} is ${instance.status}${instance.ssh === null ? '' : `: ${formatSsh(instance)}`}`);
  }
  return code;
}

/** How often a plan that changed while it was read is shown again. */
const MAX_PLANS = 3;

async function wakeAsAgreed(context: Context, path: string, isAgreed: boolean): Promise<InstanceAccepted> {
  for (let shown = 1; ; shown += 1) {
    const planHash = isAgreed ? null : await agree(context, path);
    try {
      return await context.api.post<InstanceAccepted>(path, planHash === null ? {} : { planHash });
    } catch (error) {
      const isChanged = error instanceof ApiError && error.problem?.code === 'plan_changed';
      if (!isChanged || shown >= MAX_PLANS) throw error;
      context.terminal.say(`The plan is no longer what it was: ${error.message}`);
    }
  }
}

async function agree(context: Context, path: string): Promise<string> {
  const plan = await askForPlan(context, path);
  showPlan(context, plan);
  if (plan.candidates.length === 0) throw new CliError('Nothing fits now; it sleeps on.', EXIT.noCapacity);
  const question = `Wake it for about ${formatMicroUsd(plan.priceMicroUsdPerHour)} an hour?`;
  if (!(await context.terminal.confirm(question, 'Say --yes.'))) throw new CliError('It sleeps on.', EXIT.failed);
  return plan.planHash;
}

function askForPlan(context: Context, path: string): Promise<WakePlan> {
  return context.api.post<WakePlan>(path, { dryRun: true }, { isPlain: true });
}

function showPlan({ terminal }: Context, plan: WakePlan): void {
  const [first] = plan.candidates;
  if (!first) return terminal.print(plan.shortage ?? 'nothing fits now');
  const size = plan.restoreBytes === null ? '' : `, ${(plan.restoreBytes / 1e9).toFixed(2)} GB`;
  terminal.print(`machine   ${first.gpu} at ${first.provider}${first.region === null ? '' : ` in ${first.region}`}`);
  terminal.print(`price     ${formatMicroUsd(plan.priceMicroUsdPerHour)} an hour`);
  terminal.print(`files     of ${plan.dataAt ?? 'its last snapshot'} (${plan.snapshotId}${size})`);
  if (plan.expectedReadyMs !== null)
    terminal.print(`machine ready in about ${formatSpan(plan.expectedReadyMs)}, and then its files`);
}

async function follow(
  { terminal, api }: Context,
  accepted: InstanceAccepted,
  options: { watch?: boolean },
  what: string,
): Promise<ExitCode> {
  if (terminal.isJson) (options.watch ? terminal.printJsonLine : terminal.printJson)(accepted);
  else terminal.print(`${accepted.instance.id} ${what}, by ${accepted.operation.id}.`);
  return options.watch ? reportEnd(terminal, await watchOperation(api, terminal, accepted.operation.id)) : EXIT.done;
}

function pathOf(id: string, verb: 'hibernate' | 'wake'): string {
  return `/instances/${encodeURIComponent(id)}/${verb}`;
}
