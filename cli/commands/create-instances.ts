/**
 * `muster instances create`: shows what would be rented and what it costs, asks, and only then rents. What is carried out is the plan that
 * was shown: its hash goes along, and the server refuses when the plan no longer holds.
 */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { CreateInstancesInput, Instance, InstancesAccepted, ProvisionPlan } from '../../api/contract/instances.ts';
import type { Offer } from '../../api/contract/inventory.ts';
import { ApiError } from '../api-client.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd, formatShare, formatSpan, formatSum, orDash } from '../format.ts';
import type { Environment } from '../profiles.ts';
import { formatTable, readTextOption } from '../terminal.ts';
import { reportEnd, watchOperation } from '../watch-operation.ts';
import { formatGpu, formatSsh, readInstance } from './instances.ts';

export interface CreateOptions {
  name?: string;
  gpu: string;
  gpuCount?: number;
  minGpuMemoryGib?: number;
  count?: number;
  diskGib?: number;
  image?: string;
  maxPriceUsdPerHour?: string;
  providers?: string[];
  regions?: string[];
  minReliability?: number;
  interruptible?: boolean;
  bid?: string;
  onInterruption?: string;
  strategy?: string;
  raceWidth?: number;
  maxRaceCostUsd?: string;
  sshPublicKeyFile?: string[];
  /** False with `--no-ssh-public-key`: only the deployment's own key opens it. */
  sshPublicKey?: boolean;
  env?: string[];
  onStartFile?: string;
  maxLifetime?: string;
  overrideReason?: string;
  bootTimeout?: string;
  /** A duration; true: the server's own. */
  hibernateWhenIdle?: string | true;
  failover?: 'off' | 'replace' | 'standby';
  rpo?: string;
  idleBelowPercent?: number;
  consumer?: string;
  dryRun?: boolean;
  yes?: boolean;
  watch?: boolean;
}

export async function createInstances(context: Context, _args: string[], options: CreateOptions): Promise<ExitCode> {
  const { terminal, api } = context;
  if (!options.yes && !options.dryRun && !terminal.isInteractive) {
    throw new CliError(
      'Renting spends money and nobody can be asked here: say --yes, or --dry-run for the price.',
      EXIT.wrongUse,
    );
  }
  const body = await buildBody(context, options);
  if (options.dryRun) return showDryRun(context, body);
  const accepted = await rentAsAgreed(context, body, options.yes === true);
  if (terminal.isJson) (options.watch ? terminal.printJsonLine : terminal.printJson)(accepted);
  else await showAccepted(context, accepted);
  if (!options.watch) return EXIT.done;
  const code = reportEnd(terminal, await watchOperation(api, terminal, accepted.operation.id));
  await showOutcome(context, accepted.instances);
  return code;
}

/** Only what was said: the defaults are the server's. */
async function buildBody(context: Context, options: CreateOptions): Promise<CreateInstancesInput> {
  const given = {
    name: options.name,
    gpu: options.gpu,
    gpuCount: options.gpuCount,
    minGpuMemoryGib: options.minGpuMemoryGib,
    count: options.count,
    diskGib: options.diskGib,
    image: options.image,
    maxPriceUsdPerHour: options.maxPriceUsdPerHour ?? (await askMaxPrice(context, options)),
    providers: options.providers,
    regions: options.regions?.map((region) => region.toUpperCase()),
    minReliability: options.minReliability,
    interruptible: options.interruptible,
    bidUsdPerHour: options.bid,
    onInterruption: options.onInterruption,
    strategy: options.strategy,
    raceWidth: options.raceWidth,
    maxRaceCostUsd: options.maxRaceCostUsd,
    sshPublicKeys: await readSshKeys(context, options),
    env: options.env === undefined ? undefined : readEnv(options.env, context.env),
    onStart:
      options.onStartFile === undefined ? undefined : await readTextOption('--on-start-file', options.onStartFile),
    maxLifetime: options.maxLifetime === 'none' ? null : options.maxLifetime,
    overrideReason: options.overrideReason,
    bootTimeout: options.bootTimeout,
    hibernateWhenIdle: readIdle(options),
    failover: readFailover(options),
    consumer: options.consumer,
  };
  const said = Object.entries(given).filter(([, value]) => value !== undefined);
  // Names of providers and strategies are checked by the server, which knows them.
  return Object.fromEntries(said) as unknown as CreateInstancesInput;
}

function readFailover({ failover: mode, rpo }: CreateOptions): CreateInstancesInput['failover'] {
  if (mode === undefined && rpo !== undefined)
    throw new CliError('--rpo is said of a failover: say --failover replace or standby too.', EXIT.wrongUse);
  return mode === undefined ? undefined : { mode, ...(rpo === undefined ? {} : { rpo }) };
}

