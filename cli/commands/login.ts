/** `muster login` and `muster logout`: making and forgetting the credentials of a profile. Secrets come by prompt, file or environment, never as an argument. */
import type { Me, Tokens } from '../../api/contract/auth.ts';
import { ApiError, createApiClient } from '../api-client.ts';
import type { Context } from '../context.ts';
import { readKeyFromEnvironment } from '../credentials.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { changeProfiles, readProfiles } from '../profiles.ts';
import type { Profile } from '../profiles.ts';
import { readTextOption } from '../terminal.ts';

export interface LoginOptions {
  email?: string;
  passwordFile?: string;
  apiKey?: boolean;
  apiKeyFile?: string;
}

/** Asks for what is missing, proves it at the API, and keeps it as the profile that is used from now on. */
export async function login(context: Context, _args: string[], options: LoginOptions): Promise<ExitCode> {
  const { credentials, terminal } = context;
  const key = await readApiKey(context, options);
  const made: Profile =
    key === null ? await loginWithPassword(context, options) : { url: credentials.url, apiKey: key };
  const me = await readMe(credentials.url, key ?? (made.accessToken as string));
  await changeProfiles(context.folder, (profiles) => {
    profiles.profiles[credentials.profileName] = made;
    profiles.current = credentials.profileName;
  });
  if (terminal.isJson) terminal.printJson(me);
  const who = me.user?.email ?? `API key ${me.principal.id}`;
  terminal.print(
    `Logged in at ${credentials.url} as ${who} (${me.role} of ${me.org.name}), profile "${credentials.profileName}".`,
  );
  return EXIT.done;
}

export async function logout(context: Context): Promise<ExitCode> {
  const { folder, credentials, terminal } = context;
  const profile = (await readProfiles(folder)).profiles[credentials.profileName];
  if (profile?.refreshToken !== undefined) await endTokens(context);
  await changeProfiles(folder, (profiles) => {
    const stored = profiles.profiles[credentials.profileName];
    if (stored !== undefined) profiles.profiles[credentials.profileName] = { url: stored.url };
  });
  terminal.print(`Logged out of profile "${credentials.profileName}".`);
  return EXIT.done;
}

/** null: log in with a password. */
async function readApiKey(context: Context, options: LoginOptions): Promise<string | null> {
  if (options.apiKeyFile !== undefined) {
    const key = (await readTextOption('--api-key-file', options.apiKeyFile)).trim();
    if (key === '') throw new CliError('--api-key-file: there is no key in it', EXIT.wrongUse);
    return key;
  }
  if (options.apiKey !== true) return null;
  const fromEnvironment = await readKeyFromEnvironment(context.env);
  if (fromEnvironment !== null) return fromEnvironment;
  const instead =
    'Nobody can be asked for the key here: give it in MUSTER_API_KEY or by --api-key-file (- for standard input).';
  return (await context.terminal.askSecret('API key', instead)).trim();
}

async function loginWithPassword(context: Context, options: LoginOptions): Promise<Profile> {
  const { terminal, credentials } = context;
  const noEmail =
    'Nobody can be asked here: give --email and --password-file, or --api-key-file (- for standard input).';
  const email = options.email ?? (await terminal.askText('E-mail', noEmail));
  const noPassword = 'Nobody can be asked for the password here: give it by --password-file (- for standard input).';
  const password =
    options.passwordFile === undefined
      ? await terminal.askSecret('Password', noPassword)
      : (await readTextOption('--password-file', options.passwordFile)).replace(/\r?\n$/, '');
  const api = createApiClient({ ...credentials, bearer: async () => null, renew: async () => false });
  const tokens = await api.post<Tokens>('/auth/login', { email, password }, { isPlain: true });
  const { accessToken, refreshToken, expiresAt } = tokens;
  return { url: credentials.url, email, accessToken, refreshToken, expiresAt };
}

async function readMe(url: string, bearer: string): Promise<Me> {
  const api = createApiClient({ url, profileName: '', bearer: async () => bearer, renew: async () => false });
  return api.get<Me>('/users/me');
}

/** The server forgets the tokens too. One that refuses, or is away, does not keep us from forgetting ours. */
async function endTokens(context: Context): Promise<void> {
  try {
    await context.api.post('/auth/logout', {}, { isPlain: true });
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    if (error instanceof ApiError && error.status === 401) return;
    context.terminal.say(`The server was not told: ${error.message}`);
  }
}
