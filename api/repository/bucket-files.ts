/** A repository in a bucket of a store that speaks S3. Uploads go in parts, so that hardly more than a part is ever in memory. */
import { PassThrough, type Readable } from 'node:stream';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  S3Client,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { keyOfRepositoryFile, type RepositoryFile } from '../../domain/snapshots/repository-file.ts';
import type { SnapshotStore } from '../../domain/snapshots/store.ts';
import type { RepositoryFiles } from './repository-files.ts';

export type BucketStore = Exclude<SnapshotStore, { kind: 'file' }>;

export interface BucketKey {
  accessKeyId: string;
  secretAccessKey: string;
}

const PART_BYTES = 8 * 1024 * 1024;
/** Parts of one upload at once; with one being filled that is all that an upload holds. */
const PARTS_AT_ONCE = 2;
const MAX_TRIES = 4;
const CONNECT_MS = 10_000;
const SILENT_MS = 60_000;

export function createBucketClient(store: BucketStore, key: BucketKey): S3Client {
  return new S3Client({
    region: store.region,
    endpoint: store.endpoint,
    credentials: key,
    forcePathStyle: true,
    maxAttempts: MAX_TRIES,
    // The newer checksums are not understood by every store; restic's names are checksums.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: SILENT_MS },
  });
}

/** @param name of the repository: a folder below the store's prefix */
export function createBucketFiles(client: S3Client, store: BucketStore, name: string): RepositoryFiles {
  const Bucket = store.bucket;
  const base = store.prefix === '' ? name : `${store.prefix}/${name}`;
  const keyOf = (file: RepositoryFile) => `${base}/${keyOfRepositoryFile(file)}`;
  return {
    async size(file) {
      try {
        const head = await client.send(new HeadObjectCommand({ Bucket, Key: keyOf(file) }));
        return head.ContentLength ?? null;
      } catch (error) {
        if (isAbsent(error)) return null;
        throw error;
      }
    },
    async read(file, range) {
      const Range = range === null ? undefined : `bytes=${range.start}-${range.end}`;
      const found = await client.send(new GetObjectCommand({ Bucket, Key: keyOf(file), Range }));
      return found.Body as Readable;
    },
    async *list(type) {
      let token: string | undefined;
      do {
        const page = await client.send(
          new ListObjectsV2Command({ Bucket, Prefix: `${base}/${type}/`, ContinuationToken: token }),
        );
        for (const { Key = '', Size = 0 } of page.Contents ?? []) {
          yield { name: Key.slice(Key.lastIndexOf('/') + 1), size: Size };
        }
        token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
      } while (token !== undefined);
    },
    write: (file, body, publish) => upload(client, { Bucket, Key: keyOf(file) }, body, publish),
    async remove(file) {
      await client.send(new DeleteObjectCommand({ Bucket, Key: keyOf(file) }));
    },
  };
}

/** The object appears when its stream ends: so it is ended by `publish` alone. */
async function upload(
  client: S3Client,
  place: { Bucket: string; Key: string },
  body: AsyncIterable<Uint8Array>,
  publish: (show: () => Promise<void>) => Promise<void>,
): Promise<void> {
  const stream = new PassThrough({ highWaterMark: 1024 * 1024 });
  stream.on('error', () => {}); // ours: it is destroyed when the upload is given up
  const sending = new Upload({
    client,
    params: { ...place, Body: stream },
    partSize: PART_BYTES,
    queueSize: PARTS_AT_ONCE,
    leavePartsOnError: false,
  });
  const done = sending.done();
  // Rejects when the store fails, also while we wait for room in the stream.
  const failed = done.then(
    () => new Promise<never>(() => {}),
    (error: unknown) => Promise.reject(error instanceof Error ? error : new Error(String(error))),
  );
  failed.catch(() => {});
  try {
    for await (const chunk of body) {
      if (!stream.write(chunk)) {
        await Promise.race([new Promise<void>((resolve) => void stream.once('drain', resolve)), failed]);
      }
    }
    await publish(async () => {
      stream.end();
      await done;
    });
  } catch (error) {
    await sending.abort().catch(() => {});
    stream.destroy(error as Error);
    await done.catch(() => {}); // unfinished parts are removed
    throw error;
  }
}

function isAbsent(error: unknown): boolean {
  const { name, $metadata } = error as { name?: string; $metadata?: { httpStatusCode?: number } };
  return name === 'NotFound' || name === 'NoSuchKey' || $metadata?.httpStatusCode === 404;
}
