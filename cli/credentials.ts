/**
 * Credentials: the control plane that this invocation talks to and the bearer it shows there. A profile's credentials are only ever
 * sent to the address they were given for.
 */
import { readFile } from 'node:fs/promises';
import type { Tokens } from '../api/contract/auth.ts';
import { CliError, EXIT } from './exit-code.ts';
import { changeProfiles, readProfiles } from './profiles.ts';
import type { Environment, Profile } from './profiles.ts';

export const DEFAULT_URL = 'http://127.0.0.1:8080';
/** An access token is renewed when it ends within this time. */
const RENEW_BEFORE_MS = 60_000;
const RENEW_TIMEOUT_MS = 10_000;

export interface Credentials {
  /** Without a trailing slash. */
  readonly url: string;
  readonly profileName: string;
  /** null: we have none for this address. */
  bearer(): Promise<string | null>;
  /** After a 401: whether there is a new bearer to try. */
  renew(): Promise<boolean>;
}

export interface Wanted {
  url?: string;
  profile?: string;
}

/** Options over environment over profile. Throws CliError for a URL that is none, and for a named profile that does not exist. */
export async function resolveCredentials(
  wanted: Wanted,
  env: Environment,
  folder: string,
  options: { isLogin?: boolean } = {},
): Promise<Credentials> {
  const stored = await readProfiles(folder);
  const named = wanted.profile ?? (env['MUSTER_PROFILE'] || undefined);
  const profileName = named ?? stored.current;
  const profile = stored.profiles[profileName];
  if (named !== undefined && profile === undefined && !options.isLogin) {
    const known = Object.keys(stored.profiles).join(', ') || 'none';
    throw new CliError(
      `There is no profile "${named}"; known: ${known}. "muster login --profile ${named}" makes it.`,
      EXIT.wrongUse,
    );
  }
  const url = parseBaseUrl(wanted.url ?? (env['MUSTER_URL'] || undefined) ?? profile?.url ?? DEFAULT_URL);
  const key = await readKeyFromEnvironment(env);
  if (key !== null) return { url, profileName, bearer: async () => key, renew: async () => false };
  if (profile === undefined || parseBaseUrl(profile.url) !== url) {
    return { url, profileName, bearer: async () => null, renew: async () => false };
  }
  return profileCredentials(url, profileName, profile, folder);
}

/** The API key of MUSTER_API_KEY or of the file that MUSTER_API_KEY_FILE names. */
export async function readKeyFromEnvironment(env: Environment): Promise<string | null> {
  const key = env['MUSTER_API_KEY']?.trim();
  if (key) return key;
  const path = env['MUSTER_API_KEY_FILE'];
  if (!path) return null;
  try {
    return (await readFile(path, 'utf8')).trim() || null;
  } catch (error) {
    throw new CliError(`MUSTER_API_KEY_FILE: ${(error as Error).message}`, EXIT.wrongUse, { cause: error });
  }
}

export function parseBaseUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.search || url.hash) {
    throw new CliError(`"${text}" is no address of a control plane; it looks like ${DEFAULT_URL}`, EXIT.wrongUse);
  }
  return url.href.replace(/\/+$/, '');
}

function profileCredentials(url: string, profileName: string, profile: Profile, folder: string): Credentials {
  let current = profile;

  async function renewTokens(): Promise<boolean> {
    if (current.refreshToken === undefined) return false;
    const used = current.refreshToken;
    let isRenewed = false;
    // Refresh tokens are good for one use. Under the lock the file tells whether another invocation was quicker.
    await changeProfiles(folder, async (profiles) => {
      const stored = profiles.profiles[profileName];
      if (stored?.refreshToken === undefined) return;
      if (stored.refreshToken === used) {
        const tokens = await requestTokens(url, used);
        if (tokens === null) return;
        Object.assign(stored, tokens);
      }
      current = stored;
      isRenewed = true;
    });
    return isRenewed;
  }

  return {
    url,
    profileName,
    async bearer() {
      if (current.apiKey !== undefined) return current.apiKey;
      if (current.expiresAt !== undefined && Date.parse(current.expiresAt) - Date.now() < RENEW_BEFORE_MS)
        await renewTokens();
      return current.accessToken ?? null;
    },
    renew: () => (current.apiKey === undefined ? renewTokens() : Promise.resolve(false)),
  };
}

/** null: the refresh token is no longer good. A server that cannot be reached throws CliError. */
async function requestTokens(url: string, refreshToken: string): Promise<Tokens | null> {
  let response: Response;
  try {
    response = await fetch(`${url}/api/v1/auth/refresh`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept: 'application/json' },
      body: JSON.stringify({ refreshToken }),
      signal: AbortSignal.timeout(RENEW_TIMEOUT_MS),
    });
  } catch (error) {
    throw new CliError(`${url} cannot be reached to renew the login: ${(error as Error).message}`, EXIT.failed, {
      cause: error,
    });
  }
  if (!response.ok) return null;
  const { accessToken, refreshToken: next, expiresAt } = (await response.json()) as Tokens;
  return { accessToken, refreshToken: next, expiresAt };
}
