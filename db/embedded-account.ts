/**
 * The embedded account: the operating-system user that the embedded Postgres runs as, and what that user can reach on disk.
 *
 * Postgres refuses to run as root. As root it runs as the user `postgres` (made when missing); as anybody else it runs as ourselves and nothing here
 * changes a file. It does not know what is stored where.
 */
import { execFile } from 'node:child_process';
import { chmod, chown, mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { promisify } from 'node:util';

/** Null: Postgres runs as the user that we are. */
export type EmbeddedAccount = { uid: number; gid: number } | null;

const ACCOUNT_NAME = 'postgres';
const run = promisify(execFile);

/** Finds or creates the account. Throws one clear error with each command tried when the user is missing and cannot be made. Idempotent. */
export async function ensureEmbeddedAccount(): Promise<EmbeddedAccount> {
  if (process.getuid?.() !== 0) return null;
  const existing = await findAccount();
  if (existing) return existing;
  const tried: string[] = [];
  for (const [command, ...args] of [
    ['useradd', '--system', '--user-group', '--no-create-home', '--shell', '/usr/sbin/nologin', ACCOUNT_NAME],
    ['adduser', '--system', '--group', '--no-create-home', ACCOUNT_NAME],
    ['adduser', '-S', '-D', '-H', ACCOUNT_NAME],
  ] as const) {
    const failure = await run(command, args).then(
      () => null,
      (error: Error & { stderr?: string }) => (error.stderr?.trim() || error.message).split('\n')[0],
    );
    const account = await findAccount();
    if (account) return account;
    tried.push(`${command}: ${failure ?? 'succeeded, but the user is still unknown'}`);
  }
  throw new Error(
    `Postgres does not run as root, and the user "${ACCOUNT_NAME}" could not be made for it. Tried: ${tried.join('; ')}. ` +
      'Create the user, start Muster as an ordinary user, or set DATABASE_URL.',
  );
}

/** The first directory on the way to `path` (itself included) that the account may not search; null when the way is free. A part that does not exist yet bars nothing. */
export async function findBarrier(path: string, account: EmbeddedAccount): Promise<string | null> {
  if (!account) return null;
  for (const directory of directoriesTo(resolve(path))) {
    const found = await stat(directory).catch(() => null);
    if (!found) return null;
    if (!isSearchable(found, account)) return directory;
  }
  return null;
}

/** Makes a directory that the account can pass through but not list (711); the directory stays ours. */
export async function makeSearchable(directory: string, account: EmbeddedAccount): Promise<void> {
  await mkdir(directory, { recursive: true, mode: account ? 0o711 : 0o700 });
  if (!account) return;
  const found = await stat(directory);
  if (!isSearchable(found, account)) await chmod(directory, (found.mode & 0o777) | 0o111);
}

export async function giveTo(account: EmbeddedAccount, path: string): Promise<void> {
  if (account) await chown(path, account.uid, account.gid);
}

async function findAccount(): Promise<EmbeddedAccount> {
  try {
    const [uid, gid] = await Promise.all([run('id', ['-u', ACCOUNT_NAME]), run('id', ['-g', ACCOUNT_NAME])]);
    return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  } catch {
    return null;
  }
}

function directoriesTo(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [...directoriesTo(parent), path];
}

function isSearchable(
  found: { mode: number; uid: number; gid: number },
  account: { uid: number; gid: number },
): boolean {
  if (found.uid === account.uid) return (found.mode & 0o100) !== 0;
  if (found.gid === account.gid) return (found.mode & 0o010) !== 0;
  return (found.mode & 0o001) !== 0;
}
