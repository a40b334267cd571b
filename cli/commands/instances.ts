/** `muster instances list|get|destroy|events`. Renting is in create-instances.ts, SSH in instance-ssh.ts. */
import type { Attempt, DestroyAccepted, Instance } from '../../api/contract/instances.ts';
import type { OperationEvent } from '../../api/contract/operations.ts';
import type { Context } from '../context.ts';
import { followEvents } from '../event-stream.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatAge, formatMicroUsd, formatSpan, formatSum, orDash } from '../format.ts';
import { describeEvent } from '../operation-progress.ts';
import { reportEnd, watchOperation } from '../watch-operation.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

export interface InstanceListOptions extends PageOptions {
  status?: string;
  name?: string;
  consumer?: string;
  provider?: string;
}

const LIST_HEAD = ['INSTANCE', 'NAME', 'STATUS', 'PHASE', 'GPU', 'PROVIDER', 'USD/HOUR', 'COST', 'AGE', 'SSH'];

export function listInstances(context: Context, _args: string[], options: InstanceListOptions): Promise<ExitCode> {
  const { status, name, consumer, provider } = options;
  const now = Date.now();
  return showPage<Instance>(
    context,
    '/instances',
    { status, name, consumer, provider },
    options,
    LIST_HEAD,
    (instance) => [
      instance.id,
      instance.name,
      instance.status,
      instance.phase,
      formatGpu(instance),
      orDash(instance.provider),
      formatMicroUsd(instance.priceMicroUsdPerHour),
      formatSum(instance.accruedMicroUsd),
      formatAge(instance.createdAt, now),
      formatSsh(instance),
    ],
  );
}

export async function getInstance(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal } = context;
  const instance = await readInstance(context, id as string);
  if (terminal.isJson) {
    terminal.printJson(instance);
    return EXIT.done;
  }
  for (const [name, value] of describeInstance(instance)) terminal.print(`${name.padEnd(14)}${value}`);
  if (instance.attempts.length > 0) {
    terminal.print('');
    await terminal.printTable(ATTEMPT_HEAD, instance.attempts.map(attemptRow));
  }
  return EXIT.done;
}

export function readInstance(context: Context, id: string): Promise<Instance> {
  return context.api.get<Instance>(`/instances/${encodeURIComponent(id)}`);
}

export async function destroyInstances(
  context: Context,
  ids: string[],
  options: { yes?: boolean; watch?: boolean },
): Promise<ExitCode> {
  const { terminal, api } = context;
  if (!options.yes) await confirmDestroy(context, ids);
  let worst: ExitCode = EXIT.done;
  const accepted: DestroyAccepted[] = [];
  for (const id of ids) {
    const answer = await api.delete<DestroyAccepted>(`/instances/${encodeURIComponent(id)}`);
    accepted.push(answer);
    if (terminal.isJson) showJson(context, answer, ids.length > 1 || options.watch === true);
    terminal.print(
      `${id} is being destroyed by ${answer.operation.id}; it may cost money until the provider confirms that it is gone.`,
    );
  }
  if (!options.watch) return EXIT.done;
  for (const { operation } of accepted) {
    const code = reportEnd(terminal, await watchOperation(api, terminal, operation.id));
    if (code !== EXIT.done) worst = code;
  }
  return worst;
}

/** Prints the events of an instance as they come, until it is destroyed or the person stops it. */
export async function followInstance(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal, api } = context;
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  const onLost = () => terminal.say('connection lost; trying again');
  const path = `/instances/${encodeURIComponent(id as string)}/events`;
  for await (const { data } of followEvents(api, path, { signal: stop.signal, onLost })) {
    const event = JSON.parse(data) as OperationEvent;
    if (terminal.isJson) terminal.printJsonLine(event);
    const line = describeEvent(event);
    if (line !== null) terminal.print(`${event.at.slice(0, 19).replace('T', ' ')}  ${event.operationId}  ${line}`);
  }
  return stop.signal.aborted ? EXIT.interrupted : EXIT.done;
}

