/** The `snapshots` stack: buckets for snapshots, at one store or several. Keys come from the environment or a profile, never from here. */
import { output, type Output } from '@pulumi/pulumi/output.js';
import type { ComponentResourceOptions } from '@pulumi/pulumi/resource.js';
import { endpointOf, makeStoreProvider } from '../../components/object-stores.ts';
import { SnapshotStore } from '../../components/snapshot-store.ts';
import { formatTags } from '../../domain/stack-tags.ts';
import { withPolicies } from '../policy-gate.ts';
import type { StackArgs } from '../stack-args.ts';
import type { SnapshotBucketConfig, SnapshotsConfig } from './config.ts';

/** Outputs by the bucket's name in the configuration. */
export function snapshotsProgram(args: StackArgs<SnapshotsConfig>): Record<string, Output<unknown>> {
  const { config, ceilingMicroUsdPerHour } = args;
  return withPolicies({ ceilingMicroUsdPerHour, region: null }, (options) =>
    Object.fromEntries(config.buckets.map((bucket) => [bucket.name, makeBucket(args, bucket, options)])),
  );
}

function makeBucket(
  { name: stack, tags, protect }: StackArgs<SnapshotsConfig>,
  config: SnapshotBucketConfig,
  options: ComponentResourceOptions,
): Output<unknown> {
  const { name: part, accountId, profile, ...bucket } = config;
  const { store, region } = bucket;
  const name = `${stack}-${part}`;
  const place = { store, region, accountId, profile, tags: formatTags(tags, stack) };
  const provider = makeStoreProvider(`${name}-${store}`, place, options);
  const made = new SnapshotStore(name, { ...bucket, stack, tags, protect }, { ...options, provider });
  const { bucketName, policyArn, accessKeyId, secretAccessKey } = made;
  return output({ store, region, endpoint: endpointOf(place), bucketName, policyArn, accessKeyId, secretAccessKey });
}
