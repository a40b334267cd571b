/** `muster fleet`: what is rented now and what it costs. */
import type { Fleet } from '../../api/contract/findings.ts';
import type { Context } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd, formatSum, per30Days } from '../format.ts';

export async function showFleet(context: Context): Promise<ExitCode> {
  const { terminal } = context;
  const fleet = await context.api.get<Fleet>('/fleet');
  if (terminal.isJson) {
    terminal.printJson(fleet);
    return EXIT.done;
  }
  const byStatus = Object.entries(fleet.instances.byStatus).map(([status, count]) => `${count} ${status}`);
  terminal.print(`instances     ${fleet.instances.live} live${byStatus.length > 0 ? ` (${byStatus.join(', ')})` : ''}`);
  terminal.print(`machines      ${fleet.machines} that may exist at providers`);
  const burn = fleet.burnMicroUsdPerHour;
  terminal.print(`burn          ${formatMicroUsd(burn)} an hour, ${formatSum(per30Days(burn))} in 30 days`);
  terminal.print(`cost so far   ${formatSum(fleet.accruedMicroUsd)} of everything live`);
  terminal.print(`findings      ${fleet.openFindings} open`);
  for (const { instanceId, name, overrideReason } of fleet.unbounded) {
    terminal.print(`unbounded     ${name} (${instanceId}): ${overrideReason ?? 'no reason given'}`);
  }
  if (fleet.byProvider.length > 0) {
    const rows = fleet.byProvider.map((each) => [
      each.provider,
      String(each.machines),
      formatMicroUsd(each.burnMicroUsdPerHour),
    ]);
    terminal.print('');
    await terminal.printTable(['PROVIDER', 'MACHINES', 'USD/HOUR'], rows);
  }
  return EXIT.done;
}