async function confirmDestroy(context: Context, ids: string[]): Promise<void> {
  const instead = `Destroying needs a yes: say --yes (${ids.join(', ')}).`;
  if (!context.terminal.isInteractive) throw new CliError(instead, EXIT.wrongUse);
  for (const id of ids) {
    const instance = await readInstance(context, id);
    const price = formatMicroUsd(instance.priceMicroUsdPerHour);
    context.terminal.say(`${instance.name} (${id}): ${formatGpu(instance)}, ${instance.status}, ${price} an hour`);
  }
  const question =
    ids.length === 1
      ? 'Destroy it, with everything on its disk?'
      : `Destroy these ${ids.length}, with everything on their disks?`;
  if (!(await context.terminal.confirm(question, instead))) throw new CliError('Nothing was destroyed.', EXIT.failed);
}

function showJson(context: Context, value: unknown, isStream: boolean): void {
  if (isStream) context.terminal.printJsonLine(value);
  else context.terminal.printJson(value);
}

/** While it sleeps: since when, and what its files cost. */
function describeSleep({ status, hibernation: sleep }: Instance): string | null {
  if (sleep === null || !['hibernating', 'hibernated', 'waking'].includes(status)) return null;
  const storage = sleep.storageMicroUsdPerMonth;
  return [
    `${sleep.status} (${sleep.cause})`,
    ...(sleep.sleptAt === null ? [] : [`since ${sleep.sleptAt}`]),
    ...(storage === null ? [] : [`its files cost ${formatMicroUsd(storage)} a month`]),
    ...(sleep.wakeFailureDetail === null ? [] : [`not woken: ${sleep.wakeFailureDetail}`]),
  ].join(', ');
}

function describeInstance(instance: Instance): [string, string][] {
  const rows: [string, string | null][] = [
    ['id', instance.id],
    ['name', instance.name],
    ['status', `${instance.status} (${instance.phase})`],
    ['note', instance.note],
    ['failure', instance.failureCode === null ? null : `${instance.failureDetail ?? ''} (${instance.failureCode})`],
    ['gpu', formatGpu(instance)],
    ['image', instance.image],
    ['disk', `${instance.diskGib} GiB`],
    ['provider', instance.provider],
    ['machine', instance.machineId],
    ['region', instance.region],
    [
      'price',
      `${formatMicroUsd(instance.priceMicroUsdPerHour)} an hour, at most ${formatMicroUsd(instance.maxPriceMicroUsdPerHour)}`,
    ],
    ['cost so far', formatSum(instance.accruedMicroUsd)],
    ['ssh', instance.ssh === null ? null : formatSsh(instance)],
    ['sleep', describeSleep(instance)],
    [
      'saved',
      instance.savings === null
        ? null
        : `${formatSum(instance.savings.savedMicroUsd)} by ${formatSpan(instance.savings.asleepMs)} asleep`,
    ],
    ['strategy', instance.strategy],
    ['created', instance.createdAt],
    ['ready', instance.readyAt],
    ['expires', instance.unbounded ? 'never' : instance.expiresAt],
    ['destroyed', instance.destroyedAt],
    ['operation', instance.operationId],
    ['consumer', instance.consumer],
    ['actions', instance.allowedActions.join(', ') || null],
  ];
  return rows.filter((row): row is [string, string] => row[1] !== null);
}

const ATTEMPT_HEAD = ['ATTEMPT', 'STATUS', 'PROVIDER', 'ID THERE', 'MACHINE', 'USD/HOUR', 'COST', 'FAILURE'];

function attemptRow(attempt: Attempt): string[] {
  return [
    attempt.id,
    attempt.status,
    attempt.provider,
    orDash(attempt.providerInstanceId),
    orDash(attempt.machineId),
    formatMicroUsd(attempt.priceMicroUsdPerHour),
    formatMicroUsd(attempt.accruedMicroUsd),
    orDash(attempt.failureCode),
  ];
}

export function formatGpu(instance: Pick<Instance, 'gpu' | 'gpuCount' | 'gpuMemoryGib'>): string {
  const memory = instance.gpuMemoryGib === null ? '' : ` ${instance.gpuMemoryGib} GiB`;
  return `${instance.gpuCount}x ${instance.gpu}${memory}`;
}

export function formatSsh(instance: Pick<Instance, 'ssh'>): string {
  return instance.ssh === null ? '-' : `${instance.ssh.user}@${instance.ssh.host}:${instance.ssh.port}`;
}
