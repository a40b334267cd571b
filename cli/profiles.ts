/**
 * Profiles: which control plane we talk to, and as whom. One file in the user's config folder, mode 600, written as a whole, so that a
 * reader never sees half of it. How credentials are used and renewed is credentials.ts's.
 */
import { chmod, mkdir, open, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { CliError, EXIT } from './exit-code.ts';

/** Either an API key or tokens; neither after a logout. */
export interface Profile {
  url: string;
  apiKey?: string;
  email?: string;
  accessToken?: string;
  refreshToken?: string;
  /** Of the access token, RFC 3339. */
  expiresAt?: string;
}

export interface Profiles {
  /** The name of the profile that is used when none is named. */
  current: string;
  profiles: Record<string, Profile>;
}

export type Environment = Readonly<Record<string, string | undefined>>;

/** `$XDG_CONFIG_HOME/muster`, or `~/.config/muster`. */
export function configFolder(env: Environment): string {
  const base = env['XDG_CONFIG_HOME'];
  return join(base && base.startsWith('/') ? base : join(env['HOME'] ?? homedir(), '.config'), 'muster');
}

export async function readProfiles(folder: string): Promise<Profiles> {
  const path = join(folder, 'profiles.json');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { current: 'default', profiles: {} };
    throw new CliError(`${path} cannot be read: ${(error as Error).message}`, EXIT.failed, { cause: error });
  }
  try {
    const value = JSON.parse(text) as Partial<Profiles>;
    if (typeof value.profiles === 'object' && value.profiles !== null) {
      return { current: typeof value.current === 'string' ? value.current : 'default', profiles: value.profiles };
    }
  } catch {
    // Told below: the parser's message could quote a secret.
  }
  throw new CliError(`${path} is not as muster writes it. Repair or delete it, then log in again.`, EXIT.failed);
}

/** Changes the profiles under a lock, from what the file says at that moment. */
export async function changeProfiles(
  folder: string,
  change: (profiles: Profiles) => void | Promise<void>,
): Promise<Profiles> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return withLock(join(folder, 'profiles.lock'), async () => {
    const profiles = await readProfiles(folder);
    await change(profiles);
    const path = join(folder, 'profiles.json');
    const temporary = `${path}.${process.pid}`;
    await writeFile(temporary, `${JSON.stringify(profiles, null, 2)}\n`, { mode: 0o600 });
    // An old file of ours at the temporary name would keep its mode.
    await chmod(temporary, 0o600);
    await rename(temporary, path);
    return profiles;
  });
}

const LOCK_WAIT_MS = 15_000;
/** Longer than anybody holds it: renewing a token is one request of at most ten seconds. */
const LOCK_STALE_MS = 30_000;
const LOCK_POLL_MS = 50;

async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + LOCK_WAIT_MS;
  for (;;) {
    try {
      await (await open(path, 'wx', 0o600)).close();
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const age = await stat(path).then(
        (found) => Date.now() - found.mtimeMs,
        () => 0,
      );
      if (age > LOCK_STALE_MS) await rm(path, { force: true });
      else if (Date.now() > deadline)
        throw new CliError(`${path} is held by another muster; delete it if there is none`, EXIT.failed);
      else await pause(LOCK_POLL_MS);
    }
  }
  try {
    return await work();
  } finally {
    await rm(path, { force: true });
  }
}
