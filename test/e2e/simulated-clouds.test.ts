/** The real engine and simulated clouds: what a stack goes through there that no component decides. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster } from '@pulumi/aws/eks/cluster.js';
import { NodeGroup } from '@pulumi/aws/eks/nodeGroup.js';
import { Subnet } from '@pulumi/aws/ec2/subnet.js';
import { Vpc } from '@pulumi/aws/ec2/vpc.js';
import { Role } from '@pulumi/aws/iam/role.js';
import { RolePolicyAttachment } from '@pulumi/aws/iam/rolePolicyAttachment.js';
import { listManagedClusterUserCredentialsOutput } from '@pulumi/azure-native/containerservice/listManagedClusterUserCredentials.js';
import { ManagedCluster } from '@pulumi/azure-native/containerservice/managedCluster.js';
import { ResourceGroup } from '@pulumi/azure-native/resources/resourceGroup.js';
import { Instance } from '@pulumi/gcp/compute/instance.js';
import { Provider as GcpProvider } from '@pulumi/gcp/provider.js';
import { Deployment } from '@pulumi/kubernetes/apps/v1/deployment.js';
import { Namespace } from '@pulumi/kubernetes/core/v1/namespace.js';
import { Provider as KubernetesProvider } from '@pulumi/kubernetes/provider.js';
import { LocalWorkspace, PulumiCommand, Stack, type EngineEvent } from '@pulumi/pulumi/automation/index.js';
import { secret } from '@pulumi/pulumi/output.js';
import semver from 'semver';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ENGINE_ENVIRONMENT } from '../../automation/engine/child/open-stack.ts';
import { locateEngine } from '../../engine/locate.ts';
import { startSimulatedClouds, type SimulatedClouds } from '../../sandbox/pulumi/clouds.ts';

let folder: string;
let engine: { path: string; version: string };
let clouds: SimulatedClouds;
let stacks = 0;

beforeAll(async () => {
  const tried: string[] = [];
  const found = await locateEngine({ env: process.env }, tried);
  if (!found) throw new Error(`no engine: ${tried.join('; ')}`);
  engine = found;
  folder = await mkdtemp(join(tmpdir(), 'muster-clouds-'));
  await mkdir(join(folder, 'state'));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

beforeEach(async () => {
  clouds = await startSimulatedClouds({ dir: null, timings: 'none' });
});

afterEach(() => clouds.close());

type Program = () => Promise<Record<string, unknown>>;

async function openStack(program: Program): Promise<Stack> {
  const Command = PulumiCommand as unknown as new (path: string, version: semver.SemVer | null) => PulumiCommand;
  const workspace = await LocalWorkspace.create({
    workDir: await mkdtemp(join(folder, 'work-')),
    program,
    pulumiCommand: new Command(engine.path, semver.parse(engine.version)),
    projectSettings: { name: 'muster', runtime: 'nodejs', main: process.cwd() },
    envVars: {
      ...ENGINE_ENVIRONMENT,
      PULUMI_HOME: join(folder, 'home'),
      PULUMI_BACKEND_URL: `file://${join(folder, 'state')}`,
      PULUMI_CONFIG_PASSPHRASE: 'test',
      PULUMI_DEBUG_PROVIDERS: Object.entries(clouds.ports)
        .map(([name, port]) => `${name}:${port}`)
        .join(','),
      PULUMI_DIY_BACKEND_NO_LEGACY_WARNING: '1',
    },
  });
  const stack = await Stack.create(`s${++stacks}`, workspace);
  // What follows is one CLI process per update, not four.
  workspace.selectStack = async () => {};
  const slim = stack as unknown as { outputs(): Promise<object>; info(): Promise<undefined> };
  slim.outputs = async () => ({});
  slim.info = async () => undefined;
  return stack;
}

type Update = 'up' | 'preview' | 'refresh' | 'destroy';

/** How many of what, and which paths of which resources changed. */
async function run(stack: Stack, update: Update, signal?: AbortSignal): Promise<{ changes: object; paths: string[] }> {
  const told = { changes: {}, paths: [] as string[] };
  const onEvent = ({ summaryEvent, resourcePreEvent, resOutputsEvent }: EngineEvent): void => {
    if (summaryEvent) told.changes = summaryEvent.resourceChanges;
    const step = update === 'refresh' ? resOutputsEvent?.metadata : resourcePreEvent?.metadata;
    if (!step || !['update', 'replace', 'delete'].includes(step.op) || update === 'destroy') return;
    const paths = Object.keys(step.detailedDiff ?? {});
    told.paths.push(`${step.op} ${step.urn.split('::').at(-1)} ${paths.join(',')}`.trimEnd());
  };
  await stack[update]({ onEvent, ...(signal ? { signal } : {}) });
  told.paths.sort((a, b) => a.localeCompare(b));
  return told;
}

