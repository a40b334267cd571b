/**
 * Reading a snapshot back: every byte of every file comes from the store, is decrypted and held against its hash by restic, and what comes
 * is counted. Only that makes a snapshot verified; the node's word does not.
 */
import type { Repository } from './repository.ts';
import { DamagedRepository } from './repository.ts';
import { countTar } from './count-tar.ts';

export interface ReadBack {
  /** As restic names it, in full. */
  resticId: string;
  /** Regular files. */
  files: bigint;
  bytes: bigint;
}

export interface Claimed {
  /** Our id, which restic keeps as the tag. */
  snapshotId: string;
  /** What the node said. */
  resticId: string;
  files: bigint;
  bytes: bigint;
}

/**
 * Throws DamagedRepository where anything is not as it should be, RepositoryTrouble where it could not be read this time. Three readings at
 * once: the list, the content, and the whole repository's order, which finds packs that are cut and what the next snapshot would build upon.
 */
export async function readBack(repository: Repository, claimed: Claimed, signal: AbortSignal): Promise<ReadBack> {
  const others = new AbortController();
  const both = AbortSignal.any([signal, others.signal]);
  const readings = [
    countListed(repository, claimed, both),
    dump(repository, claimed, both),
    repository.run({ args: ['--no-lock', 'check'], signal: both }),
  ] as const;
  try {
    const [listed] = await Promise.all(readings);
    return listed;
  } catch (error) {
    others.abort();
    await Promise.allSettled(readings);
    throw error;
  }
}

/** From the snapshot's trees. */
async function countListed(repository: Repository, claimed: Claimed, signal: AbortSignal): Promise<ReadBack> {
  const counted = { files: 0n, bytes: 0n };
  let found: { id: string; tags?: string[] } | null = null;
  await repository.run({
    args: ['--no-lock', 'ls', '--json', claimed.resticId],
    signal,
    onLine(line) {
      const entry = JSON.parse(line) as {
        struct_type?: string;
        id?: string;
        tags?: string[];
        type?: string;
        size?: number;
      };
      if (entry.struct_type === 'snapshot' && entry.id !== undefined) {
        found = { id: entry.id, ...(entry.tags ? { tags: entry.tags } : {}) };
      }
      if (entry.type !== 'file') return;
      counted.files++;
      counted.bytes += BigInt(entry.size ?? 0);
    },
  });
  const snapshot = found as { id: string; tags?: string[] } | null;
  if (snapshot === null || snapshot.tags?.includes(claimed.snapshotId) !== true) {
    throw new DamagedRepository(`what the node named is no snapshot of ${claimed.snapshotId}`);
  }
  assertSame('the list of its files', counted, claimed);
  return { resticId: snapshot.id, ...counted };
}

/** Every byte of every file. */
async function dump(repository: Repository, claimed: Claimed, signal: AbortSignal): Promise<void> {
  let bytes: bigint | null = null;
  await repository.run({
    args: ['--no-lock', 'dump', claimed.resticId, '/'],
    signal,
    async consume(output) {
      try {
        bytes = (await countTar(output)).bytes;
      } catch {
        output.resume(); // cut short: restic itself tells why, when it has ended
      }
    },
  });
  if (bytes !== claimed.bytes) {
    throw new DamagedRepository(`${bytes ?? 'no'} bytes were read back, ${claimed.bytes} were reported`);
  }
}

function assertSame(what: string, found: { files: bigint; bytes: bigint }, claimed: Claimed): void {
  if (found.files === claimed.files && found.bytes === claimed.bytes) return;
  throw new DamagedRepository(
    `${what} has ${found.files} files with ${found.bytes} bytes; ${claimed.files} with ${claimed.bytes} were reported`,
  );
}

/** Bytes that the repository takes at its store. */
export async function measureRepository(repository: Repository, signal: AbortSignal): Promise<bigint> {
  let text = '';
  await repository.run({
    args: ['--no-lock', 'stats', '--mode', 'raw-data', '--json'],
    signal,
    onLine: (line) => (text += line),
  });
  return BigInt((JSON.parse(text) as { total_size: number }).total_size);
}
