/**
 * A bucket for snapshots at S3, R2, B2 or Wasabi, and the rights to use it and nothing else. Safe by default: never public, encrypted,
 * versions kept for a while, plain HTTP refused, unfinished uploads cleaned up, deletion refused and data kept. What a store cannot do
 * is left out (object-stores.ts). Give it that store's provider in its options (makeStoreProvider).
 */
import { AccessKey } from '@pulumi/aws/iam/accessKey.js';
import { Policy } from '@pulumi/aws/iam/policy.js';
import { User } from '@pulumi/aws/iam/user.js';
import { UserPolicy } from '@pulumi/aws/iam/userPolicy.js';
import { Bucket } from '@pulumi/aws/s3/bucket.js';
import { BucketLifecycleConfiguration } from '@pulumi/aws/s3/bucketLifecycleConfiguration.js';
import { BucketPolicy } from '@pulumi/aws/s3/bucketPolicy.js';
import { BucketPublicAccessBlock } from '@pulumi/aws/s3/bucketPublicAccessBlock.js';
import { BucketServerSideEncryptionConfiguration } from '@pulumi/aws/s3/bucketServerSideEncryptionConfiguration.js';
import { BucketVersioning } from '@pulumi/aws/s3/bucketVersioning.js';
import { secret, type Output } from '@pulumi/pulumi/output.js';
import { ComponentResource, type ComponentResourceOptions, type Resource } from '@pulumi/pulumi/resource.js';
import { formatTags, type StackTags } from '../domain/stack-tags.ts';
import { partitionOf } from './eks-roles.ts';
import { STORE_FEATURES, type ObjectStore, type StoreFeatures } from './object-stores.ts';

export interface SnapshotStoreArgs {
  tags: StackTags;
  /** The stack's name, for the tags. @default the component's */
  stack?: string;
  /** Per GB and month: s3 $0.023, r2 $0.015, b2 $0.006, wasabi $0.0068. @default s3 */
  store?: ObjectStore;
  region: string;
  /** Taken world-wide (in the account at R2). @default the component's name */
  bucket?: string;
  /** Keep overwritten and deleted objects, at the price of storage. @default true where the store can */
  versioning?: boolean;
  /** For how long. @default 30 */
  noncurrentDays?: number;
  /** Delete objects after so many days. @default never */
  expireDays?: number;
  /** S3 only: $1 per month and $0.03 per 10,000 requests. @default the store's own key (free) */
  kmsKeyArn?: string;
  /** Also make a user with an access key that may use this bucket (S3, Wasabi). @default false: a policy to attach to a role (free) */
  user?: boolean;
  /** Refuse to delete the bucket, and keep it when it is replaced. @default true */
  protect?: boolean;
}

export class SnapshotStore extends ComponentResource {
  declare readonly bucketName: Output<string>;
  /** null where the store has no IAM, or a user has it. */
  declare readonly policyArn: Output<string> | null;
  declare readonly accessKeyId: Output<string> | null;
  /** Secret. */
  declare readonly secretAccessKey: Output<string> | null;
  readonly #name: string;
  readonly #args: SnapshotStoreArgs;
  readonly #features: StoreFeatures;
  readonly #tags: { tags?: Record<string, string> };