interface StoredState {
  resources: { type: string; id?: string; initErrors?: string[] }[];
  pending: unknown[];
}

async function readState(stack: Stack): Promise<StoredState> {
  const text = await readFile(join(folder, 'state/.pulumi/stacks/muster', `${stack.name}.json`), 'utf8');
  const { latest } = (
    JSON.parse(text) as {
      checkpoint: { latest: { resources?: StoredState['resources']; pending_operations?: unknown[] } };
    }
  ).checkpoint;
  return { resources: latest.resources ?? [], pending: latest.pending_operations ?? [] };
}

const TRUST = JSON.stringify({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action: 'sts:AssumeRole', Principal: { Service: 'eks.amazonaws.com' } }],
});

/** One of everything: networks, roles, two clusters, a machine and what runs in a cluster. */
async function buildAll(): Promise<Record<string, unknown>> {
  const { roleArn, subnetIds, role } = buildNetwork();
  new RolePolicyAttachment('attachment', { role, policyArn: 'arn:aws:iam::aws:policy/AmazonEKSClusterPolicy' });
  const cluster = new Cluster('eks', { roleArn, vpcConfig: { subnetIds } });
  new NodeGroup('nodes', {
    clusterName: cluster.name,
    nodeRoleArn: roleArn,
    subnetIds,
    scalingConfig: { desiredSize: 1, minSize: 0, maxSize: 4 },
    instanceTypes: ['g5.xlarge'],
  });
  const group = new ResourceGroup('group', { location: 'westeurope' });
  const aks = new ManagedCluster('aks', {
    resourceGroupName: group.name,
    dnsPrefix: 'aks',
    agentPoolProfiles: [{ name: 'system', mode: 'System', count: 1, vmSize: 'Standard_D4s_v5' }],
  });
  const { kubeconfigs } = listManagedClusterUserCredentialsOutput({
    resourceGroupName: group.name,
    resourceName: aks.name,
  });
  const kubeconfig = secret(kubeconfigs[0]!.value.apply((text) => Buffer.from(text, 'base64').toString()));
  const provider = new KubernetesProvider('in-aks', { kubeconfig });
  const namespace = new Namespace('space', {}, { provider });
  new Deployment(
    'app',
    {
      metadata: { namespace: namespace.metadata.name },
      spec: {
        selector: { matchLabels: { app: 'a' } },
        template: { metadata: { labels: { app: 'a' } }, spec: { containers: [{ name: 'c', image: 'an/image:1' }] } },
      },
    },
    { provider },
  );
  new Instance(
    'standby',
    {
      machineType: 'e2-standard-4',
      bootDisk: { initializeParams: { image: 'debian-12' } },
      networkInterfaces: [{ network: 'default' }],
      labels: { owner: 'me' },
    },
    { provider: new GcpProvider('google', { project: 'gpu', zone: 'us-central1-a' }) },
  );
  return { endpoint: cluster.endpoint };
}

function buildNetwork() {
  const vpc = new Vpc('net', { cidrBlock: '10.0.0.0/16' });
  const subnetIds = ['a', 'b'].map((zone, index) => {
    const place = { cidrBlock: `10.0.${index}.0/24`, availabilityZone: `us-east-1${zone}` };
    return new Subnet(`subnet-${zone}`, { vpcId: vpc.id, ...place }).id;
  });
  const role = new Role('role', { assumeRolePolicy: TRUST });
  return { subnetIds, role, roleArn: role.arn };
}

