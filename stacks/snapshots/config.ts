/** The configuration of the `snapshots` stack: buckets for snapshots at S3, R2, B2 or Wasabi. Schema only. */
import { z } from 'zod';
import { partName } from '../config-fields.ts';

/** Which stores there are; all speak S3, each leaves other parts of it out (components/snapshot-store.ts). */
export const OBJECT_STORES = ['s3', 'r2', 'b2', 'wasabi'] as const;

const bucket = z
  .strictObject({
    name: partName.describe(
      'The bucket is called <stack>-<name>. No default. Bucket names are taken world-wide, or in the account at R2.',
    ),
    store: z
      .enum(OBJECT_STORES)
      .default('s3')
      .describe(
        'Per GB and month: s3 $0.023, r2 $0.015 without egress fees, b2 $0.006, wasabi $0.0068 with 90 days billed at least. Default s3.',
      ),
    region: z
      .string()
      .regex(/^([a-z]{2}(-[a-z]+)+-\d{1,3}|auto)$/, 'must be a region such as "eu-west-1", or "auto" for R2')
      .describe('No default; "auto" for R2.'),
    accountId: z
      .string()
      .regex(/^[0-9a-f]{32}$/, 'must be the 32 hexadecimal digits of a Cloudflare account')
      .optional()
      .describe('Cloudflare account, for R2 only.'),
    profile: z
      .string()
      .regex(/^[\w.-]+$/, "must be the name of a profile in AWS's shared credentials file")
      .optional()
      .describe(
        "Profile of AWS's shared credentials file with the store's keys, so that they never come into configuration or state. Default: the environment's credentials, for S3 only.",
      ),
    versioning: z
      .boolean()
      .default(true)
      .describe(
        'Keep overwritten and deleted objects, at the price of storage, for noncurrentDays. Default true. R2 has none.',
      ),
    noncurrentDays: z
      .int()
      .min(1)
      .max(3650)
      .default(30)
      .describe('How long overwritten and deleted objects are kept. Default 30.'),
    expireDays: z.int().min(1).max(3650).optional().describe('Delete objects after so many days. Default: never.'),
    kmsKeyArn: z
      .string()
      .regex(/^arn:aws[a-z-]*:kms:/, 'must be an ARN of kms')
      .optional()
      .describe("S3 only. Default: the store's own key. Your own costs $1 per month and $0.03 per 10,000 requests."),
    user: z
      .boolean()
      .default(false)
      .describe(
        'S3 and Wasabi only: also make a user with an access key (secret outputs) that may read and write this bucket and nothing else. Default false: attach the policy to a role. Free.',
      ),
  })
  .superRefine((value, context) => {
    const problem = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    if ((value.store === 'r2') !== (value.accountId !== undefined))
      problem('accountId', value.store === 'r2' ? 'is needed for r2' : 'is for r2 only');
    if ((value.region === 'auto') !== (value.store === 'r2'))
      problem('region', value.store === 'r2' ? 'must be "auto" for r2' : `${value.store} has no region "auto"`);
    if (value.store !== 's3' && value.profile === undefined)
      problem('profile', `is needed for ${value.store}: the environment's credentials are AWS's`);
    if (value.expireDays !== undefined && value.store === 'b2')
      problem('expireDays', 'b2 deletes by rules of its own page only');
    if (value.kmsKeyArn !== undefined && value.store !== 's3') problem('kmsKeyArn', 'is for s3 only');
    if (value.user && value.store !== 's3' && value.store !== 'wasabi')
      problem('user', `${value.store} makes keys for one bucket on its own page only`);
  });

export const snapshotsConfigSchema = z
  .strictObject({ buckets: z.array(bucket).min(1).max(20).describe('The buckets to make. No default.') })
  .superRefine(({ buckets }, context) => {
    const names = buckets.map(({ name }) => name);
    names.forEach((name, index) => {
      if (names.indexOf(name) !== index)
        context.addIssue({ code: 'custom', path: ['buckets', index, 'name'], message: `the name ${name} is taken` });
    });
  });

export type SnapshotsConfig = z.output<typeof snapshotsConfigSchema>;
export type SnapshotBucketConfig = SnapshotsConfig['buckets'][number];
