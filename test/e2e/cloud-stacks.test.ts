/** Each stack of cloud resources on the real engine and simulated clouds: made, left alone, changed by an outside hand, healed, gone. */
import { afterEach, describe, expect, it } from 'vitest';
import type { z } from 'zod';
import type { StackKind } from '../../domain/stack-kind.ts';
import { STACK_CONFIG_SCHEMAS } from '../../stacks/schemas.ts';
import type { StackArgs } from '../../stacks/stack-args.ts';
import type { CloudDrift } from '../../sandbox/pulumi/clouds.ts';
import { openCloudStack, type CloudStack } from '../support/cloud-stack.ts';

let stack: CloudStack | null = null;
afterEach(async () => {
  await stack?.close();
  stack = null;
});

const TAGS = { owner: 'platform', deployment: 'sandbox', costCentre: 'cc-1' };

function argsOf(kind: StackKind, config: object, more: Partial<StackArgs<unknown>> = {}): StackArgs<unknown> {
  const schema: z.ZodType = STACK_CONFIG_SCHEMAS[kind];
  return { config: schema.parse(config), name: 'train', tags: TAGS, protect: false, ...more };
}

const EKS = {
  region: 'eu-west-1',
  gpuNodeGroups: [{ instanceType: 'g5.xlarge', maxSize: 4, desiredSize: 1, capacityType: 'spot' }],
  gpuOperator: {},
  nodeAgent: {
    image: 'muster/agent:1',
    controlPlaneUrl: 'https://muster.example',
    enrolmentToken: 'a-token-that-stays-secret',
  },
};

const CASES: { kind: StackKind; config: object; drift: CloudDrift; changed: string }[] = [
  {
    kind: 'eks',
    config: EKS,
    drift: { type: 'NodeGroup', name: 'train-gpu-1', changes: { 'scalingConfig.desiredSize': 3 } },
    changed: 'train-gpu-1',
  },
  {
    kind: 'aks',
    config: {
      location: 'swedencentral',
      gpuNodePools: [{ vmSize: 'Standard_NC24ads_A100_v4', maxCount: 2, count: 1 }],
      workloadIdentities: [{ name: 'loader', namespace: 'data', serviceAccount: 'loader' }],
      gpuOperator: {},
    },
    drift: { type: 'AgentPool', name: 'train-gpu1', changes: { count: 2 } },
    changed: 'train-gpu1',
  },
  {
    kind: 'standby',
    config: {
      project: 'a-project',
      zone: 'europe-west4-a',
      fallbackZone: 'europe-west4-b',
      state: 'warm',
      snapshotBucket: 'snaps',
    },
    drift: { type: 'Instance', name: 'train', changes: { 'labels.muster-owner': 'somebody' } },
    changed: 'train',
  },
  {
    kind: 'snapshots',
    config: {
      buckets: [
        { name: 'main', region: 'eu-west-1', user: true },
        { name: 'copy', store: 'r2', region: 'auto', accountId: 'a'.repeat(32), profile: 'cloudflare' },
      ],
    },
    drift: {
      type: 'BucketVersioning',
      name: 'train-main-versioning',
      changes: { 'versioningConfiguration.status': 'Suspended' },
    },
    changed: 'train-main-versioning',
  },
  {
    kind: 'dns-record',
    config: { zoneId: 'Z0123456789ABCDEFGHIJ', hostname: 'train.example.com', address: '203.0.113.7', port: 22_022 },
    drift: { type: 'Record', name: 'Z0123456789ABCDEFGHIJ_train.example.com_A', changes: { ttl: 3_600 } },
    changed: 'train',
  },
];

describe.each(CASES)('the $kind stack', ({ kind, config, drift, changed }) => {
  it('is previewed, made, left alone, drifts, is refreshed, healed and destroyed without a rest', async () => {
    stack = await openCloudStack(kind, argsOf(kind, config));
    const before = stack.clouds.state().resources.length;

    const preview = await stack.preview();
    expect(Object.keys(preview.changes)).toEqual(['create']);
    expect(stack.clouds.state().resources).toHaveLength(before);

    const up = await stack.up();
    expect(up.changes).toEqual(preview.changes);
    expect(up.complaints).toEqual([]);

    expect((await stack.up()).changes).toEqual({});
    const state = await stack.readState();
    for (const secret of ['a-token-that-stays-secret', 'get-token']) expect(state).not.toContain(secret);

    expect(stack.clouds.drift(drift)).toBe(1);
    const refresh = await stack.refresh();
    expect(refresh.steps).toEqual([`update ${changed}`]);
    const heal = await stack.up();
    expect(heal.steps).toEqual([`update ${changed}`]);
    expect((await stack.up()).changes).toEqual({});

    await stack.destroy();
    expect(stack.clouds.state().resources.map(({ type, id }) => `${type} ${id}`)).toEqual([]);
  });
});

