import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { startSimulatedClouds, type SimulatedClouds } from '../../../sandbox/pulumi/clouds.ts';
import { connectCloud, type CloudClient, type Values } from '../../support/cloud-client.ts';

const GROUP = 'azure-native:resources:ResourceGroup';
const NETWORK = 'azure-native:network:VirtualNetwork';
const SUBNET = 'azure-native:network:Subnet';
const AKS = 'azure-native:containerservice:ManagedCluster';
const POOL = 'azure-native:containerservice:AgentPool';
const INSTANCE = 'gcp:compute/instance:Instance';
const NAMESPACE = 'kubernetes:core/v1:Namespace';
const DEPLOYMENT = 'kubernetes:apps/v1:Deployment';

let clouds: SimulatedClouds;
let clients: CloudClient[];

beforeEach(async () => {
  clouds = await startSimulatedClouds({ dir: null, timings: 'none' });
  clients = [];
});

afterEach(() => {
  for (const client of clients) client.close();
  clouds.close();
});

async function connect(name: keyof SimulatedClouds['ports'], args: Values = {}): Promise<CloudClient> {
  const client = connectCloud(clouds.ports[name]);
  clients.push(client);
  await client.configure(args);
  return client;
}

async function makeAks(azure: CloudClient, changes: Values = {}) {
  await azure.make(GROUP, 'group', { resourceGroupName: 'gpu', location: 'westeurope' });
  return azure.make(AKS, 'aks', {
    resourceGroupName: 'gpu',
    resourceName: 'aks',
    dnsPrefix: 'aks',
    kubernetesVersion: '1.33',
    identity: { type: 'SystemAssigned' },
    oidcIssuerProfile: { enabled: true },
    agentPoolProfiles: [{ name: 'system', mode: 'System', count: 1, vmSize: 'Standard_D4s_v5' }],
    ...changes,
  });
}

