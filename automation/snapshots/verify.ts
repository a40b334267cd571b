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

/** Throws DamagedRepository where anything is not as it should be, RepositoryTrouble where it could not be read this time. */
export async function readBack(repository: Repository, claimed: Claimed, signal: AbortSignal): Promise<ReadBack> {
  const resticId = await findTagged(repository, claimed, signal);
  const listed = await countListed(repository, resticId, signal);
  assertSame('the list of its files', listed, claimed);
  let dumped = { files: 0, bytes: 0n };
  await repository.run({
    args: ['--no-lock', 'dump', resticId, '/'],
    signal,
    async consume(output) {
      try {
        dumped = await countTar(output);
      } catch (error) {
        // Cut short: restic itself tells why, when it has ended.
        output.resume();
        dumped = { files: -1, bytes: -1n };
        if (!(error instanceof Error)) throw error;
      }
    },
  });
  if (dumped.bytes !== claimed.bytes) {
    throw new DamagedRepository(`${dumped.bytes} bytes were read back, ${claimed.bytes} were reported`);
  }
  // Packs that are there but cut, and trees that other snapshots share: what the next snapshot would build upon.
  await repository.run({ args: ['--no-lock', 'check'], signal });
  return { resticId, files: listed.files, bytes: listed.bytes };
}

async function findTagged(
  repository: Repository,
  { snapshotId, resticId }: Claimed,
  signal: AbortSignal,
): Promise<string> {
  let text = '';
  await repository.run({
    args: ['--no-lock', 'snapshots', '--json', '--tag', snapshotId],
    signal,
    onLine: (line) => (text += line),
  });
  const found = (JSON.parse(text === '' ? '[]' : text) as { id: string }[] | null) ?? [];
  const match = found.filter(({ id }) => id.startsWith(resticId));
  if (match.length === 1) return (match[0] as { id: string }).id;
  throw new DamagedRepository(`the repository has no snapshot ${resticId} of ${snapshotId}`);
}

async function countListed(repository: Repository, resticId: string, signal: AbortSignal) {
  const counted = { files: 0n, bytes: 0n };
  await repository.run({
    args: ['--no-lock', 'ls', '--json', resticId],
    signal,
    onLine(line) {
      const node = JSON.parse(line) as { type?: string; size?: number };
      if (node.type !== 'file') return;
      counted.files++;
      counted.bytes += BigInt(node.size ?? 0);
    },
  });
  return counted;
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
