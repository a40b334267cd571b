/** `muster sourcing …`: rules by which machines are kept ready, and what was found for them. */
import type { SourcingCandidates, SourcingRule } from '../../api/contract/sourcing.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd, orDash } from '../format.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

export interface RuleOptions {
  name?: string;
  gpu?: string;
  target?: number;
  maxPriceUsdPerHour?: string;
  gpuCount?: number;
  providers?: string[];
  regions?: string[];
  consumer?: string;
  enabled?: string;
}

const HEAD = ['RULE', 'NAME', 'GPU', 'READY', 'TARGET', 'AT MOST', 'ENABLED', 'MODE', 'OUTCOME', 'REASON'];
const FOUND = ['RULE', 'MISSING', 'FITTING', 'BEST', 'PROVIDER', 'USD/HOUR', 'OUTCOME'];

export function listRules(context: Context, _args: string[], options: PageOptions): Promise<ExitCode> {
  return showPage<SourcingRule>(context, '/sourcing/rules', {}, options, HEAD, toRow);
}

export async function createRule(context: Context, _args: string[], options: RuleOptions): Promise<ExitCode> {
  return showRule(context, await context.api.post<SourcingRule>('/sourcing/rules', bodyOf(options)));
}

export async function changeRule(context: Context, [id]: string[], options: RuleOptions): Promise<ExitCode> {
  const body = bodyOf(options);
  if (Object.keys(body).length === 0) throw new CliError('Say what is to change, such as --target 3.', EXIT.wrongUse);
  return showRule(context, await context.api.patch<SourcingRule>(pathOf(id), body));
}

/** What it bought stays. */
export async function deleteRule(context: Context, [id]: string[]): Promise<ExitCode> {
  await context.api.delete(pathOf(id));
  if (!context.terminal.isJson) context.terminal.print(`${id} is deleted; what it rented stays.`);
  return EXIT.done;
}

export function listCandidates(context: Context, _args: string[], options: PageOptions): Promise<ExitCode> {
  return showPage<SourcingCandidates>(context, '/sourcing/candidates', {}, options, FOUND, (found) => {
    const [best] = found.candidates;
    return [
      found.ruleName,
      String(found.missing),
      String(found.fittingOffers),
      best ? `${best.gpuCount} × ${best.gpu}` : '-',
      orDash(best?.provider),
      formatMicroUsd(best?.priceMicroUsdPerHour ?? null),
      orDash(found.outcome),
    ];
  });
}

function bodyOf(options: RuleOptions): Record<string, unknown> {
  const { name, gpu, target, maxPriceUsdPerHour, gpuCount, providers, regions, consumer, enabled } = options;
  const given: Record<string, unknown> = {
    name,
    gpu,
    target,
    maxPriceUsdPerHour,
    gpuCount,
    providers,
    regions: regions?.map((region) => region.toUpperCase()),
    consumer,
    enabled: enabled === undefined ? undefined : enabled === 'yes',
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

async function showRule({ terminal }: Context, rule: SourcingRule): Promise<ExitCode> {
  if (terminal.isJson) terminal.printJson(rule);
  else await terminal.printTable(HEAD, [toRow(rule)]);
  return EXIT.done;
}

function toRow(rule: SourcingRule): string[] {
  return [
    rule.id,
    rule.name,
    `${rule.gpuCount} × ${rule.gpu}`,
    String(rule.counts.ready),
    String(rule.target),
    formatMicroUsd(rule.maxPriceMicroUsdPerHour),
    rule.enabled ? 'yes' : 'no',
    rule.mode,
    orDash(rule.outcome),
    orDash(rule.reason),
  ];
}

const pathOf = (id: string | undefined) => `/sourcing/rules/${encodeURIComponent(id as string)}`;
