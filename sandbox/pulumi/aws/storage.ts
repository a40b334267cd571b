/** S3 buckets and what is set on them, KMS keys and log groups. */
import type { ResourceRules, Scene } from '../cloud-rules.ts';
import type { CloudResource } from '../cloud-store.ts';
import { newUuid } from '../names.ts';
import { objectOf, textOf, type Properties } from '../properties.ts';
import { awsError } from './errors.ts';
import { ACCOUNT_ID } from './places.ts';

const BUCKET = 'aws:s3/bucket:Bucket';
const KEY = 'aws:kms/key:Key';

export const STORAGE_RULES: Record<string, ResourceRules> = {
  [BUCKET]: {
    nameInput: 'bucket',
    maxNameLength: 63,
    replaceOn: ['bucketPrefix', 'objectLockEnabled'],
    defaults: () => ({ forceDestroy: false }),
    id: (inputs) => String(inputs.bucket),
    outputs(inputs, { id, scene }) {
      const region = textOf(inputs.region) ?? String(scene.config.region);
      return {
        arn: `arn:aws:s3:::${id}`,
        bucketDomainName: `${id}.s3.amazonaws.com`,
        bucketRegionalDomainName: `${id}.s3.${region}.amazonaws.com`,
        bucketRegion: region,
        region,
        hostedZoneId: 'Z3AQBSTGFYJSTF',
        objectLockEnabled: false,
        requestPayer: 'BucketOwner',
        versioning: { enabled: false, mfaDelete: false },
      };
    },
    refuseCreate(inputs) {
      const name = textOf(inputs.bucket) ?? '';
      const call = [`creating S3 Bucket (${name})`, 'S3 CreateBucket'] as const;
      if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(name)) {
        throw awsError(...call, 400, 'InvalidBucketName', 'The specified bucket is not valid.');
      }
      // Names of all accounts are one space; these are somebody else's.
      if (name.startsWith('taken-')) {
        throw awsError(
          ...call,
          409,
          'BucketAlreadyExists',
          'The requested bucket name is not available. The bucket namespace is shared by all users of the system.',
        );
      }
    },
    refuseDelete(bucket) {
      if (bucket.outputs.simulatedObjectCount && bucket.inputs.forceDestroy !== true) {
        throw awsError(
          `deleting S3 Bucket (${bucket.id})`,
          'S3 DeleteBucket',
          409,
          'BucketNotEmpty',
          'The bucket you tried to delete is not empty',
        );
      }
    },
    afterDelete(bucket, { scene, remove }) {
      for (const type of BUCKET_SETTINGS) {
        for (const one of scene.find(type, null)) if (one.inputs.bucket === bucket.id) remove(one);
      }
    },
  },
  ...Object.fromEntries(
    [
      'aws:s3/bucketVersioning:BucketVersioning',
      'aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock',
      'aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration',
      'aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration',
      'aws:s3/bucketPolicy:BucketPolicy',
    ].map((type) => [type, bucketSetting()]),
  ),
  [KEY]: {
    replaceOn: ['customerMasterKeySpec', 'keyUsage', 'multiRegion'],
    defaults: () => ({
      bypassPolicyLockoutSafetyCheck: false,
      customerMasterKeySpec: 'SYMMETRIC_DEFAULT',
      isEnabled: true,
      keyUsage: 'ENCRYPT_DECRYPT',
    }),
    id: () => newUuid(),
    outputs: (_inputs, { id, scene }) => ({
      arn: `arn:aws:kms:${scene.scope}:${ACCOUNT_ID}:key/${id}`,
      keyId: id,
      policy: JSON.stringify({
        Version: '2012-10-17',
        Statement: [
          {
            Sid: 'Enable IAM User Permissions',
            Effect: 'Allow',
            Principal: { AWS: `arn:aws:iam::${ACCOUNT_ID}:root` },
            Action: 'kms:*',
            Resource: '*',
          },
        ],
      }),
    }),
    complain({ deletionWindowInDays: days }) {
      if (typeof days !== 'number' || (days >= 7 && days <= 30)) return [];
      return [
        {
          property: 'deletionWindowInDays',
          reason: `expected deletionWindowInDays to be in the range (7 - 30), got ${days}`,
        },
      ];
    },
  },
  'aws:kms/alias:Alias': {
    nameInput: 'name',
    replaceOn: ['namePrefix'],
    id: (inputs) => String(inputs.name),
    outputs(inputs, { id, scene }) {
      const key = findKey(inputs, scene);
      return { arn: `arn:aws:kms:${scene.scope}:${ACCOUNT_ID}:${id}`, targetKeyArn: key?.outputs.arn ?? '' };
    },
    complain({ name }) {
      if (textOf(name) === undefined || /^alias\/(?!aws\/)[\w/-]+$/.test(String(name))) return [];
      return [{ property: 'name', reason: `"name" must begin with 'alias/' and be comprised of only [a-zA-Z0-9/_-]` }];
    },
    refuseCreate(inputs, scene) {
      if (!findKey(inputs, scene)) {
        throw awsError(
          `creating KMS Alias (${String(inputs.name)})`,
          'KMS CreateAlias',
          400,
          'NotFoundException',
          `Invalid keyId ${String(inputs.targetKeyId)}`,
        );
      }
    },
  },
  'aws:cloudwatch/logGroup:LogGroup': {
    nameInput: 'name',
    maxNameLength: 512,
    replaceOn: ['namePrefix', 'logGroupClass'],
    defaults: () => ({ skipDestroy: false }),
    id: (inputs) => String(inputs.name),
    outputs: (_inputs, { id, scene }) => ({
      arn: `arn:aws:logs:${scene.scope}:${ACCOUNT_ID}:log-group:${id}`,
      logGroupClass: 'STANDARD',
    }),
    complain({ retentionInDays: days }) {
      const allowed = [
        0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
      ];
      if (typeof days !== 'number' || allowed.includes(days)) return [];
      return [
        {
          property: 'retentionInDays',
          reason: `expected retention_in_days to be one of [${allowed.join(' ')}], got ${days}`,
        },
      ];
    },
  },
};

const BUCKET_SETTINGS = [
  'aws:s3/bucketVersioning:BucketVersioning',
  'aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock',
  'aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration',
  'aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration',
  'aws:s3/bucketPolicy:BucketPolicy',
];

function bucketSetting(): ResourceRules {
  return {
    replaceOn: ['bucket'],
    id: (inputs) => String(inputs.bucket),
    refuseCreate(inputs, scene) {
      if (!scene.find(BUCKET, '').some(({ id }) => id === inputs.bucket)) {
        throw awsError(
          `putting S3 Bucket (${String(inputs.bucket)}) configuration`,
          'S3 PutBucketConfiguration',
          404,
          'NoSuchBucket',
          'The specified bucket does not exist',
        );
      }
    },
  };
}

function findKey(inputs: Properties, scene: Scene): CloudResource | undefined {
  return scene
    .find(KEY)
    .find(({ id, outputs }) => id === inputs.targetKeyId || objectOf(outputs).arn === inputs.targetKeyId);
}
