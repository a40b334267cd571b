/**
 * Where the files of one workspace's repository lie, as the gateway sees it: a folder or a bucket. Content is streamed, never held whole.
 * Who may do what is the route's.
 */
import type { Readable } from 'node:stream';
import type { RepositoryFile, RepositoryFileType } from '../../domain/snapshots/repository-file.ts';

export interface ByteRange {
  start: number;
  /** Inclusive. */
  end: number;
}

export interface StoredFile {
  name: string;
  size: number;
}

export interface RepositoryFiles {
  /** null: there is none. */
  size(file: RepositoryFile): Promise<number | null>;
  read(file: RepositoryFile, range: ByteRange | null): Promise<Readable>;
  list(type: RepositoryFileType): AsyncIterable<StoredFile>;
  /**
   * Takes `body` aside and shows it under its name only once `publish` lets it; what throws before, or a body that ends early, leaves
   * nothing. A file of the same name is replaced by the same content.
   */
  write(
    file: RepositoryFile,
    body: AsyncIterable<Uint8Array>,
    publish: (show: () => Promise<void>) => Promise<void>,
  ): Promise<void>;
  /** Harmless where there is none. */
  remove(file: RepositoryFile): Promise<void>;
}