  constructor(name: string, args: SnapshotStoreArgs, options?: ComponentResourceOptions) {
    super('muster:storage:SnapshotStore', name, {}, options);
    this.#name = name;
    this.#args = args;
    this.#features = STORE_FEATURES[args.store ?? 's3'];
    this.#tags = this.#features.tags ? { tags: formatTags(args.tags, args.stack ?? name) } : {};

    const bucket = this.#makeBucket();
    const versioning = this.#makeVersioning(bucket);
    this.#closeBucket(bucket);
    this.#encryptBucket(bucket);
    if (this.#features.lifecycle) this.#makeLifecycle(bucket, versioning);
    const rights = this.#makeRights();

    this.bucketName = bucket.bucket;
    this.policyArn = rights.policyArn;
    this.accessKeyId = rights.accessKeyId;
    this.secretAccessKey = rights.secretAccessKey;
    this.registerOutputs({ bucketName: this.bucketName, ...rights });
  }

  #makeBucket(): Bucket {
    const isProtected = this.#args.protect ?? true;
    return new Bucket(
      this.#name,
      { bucket: this.#bucketName(), forceDestroy: false, ...this.#tags },
      { parent: this, protect: isProtected, retainOnDelete: isProtected },
    );
  }

  #makeVersioning(bucket: Bucket): Resource[] {
    if (!this.#features.versioning) return [];
    const status = this.#args.versioning === false ? 'Suspended' : 'Enabled';
    const name = `${this.#name}-versioning`;
    return [
      new BucketVersioning(name, { bucket: bucket.bucket, versioningConfiguration: { status } }, { parent: this }),
    ];
  }

  /** Never public, and never over plain HTTP. */
  #closeBucket(bucket: Bucket): void {
    if (this.#features.publicAccessBlock) {
      new BucketPublicAccessBlock(
        `${this.#name}-private`,
        {
          bucket: bucket.bucket,
          blockPublicAcls: true,
          blockPublicPolicy: true,
          ignorePublicAcls: true,
          restrictPublicBuckets: true,
        },
        { parent: this },
      );
    }
    if (!this.#features.policy) return;
    const policy = JSON.stringify({
      Version: '2012-10-17',
      Statement: [
        {
          Sid: 'RefusePlainHttp',
          Action: 's3:*',
          Condition: { Bool: { 'aws:SecureTransport': 'false' } },
          Effect: 'Deny',
          Principal: '*',
          Resource: [this.#bucketArn(), `${this.#bucketArn()}/*`],
        },
      ],
    });
    new BucketPolicy(`${this.#name}-tls`, { bucket: bucket.bucket, policy }, { parent: this });
  }

  #encryptBucket(bucket: Bucket): void {
    if (!this.#features.encryption) return;
    const { kmsKeyArn } = this.#args;
    const byDefault =
      kmsKeyArn === undefined ? { sseAlgorithm: 'AES256' } : { sseAlgorithm: 'aws:kms', kmsMasterKeyId: kmsKeyArn };
    new BucketServerSideEncryptionConfiguration(
      `${this.#name}-encryption`,
      {
        bucket: bucket.bucket,
        rules: [{ applyServerSideEncryptionByDefault: byDefault, bucketKeyEnabled: kmsKeyArn !== undefined }],
      },
      { parent: this },
    );
  }

  #makeLifecycle(bucket: Bucket, versioning: Resource[]): void {
    const { noncurrentDays = 30, expireDays } = this.#args;
    const keepsVersions = this.#features.versioning;
    new BucketLifecycleConfiguration(
      `${this.#name}-lifecycle`,
      {
        bucket: bucket.bucket,
        rules: [
          {
            id: 'muster',
            status: 'Enabled',
            filter: { prefix: '' },
            // An upload that was never finished bills and is nowhere listed.
            abortIncompleteMultipartUpload: { daysAfterInitiation: 3 },
            ...(keepsVersions ? { noncurrentVersionExpiration: { noncurrentDays } } : {}),
            ...(expireDays === undefined ? {} : { expiration: { days: expireDays } }),
          },
        ],
      },
      { parent: this, dependsOn: versioning },
    );
  }

  #makeRights() {
    if (!this.#features.iam) return { policyArn: null, accessKeyId: null, secretAccessKey: null };
    const name = `${this.#name}-use`;
    const policy = this.#usePolicy();
    if (!this.#args.user) {
      const made = new Policy(
        name,
        { name, description: `Use of ${this.#bucketName()}`, policy, ...this.#tags },
        { parent: this },
      );
      return { policyArn: made.arn, accessKeyId: null, secretAccessKey: null };
    }
    const user = new User(name, { name, ...this.#tags }, { parent: this });
    new UserPolicy(name, { name: 'use', user: user.name, policy }, { parent: this });
    const key = new AccessKey(name, { user: user.name }, { parent: this, additionalSecretOutputs: ['secret'] });
    return { policyArn: null, accessKeyId: key.id, secretAccessKey: secret(key.secret) };
  }

  /** Reading and writing this bucket's objects. Not: deleting versions, changing the bucket, seeing others. */
  #usePolicy(): string {
    const { kmsKeyArn } = this.#args;
    const bucketActions = ['s3:GetBucketLocation', 's3:ListBucket', 's3:ListBucketMultipartUploads'];
    const objectActions = [
      's3:AbortMultipartUpload',
      's3:DeleteObject',
      's3:GetObject',
      's3:ListMultipartUploadParts',
      's3:PutObject',
    ];
    const statements = [
      { Action: bucketActions, Effect: 'Allow', Resource: this.#bucketArn() },
      { Action: objectActions, Effect: 'Allow', Resource: `${this.#bucketArn()}/*` },
      ...(kmsKeyArn === undefined
        ? []
        : [{ Action: ['kms:Decrypt', 'kms:GenerateDataKey'], Effect: 'Allow', Resource: kmsKeyArn }]),
    ];
    return JSON.stringify({ Version: '2012-10-17', Statement: statements });
  }

  #bucketName(): string {
    return this.#args.bucket ?? this.#name;
  }

  #bucketArn(): string {
    return `arn:${partitionOf(this.#args.region)}:s3:::${this.#bucketName()}`;
  }
}
