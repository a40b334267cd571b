import { describe, expect, it } from 'vitest';
import { snapshotsConfigSchema } from '../../../stacks/snapshots/config.ts';
import { problemsOf } from '../../support/config-problems.ts';

const S3 = { name: 'main', region: 'eu-west-1' };
const R2 = { name: 'r', store: 'r2', region: 'auto', accountId: 'a'.repeat(32), profile: 'cf' };
const problems = (...buckets: object[]) => problemsOf(snapshotsConfigSchema, { buckets });

describe('the configuration of the snapshots stack', () => {
  it('takes one bucket or several at several stores', () => {
    expect(problems(S3, R2, { name: 'b', store: 'b2', region: 'eu-central-003', profile: 'b2' })).toEqual([]);
    expect(snapshotsConfigSchema.parse({ buckets: [S3] }).buckets[0]).toMatchObject({
      store: 's3',
      versioning: true,
      noncurrentDays: 30,
      user: false,
    });
    expect(problems()).toHaveLength(1);
  });

  it('wants of each store what it needs and nothing that it cannot do', () => {
    expect(problems({ ...R2, accountId: undefined })).toEqual(['buckets.0.accountId: is needed for r2']);
    expect(problems({ ...R2, region: 'eu-west-1' })).toEqual(['buckets.0.region: must be "auto" for r2']);
    expect(problems({ ...R2, profile: undefined })).toEqual([expect.stringMatching(/profile: is needed for r2/)]);
    expect(problems({ ...R2, user: true })).toEqual([expect.stringMatching(/user: r2 makes keys/)]);
    expect(problems({ ...R2, kmsKeyArn: 'arn:aws:kms:x' })).toEqual([
      expect.stringMatching(/kmsKeyArn: is for s3 only/),
    ]);
    expect(problems({ ...S3, accountId: 'a'.repeat(32) })).toEqual(['buckets.0.accountId: is for r2 only']);
    expect(problems({ ...S3, region: 'auto' })).toEqual([expect.stringMatching(/s3 has no region "auto"/)]);
    expect(problems({ name: 'b', store: 'b2', region: 'eu-central-003', profile: 'b2', expireDays: 3 })).toHaveLength(
      1,
    );
  });

  it('refuses a name twice', () => {
    expect(problems(S3, S3)).toEqual(['buckets.1.name: the name main is taken']);
  });
});
