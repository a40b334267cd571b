/** `muster pools …`: warm instances kept ready. What a pool costs is shown before it is made or changed. */
import type { CreatePoolInput, Pool, PoolDeleted, PoolPlan } from '../../api/contract/pools.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd, formatSpan, formatSum, orDash } from '../format.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

/** Only what was said is sent: the defaults are the server's, and what a change leaves out stays. */
export interface PoolOptions {
  name?: string;
  gpu?: string;
  gpuCount?: number;
  minGpuMemoryGib?: number;
  image?: string;
  diskGib?: number;
  maxPriceUsdPerHour?: string;
  providers?: string[];
  regions?: string[];
  target?: number;
  maxSize?: number;
  idleShrinkAfter?: string;
  idleSize?: number;
  consumer?: string;
}

const HEAD = ['POOL', 'NAME', 'GPU', 'READY', 'FILLING', 'TARGET', 'USD/HOUR', 'AT MOST', 'TROUBLE'];

export function listPools(context: Context, _args: string[], options: PageOptions): Promise<ExitCode> {
  return showPage<Pool>(context, '/pools', {}, options, HEAD, (pool) => [
    pool.id,
    pool.name,
    `${pool.gpuCount} × ${pool.gpu}`,
    String(pool.counts.ready),
    String(pool.counts.filling),
    String(pool.targetSize),
    formatMicroUsd(pool.burnMicroUsdPerHour),
    formatMicroUsd(pool.maxPriceAtTargetMicroUsdPerHour),
    orDash(pool.trouble),
  ]);
}

export async function getPool(context: Context, [id]: string[]): Promise<ExitCode> {
  return showPool(context, await context.api.get<Pool>(pathOf(id)));
}

export async function createPool(
  context: Context,
  _args: string[],
  options: PoolOptions & { dryRun?: boolean; yes?: boolean },
): Promise<ExitCode> {
  const { terminal, api } = context;
  // Names of providers are checked by the server, which knows them.
  const body = bodyOf(options) as CreatePoolInput;
  if (options.dryRun || !options.yes) {
    const plan = await api.post<PoolPlan>('/pools', { ...body, dryRun: true }, { isPlain: true });
    if (options.dryRun && terminal.isJson) terminal.printJson(plan);
    else showPlan(context, plan);
    if (options.dryRun) return EXIT.done;
    const question = `Keep ${plan.targetSize} warm, for up to ${formatMicroUsd(plan.maxPriceAtTargetMicroUsdPerHour)} an hour?`;
    if (!(await terminal.confirm(question, 'Say --yes.')))
      throw new CliError('No pool was made; nothing was rented.', EXIT.failed);
  }
  return showPool(context, await api.post<Pool>('/pools', body));
}

export async function changePool(
  context: Context,
  [id]: string[],
  options: PoolOptions & { yes?: boolean },
): Promise<ExitCode> {
  const { terminal, api } = context;
  const body = bodyOf(options);
  if (Object.keys(body).length === 0) throw new CliError('Say what is to change, such as --target 3.', EXIT.wrongUse);
  const spends = options.target !== undefined || options.maxPriceUsdPerHour !== undefined;
  if (spends && !options.yes) {
    const before = await api.get<Pool>(pathOf(id));
    const target = options.target ?? before.targetSize;
    const price = options.maxPriceUsdPerHour ?? formatMicroUsd(before.maxPriceMicroUsdPerHour).slice(1);
    const question = `Keep ${target} warm, each for up to $${price} an hour (${before.targetSize} until now)?`;
    if (!(await terminal.confirm(question, 'Say --yes.'))) throw new CliError('Nothing was changed.', EXIT.failed);
  }
  return showPool(context, await api.patch<Pool>(pathOf(id), body));
}

