/** `muster standby …`: what takes over for an instance, and the drills that prove it. The price comes before what is made. */
import type { DrillAccepted, DrillReply, StandbyAccepted, StandbyReply } from '../../api/contract/standbys.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatAge, formatMicroUsd, formatSpan, formatSum, orDash } from '../format.ts';
import { reportEnd, watchOperation } from '../watch-operation.ts';
import { readJson } from './input-file.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';
import { confirmPlan, planOf } from './stack-plan.ts';

const HEAD = ['STANDBY', 'NAME', 'INSTANCE', 'STATUS', 'RPO', 'DATA AGE', 'ON DISK', 'USD/HOUR', 'TROUBLE'];

export function listStandbys(
  context: Context,
  _args: string[],
  options: PageOptions & { instanceId?: string; status?: string },
): Promise<ExitCode> {
  const { instanceId, status } = options;
  return showPage<StandbyReply>(context, '/standby', { instanceId, status }, options, HEAD, (one) => [
    one.id,
    one.name,
    one.instanceId,
    one.status,
    formatSpan(one.rpoMs),
    formatSpan(one.lag.ageMs),
    formatSpan(one.synced.ageMs),
    one.priceMicroUsdPerHour === null ? '-' : formatMicroUsd(one.priceMicroUsdPerHour),
    orDash(one.failure?.detail ?? one.lag.reason ?? one.synced.failure),
  ]);
}

export async function getStandby(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal } = context;
  const found = await context.api.get<StandbyReply>(pathOf(id));
  if (terminal.isJson) {
    terminal.printJson(found);
    return EXIT.done;
  }
  const { lag, synced, agent } = found;
  const now = Date.now();
  const facts: [string, string][] = [
    ['name', found.name],
    ['instance', found.instanceId],
    ['status', found.failure === null ? found.status : `${found.status}: ${found.failure.detail}`],
    ['declared', `${found.state}, data at most ${formatSpan(found.rpoMs)} old`],
    ['data', lag.ageMs === null ? 'none yet' : `${formatSpan(lag.ageMs)} old${lag.isBehind ? ', BEHIND' : ''}`],
    ...(lag.reason === null ? [] : [['behind', lag.reason] as [string, string]]),
    ['on disk', synced.ageMs === null ? '-' : `${formatSpan(synced.ageMs)} old`],
    ...(synced.failure === null ? [] : [['restore', synced.failure] as [string, string]]),
    [
      'agent',
      agent.lastHeartbeatAt === null ? 'has never run' : `heard of ${formatAge(agent.lastHeartbeatAt, now)} ago`,
    ],
    ['drilled', found.drilledAt === null ? 'never' : `${formatAge(found.drilledAt, now)} ago`],
    ['stack', found.stackId],
  ];
  for (const [name, value] of facts) terminal.print(`${name.padEnd(10)}${value}`);
  return EXIT.done;
}

interface FollowOptions {
  yes?: boolean;
  watch?: boolean;
}

export interface CreateStandbyOptions extends FollowOptions {
  instanceId: string;
  name: string;
  rpo: string;
  state?: string;
  project?: string;
  zone?: string;
  fallbackZone?: string;
  config?: string;
  costCentre?: string;
  owner?: string;
  ceilingUsdPerHour?: string;
  protect?: boolean;
  dryRun?: boolean;
}

/** Always planned first: what it would cost is shown, asked for, and then exactly that is made. */
export async function createStandby(
  context: Context,
  _args: string[],
  options: CreateStandbyOptions,
): Promise<ExitCode> {
  const body = await bodyOf(options);
  const plan = await planOf(context, '/standby', body);
  if (!(await confirmPlan(context, plan, options))) return EXIT.done;
  const accepted = await context.api.post<StandbyAccepted>('/standby', { ...body, planHash: plan.planHash });
  return follow(context, accepted, options);
}

export async function deleteStandby(context: Context, [id]: string[], options: FollowOptions): Promise<ExitCode> {
  const { terminal, api } = context;
  if (!options.yes) {
    const { name, instanceId } = await api.get<StandbyReply>(pathOf(id));
    if (!(await terminal.confirm(`Destroy ${name}, which stands by for ${instanceId}?`, 'Say --yes.')))
      throw new CliError('Nothing was destroyed.', EXIT.failed);
  }
  return follow(context, await api.delete<StandbyAccepted>(pathOf(id)), options);
}

export interface DrillOptions extends FollowOptions {
  consent?: boolean;
  detection?: string;
  rto?: string;
  rpo?: string;
  costUsd?: string;
}

