/** States on the way, on a clock that the test moves, with the real clouds' timings. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createClock, type SandboxClock } from '../../../sandbox/clock.ts';
import { startSimulatedClouds, type SimulatedClouds } from '../../../sandbox/pulumi/clouds.ts';
import { startSandbox, type Sandbox } from '../../../sandbox/server.ts';
import { connectCloud, type CloudClient, type Values } from '../../support/cloud-client.ts';

const MINUTE = 60_000;
const CLUSTER = 'aws:eks/cluster:Cluster';
const INSTANCE = 'gcp:compute/instance:Instance';
const AKS = 'azure-native:containerservice:ManagedCluster';

let clock: SandboxClock;
let clouds: SimulatedClouds;
const clients: CloudClient[] = [];

beforeEach(async () => {
  clock = createClock('explicit', { explicitMs: Date.UTC(2026, 0, 1), offsetMs: 0 });
  clouds = await startSimulatedClouds({ dir: null, timings: 'real', clock });
});

afterEach(() => {
  for (const client of clients.splice(0)) client.close();
  clouds.close();
  clock.stop();
});

async function connect(name: keyof SimulatedClouds['ports'], args: Values): Promise<CloudClient> {
  const client = connectCloud(clouds.ports[name]);
  clients.push(client);
  await client.configure(args);
  return client;
}

/** Nothing can be refused that is not under way yet. */
async function underWay(type: string, operation: string): Promise<void> {
  await expect.poll(() => clouds.resources(type)[0]?.transition?.operation).toBe(operation);
}

async function startCluster(aws: CloudClient) {
  const roleArn = 'arn:aws:iam::123456789012:role/eks';
  clouds.place({ package: 'aws', type: 'aws:iam/role:Role', id: 'eks', outputs: { arn: roleArn } });
  for (const zone of ['a', 'b']) {
    const inputs = { vpcId: 'vpc-1', availabilityZone: `us-east-1${zone}` };
    clouds.place({ package: 'aws', type: 'aws:ec2/subnet:Subnet', id: `subnet-${zone}`, scope: 'us-east-1', inputs });
  }
  const vpcConfig = { subnetIds: ['subnet-a', 'subnet-b'] };
  return aws.make(CLUSTER, 'gpu', { name: 'gpu', roleArn, version: '1.33', vpcConfig });
}

describe('an EKS cluster', () => {
  it('is CREATING for 8 to 15 minutes, then ACTIVE; UPDATING refuses a second change and a deletion', async () => {
    const aws = await connect('aws', { region: 'us-east-1' });
    const creating = startCluster(aws);
    await underWay('Cluster', 'create');
    expect(clouds.resources('Cluster')[0]?.properties.status).toBe('CREATING');
    await clock.advance(7 * MINUTE);
    expect(clouds.resources('Cluster')[0]?.properties.status).toBe('CREATING');
    await clock.advance(8 * MINUTE);
    const { id, inputs, properties } = await creating;
    expect(properties.status).toBe('ACTIVE');

    const upgrading = aws.update(CLUSTER, id, properties, { ...inputs, version: '1.34' });
    await underWay('Cluster', 'update');
    const second = aws.update(CLUSTER, id, properties, { ...inputs, enabledClusterLogTypes: ['api'] });
    await expect(second).rejects.toThrow('ResourceInUseException: Cluster gpu is UPDATING');
    await expect(aws.delete(CLUSTER, id, properties)).rejects.toThrow('409');
    await clock.advance(10 * MINUTE);
    expect(await upgrading).toMatchObject({ status: 'ACTIVE', version: '1.34' });

    const deleting = aws.delete(CLUSTER, id, properties);
    await underWay('Cluster', 'delete');
    expect((await aws.read(CLUSTER, id))?.properties.status).toBe('DELETING');
    await clock.advance(10 * MINUTE);
    await deleting;
    expect(clouds.resources('Cluster')).toEqual([]);
  });
});

describe('an AKS cluster', () => {
  it('refuses another operation with OperationNotAllowed while one is in progress', async () => {
    const azure = await connect('azure-native', {});
    const making = azure.make('azure-native:resources:ResourceGroup', 'gpu', {
      resourceGroupName: 'gpu',
      location: 'westeurope',
    });
    await underWay('ResourceGroup', 'create');
    await clock.advance(MINUTE);
    await making;
    const agentPoolProfiles = [{ name: 'system', mode: 'System', count: 1, vmSize: 'Standard_D4s_v5' }];
    const creating = azure.make(AKS, 'aks', { resourceGroupName: 'gpu', dnsPrefix: 'aks', agentPoolProfiles });
    await underWay('ManagedCluster', 'create');
    const [cluster] = clouds.resources('ManagedCluster');
    expect(cluster?.properties.provisioningState).toBe('Creating');
    await expect(azure.delete(AKS, cluster!.id)).rejects.toThrow('Code="OperationNotAllowed"');
    const pool = { resourceGroupName: 'gpu', resourceName: cluster!.id.split('/').at(-1), agentPoolName: 'gpu' };
    await expect(azure.make('azure-native:containerservice:AgentPool', 'pool', pool)).rejects.toThrow(
      'OperationNotAllowed',
    );
    await clock.advance(8 * MINUTE);
    expect((await creating).properties.provisioningState).toBe('Succeeded');
  });
});

