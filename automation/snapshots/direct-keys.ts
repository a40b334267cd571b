/**
 * Short-lived keys of a bucket for one repository, where nodes go to the store themselves. Sources, as of November 2026; none of these has
 * been run against the vendor itself:
 *   S3, Wasabi  STS AssumeRole with a session policy: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
 *   R2          temporary access credentials: https://developers.cloudflare.com/api/resources/r2/subresources/temporary_credentials/
 *   B2          b2_create_key with a name prefix and a lifetime: https://www.backblaze.com/apidocs/b2-create-key
 */
import type { SnapshotStore } from '../../domain/snapshots/store.ts';
import { presign } from '../clusters/sigv4.ts';
import { RepositoryTrouble, storeOf } from './repository.ts';
import type { KeyRequest, StoreKey } from './restic-port.ts';

type Bucket = Exclude<SnapshotStore, { kind: 'file' }>;

export interface DirectKeyOptions {
  key: StoreKey;
  /** S3 and Wasabi. */
  roleArn: string | null;
  /** R2. */
  apiToken: string | null;
  now: () => Date;
  /** Where the vendors' own interfaces are. @default theirs */
  urls?: { sts?: string; r2?: string; b2?: string };
}

const TIMEOUT_MS = 20_000;
/** A role gives no longer ones unless told to. */
const LIFETIME_S = 3_600;

/** @returns restic's environment of one key. Throws RepositoryTrouble where the vendor makes none now. */
export function createKeyIssuer(options: DirectKeyOptions): (request: KeyRequest) => Promise<Record<string, string>> {
  return async ({ storeUrl, repository, access }) => {
    const store = storeOf(storeUrl);
    if (store.kind === 'file') throw new Error('a folder has no keys');
    const prefix = [store.prefix, repository].filter((part) => part !== '').join('/');
    const request = { store, prefix, access };
    switch (store.kind) {
      case 's3':
      case 'wasabi':
        return assumeRole(options, request);
      case 'r2':
        return makeR2Credentials(options, request);
      case 'b2':
        return makeB2Key(options, request);
    }
  };
}

interface PrefixRequest {
  store: Bucket;
  /** Of the repository's objects, without a slash at the end. */
  prefix: string;
  access: 'read' | 'write';
}

/** What a key may do: nothing outside the prefix, and delete nothing but locks. That objects are not overwritten is the versions' to help. */
export function sessionPolicy({ store, prefix, access }: PrefixRequest): string {
  const partition = store.region.startsWith('cn-')
    ? 'aws-cn'
    : store.region.startsWith('us-gov-')
      ? 'aws-us-gov'
      : 'aws';
  const bucket = `arn:${partition}:s3:::${store.bucket}`;
  const objects = (kind: string) => `${bucket}/${prefix}/${kind}`;
  const statements = [
    {
      Effect: 'Allow',
      Action: ['s3:ListBucket'],
      Resource: bucket,
      Condition: { StringLike: { 's3:prefix': [`${prefix}/*`] } },
    },
    { Effect: 'Allow', Action: ['s3:GetBucketLocation'], Resource: bucket },
    { Effect: 'Allow', Action: ['s3:GetObject'], Resource: objects('*') },
    ...(access === 'read'
      ? []
      : [
          {
            Effect: 'Allow',
            Action: ['s3:PutObject', 's3:AbortMultipartUpload'],
            Resource: ['data/*', 'index/*', 'snapshots/*', 'locks/*'].map(objects),
          },
          { Effect: 'Allow', Action: ['s3:DeleteObject'], Resource: objects('locks/*') },
        ]),
  ];
  return JSON.stringify({ Version: '2012-10-17', Statement: statements });
}

async function assumeRole(options: DirectKeyOptions, request: PrefixRequest): Promise<Record<string, string>> {
  const { store } = request;
  const place = store.kind === 'wasabi' ? 'https://sts.wasabisys.com' : `https://sts.${store.region}.amazonaws.com`;
  const url = new URL(options.urls?.sts ?? place);
  url.search = new URLSearchParams({
    Action: 'AssumeRole',
    Version: '2011-06-15',
    RoleArn: options.roleArn ?? '',
    RoleSessionName: 'muster-node',
    DurationSeconds: String(LIFETIME_S),
    Policy: sessionPolicy(request),
  }).toString();
  const signed = presign({
    method: 'GET',
    url,
    region: store.region,
    service: 'sts',
    credentials: { ...options.key, sessionToken: null },
    at: options.now(),
    expiresInS: 60,
  });
  const text = await (await call('STS', signed, {})).text();
  const pick = (name: string) => new RegExp(`<${name}>([^<]+)</${name}>`).exec(text)?.[1];
  return keyOf(store, pick('AccessKeyId'), pick('SecretAccessKey'), pick('SessionToken'));
}

