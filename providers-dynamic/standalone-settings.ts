/**
 * The settings of plain `pulumi up`, from the variables that the control plane's configuration documents, with the same
 * meanings: unless MUSTER_SANDBOX=off, only the sandbox on this machine is asked and nothing real is bought.
 */
import { readFileSync } from 'node:fs';
import type { ProviderSettings, RateLimits } from './provider-client.ts';
import { VASTAI_RATE_LIMITS } from './vastai/rate-limits.ts';

export interface StandaloneSettings {
  vastai: ProviderSettings & { rateLimits: RateLimits; listLagMs: number };
}

type Environment = Record<string, string | undefined>;

const VASTAI_URL = 'https://console.vast.ai';
const SANDBOX_PORT = 8090;
const LIST_LAG_MS = 15_000;

/** Throws Error naming the variable. Key files are read now. */
export function readStandaloneSettings(env: Environment): StandaloneSettings {
  const isLive = env.MUSTER_SANDBOX === 'off';
  const sandboxUrl = `http://127.0.0.1:${Number(env.MUSTER_SANDBOX_PORT ?? SANDBOX_PORT) + 1}`;
  const baseUrl = env.MUSTER_VASTAI_URL || (isLive ? VASTAI_URL : sandboxUrl);
  checkUrl(baseUrl, isLive);
  return {
    vastai: {
      apiKey: isLive ? readKey(env, ['MUSTER_VASTAI_API_KEY', 'VASTAI_API_KEY', 'VAST_API_KEY']) : 'sandbox',
      baseUrl,
      rateLimits: readRateLimits(env.MUSTER_VASTAI_RATE_LIMITS || (isLive ? 'documented' : 'off')),
      listLagMs: env.MUSTER_VASTAI_LIST_LAG ? readDuration(env.MUSTER_VASTAI_LIST_LAG) : isLive ? LIST_LAG_MS : 0,
    },
  };
}

function checkUrl(baseUrl: string, isLive: boolean): void {
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new Error(`MUSTER_VASTAI_URL is "${baseUrl}", must be scheme, host and port such as "${VASTAI_URL}"`);
  }
  if (!isLive && !/^(127(\.\d{1,3}){3}|localhost|\[::1\])$/.test(url.hostname)) {
    throw new Error(`MUSTER_VASTAI_URL is "${baseUrl}": while MUSTER_SANDBOX is not "off" it must be on this machine`);
  }
}

function readKey(env: Environment, names: string[]): string {
  for (const name of names) {
    const file = env[`${name}_FILE`];
    const key = env[name] || (file ? readFileSync(file, 'utf8').trim() : '');
    if (key !== '') return key;
  }
  throw new Error(`Vast.ai has no key: set ${names[0]} or ${names[0]}_FILE in the environment of pulumi`);
}

function readRateLimits(text: string): RateLimits {
  if (text === 'documented') return VASTAI_RATE_LIMITS;
  if (text === 'off') return {};
  try {
    const limits = JSON.parse(text) as RateLimits;
    if (Object.values(limits).every((seconds) => typeof seconds === 'number' && seconds >= 0)) return limits;
  } catch {
    // Said below.
  }
  throw new Error('MUSTER_VASTAI_RATE_LIMITS must be "documented", "off", or a JSON object of seconds per endpoint');
}

function readDuration(text: string): number {
  const match = /^(\d{1,4})\s*(s|seconds?|m|minutes?)$/i.exec(text.trim());
  if (!match) throw new Error(`MUSTER_VASTAI_LIST_LAG is "${text}", must be a duration such as "15 seconds"`);
  return Number(match[1]) * (/^m/i.test(match[2] as string) ? 60_000 : 1_000);
}