describe('a machine of Google', () => {
  it('is PROVISIONING, RUNNING, STOPPING, TERMINATED, STAGING and RUNNING again', async () => {
    const gcp = await connect('gcp', { project: 'gpu', zone: 'us-central1-a' });
    const statusOf = (): unknown => clouds.resources('Instance')[0]?.properties.currentStatus;
    const creating = gcp.make(INSTANCE, 'vm', {
      machineType: 'e2-standard-4',
      bootDisk: { initializeParams: { image: 'debian-12' } },
      networkInterfaces: [{ network: 'default' }],
    });
    await underWay('Instance', 'create');
    expect(statusOf()).toBe('PROVISIONING');
    await clock.advance(MINUTE);
    const { id, inputs, properties } = await creating;
    expect(properties.currentStatus).toBe('RUNNING');
    const stopping = gcp.update(INSTANCE, id, properties, { ...inputs, desiredStatus: 'TERMINATED' });
    await underWay('Instance', 'stop');
    expect(statusOf()).toBe('STOPPING');
    await clock.advance(MINUTE);
    expect(await stopping).toMatchObject({ currentStatus: 'TERMINATED' });
    const starting = gcp.update(INSTANCE, id, properties, { ...inputs, desiredStatus: 'RUNNING' });
    await underWay('Instance', 'start');
    expect(statusOf()).toBe('STAGING');
    await clock.advance(MINUTE);
    expect(await starting).toMatchObject({ currentStatus: 'RUNNING' });
  });
});

describe('the control routes', () => {
  let sandbox: Sandbox;
  beforeEach(async () => {
    sandbox = await startSandbox({ dir: null, port: 0, time: 'explicit', clouds: 'none' });
  });
  afterEach(() => sandbox.close());

  async function ask(method: string, path: string, body?: unknown): Promise<{ status: number; body: Values }> {
    const reply = await fetch(`${sandbox.urls.control}/__sandbox/clouds${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: reply.status, body: (await reply.json()) as Values };
  }

  it('tell ports and resources, order faults, change what is there, and forget it all at a reset', async () => {
    const aws = connectCloud(sandbox.clouds!.ports.aws);
    clients.push(aws);
    await aws.configure({ region: 'us-east-1' });
    const { id } = await aws.make('aws:ec2/vpc:Vpc', 'net', { cidrBlock: '10.0.0.0/16' });
    expect((await ask('GET', '')).body).toMatchObject({
      ports: sandbox.clouds!.ports,
      resources: [{ package: 'aws', type: 'aws:ec2/vpc:Vpc', id, logicalName: 'net', transition: null }],
      calls: { 'aws create aws:ec2/vpc:Vpc': 1 },
    });
    expect((await ask('POST', '/drift', { name: 'net', changes: { 'tags.a': 'b' } })).body).toEqual({ changed: 1 });
    expect((await aws.read('aws:ec2/vpc:Vpc', id))?.properties.tags).toEqual({ a: 'b' });
    expect((await ask('POST', '/drift', { name: 'other', isDeleted: true })).status).toBe(404);
    expect((await ask('POST', '/faults', { kind: 'rain' })).status).toBe(422);
    const fault = await ask('POST', '/faults', { kind: 'throttled', type: 'Vpc' });
    expect(fault).toMatchObject({ status: 201, body: { id: 'c-1', hits: 0 } });
    await expect(aws.make('aws:ec2/vpc:Vpc', 'x', { cidrBlock: '10.0.0.0/16' })).rejects.toThrow('Throttling');
    expect((await ask('DELETE', '/faults/c-1')).status).toBe(200);
    expect((await ask('DELETE', '/faults/c-1')).status).toBe(404);
    await sandbox.reset();
    expect((await ask('GET', '')).body).toMatchObject({ resources: [], faults: [] });
    expect(await aws.read('aws:ec2/vpc:Vpc', id)).toBeNull();
  });

  it('say 404 in a sandbox without clouds', async () => {
    const plain = await startSandbox({ dir: null, port: 0, time: 'explicit' });
    expect((await fetch(`${plain.urls.control}/__sandbox/clouds`)).status).toBe(404);
    await plain.close();
  });
});
