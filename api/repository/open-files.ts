/** From the place of a workspace's repository to its files. */
import { parseStoreUrl } from '../../domain/snapshots/store.ts';
import { createFolderFiles } from './folder-files.ts';
import type { BucketKey } from './bucket-files.ts';
import type { RepositoryFiles } from './repository-files.ts';

export type OpenRepositoryFiles = (storeUrl: string, instanceId: string) => Promise<RepositoryFiles>;

/** @param key of the bucket; null: only folders can be opened. The client of S3 is loaded with the first bucket. */
export function createFilesOpener(key: BucketKey | null): OpenRepositoryFiles {
  const buckets = new Map<string, Promise<(instanceId: string) => RepositoryFiles>>();
  return async (storeUrl, instanceId) => {
    const store = parseStoreUrl(storeUrl);
    if (store === undefined) throw new Error(`no place of snapshots: ${storeUrl}`);
    if (store.kind === 'file') return createFolderFiles(store.path, instanceId);
    if (key === null) throw new Error('MUSTER_SNAPSHOT_ACCESS_KEY_ID is not set');
    let bucket = buckets.get(storeUrl);
    if (bucket === undefined) {
      bucket = import('./bucket-files.ts').then(({ createBucketClient, createBucketFiles }) => {
        const client = createBucketClient(store, key);
        return (name: string) => createBucketFiles(client, store, name);
      });
      buckets.set(storeUrl, bucket);
    }
    return (await bucket)(instanceId);
  };
}
