/** What a live run may do: whose key, how many dollars. Everything that is missing or wrong is said before anything is started. */
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { ConfigError, loadConfig, type Environment } from '../../config.ts';
import { VARIABLES } from '../../config-variables.ts';
import { parseUsd, type MicroUsd } from '../../domain/money.ts';
import { PROVIDER_NAMES, type ProviderName } from '../../domain/provider.ts';
import type { ProviderSettings, RateLimits } from '../../providers-dynamic/provider-client.ts';
import { documentedRateLimits } from '../../providers-dynamic/provider-clients.ts';

/** The control plane ends the machine by itself after this, whatever becomes of us: the bound holds for so long. */
export const LIFETIME_MINUTES = 30;

export interface LiveOrder {
  maxCostMicroUsd: MicroUsd;
  /** So that the whole lifetime costs no more than the bound. */
  maxPriceMicroUsdPerHour: MicroUsd;
  deploymentId: string;
  providers: Map<ProviderName, ProviderSettings & { rateLimits: RateLimits }>;
  /** For the control plane: these providers and nothing else that somebody has set, such as a database. */
  environment: Record<string, string>;
}

/** Why nothing was started: exit code 2. */
export class LiveRefusal extends Error {}

export const USAGE = `Use: MUSTER_LIVE_MAX_USD=0.50 MUSTER_VASTAI_API_KEY=… npm run test:live -- [--provider NAME]…
It rents one real machine for real money. MUSTER_LIVE_MAX_USD is the most that it may cost.
Providers: ${PROVIDER_NAMES.join(', ')}; without --provider, those that have a key.`;

/** Throws LiveRefusal that names every problem it could see. */
export function readLiveOrder(argv: readonly string[], given: Environment): LiveOrder {
  const problems: string[] = [];
  const wanted = readProviderNames(argv);
  const maxCostMicroUsd = readBound(given['MUSTER_LIVE_MAX_USD'], problems);
  const deploymentId = `live-${randomBytes(4).toString('hex')}`;
  const env = { ...onlyProviders(given), MUSTER_SANDBOX: 'off', MUSTER_DEPLOYMENT_ID: deploymentId };
  const config = readConfig(env, problems);
  const names = wanted.length > 0 ? wanted : PROVIDER_NAMES.filter((name) => config?.providers[name].state === 'live');
  if (config && names.length === 0) problems.push(`no provider has a key: set one of ${keyNames(PROVIDER_NAMES)}`);
  const providers: LiveOrder['providers'] = new Map();
  for (const name of names) {
    const found = config?.providers[name];
    if (found?.apiKey && found.url) {
      const { apiKey, url, rateLimits } = found;
      const limits =
        rateLimits === 'documented' ? documentedRateLimits(name) : rateLimits === 'off' ? {} : { ...rateLimits };
      providers.set(name, { apiKey: apiKey.reveal(), baseUrl: url, rateLimits: limits });
    } else if (found) problems.push(`${name} has no key: set ${keyNames([name])}`);
  }
  if (problems.length > 0 || maxCostMicroUsd === null) {
    throw new LiveRefusal(`Nothing was started:\n${problems.map((line) => `  ${line}`).join('\n')}\n${USAGE}`);
  }
  return {
    maxCostMicroUsd,
    maxPriceMicroUsdPerHour: (maxCostMicroUsd * 60n) / BigInt(LIFETIME_MINUTES),
    deploymentId,
    providers,
    environment: { ...env, MUSTER_PROVIDERS: names.join(',') },
  };
}

function readProviderNames(argv: readonly string[]): ProviderName[] {
  try {
    const { values } = parseArgs({
      args: [...argv],
      options: { provider: { type: 'string', multiple: true, default: [] } },
    });
    for (const name of values.provider) {
      if (!PROVIDER_NAMES.some((known) => known === name)) throw new Error(`there is no provider "${name}"`);
    }
    return values.provider as ProviderName[];
  } catch (error) {
    throw new LiveRefusal(`${(error as Error).message}\n${USAGE}`);
  }
}

function readBound(text: string | undefined, problems: string[]): MicroUsd | null {
  const given = text?.trim() ?? '';
  const bound = parseUsd(given);
  if (bound !== null && bound > 0n) return bound;
  problems.push(
    given === ''
      ? 'MUSTER_LIVE_MAX_USD is not set: the most that the run may cost, in dollars'
      : `MUSTER_LIVE_MAX_USD: got ${JSON.stringify(given)}; allowed: dollars above 0, up to six decimals, such as "0.50"`,
  );
  return null;
}

function readConfig(env: Environment, problems: string[]): ReturnType<typeof loadConfig> | null {
  try {
    return loadConfig(env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    problems.push(...error.problems.map(({ variable, message }) => `${variable}: ${message}`));
    return null;
  }
}

/** Every other setting is emptied, which counts as unset: also what `.env` has for the deployment that really runs here. */
function onlyProviders(given: Environment): Record<string, string> {
  const env: Record<string, string> = {};
  for (const [name, variable] of Object.entries(VARIABLES)) {
    const names = [name, ...('otherNames' in variable ? (variable.otherNames ?? []) : [])];
    const isKept = variable.section === 'Providers' && name !== 'MUSTER_PROVIDERS';
    for (const one of names.flatMap((each) => (variable.isSecret ? [each, `${each}_FILE`] : [each]))) {
      env[one] = isKept ? (given[one] ?? '') : '';
    }
  }
  return env;
}

function keyNames(providers: readonly ProviderName[]): string {
  const found = providers.map((provider) =>
    Object.keys(VARIABLES).find((name) => new RegExp(`^MUSTER_${provider}_API_(KEY|TOKEN)$`, 'i').test(name)),
  );
  return found.join(', ');
}