function readIdle({
  hibernateWhenIdle: wish,
  idleBelowPercent,
}: CreateOptions): CreateInstancesInput['hibernateWhenIdle'] {
  if (wish === undefined && idleBelowPercent === undefined) return undefined;
  return {
    ...(typeof wish === 'string' ? { for: wish } : {}),
    ...(idleBelowPercent === undefined ? {} : { belowPercent: idleBelowPercent }),
  };
}

/** Suggests a quarter more than the cheapest fitting offer. */
async function askMaxPrice(context: Context, options: CreateOptions): Promise<string> {
  const instead = 'Say the most that one instance may cost an hour: --max-price-usd-per-hour 0.60';
  if (options.yes || options.dryRun || !context.terminal.isInteractive) throw new CliError(instead, EXIT.wrongUse);
  const filters = { gpu: options.gpu, gpuCount: options.gpuCount, minGpuMemoryGib: options.minGpuMemoryGib, limit: 1 };
  const { items } = await context.api.get<{ items: Offer[] }>('/inventory', filters);
  const cheapest = items[0]?.priceMicroUsdPerHour;
  const suggestion = cheapest === undefined ? undefined : formatSum(Math.ceil(cheapest * 1.25)).slice(1);
  const hint = cheapest === undefined ? 'no offer fits now' : `the cheapest offer is ${formatMicroUsd(cheapest)}`;
  return (
    await context.terminal.askText(`Most that one may cost an hour, in dollars (${hint})`, instead, suggestion)
  ).trim();
}

const USUAL_KEYS = ['id_ed25519.pub', 'id_ecdsa.pub', 'id_rsa.pub'];

async function readSshKeys(context: Context, options: CreateOptions): Promise<string[] | undefined> {
  if (options.sshPublicKey === false) return undefined;
  if (options.sshPublicKeyFile !== undefined) {
    const texts = await Promise.all(
      options.sshPublicKeyFile.map((path) => readTextOption('--ssh-public-key-file', path)),
    );
    return texts
      .flatMap((text) => text.split('\n'))
      .map((line) => line.trim())
      .filter((line) => line !== '' && !line.startsWith('#'));
  }
  for (const name of USUAL_KEYS) {
    const path = join(context.env['HOME'] ?? homedir(), '.ssh', name);
    const text = await readFile(path, 'utf8').catch(() => null);
    if (text === null) continue;
    context.terminal.say(`SSH key: ${path} (others: --ssh-public-key-file; none: --no-ssh-public-key)`);
    return [text.trim()];
  }
  return undefined;
}

/** `NAME` takes the value from our own environment, so that a secret need not be an argument; `NAME=value` says it. */
export function readEnv(pairs: string[], own: Environment): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const equals = pair.indexOf('=');
      if (equals >= 0) return [pair.slice(0, equals), pair.slice(equals + 1)];
      const value = own[pair];
      if (value === undefined)
        throw new CliError(`--env ${pair}: there is no such variable in the environment`, EXIT.wrongUse);
      return [pair, value];
    }),
  );
}

async function showDryRun(context: Context, body: CreateInstancesInput): Promise<ExitCode> {
  const plan = await askForPlan(context, body);
  if (context.terminal.isJson) context.terminal.printJson(plan);
  else await showPlan(context, plan);
  return isEmpty(plan) ? EXIT.noCapacity : EXIT.done;
}

/** How often a plan that changed while it was read is shown again. */
const MAX_PLANS = 3;

/** What is rented is the plan that was agreed to; where prices moved meanwhile, the new plan is shown and asked about. */
async function rentAsAgreed(
  context: Context,
  body: CreateInstancesInput,
  isAgreed: boolean,
): Promise<InstancesAccepted> {
  for (let shown = 1; ; shown += 1) {
    const planHash = await agree(context, body, isAgreed);
    try {
      return await context.api.post<InstancesAccepted>('/instances', planHash === null ? body : { ...body, planHash });
    } catch (error) {
      const isChanged = error instanceof ApiError && error.problem?.code === 'plan_changed';
      if (!isChanged || shown >= MAX_PLANS) throw error;
      context.terminal.say(`The plan is no longer what it was: ${error.message}`);
    }
  }
}

/** The hash of the plan agreed to; null: agreed to in advance, whatever the plan. Throws CliError where it is not wanted. */
async function agree(context: Context, body: CreateInstancesInput, isAgreed: boolean): Promise<string | null> {
  const { terminal } = context;
  if (isAgreed && terminal.isJson) return null;
  const plan = await askForPlan(context, body);
  await showPlan(context, plan);
  if (isAgreed) return null;
  if (isEmpty(plan)) throw new CliError('Nothing fits now; nothing was rented.', EXIT.noCapacity);
  const price = formatMicroUsd(plan.priceMicroUsdPerHour);
  const question = `Rent ${plan.count === 1 ? 'it' : `these ${plan.count}`} for about ${price} an hour?`;
  if (!(await terminal.confirm(question, 'Say --yes.'))) throw new CliError('Nothing was rented.', EXIT.failed);
  return plan.planHash;
}