describe('a program that breaks policies', () => {
  it('fails with all of them and makes nothing, without a preview before it', async () => {
    const args = argsOf('eks', EKS, { ceilingMicroUsdPerHour: 100_000, tags: { ...TAGS, costCentre: '' } });
    stack = await openCloudStack('eks', args);
    const failure = await stack.up().then(
      () => '',
      (error: Error) => error.message,
    );
    expect(failure).toMatch(/the stack breaks policies, so nothing was made/);
    expect(failure).toMatch(/above the stack's ceiling of \$0\.10/);
    expect(failure).toMatch(/lacks the tags muster-cost-centre/);
    expect(stack.clouds.state().resources).toEqual([]);
  });
});

describe('a change of options', () => {
  it('of a GPU node group makes the new group before the old one goes, or scales it in place', async () => {
    const group = { instanceType: 'g5.xlarge', maxSize: 4 };
    const config = (change: object) => argsOf('eks', { region: 'eu-west-1', gpuNodeGroups: [{ ...group, ...change }] });
    stack = await openCloudStack('eks', config({ desiredSize: 2 }));
    await stack.up();
    stack.setArgs(config({ desiredSize: 0 }));
    expect((await stack.up()).steps).toEqual(['update train-gpu-1']);
    stack.setArgs(config({ instanceType: 'g4dn.xlarge' }));
    const { steps } = await stack.up();
    expect(steps.indexOf('create-replacement train-gpu-1')).toBeLessThan(steps.indexOf('delete-replaced train-gpu-1'));
    expect(steps).not.toContain('replace train');
    expect(stack.clouds.resources('NodeGroup')).toHaveLength(2);
  });

  it('of a standby moves it to its other zone on the same disk, and starts and stops it in place', async () => {
    const zones = { project: 'a-project', zone: 'europe-west4-a', fallbackZone: 'europe-west4-b' };
    const config = (change: object) => argsOf('standby', { ...zones, ...change });
    stack = await openCloudStack('standby', config({}));
    await stack.up();
    stack.setArgs(config({ state: 'warm' }));
    expect((await stack.up()).steps).toEqual(['update train']);
    expect(stack.clouds.resources('Instance')[0]?.properties.currentStatus).toBe('RUNNING');
    stack.setArgs(config({ state: 'warm', runIn: 'fallback_zone' }));
    const { steps } = await stack.up();
    expect(steps.filter((step) => !/^(create|delete|replace)\S* train$/.test(step))).toEqual([]);
    expect(stack.clouds.resources('Instance').map(({ properties }) => properties.zone)).toEqual(['europe-west4-b']);
  });
});

describe('a cluster whose name is taken', () => {
  it('is refused before anything is made; one with the tags of the stack is its own', async () => {
    stack = await openCloudStack('eks', argsOf('eks', { region: 'eu-west-1' }));
    const place = (tags: Record<string, string>) =>
      stack?.clouds.place({
        package: 'aws',
        type: 'aws:eks/cluster:Cluster',
        id: 'train',
        scope: 'eu-west-1',
        inputs: { name: 'train', tags },
      });
    place({ team: 'another' });
    await expect(stack.up()).rejects.toThrow(
      /an EKS cluster "train" that is not this stack's is in the region already/,
    );
    expect(stack.clouds.state().resources).toHaveLength(1);
    place({ 'muster-stack': 'train', 'muster-deployment': 'sandbox' });
    await expect(stack.preview()).resolves.toMatchObject({ complaints: [] });
  });
});

describe('a protected stack', () => {
  it('is not destroyed until an update let go of it', async () => {
    stack = await openCloudStack('eks', argsOf('eks', { region: 'eu-west-1' }, { protect: true }));
    await stack.up();
    await expect(stack.destroy()).rejects.toThrow(/protected/);
    expect(stack.clouds.resources('Cluster')).toHaveLength(1);
    expect(stack.clouds.resources('Key')).toHaveLength(1);
    stack.setArgs(argsOf('eks', { region: 'eu-west-1' }));
    await stack.up();
    await stack.destroy();
    expect(stack.clouds.state().resources).toEqual([]);
  });
});
