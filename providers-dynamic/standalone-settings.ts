/**
 * The settings of plain `pulumi up`, from the variables that the control plane's configuration documents, with the same
 * meanings: unless MUSTER_SANDBOX=off, only the sandbox on this machine is asked and nothing real is bought.
 */
import { readFileSync } from 'node:fs';
import { PROVIDER_FACTS, PROVIDER_NAMES, type ProviderName } from '../domain/provider.ts';
import type { ProviderSettings, RateLimits } from './provider-client.ts';
import { documentedRateLimits } from './provider-clients.ts';

export interface StandaloneProvider extends ProviderSettings {
  rateLimits: RateLimits;
  listLagMs: number;
}

type Environment = Record<string, string | undefined>;

interface Defaults {
  url: string;
  /** Names of the key's variable, the first is ours. */
  keys: [string, ...string[]];
  listLagMs: number;
}

/** The same as config-variables.ts documents; this runs in Pulumi's plugin process, which loads none of that. */
const DEFAULTS: Record<ProviderName, Defaults> = {
  vastai: {
    url: 'https://console.vast.ai',
    keys: ['MUSTER_VASTAI_API_KEY', 'VASTAI_API_KEY', 'VAST_API_KEY'],
    listLagMs: 15_000,
  },
  tensordock: {
    url: 'https://dashboard.tensordock.com',
    keys: ['MUSTER_TENSORDOCK_API_TOKEN', 'TENSORDOCK_API_TOKEN', 'TENSORDOCK_API_KEY'],
    listLagMs: 120_000,
  },
  runpod: { url: 'https://api.runpod.io', keys: ['MUSTER_RUNPOD_API_KEY', 'RUNPOD_API_KEY'], listLagMs: 15_000 },
  lambda: { url: 'https://cloud.lambda.ai', keys: ['MUSTER_LAMBDA_API_KEY', 'LAMBDA_API_KEY'], listLagMs: 30_000 },
};
const SANDBOX_PORT = 8090;

/** Throws Error naming the variable. Key files are read now. */
export function readStandaloneSettings(env: Environment, provider: ProviderName): StandaloneProvider {
  const isLive = env.MUSTER_SANDBOX === 'off';
  const defaults = DEFAULTS[provider];
  const name = `MUSTER_${provider.toUpperCase()}`;
  const port = Number(env.MUSTER_SANDBOX_PORT ?? SANDBOX_PORT) + 1 + PROVIDER_NAMES.indexOf(provider);
  const baseUrl = env[`${name}_URL`] || (isLive ? defaults.url : `http://127.0.0.1:${port}`);
  checkUrl(`${name}_URL`, baseUrl, defaults.url, isLive);
  const lag = env[`${name}_LIST_LAG`];
  return {
    apiKey: isLive ? readKey(env, provider) : 'sandbox',
    baseUrl,
    rateLimits: readRateLimits(env, `${name}_RATE_LIMITS`, provider, isLive),
    listLagMs: lag ? readDuration(`${name}_LIST_LAG`, lag) : isLive ? defaults.listLagMs : 0,
  };
}

function checkUrl(name: string, baseUrl: string, example: string, isLive: boolean): void {
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new Error(`${name} is "${baseUrl}", must be scheme, host and port such as "${example}"`);
  }
  if (!isLive && !/^(127(\.\d{1,3}){3}|localhost|\[::1\])$/.test(url.hostname)) {
    throw new Error(`${name} is "${baseUrl}": while MUSTER_SANDBOX is not "off" it must be on this machine`);
  }
}

function readKey(env: Environment, provider: ProviderName): string {
  const { keys } = DEFAULTS[provider];
  for (const name of keys) {
    const file = env[`${name}_FILE`];
    const key = env[name] || (file ? readFileSync(file, 'utf8').trim() : '');
    if (key !== '') return key;
  }
  const { title } = PROVIDER_FACTS[provider];
  throw new Error(`${title} has no key: set ${keys[0]} or ${keys[0]}_FILE in the environment of pulumi`);
}

function readRateLimits(env: Environment, name: string, provider: ProviderName, isLive: boolean): RateLimits {
  const text = env[name] || (isLive ? 'documented' : 'off');
  if (text === 'documented') return documentedRateLimits(provider);
  if (text === 'off') return {};
  try {
    const limits = JSON.parse(text) as RateLimits;
    if (Object.values(limits).every((seconds) => typeof seconds === 'number' && seconds >= 0)) return limits;
  } catch {
    // Said below.
  }
  throw new Error(`${name} must be "documented", "off", or a JSON object of seconds per endpoint`);
}

function readDuration(name: string, text: string): number {
  const match = /^(\d{1,4})\s*(s|seconds?|m|minutes?)$/i.exec(text.trim());
  if (!match) throw new Error(`${name} is "${text}", must be a duration such as "15 seconds"`);
  return Number(match[1]) * (/^m/i.test(match[2] as string) ? 60_000 : 1_000);
}