async function makeR2Credentials(options: DirectKeyOptions, { store, prefix, access }: PrefixRequest) {
  const base = options.urls?.r2 ?? 'https://api.cloudflare.com';
  const url = new URL(`${base}/client/v4/accounts/${store.account ?? ''}/r2/temp-access-credentials`);
  const reply = await call('R2', url, {
    method: 'POST',
    headers: { authorization: `Bearer ${options.apiToken ?? ''}`, 'content-type': 'application/json' },
    body: JSON.stringify({
      bucket: store.bucket,
      parentAccessKeyId: options.key.accessKeyId,
      permission: access === 'read' ? 'object-read-only' : 'object-read-write',
      ttlSeconds: LIFETIME_S,
      prefixes: [`${prefix}/`],
    }),
  });
  const { result } = (await reply.json()) as {
    result?: { accessKeyId?: string; secretAccessKey?: string; sessionToken?: string };
  };
  return keyOf(store, result?.accessKeyId, result?.secretAccessKey, result?.sessionToken);
}

async function makeB2Key(options: DirectKeyOptions, { store, prefix, access }: PrefixRequest) {
  const base = options.urls?.b2 ?? 'https://api.backblazeb2.com';
  const { accessKeyId, secretAccessKey } = options.key;
  const basic = Buffer.from(`${accessKeyId}:${secretAccessKey}`).toString('base64');
  const login = (await (
    await call('B2', new URL(`${base}/b2api/v3/b2_authorize_account`), { headers: { authorization: `Basic ${basic}` } })
  ).json()) as { accountId: string; authorizationToken: string; apiInfo: { storageApi: { apiUrl: string } } };
  const post = async <T>(name: string, body: Record<string, unknown>): Promise<T> => {
    const url = new URL(`${login.apiInfo.storageApi.apiUrl}/b2api/v3/${name}`);
    const headers = { authorization: login.authorizationToken, 'content-type': 'application/json' };
    return (await (await call('B2', url, { method: 'POST', headers, body: JSON.stringify(body) })).json()) as T;
  };
  const { accountId } = login;
  const { buckets } = await post<{ buckets: { bucketId: string }[] }>('b2_list_buckets', {
    accountId,
    bucketName: store.bucket,
  });
  const made = await post<{ applicationKeyId: string; applicationKey: string }>('b2_create_key', {
    accountId,
    // A lock cannot be told from other files here: without the right to delete, locks stay until the worker removes them.
    capabilities: ['listBuckets', 'listFiles', 'readFiles', ...(access === 'write' ? ['writeFiles'] : [])],
    keyName: 'muster-node',
    validDurationInSeconds: LIFETIME_S,
    bucketId: buckets[0]?.bucketId,
    namePrefix: `${prefix}/`,
  });
  return keyOf(store, made.applicationKeyId, made.applicationKey, undefined);
}

function keyOf(store: Bucket, id: string | undefined, secret: string | undefined, session: string | undefined) {
  if (id === undefined || secret === undefined) throw new RepositoryTrouble('the store gave no short-lived key');
  return {
    AWS_ACCESS_KEY_ID: id,
    AWS_SECRET_ACCESS_KEY: secret,
    AWS_DEFAULT_REGION: store.region,
    ...(session === undefined ? {} : { AWS_SESSION_TOKEN: session }),
  };
}

/** What the vendor says may quote our request: only its status is told. */
async function call(who: string, url: URL, init: RequestInit): Promise<Response> {
  let reply: Response;
  try {
    reply = await fetch(url, { ...init, redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch (error) {
    throw new RepositoryTrouble(`${who} does not answer: ${(error as Error).name}`);
  }
  if (reply.ok) return reply;
  await reply.body?.cancel();
  throw new RepositoryTrouble(`${who} answered ${reply.status} when asked for a short-lived key`);
}