/** Nothing could be had: neither bought nor, warm, claimed. */
function isEmpty(plan: ProvisionPlan): boolean {
  return plan.candidates.length === 0 && plan.warm.length === 0;
}

function askForPlan(context: Context, body: CreateInstancesInput): Promise<ProvisionPlan> {
  return context.api.post<ProvisionPlan>('/instances', { ...body, dryRun: true }, { isPlain: true });
}

const SHOWN_CANDIDATES = 10;
const CANDIDATE_HEAD = [
  '',
  'PROVIDER',
  'GPU',
  'MACHINE',
  'REGION',
  'RELIABLE',
  'USD/HOUR',
  'USD/30 DAYS',
  'CHANCE',
  'READY IN',
];

async function showPlan(context: Context, plan: ProvisionPlan): Promise<void> {
  const { terminal } = context;
  // With --json standard output is for the API's JSON only; a person who is asked still has to see the plan.
  const tell = terminal.isJson ? terminal.say : terminal.print;
  const rows = plan.candidates
    .slice(0, SHOWN_CANDIDATES)
    .map((candidate, index) => [
      String(index + 1),
      candidate.provider,
      formatGpu(candidate),
      orDash(candidate.machineId),
      orDash(candidate.region),
      formatShare(candidate.reliability),
      formatMicroUsd(candidate.priceMicroUsdPerHour),
      formatSum(candidate.priceMicroUsdPer30Days),
      formatShare(candidate.chanceOfSuccess),
      formatSpan(candidate.expectedReadyMs),
    ]);
  for (const { instanceId, provider, region, priceMicroUsdPerHour } of plan.warm)
    tell(`Warm: ${instanceId} at ${provider} ${orDash(region)}, ${formatMicroUsd(priceMicroUsdPerHour)} an hour.`);
  if (rows.length > 0) tell(await formatTable(CANDIDATE_HEAD, rows));
  tell(`${plan.fittingOffers} offers on ${plan.fittingMachines} machines fit.`);
  if (plan.shortage !== null) tell(`Short: ${plan.shortage}`);
  for (const note of plan.notes) tell(`Note: ${note}.`);
  if (isEmpty(plan)) return;
  const hour = formatMicroUsd(plan.priceMicroUsdPerHour);
  tell(
    `${plan.count === 1 ? 'One instance' : `${plan.count} instances`}: about ${hour} an hour, ${formatSum(plan.priceMicroUsdPer30Days)} in 30 days;`,
  );
  tell(`never more than ${formatMicroUsd(plan.maxPriceMicroUsdPerHour)} an hour.`);
  if (plan.raceWidth > 1) {
    const cost = formatMicroUsd(plan.worstCaseRaceCostMicroUsd);
    tell(`A race of ${plan.raceWidth} machines each: the losers cost at most ${cost} until they are gone.`);
  }
  if (plan.warm.length < plan.count) tell(describeOdds(plan));
}

function describeOdds(plan: ProvisionPlan): string {
  const chance = plan.chanceOfSuccess === null ? 'unknown' : formatShare(plan.chanceOfSuccess);
  const times =
    plan.p50ReadyMs === null
      ? ''
      : `, ready in ${formatSpan(plan.p50ReadyMs)} (${formatSpan(plan.p95ReadyMs)} at the worst of twenty)`;
  const advice =
    plan.raceWidth > 0 && plan.advisedRaceWidth !== plan.raceWidth ? ` Advised width: ${plan.advisedRaceWidth}.` : '';
  return `Chance of success ${chance}${times}.${advice} The prices hold until ${plan.expiresAt}.`;
}

async function showAccepted(context: Context, accepted: InstancesAccepted): Promise<void> {
  const rows = accepted.instances.map((instance) => [instance.id, instance.name, instance.status]);
  await context.terminal.printTable(['INSTANCE', 'NAME', 'STATUS'], rows);
  context.terminal.print(
    `Accepted as ${accepted.operation.id}. Watch it: muster operations watch ${accepted.operation.id}`,
  );
}

const OUTCOME_HEAD = ['INSTANCE', 'NAME', 'STATUS', 'PROVIDER', 'USD/HOUR', 'SSH'];

async function showOutcome(context: Context, accepted: Instance[]): Promise<void> {
  if (context.terminal.isJson) return;
  const instances = await Promise.all(accepted.map((instance) => readInstance(context, instance.id)));
  const rows = instances.map((instance) => [
    instance.id,
    instance.name,
    instance.status,
    orDash(instance.provider),
    formatMicroUsd(instance.priceMicroUsdPerHour),
    formatSsh(instance),
  ]);
  await context.terminal.printTable(OUTCOME_HEAD, rows);
  const ready = instances.find((instance) => instance.status === 'ready');
  if (ready) context.terminal.print(`Open it: muster instances ssh ${ready.id}`);
}