describe('a stack on simulated clouds', () => {
  it('is previewed, made, left alone, found changed by an outside hand, healed and gone', async () => {
    const stack = await openStack(buildAll);
    expect((await run(stack, 'preview')).changes).toEqual({ create: 15 });
    expect(clouds.resources()).toEqual([]);
    expect((await run(stack, 'up')).changes).toEqual({ create: 15 });
    expect(clouds.resources()).toHaveLength(12);
    expect(await run(stack, 'up')).toEqual({ changes: { same: 15 }, paths: [] });
    expect(await run(stack, 'refresh')).toEqual({ changes: { same: 15 }, paths: [] });

    clouds.drift({ type: 'NodeGroup', name: 'nodes', changes: { 'scalingConfig.desiredSize': 3 } });
    clouds.drift({ type: 'Instance', name: 'standby', changes: { 'labels.owner': 'you' } });
    clouds.drift({ type: 'Deployment', name: 'app', isDeleted: true });
    const found = ['delete app', 'update nodes scalingConfig.desiredSize', 'update standby labels.owner'];
    expect((await run(stack, 'refresh')).paths).toEqual(found);
    expect(await run(stack, 'up')).toEqual({
      changes: { create: 1, same: 12, update: 2 },
      paths: found.slice(1),
    });
    expect((await run(stack, 'up')).changes).toEqual({ same: 15 });
    const [nodes] = clouds.resources('NodeGroup');
    expect(nodes?.properties.scalingConfig).toEqual({ desiredSize: 1, minSize: 0, maxSize: 4 });
    expect((await run(stack, 'destroy')).changes).toEqual({ delete: 15 });
    expect(clouds.resources()).toEqual([]);
  });

  it('refuses bad input before anything is made, naming the property', async () => {
    const stack = await openStack(async () => {
      const scalingConfig = { desiredSize: 1, minSize: 0 } as { desiredSize: number; minSize: number; maxSize: number };
      new NodeGroup('nodes', { clusterName: 'c', nodeRoleArn: 'r', subnetIds: [], scalingConfig });
      return {};
    });
    await expect(run(stack, 'preview')).rejects.toThrow("missing required property 'scalingConfig.maxSize'");
    expect(clouds.resources()).toEqual([]);
  });

  it('ends at once when it is canceled in the middle of a long create, knows what it made, and goes on next time', async () => {
    const stack = await openStack(async () => {
      const { roleArn, subnetIds } = buildNetwork();
      new Cluster('eks', { roleArn, vpcConfig: { subnetIds } });
      return {};
    });
    clouds.fault({ kind: 'slow', type: 'Cluster', delayMs: 600_000 });
    const abort = new AbortController();
    const updating = run(stack, 'up', abort.signal).catch((error: unknown) => String(error));
    await expect.poll(() => clouds.resources('Cluster'), { timeout: 60_000 }).toHaveLength(1);
    abort.abort();
    expect(await updating).toContain('canceled while eks');
    const state = await readState(stack);
    expect(state.pending).toEqual([]);
    const [cluster] = clouds.resources('Cluster');
    expect(state.resources.find(({ type }) => type === cluster?.type)).toMatchObject({
      id: cluster?.id,
      initErrors: [expect.stringContaining('canceled')],
    });
    expect(cluster?.properties.status).toBe('CREATING');
    clouds.clearFaults();
    clouds.finish();
    expect((await run(stack, 'up')).changes).toEqual({ same: 5, update: 1 });
    expect(clouds.resources('Cluster')).toHaveLength(1);
    await run(stack, 'destroy');
    expect(clouds.resources()).toEqual([]);
  });

  it('replaces what cannot change, and keeps a degraded node group in the state with the reason', async () => {
    let instanceType = 'g5.xlarge';
    const stack = await openStack(async () => {
      const { roleArn, subnetIds } = buildNetwork();
      const cluster = new Cluster('eks', { roleArn, vpcConfig: { subnetIds } });
      const scalingConfig = { desiredSize: 0, minSize: 0, maxSize: 1 };
      new NodeGroup('nodes', {
        clusterName: cluster.name,
        nodeRoleArn: roleArn,
        subnetIds,
        scalingConfig,
        instanceTypes: [instanceType],
      });
      return {};
    });
    await run(stack, 'up');
    const [before] = clouds.resources('NodeGroup');
    instanceType = 'g6.xlarge';
    clouds.fault({ kind: 'degraded', type: 'NodeGroup', times: 1 });
    await expect(run(stack, 'up')).rejects.toThrow("unexpected state 'DEGRADED'");
    const { resources } = await readState(stack);
    const kept = resources.filter(({ type }) => type === before?.type);
    expect(kept).toContainEqual(expect.objectContaining({ initErrors: [expect.stringContaining('DEGRADED')] }));
    await run(stack, 'destroy');
    expect(clouds.resources()).toEqual([]);
  });
});