describe('the simulated Azure', () => {
  it('has ARM paths for ids, and the location of the group for what lies in it', async () => {
    const azure = await connect('azure-native');
    const { id, inputs, properties } = await makeAks(azure);
    expect(id).toMatch(
      /^\/subscriptions\/[0-9a-f-]{36}\/resourceGroups\/gpu\/providers\/Microsoft\.ContainerService\/managedClusters\/aks$/,
    );
    expect(inputs.location).toBe('westeurope');
    expect(properties).toMatchObject({
      name: 'aks',
      provisioningState: 'Succeeded',
      powerState: { code: 'Running' },
      fqdn: expect.stringMatching(/^aks-[0-9a-f]{8}\.hcp\.westeurope\.azmk8s\.io$/),
      nodeResourceGroup: 'MC_gpu_aks_westeurope',
      oidcIssuerProfile: { issuerURL: expect.stringMatching(/^https:\/\/westeurope\.oic\.prod-aks\.azure\.com\//) },
      identity: { type: 'SystemAssigned', principalId: expect.any(String) },
    });
  });

  it('hands kubeconfigs out, of admins only where local accounts are on', async () => {
    const azure = await connect('azure-native');
    await makeAks(azure, { disableLocalAccounts: true });
    const args = { resourceGroupName: 'gpu', resourceName: 'aks' };
    const reply = await azure.invoke('azure-native:containerservice:listManagedClusterUserCredentials', args);
    const [{ value }] = reply.kubeconfigs as [{ value: string }];
    expect(JSON.parse(Buffer.from(value, 'base64').toString())).toMatchObject({
      users: [{ user: { exec: { command: 'kubelogin' } } }],
    });
    await expect(
      azure.invoke('azure-native:containerservice:listManagedClusterAdminCredentials', args),
    ).rejects.toThrow('disable local accounts');
  });

  it.each([
    ['a size that the location lacks', { vmSize: 'Standard_ND96isr_H100_v5' }, 'SkuNotAvailable'],
    ['a size that does not exist', { vmSize: 'gpu.large' }, 'BadRequest'],
    ['a version newer than its cluster', { orchestratorVersion: '1.34' }, 'NodePoolMcVersionIncompatible'],
    ['a name that AKS does not take', { agentPoolName: 'gpu-pool' }, 'InvalidParameter'],
    ['autoscaling without bounds', { enableAutoScaling: true }, 'InvalidParameter'],
  ])('refuses an agent pool with %s', async (_case, changes, code) => {
    const azure = await connect('azure-native');
    await makeAks(azure);
    const inputs = {
      resourceGroupName: 'gpu',
      resourceName: 'aks',
      agentPoolName: 'gpu',
      count: 0,
      vmSize: 'Standard_NC24ads_A100_v4',
      ...changes,
    };
    await expect(azure.make(POOL, 'pool', inputs)).rejects.toThrow(`Code="${code}"`);
    expect(clouds.resources('AgentPool')).toEqual([]);
  });

  it('refuses subnets that overlap or lie outside, a group that is not there, and a name taken', async () => {
    const azure = await connect('azure-native');
    await expect(
      azure.make(NETWORK, 'net', { resourceGroupName: 'none', addressSpace: { addressPrefixes: ['10.0.0.0/16'] } }),
    ).rejects.toThrow('ResourceGroupNotFound');
    await azure.make(GROUP, 'group', { resourceGroupName: 'gpu', location: 'westeurope' });
    await azure.make(NETWORK, 'net', {
      resourceGroupName: 'gpu',
      virtualNetworkName: 'net',
      addressSpace: { addressPrefixes: ['10.0.0.0/16'] },
    });
    const at = { resourceGroupName: 'gpu', virtualNetworkName: 'net' };
    await azure.make(SUBNET, 'a', { ...at, subnetName: 'a', addressPrefix: '10.0.0.0/24' });
    await expect(azure.make(SUBNET, 'b', { ...at, addressPrefix: '10.0.0.0/25' })).rejects.toThrow(
      'NetcfgSubnetRangesOverlap',
    );
    await expect(azure.make(SUBNET, 'b', { ...at, addressPrefix: '10.9.0.0/24' })).rejects.toThrow(
      'NetcfgSubnetRangeOutsideVnet',
    );
    await expect(azure.make(SUBNET, 'b', { ...at, subnetName: 'a', addressPrefix: '10.0.1.0/24' })).rejects.toThrow(
      'cannot create already existing resource',
    );
  });

  it('takes everything of a group along when the group goes', async () => {
    const azure = await connect('azure-native');
    await makeAks(azure);
    const [group] = clouds.resources('ResourceGroup');
    await azure.delete(GROUP, group!.id);
    expect(clouds.resources()).toEqual([]);
  });
});

async function makeInstance(gcp: CloudClient, changes: Values = {}) {
  return gcp.make(INSTANCE, 'standby', {
    name: 'standby',
    machineType: 'e2-standard-4',
    bootDisk: { initializeParams: { image: 'debian-12' } },
    networkInterfaces: [{ network: 'default', accessConfigs: [{}] }],
    ...changes,
  });
}

function addressOf({ properties }: { properties: Values }): unknown {
  const [first] = properties.networkInterfaces as [{ accessConfigs: [{ natIp: string }] }];
  return first.accessConfigs[0].natIp;
}

describe('the simulated Google Cloud', () => {
  it('makes machines with links, ids and another address after each start', async () => {
    const gcp = await connect('gcp', { project: 'gpu', zone: 'us-central1-a' });
    const made = await makeInstance(gcp);
    expect(made.id).toBe('projects/gpu/zones/us-central1-a/instances/standby');
    expect(made.properties).toMatchObject({
      currentStatus: 'RUNNING',
      selfLink: 'https://www.googleapis.com/compute/v1/projects/gpu/zones/us-central1-a/instances/standby',
      instanceId: expect.stringMatching(/^\d{19}$/),
      effectiveLabels: { 'goog-pulumi-provisioned': 'true' },
    });
    const stopped = await gcp.update(INSTANCE, made.id, made.properties, {
      ...made.inputs,
      desiredStatus: 'TERMINATED',
    });
    expect(stopped.currentStatus).toBe('TERMINATED');
    expect(addressOf({ properties: stopped })).toBe('');
    const started = await gcp.update(INSTANCE, made.id, stopped, { ...made.inputs, desiredStatus: 'RUNNING' });
    expect(started.currentStatus).toBe('RUNNING');
    expect(addressOf({ properties: started })).not.toBe(addressOf(made));
  });

  it.each([
    ['a zone without that machine', { machineType: 'a2-highgpu-1g', zone: 'us-central1-f-x' }, 'Unknown zone'],
    [
      'a GPU that the zone lacks',
      {
        zone: 'europe-west3-a',
        scheduling: { onHostMaintenance: 'TERMINATE' },
        guestAccelerators: [{ type: 'nvidia-tesla-t4', count: 1 }],
      },
      'acceleratorTypes/nvidia-tesla-t4',
    ],
    [
      'a GPU and live migration',
      { guestAccelerators: [{ type: 'nvidia-tesla-t4', count: 1 }] },
      'do not support live migration',
    ],
    [
      'spot that restarts',
      { scheduling: { provisioningModel: 'SPOT', preemptible: true } },
      'preemptible be false when AutomaticRestart is true',
    ],
    ['a network that is not there', { networkInterfaces: [{ network: 'mine' }] }, 'notFound'],
  ])('refuses a machine in %s', async (_case, changes, message) => {
    const gcp = await connect('gcp', { project: 'gpu', zone: 'us-central1-a' });
    await expect(makeInstance(gcp, changes)).rejects.toThrow(message);
    expect(clouds.resources('Instance')).toEqual([]);
  });

  it('needs a project', async () => {
    const gcp = await connect('gcp', { zone: 'us-central1-a' });
    await expect(makeInstance(gcp)).rejects.toThrow('project: required field is not set');
  });

  it('runs out of machines: at a create nothing is left, at a start it stays stopped', async () => {
    const gcp = await connect('gcp', { project: 'gpu', zone: 'us-central1-a' });
    clouds.fault({ kind: 'no_capacity', type: 'Instance', times: 1 });
    await expect(makeInstance(gcp)).rejects.toThrow('ZONE_RESOURCE_POOL_EXHAUSTED');
    clouds.fault({ kind: 'vanishes', type: 'Instance', times: 1 });
    await expect(makeInstance(gcp)).rejects.toThrow('ZONE_RESOURCE_POOL_EXHAUSTED');
    expect(clouds.resources('Instance')).toEqual([]);
    const made = await makeInstance(gcp, { desiredStatus: 'TERMINATED' });
    clouds.fault({ kind: 'no_capacity', type: 'Instance', operation: 'start', times: 1 });
    const start = (): Promise<Values> =>
      gcp.update(INSTANCE, made.id, made.properties, { ...made.inputs, desiredStatus: 'RUNNING' });
    await expect(start()).rejects.toThrow('ZONE_RESOURCE_POOL_EXHAUSTED');
    expect(clouds.resources('Instance')[0]?.properties.currentStatus).toBe('TERMINATED');
    expect(await start()).toMatchObject({ currentStatus: 'RUNNING' });
  });

  it('says that a stop is done while the machine is STOPPING, and refuses to start it then', async () => {
    const gcp = await connect('gcp', { project: 'gpu', zone: 'us-central1-a' });
    const made = await makeInstance(gcp);
    clouds.fault({ kind: 'stop_lags', type: 'Instance', delayMs: 400 });
    const stopped = await gcp.update(INSTANCE, made.id, made.properties, {
      ...made.inputs,
      desiredStatus: 'TERMINATED',
    });
    expect(stopped.currentStatus).toBe('STOPPING');
    const start = (): Promise<Values> =>
      gcp.update(INSTANCE, made.id, stopped, { ...made.inputs, desiredStatus: 'RUNNING' });
    await expect(start()).rejects.toThrow('RESOURCE_NOT_READY');
    await expect.poll(() => clouds.resources('Instance')[0]?.properties.currentStatus).toBe('TERMINATED');
    expect(await start()).toMatchObject({ currentStatus: 'RUNNING' });
  });
});

describe('the simulated Kubernetes', () => {
  const deployment = {
    metadata: { name: 'app' },
    spec: {
      selector: { matchLabels: { app: 'a' } },
      template: { metadata: { labels: { app: 'a' } }, spec: { containers: [{ name: 'c', image: 'i' }] } },
    },
  };

  it('names objects, notes that it did, and has ids of namespace and name', async () => {
    const kubernetes = await connect('kubernetes', {
      kubeconfig: '{"clusters":[{"cluster":{"server":"https://10.0.0.1:6443"}}]}',
    });
    const { id, inputs } = await kubernetes.make(NAMESPACE, 'gpu', {});
    expect(id).toMatch(/^gpu-[0-9a-f]{8}$/);
    expect(inputs.metadata).toMatchObject({ name: id, annotations: { 'pulumi.com/autonamed': 'true' } });
    const app = await kubernetes.make(DEPLOYMENT, 'app', { ...deployment, metadata: { name: 'app', namespace: id } });
    expect(app.id).toBe(`${id}/app`);
    expect(app.properties).toMatchObject({ status: { readyReplicas: 1 }, metadata: { uid: expect.any(String) } });
    await kubernetes.delete(NAMESPACE, id);
    expect(clouds.resources()).toEqual([]);
  });

  it('refuses objects in a namespace that is not there, and labels that do not match', async () => {
    const kubernetes = await connect('kubernetes');
    await expect(
      kubernetes.make(DEPLOYMENT, 'app', { ...deployment, metadata: { name: 'app', namespace: 'none' } }),
    ).rejects.toThrow('namespaces "none" not found');
    const spec = { ...deployment.spec, selector: { matchLabels: { app: 'b' } } };
    await expect(kubernetes.make(DEPLOYMENT, 'app', { ...deployment, spec })).rejects.toThrow('selector');
  });

  it('keeps clusters apart, and does not answer for one that is gone', async () => {
    const azure = await connect('azure-native');
    const { id, properties } = await makeAks(azure);
    const of = (server: string): Values => ({
      kubeconfig: `apiVersion: v1\nclusters:\n- cluster:\n    server: ${server}\n`,
    });
    const here = await connect('kubernetes', of(`https://${String(properties.fqdn)}:443`));
    const there = await connect('kubernetes', of('https://10.0.0.1:6443'));
    await here.make(DEPLOYMENT, 'app', deployment);
    expect(await there.read(DEPLOYMENT, 'default/app')).toBeNull();
    await azure.delete(AKS, id);
    await expect(here.read(DEPLOYMENT, 'default/app')).rejects.toThrow('configured Kubernetes cluster is unreachable');
  });

  it('takes custom resources of other groups, not kinds of its own that are unknown', async () => {
    const kubernetes = await connect('kubernetes');
    const policy = await kubernetes.make('kubernetes:nvidia.com/v1:ClusterPolicy', 'policy', {
      apiVersion: 'nvidia.com/v1',
      kind: 'ClusterPolicy',
      metadata: { name: 'policy' },
      spec: { driver: { enabled: false } },
    });
    expect(policy.id).toBe('policy');
    await expect(kubernetes.check('kubernetes:apps/v1:Thing', 'x', {})).rejects.toThrow(
      'does not know the resource type',
    );
  });
});