export async function deletePools(context: Context, ids: string[], options: { yes?: boolean }): Promise<ExitCode> {
  const { terminal, api } = context;
  const what = ids.length === 1 ? `the pool ${ids[0]}` : `${ids.length} pools`;
  if (!options.yes && !(await terminal.confirm(`Delete ${what} and destroy what it keeps warm?`, 'Say --yes.'))) {
    throw new CliError('Nothing was deleted.', EXIT.failed);
  }
  for (const id of ids) {
    const deleted = await api.delete<PoolDeleted>(pathOf(id));
    const count = deleted.operations.length;
    if (terminal.isJson) terminal.printJsonLine(deleted);
    else if (count === 0) terminal.print(`${id} is deleted; it kept nothing warm.`);
    else
      terminal.print(
        `${id} is deleted; ${count} warm ${count === 1 ? 'instance is' : 'instances are'} being destroyed, and may cost until the provider confirms that they are gone.`,
      );
  }
  return EXIT.done;
}

function bodyOf(options: PoolOptions): Record<string, unknown> {
  const { target, regions } = options;
  const given: Record<string, unknown> = {
    name: options.name,
    gpu: options.gpu,
    gpuCount: options.gpuCount,
    minGpuMemoryGib: options.minGpuMemoryGib,
    image: options.image,
    diskGib: options.diskGib,
    maxPriceUsdPerHour: options.maxPriceUsdPerHour,
    providers: options.providers,
    regions: regions?.map((region) => region.toUpperCase()),
    targetSize: target,
    maxSize: options.maxSize,
    idleShrinkAfter: options.idleShrinkAfter,
    idleSize: options.idleSize,
    consumer: options.consumer,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function showPlan({ terminal }: Context, plan: PoolPlan): void {
  // With --json standard output is for the API's JSON only; a person who is asked still has to see the price.
  const tell = terminal.isJson ? terminal.say : terminal.print;
  tell(`${plan.fittingOffers} offers on ${plan.fittingMachines} machines fit.`);
  tell(
    `${plan.targetSize} warm: about ${formatMicroUsd(plan.priceMicroUsdPerHour)} an hour, ${formatSum(plan.priceMicroUsdPer30Days)} in 30 days;`,
  );
  tell(
    `never more than ${formatMicroUsd(plan.maxPriceAtTargetMicroUsdPerHour)} an hour, ${formatSum(plan.maxPriceAtTargetMicroUsdPer30Days)} in 30 days.`,
  );
  if (plan.shortage !== null) tell(`Short: ${plan.shortage}`);
  if (plan.trouble !== null) tell(`Only ${plan.fillNow} would be bought: ${plan.trouble}`);
}

function showPool({ terminal }: Context, pool: Pool): ExitCode {
  if (terminal.isJson) {
    terminal.printJson(pool);
    return EXIT.done;
  }
  const { ready, filling, claimed, existing } = pool.counts;
  terminal.print(`pool          ${pool.id}  ${pool.name}`);
  terminal.print(`keeps         ${pool.gpuCount} × ${pool.gpu}, ${pool.diskGib} GiB, ${pool.image}`);
  terminal.print(`target        ${pool.targetSize}, never more than ${pool.maxSize} machines`);
  terminal.print(`now           ${ready} ready, ${filling} filling, ${existing} machines; ${claimed} claimed ever`);
  terminal.print(
    `price         ${formatMicroUsd(pool.burnMicroUsdPerHour)} an hour now; at its target at most ${formatMicroUsd(pool.maxPriceAtTargetMicroUsdPerHour)} an hour, ${formatSum(pool.maxPriceAtTargetMicroUsdPer30Days)} in 30 days`,
  );
  terminal.print(
    `when idle     keeps ${Math.min(pool.idleSize, pool.targetSize)} after ${formatSpan(pool.idleShrinkAfterMs)} without a request${pool.needed < pool.targetSize ? ': now' : ''}`,
  );
  terminal.print(`consumer      ${pool.consumer}`);
  if (pool.trouble !== null) terminal.print(`trouble       ${pool.trouble}`);
  return EXIT.done;
}

function pathOf(id: string | undefined): string {
  return `/pools/${encodeURIComponent(id as string)}`;
}
