/** `muster providers list`: in what state each provider is, and why. */
import type { Provider } from '../../api/contract/providers.ts';
import type { Context } from '../context.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatAge, orDash } from '../format.ts';
import { showPage } from './page.ts';

const HEAD = ['PROVIDER', 'MODE', 'ENABLED', 'STATUS', 'OFFERS', 'LISTED', 'MACHINES', 'FOREIGN', 'REASON'];

export function listProviders(context: Context): Promise<ExitCode> {
  const now = Date.now();
  return showPage<Provider>(context, '/providers', {}, {}, HEAD, (provider) => [
    provider.name,
    provider.mode,
    provider.enabled ? 'yes' : 'no',
    provider.status,
    orDash(provider.offersCount),
    formatAge(provider.offersSeenAt, now),
    orDash(provider.instancesCount),
    orDash(provider.foreignCount),
    orDash(provider.reason),
  ]);
}
