/**
 * Where snapshots are stored: a folder, or a bucket at a store that speaks S3. The text of a place is a URL without any credential.
 *
 *   file:///var/lib/muster/snapshots
 *   s3://bucket/prefix?region=eu-west-1[&endpoint=https://…]     r2://bucket/prefix?account=<account id>
 *   b2://bucket/prefix?region=us-west-004                         wasabi://bucket/prefix?region=eu-central-1
 */
export const STORE_KINDS = ['file', 's3', 'r2', 'b2', 'wasabi'] as const;
export type StoreKind = (typeof STORE_KINDS)[number];

export type SnapshotStore =
  | { kind: 'file'; path: string }
  | {
      kind: Exclude<StoreKind, 'file'>;
      bucket: string;
      /** Without slashes at its ends; may be empty. */
      prefix: string;
      region: string;
      /** Scheme, host and port. */
      endpoint: string;
      /** R2 only. */
      account: string | null;
    };

/** What a GB (10^9 bytes) costs for a month, in micro-dollars, as the stores' price pages say; a folder of one's own costs nothing here. */
export const STORE_MICRO_USD_PER_GB_MONTH: Readonly<Record<StoreKind, bigint>> = {
  file: 0n,
  s3: 23_000n,
  r2: 15_000n,
  b2: 6_000n,
  wasabi: 6_800n,
};

const BUCKET = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;
const PREFIX = /^[A-Za-z0-9._-]+(?:\/[A-Za-z0-9._-]+)*$/;
const REGION = /^[a-z0-9-]{2,32}$/;
const ACCOUNT = /^[a-f0-9]{32}$/;

/** undefined: not such a URL. */
export function parseStoreUrl(text: string): SnapshotStore | undefined {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return undefined;
  }
  if (url.username !== '' || url.password !== '' || url.hash !== '') return undefined;
  const kind = STORE_KINDS.find((one) => `${one}:` === url.protocol);
  if (kind === undefined) return undefined;
  if (kind === 'file') return parseFolder(url);
  const prefix = url.pathname.replace(/^\/+|\/+$/g, '');
  const known =
    kind === 's3' ? ['region', 'endpoint'] : kind === 'r2' ? ['account', 'endpoint'] : ['region', 'endpoint'];
  if ([...url.searchParams.keys()].some((name) => !known.includes(name))) return undefined;
  if (!BUCKET.test(url.hostname) || url.port !== '' || (prefix !== '' && !PREFIX.test(prefix))) return undefined;
  const account = url.searchParams.get('account');
  if (account !== null && !ACCOUNT.test(account)) return undefined;
  const region = url.searchParams.get('region') ?? (kind === 's3' ? 'us-east-1' : kind === 'r2' ? 'auto' : null);
  if (region === null || !REGION.test(region)) return undefined;
  const endpoint = originOf(url.searchParams.get('endpoint') ?? defaultEndpoint(kind, region, account));
  return endpoint === undefined ? undefined : { kind, bucket: url.hostname, prefix, region, endpoint, account };
}

/** What such a place costs a month for so many bytes; rounded down. */
export function storageCostMicroUsd(kind: StoreKind, bytes: bigint): bigint {
  return (bytes * STORE_MICRO_USD_PER_GB_MONTH[kind]) / 1_000_000_000n;
}

function parseFolder(url: URL): SnapshotStore | undefined {
  if (url.hostname !== '' || url.search !== '') return undefined;
  let path: string;
  try {
    path = decodeURIComponent(url.pathname);
  } catch {
    return undefined;
  }
  const trimmed = path.replace(/\/+$/, '');
  return trimmed === '' || trimmed.includes('\0') ? undefined : { kind: 'file', path: trimmed };
}

function defaultEndpoint(kind: Exclude<StoreKind, 'file'>, region: string, account: string | null): string {
  switch (kind) {
    case 's3':
      return `https://s3.${region}.amazonaws.com`;
    case 'r2':
      return account === null ? '' : `https://${account}.r2.cloudflarestorage.com`;
    case 'b2':
      return `https://s3.${region}.backblazeb2.com`;
    case 'wasabi':
      return `https://s3.${region}.wasabisys.com`;
  }
}

function originOf(text: string): string | undefined {
  try {
    const url = new URL(text);
    const isOrigin = url.pathname === '/' && url.search === '' && url.hash === '' && url.username === '';
    return isOrigin && (url.protocol === 'https:' || url.protocol === 'http:') ? url.origin : undefined;
  } catch {
    return undefined;
  }
}
