/** What every command is given: the API, the terminal, and where the user's files are. */
import { createApiClient } from './api-client.ts';
import type { ApiClient } from './api-client.ts';
import { resolveCredentials } from './credentials.ts';
import type { Credentials } from './credentials.ts';
import { configFolder } from './profiles.ts';
import type { Environment } from './profiles.ts';
import { createTerminal } from './terminal.ts';
import type { Terminal } from './terminal.ts';

/** Options that every command takes. */
export interface GlobalOptions {
  json?: boolean;
  url?: string;
  profile?: string;
}

export interface Context {
  readonly api: ApiClient;
  readonly credentials: Credentials;
  readonly terminal: Terminal;
  readonly env: Environment;
  /** The user's config folder of muster; it may not exist yet. */
  readonly folder: string;
}

export async function createContext(options: GlobalOptions, env: Environment, isLogin = false): Promise<Context> {
  const folder = configFolder(env);
  const terminal = createTerminal({ isJson: options.json === true });
  const credentials = await resolveCredentials(options, env, folder, { isLogin });
  if (isInClear(credentials.url) && (isLogin || (await hasBearer(credentials)))) {
    terminal.say(`Warning: ${credentials.url} is another machine without TLS; credentials cross the network in clear.`);
  }
  return { api: createApiClient(credentials), credentials, terminal, env, folder };
}

async function hasBearer(credentials: Credentials): Promise<boolean> {
  return (await credentials.bearer()) !== null;
}

function isInClear(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  return protocol === 'http:' && !/^(localhost|\[::1\]|127(\.\d{1,3}){3})$/.test(hostname);
}
