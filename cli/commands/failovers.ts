/** `muster failovers list|get` and `muster instances endpoint|failover|failover-policy`. */
import type {
  EndpointReply,
  FailoverPolicyInput,
  FailoverPolicyReply,
  FailoverReply,
} from '../../api/contract/failovers.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd, formatSpan, formatSum, orDash } from '../format.ts';
import { reportEnd, watchOperation } from '../watch-operation.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

export async function showEndpoint({ terminal, api }: Context, [id]: string[]): Promise<ExitCode> {
  const endpoint = await api.get<EndpointReply>(pathOf(id, 'endpoint'));
  if (terminal.isJson) terminal.printJson(endpoint);
  else if (endpoint.kind === 'none') terminal.print('nowhere at this moment');
  else terminal.print(`${endpoint.user}@${endpoint.host}:${endpoint.port}  (${endpoint.kind})`);
  return endpoint.kind === 'none' ? EXIT.failed : EXIT.done;
}

export interface FailOverOptions {
  reason: string;
  mode?: 'replace' | 'standby';
  acceptDataLoss?: boolean;
  yes?: boolean;
  watch?: boolean;
}

export async function failOver(context: Context, [id]: string[], options: FailOverOptions): Promise<ExitCode> {
  const { terminal, api } = context;
  const question = `Destroy the machine of ${id} and go on with another?`;
  if (!options.yes && !(await terminal.confirm(question, 'Say --yes.')))
    throw new CliError('Nothing was done.', EXIT.failed);
  const { reason, mode, acceptDataLoss } = options;
  const accepted = await api.post<{ operation: { id: string }; failover: FailoverReply }>(pathOf(id, 'failover'), {
    reason,
    ...(mode === undefined ? {} : { mode }),
    ...(acceptDataLoss === true ? { acceptDataLoss } : {}),
  });
  if (terminal.isJson) (options.watch ? terminal.printJsonLine : terminal.printJson)(accepted);
  else terminal.print(`${accepted.failover.id} is ${accepted.failover.phase}: ${accepted.operation.id}`);
  if (!options.watch) return EXIT.done;
  const code = reportEnd(terminal, await watchOperation(api, terminal, accepted.operation.id));
  if (!terminal.isJson) await showFailover(context, await readFailover(context, accepted.failover.id));
  return code;
}

export async function failoverPolicy(
  { terminal, api }: Context,
  [id]: string[],
  options: Partial<FailoverPolicyInput>,
): Promise<ExitCode> {
  const { mode, rpo, maxPriceUsdPerHour, budgetUsdPerDay, cooldown, maxPerDay, failback } = options;
  const said = { mode, rpo, maxPriceUsdPerHour, budgetUsdPerDay, cooldown, maxPerDay, failback };
  const given = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
  if (mode === undefined && Object.keys(given).length > 0)
    throw new CliError('A policy is set as a whole: say its --mode too.', EXIT.wrongUse);
  const path = pathOf(id, 'failover-policy');
  const policy =
    mode === undefined ? await api.get<FailoverPolicyReply>(path) : await api.post<FailoverPolicyReply>(path, given);
  if (terminal.isJson) terminal.printJson(policy);
  else {
    terminal.print(`mode       ${policy.mode}`);
    terminal.print(`rpo        ${formatSpan(policy.rpoMs)}`);
    terminal.print(
      `price      ${policy.maxPriceMicroUsdPerHour === null ? 'as asked for' : formatMicroUsd(policy.maxPriceMicroUsdPerHour)}`,
    );
    terminal.print(
      `budget     ${policy.budgetMicroUsdPerDay === null ? 'no bound' : `${formatMicroUsd(policy.budgetMicroUsdPerDay)} a day`}`,
    );
    terminal.print(`cool-down  ${formatSpan(policy.cooldownMs)}, at most ${policy.maxPerDay} a day`);
    terminal.print(`failback   ${policy.failback}`);
  }
  return EXIT.done;
}

const HEAD = ['FAILOVER', 'INSTANCE', 'CAUSE', 'MODE', 'PHASE', 'DETECTED', 'RTO', 'DATA AGE', 'COST', 'WHY'];

export function listFailovers(
  context: Context,
  _args: string[],
  options: PageOptions & { instanceId?: string; phase?: string },
): Promise<ExitCode> {
  const { instanceId, phase } = options;
  return showPage<FailoverReply>(context, '/standby/failovers', { instanceId, phase }, options, HEAD, (one) => [
    one.id,
    one.instanceId,
    one.cause,
    one.mode,
    one.phase,
    formatSpan(one.detectionMs),
    formatSpan(one.rtoMs),
    formatSpan(one.dataAgeMs),
    formatSum(one.costMicroUsd),
    orDash(one.failure?.detail ?? one.reasons[0]),
  ]);
}

export async function getFailover(context: Context, [id]: string[]): Promise<ExitCode> {
  const found = await readFailover(context, id as string);
  if (context.terminal.isJson) context.terminal.printJson(found);
  else await showFailover(context, found);
  return EXIT.done;
}

function readFailover({ api }: Context, id: string): Promise<FailoverReply> {
  return api.get<FailoverReply>(`/standby/failovers/${encodeURIComponent(id)}`);
}

async function showFailover({ terminal }: Context, found: FailoverReply): Promise<void> {
  const isOld = found.isWithinRpo === false ? `, older than the ${formatSpan(found.rpoMs)} promised` : '';
  const facts: [string, string][] = [
    ['instance', found.instanceId],
    ['cause', `${found.cause}: ${found.reasons.join('; ')}`],
    ['phase', found.failure === null ? found.phase : `${found.phase}: ${found.failure.detail}`],
    ['detected', `${formatSpan(found.detectionMs)} after its last proof of life`],
    ['served', found.rtoMs === null ? '-' : `again after ${formatSpan(found.rtoMs)}`],
    ['data', found.dataAgeMs === null ? '-' : `${formatSpan(found.dataAgeMs)} old${isOld}`],
    ['cost', formatSum(found.costMicroUsd)],
  ];
  for (const [name, value] of facts) terminal.print(`${name.padEnd(10)}${value}`);
  terminal.print('');
  await terminal.printTable(
    ['PHASE', 'AT', 'TOOK', 'COST BY THEN'],
    found.phases.map((one) => [one.phase, one.at, formatSpan(one.durationMs), formatMicroUsd(one.costMicroUsd)]),
  );
}

function pathOf(id: string | undefined, what: string): string {
  return `/instances/${encodeURIComponent(id as string)}/${what}`;
}
