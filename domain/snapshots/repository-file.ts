/**
 * The files of a restic repository, as restic's REST protocol names them, and what a node may do with them: read all, add what a backup
 * adds, and take back its own locks. Nothing that was added can be changed or removed by a node.
 * Source: https://restic.readthedocs.io/en/stable/REST_backend.html and design.html (repository layout).
 */
export const REPOSITORY_FILE_TYPES = ['data', 'index', 'keys', 'locks', 'snapshots'] as const;
export type RepositoryFileType = (typeof REPOSITORY_FILE_TYPES)[number];

export type RepositoryFile = { type: 'config' } | { type: RepositoryFileType; name: string };

/** The name of each file but the config is the SHA-256 of what is in it. */
const NAME = /^[0-9a-f]{64}$/;

/** A pack has 16 MiB by default and never more than 128; an index less. */
export const MAX_REPOSITORY_FILE_BYTES = 256 * 1024 * 1024;

export function isRepositoryFileName(text: string): boolean {
  return NAME.test(text);
}

/** Where it lies below the repository's own place: the layout that restic itself uses on disks and buckets. */
export function keyOfRepositoryFile(file: RepositoryFile): string {
  if (file.type === 'config') return 'config';
  return file.type === 'data' ? `data/${file.name.slice(0, 2)}/${file.name}` : `${file.type}/${file.name}`;
}

/** SHA-256 in hex that its content must have; null: any. */
export function digestOfRepositoryFile(file: RepositoryFile): string | null {
  return file.type === 'config' ? null : file.name;
}

export type RepositoryDeed = 'read' | 'add' | 'remove';

/** The repository is made by the control plane, so nobody here adds its config or keys. */
export function mayDo(access: 'read' | 'write', deed: RepositoryDeed, type: RepositoryFile['type']): boolean {
  if (deed === 'read') return true;
  if (access === 'read') return false;
  if (deed === 'remove') return type === 'locks';
  return type === 'data' || type === 'index' || type === 'snapshots' || type === 'locks';
}
