/**
 * What each store that speaks S3 leaves out, and where it is. Everything here is said by the stores' own pages on their compatibility;
 * what they do not say is taken as left out.
 */
import { Provider } from '@pulumi/aws/provider.js';
import type { ComponentResourceOptions } from '@pulumi/pulumi/resource.js';

export type ObjectStore = 's3' | 'r2' | 'b2' | 'wasabi';

export interface StoreFeatures {
  tags: boolean;
  /** Can be told that a bucket is never public. R2, B2 and Wasabi make none public unasked. */
  publicAccessBlock: boolean;
  /** Can be told how to encrypt. R2 and Wasabi always do. */
  encryption: boolean;
  /** Can be told to keep versions. B2 always does, R2 never. */
  versioning: boolean;
  /** Can be told when to delete. B2 on its own page only. */
  lifecycle: boolean;
  /** Takes bucket policies. */
  policy: boolean;
  /** Makes users and policies through IAM. R2 and B2 make keys on their own pages. */
  iam: boolean;
}

export const STORE_FEATURES: Record<ObjectStore, StoreFeatures> = {
  s3: {
    tags: true,
    publicAccessBlock: true,
    encryption: true,
    versioning: true,
    lifecycle: true,
    policy: true,
    iam: true,
  },
  r2: {
    tags: false,
    publicAccessBlock: false,
    encryption: false,
    versioning: false,
    lifecycle: true,
    policy: false,
    iam: false,
  },
  b2: {
    tags: false,
    publicAccessBlock: false,
    encryption: true,
    versioning: false,
    lifecycle: false,
    policy: false,
    iam: false,
  },
  wasabi: {
    tags: true,
    publicAccessBlock: false,
    encryption: false,
    versioning: true,
    lifecycle: true,
    policy: false,
    iam: true,
  },
};

export interface StorePlace {
  store: ObjectStore;
  region: string;
  /** R2 only. */
  accountId?: string;
  /** Of AWS's shared credentials file: keys never come into arguments or state. @default the environment's credentials */
  profile?: string;
  /** On everything that has tags. */
  tags: Record<string, string>;
}

/** Where the store's own S3 is; null: AWS's. */
export function endpointOf({
  store,
  region,
  accountId,
}: Pick<StorePlace, 'store' | 'region' | 'accountId'>): string | null {
  switch (store) {
    case 's3':
      return null;
    case 'r2':
      return `https://${accountId}.r2.cloudflarestorage.com`;
    case 'b2':
      return `https://s3.${region}.backblazeb2.com`;
    case 'wasabi':
      return `https://s3.${region}.wasabisys.com`;
  }
}

/** The Pulumi provider for a store: AWS's own, told to ask nobody but the store. */
export function makeStoreProvider(name: string, place: StorePlace, options: ComponentResourceOptions): Provider {
  const endpoint = endpointOf(place);
  const { region, profile } = place;
  if (endpoint === null) return new Provider(name, { region, profile, defaultTags: { tags: place.tags } }, options);
  const iam = place.store === 'wasabi' ? { iam: 'https://iam.wasabisys.com', sts: 'https://sts.wasabisys.com' } : {};
  return new Provider(
    name,
    {
      region,
      profile,
      endpoints: [{ s3: endpoint, ...iam }],
      s3UsePathStyle: true,
      skipCredentialsValidation: true,
      skipMetadataApiCheck: true,
      skipRegionValidation: true,
      skipRequestingAccountId: true,
    },
    options,
  );
}
