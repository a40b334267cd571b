/** A repository in a folder of ours. */
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, opendir, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { keyOfRepositoryFile } from '../../domain/snapshots/repository-file.ts';
import type { RepositoryFiles } from './repository-files.ts';

/** What is on its way lies here, beside the repositories: on the same disk, and no part of any. */
const INCOMING = '.incoming';
const MIN_FREE_BYTES = 1024 ** 3;

/** @param root of all repositories @param name of this one */
export function createFolderFiles(root: string, name: string): RepositoryFiles {
  const folder = join(root, name);
  const pathOf = (file: Parameters<typeof keyOfRepositoryFile>[0]) => join(folder, keyOfRepositoryFile(file));
  return {
    async size(file) {
      const found = await ifThere(stat(pathOf(file)));
      return found === null || !found.isFile() ? null : found.size;
    },
    read: (file, range) => Promise.resolve(createReadStream(pathOf(file), range ?? {})),
    async *list(type) {
      for await (const entry of walk(join(folder, type), type === 'data' ? 1 : 0)) yield entry;
    },
    async write(file, body, publish) {
      const target = pathOf(file);
      const aside = join(root, INCOMING, randomBytes(16).toString('hex'));
      await mkdir(dirname(aside), { recursive: true, mode: 0o700 });
      await assertRoom(dirname(aside));
      const handle = await open(aside, 'wx', 0o600);
      try {
        try {
          for await (const chunk of body) await handle.writeFile(chunk);
          await handle.sync();
        } finally {
          await handle.close();
        }
        await mkdir(dirname(target), { recursive: true, mode: 0o700 });
        await publish(async () => {
          await rename(aside, target);
          await syncFolder(dirname(target));
        });
      } finally {
        await rm(aside, { force: true });
      }
    },
    remove: (file) => rm(pathOf(file), { force: true }),
  };
}

async function* walk(folder: string, depth: number): AsyncGenerator<{ name: string; size: number }> {
  const entries = await ifThere(opendir(folder));
  if (entries === null) return;
  for await (const entry of entries) {
    const path = join(folder, entry.name);
    if (depth > 0 && entry.isDirectory()) yield* walk(path, depth - 1);
    else if (entry.isFile()) {
      const found = await ifThere(stat(path));
      if (found !== null) yield { name: entry.name, size: found.size };
    }
  }
}

/** A disk that is full to the last byte stops more than snapshots: the database may lie on it. */
async function assertRoom(folder: string): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < MIN_FREE_BYTES) throw new Error('the disk of the snapshots is full');
}

/** Else a rename may be forgotten with the power. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

async function ifThere<T>(promise: Promise<T>): Promise<T | null> {
  try {
    return await promise;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw error;
  }
}
