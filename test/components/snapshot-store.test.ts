import { beforeEach, describe, expect, it } from 'vitest';
import { endpointOf, makeStoreProvider, type ObjectStore } from '../../components/object-stores.ts';
import { SnapshotStore, type SnapshotStoreArgs } from '../../components/snapshot-store.ts';
import { isSecretOutput, mockEngine, valueOf, type MockEngine } from '../support/mock-engine.ts';

const TAGS = { owner: 'platform', deployment: 'sandbox', costCentre: 'cc-1' };

let engine: MockEngine;
beforeEach(async () => {
  engine = await mockEngine();
});

async function make(args: Partial<SnapshotStoreArgs> = {}): Promise<SnapshotStore> {
  const store = new SnapshotStore('snaps', { tags: TAGS, region: 'eu-west-1', ...args });
  await engine.settle();
  return store;
}

const partsOf = () => engine.registered.map(({ type }) => type.split(':')[2] ?? '').sort((a, b) => (a < b ? -1 : 1));

describe('a snapshot store at S3', () => {
  it('is private, encrypted, versioned, tagged, cleans up, and refuses plain HTTP', async () => {
    await make();
    expect(engine.find('aws:s3/bucket:Bucket')).toMatchObject({
      bucket: 'snaps',
      forceDestroy: false,
      tags: { 'muster-owner': 'platform' },
    });
    expect(
      Object.values(engine.find('aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock')).filter(
        (value) => value === true,
      ),
    ).toHaveLength(4);
    expect(engine.find('aws:s3/bucketVersioning:BucketVersioning').versioningConfiguration.status).toBe('Enabled');
    expect(
      engine.find('aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration').rules,
    ).toEqual([{ applyServerSideEncryptionByDefault: { sseAlgorithm: 'AES256' }, bucketKeyEnabled: false }]);
    expect(engine.find('aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration').rules[0]).toMatchObject({
      abortIncompleteMultipartUpload: { daysAfterInitiation: 3 },
      noncurrentVersionExpiration: { noncurrentDays: 30 },
    });
    const policy = JSON.parse(engine.find('aws:s3/bucketPolicy:BucketPolicy').policy);
    expect(policy.Statement).toEqual([
      expect.objectContaining({ Effect: 'Deny', Condition: { Bool: { 'aws:SecureTransport': 'false' } } }),
    ]);
  });

  it('makes a policy that allows this bucket and nothing else, and no key', async () => {
    const store = await make();
    const policy = JSON.parse(engine.find('aws:iam/policy:Policy').policy);
    expect(policy.Statement.map(({ Resource }: { Resource: string }) => Resource)).toEqual([
      'arn:aws:s3:::snaps',
      'arn:aws:s3:::snaps/*',
    ]);
    expect(
      policy.Statement.flatMap(({ Action }: { Action: string[] }) => Action).some(
        (action: string) => action.includes('*') || /Version|Policy/.test(action),
      ),
    ).toBe(false);
    expect(store.secretAccessKey).toBeNull();
    expect(engine.list('aws:iam/accessKey:AccessKey')).toEqual([]);
  });

  it('user: true makes a user with a key, which is secret', async () => {
    const store = await make({ user: true });
    expect(await isSecretOutput(store.secretAccessKey as never)).toBe(true);
    expect(await valueOf(store.secretAccessKey as never)).toBe('the-secret-key');
    expect(store.policyArn).toBeNull();
    expect(engine.list('aws:iam/policy:Policy')).toEqual([]);
    expect(JSON.parse(engine.find('aws:iam/userPolicy:UserPolicy').policy).Statement).toHaveLength(2);
  });

  it('kmsKeyArn, expiry, versioning and the name are as asked', async () => {
    await make({
      kmsKeyArn: 'arn:aws:kms:eu-west-1:1:key/k',
      expireDays: 90,
      versioning: false,
      noncurrentDays: 5,
      bucket: 'other',
    });
    expect(
      engine.find('aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration').rules[0],
    ).toMatchObject({
      applyServerSideEncryptionByDefault: { sseAlgorithm: 'aws:kms', kmsMasterKeyId: 'arn:aws:kms:eu-west-1:1:key/k' },
    });
    expect(engine.find('aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration').rules[0]).toMatchObject({
      expiration: { days: 90 },
      noncurrentVersionExpiration: { noncurrentDays: 5 },
    });
    expect(engine.find('aws:s3/bucketVersioning:BucketVersioning').versioningConfiguration.status).toBe('Suspended');
    expect(engine.find('aws:s3/bucket:Bucket').bucket).toBe('other');
    expect(JSON.parse(engine.find('aws:iam/policy:Policy').policy).Statement[2].Action).toEqual([
      'kms:Decrypt',
      'kms:GenerateDataKey',
    ]);
  });
});

describe('a snapshot store elsewhere', () => {
  it.each<[ObjectStore, string[]]>([
    ['r2', ['Bucket', 'BucketLifecycleConfiguration', 'SnapshotStore']],
    ['b2', ['Bucket', 'BucketServerSideEncryptionConfiguration', 'SnapshotStore']],
    ['wasabi', ['Bucket', 'BucketLifecycleConfiguration', 'BucketVersioning', 'Policy', 'SnapshotStore']],
  ])('%s is asked only for what it can do', async (store, parts) => {
    await make({ store });
    expect(partsOf().filter((part) => part !== 'SnapshotStore')).toEqual(
      parts.filter((part) => part !== 'SnapshotStore'),
    );
    expect('tags' in engine.find('aws:s3/bucket:Bucket')).toBe(store === 'wasabi');
  });

  it('has a provider that asks nobody but the store, with keys of a profile', async () => {
    const place = { store: 'r2', region: 'auto', accountId: 'a'.repeat(32), profile: 'cloudflare', tags: {} } as const;
    makeStoreProvider('r2', place, {});
    await engine.settle();
    const provider = engine.find('pulumi:providers:aws');
    expect(JSON.parse(provider.endpoints)).toEqual([{ s3: `https://${'a'.repeat(32)}.r2.cloudflarestorage.com` }]);
    expect(provider).toMatchObject({
      profile: 'cloudflare',
      skipCredentialsValidation: 'true',
      skipRequestingAccountId: 'true',
    });
    expect(Object.keys(provider).filter((key) => /accessKey|secretKey|token/.test(key))).toEqual([]);
  });

  it('is where the store says', () => {
    expect(endpointOf({ store: 's3', region: 'eu-west-1' })).toBeNull();
    expect(endpointOf({ store: 'b2', region: 'eu-central-003' })).toBe('https://s3.eu-central-003.backblazeb2.com');
    expect(endpointOf({ store: 'wasabi', region: 'eu-central-1' })).toBe('https://s3.eu-central-1.wasabisys.com');
  });
});