export async function drillStandby(context: Context, [id]: string[], options: DrillOptions): Promise<ExitCode> {
  const { terminal, api } = context;
  const isReal = options.consent === true;
  const question = isReal
    ? `Take the machine of a real workload away, and rent another?`
    : `Kill the simulated machine that ${id} stands by for?`;
  if (!options.yes && !(await terminal.confirm(question, 'Say --yes.')))
    throw new CliError('Nothing was lost.', EXIT.failed);
  const { detection, rto, rpo, costUsd } = options;
  const targets = Object.fromEntries(
    Object.entries({ detection, rto, rpo, costUsd }).filter(([, value]) => value !== undefined),
  );
  const accepted = await api.post<DrillAccepted>('/standby/drills', {
    standbyId: id,
    ...(isReal ? { mode: 'consented', consent: true } : {}),
    targets,
  });
  if (terminal.isJson) (options.watch ? terminal.printJsonLine : terminal.printJson)(accepted);
  else terminal.print(`${accepted.drill.id} is accepted as ${accepted.operation.id}.`);
  if (!options.watch) return EXIT.done;
  const code = reportEnd(terminal, await watchOperation(api, terminal, accepted.operation.id));
  if (!terminal.isJson) showDrill(context, await api.get<DrillReply>(drillPath(accepted.drill.id)));
  return code;
}

const DRILL_HEAD = ['DRILL', 'STANDBY', 'MODE', 'STATUS', 'DETECTED', 'RTO', 'DATA AGE', 'COST', 'FAILURES'];

export function listDrills(
  context: Context,
  _args: string[],
  options: PageOptions & { standbyId?: string; status?: string },
): Promise<ExitCode> {
  const { standbyId, status } = options;
  return showPage<DrillReply>(context, '/standby/drills', { standbyId, status }, options, DRILL_HEAD, (one) => [
    one.id,
    one.standbyId,
    one.mode,
    one.status,
    formatSpan(one.measures?.detectionMs ?? null),
    formatSpan(one.measures?.rtoMs ?? null),
    formatSpan(one.measures?.rpoMs ?? null),
    one.measures?.costMicroUsd == null ? '-' : formatSum(one.measures.costMicroUsd),
    orDash(one.failures[0]),
  ]);
}

export async function getDrill(context: Context, [id]: string[]): Promise<ExitCode> {
  const found = await context.api.get<DrillReply>(drillPath(id));
  if (context.terminal.isJson) context.terminal.printJson(found);
  else showDrill(context, found);
  return found.status === 'failed' ? EXIT.failed : EXIT.done;
}

function showDrill({ terminal }: Context, { status, measures, targets, failures, failoverId }: DrillReply): void {
  const line = (name: string, measured: number | null, target: number | null) =>
    terminal.print(
      `${name.padEnd(12)}${formatSpan(measured)}${target === null ? '' : ` (${formatSpan(target)} wanted)`}`,
    );
  terminal.print(`${'status'.padEnd(12)}${status}`);
  line('detection', measures?.detectionMs ?? null, targets.detectionMs);
  line('served after', measures?.rtoMs ?? null, targets.rtoMs);
  line('data age', measures?.rpoMs ?? null, targets.rpoMs);
  line('replaced', measures?.restoredMs ?? null, null);
  terminal.print(`${'cost'.padEnd(12)}${measures?.costMicroUsd == null ? '-' : formatSum(measures.costMicroUsd)}`);
  terminal.print(`${'failover'.padEnd(12)}${orDash(failoverId)}`);
  for (const failure of failures) terminal.print(`failed      ${failure}`);
}

async function follow(
  { api, terminal }: Context,
  accepted: StandbyAccepted,
  options: { watch?: boolean },
): Promise<ExitCode> {
  const { id } = accepted.operation;
  if (options.watch) return reportEnd(terminal, await watchOperation(api, terminal, id));
  if (terminal.isJson) terminal.printJson(accepted);
  else
    terminal.print(`${accepted.standby?.name ?? 'It'} is accepted as ${id}. Watch it: muster operations watch ${id}`);
  return EXIT.done;
}

async function bodyOf(options: CreateStandbyOptions): Promise<Record<string, unknown>> {
  const { instanceId, name, rpo, state, costCentre, owner, ceilingUsdPerHour, protect } = options;
  const { project, zone, fallbackZone } = options;
  const file = options.config === undefined ? {} : await readJson(options.config);
  const config = present({ ...file, project, zone, fallbackZone });
  return present({ instanceId, name, rpo, state, config, costCentre, owner, ceilingUsdPerHour, protect });
}

function present(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function pathOf(id: string | undefined): string {
  return `/standby/${encodeURIComponent(id as string)}`;
}

function drillPath(id: string | undefined): string {
  return `/standby/drills/${encodeURIComponent(id as string)}`;
}
