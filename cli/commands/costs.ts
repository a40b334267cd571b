/** `muster costs`: what machines have cost, grouped, and a month at a glance. */
import type { CostLine, CostSummary } from '../../api/contract/costs.ts';
import type { Context } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd, formatSpan, formatSum, orDash } from '../format.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

export interface CostOptions extends PageOptions {
  groupBy?: string;
  consumer?: string;
  instanceId?: string;
  sessionId?: string;
  provider?: string;
  from?: string;
  to?: string;
}

export function listCosts(context: Context, _args: string[], options: CostOptions): Promise<ExitCode> {
  const { groupBy, consumer, instanceId, sessionId, provider, from, to } = options;
  const filters = { groupBy, consumer, instanceId, sessionId, provider, from, to };
  const head = [(groupBy ?? 'instance').toUpperCase(), 'COST', 'UNPROVEN', 'MACHINE TIME'];
  return showPage<CostLine>(context, '/costs', filters, options, head, toRow);
}

export async function showCostSummary(
  context: Context,
  _args: string[],
  options: { month?: string },
): Promise<ExitCode> {
  const { terminal } = context;
  const summary = await context.api.get<CostSummary>('/costs/summary', { month: options.month });
  if (terminal.isJson) {
    terminal.printJson(summary);
    return EXIT.done;
  }
  const { costMicroUsd, unprovenMicroUsd } = summary;
  terminal.print(`month         ${summary.month}`);
  terminal.print(
    `cost          ${formatSum(costMicroUsd)}, of it ${formatSum(unprovenMicroUsd)} without a sign of life`,
  );
  terminal.print(`machine time  ${formatSpan(summary.billedMs)}`);
  terminal.print(`burn          ${formatMicroUsd(summary.burnMicroUsdPerHour)} an hour now`);
  terminal.print(`forecast      ${formatSum(summary.forecastMicroUsd)} at the end of the month`);
  const groups = { CONSUMER: summary.byConsumer, PROVIDER: summary.byProvider, GPU: summary.byGpu, DAY: summary.byDay };
  for (const [name, lines] of Object.entries(groups)) {
    if (lines.length === 0) continue;
    terminal.print('');
    await terminal.printTable(
      [name, 'COST', 'UNPROVEN', 'MACHINE TIME'],
      lines.map((line) => toRow({ ...line, name: null })),
    );
  }
  return EXIT.done;
}

function toRow(line: CostLine): string[] {
  const key = line.name === null ? orDash(line.key) : `${line.name} (${line.key})`;
  return [key, formatSum(line.costMicroUsd), formatSum(line.unprovenMicroUsd), formatSpan(line.billedMs)];
}
