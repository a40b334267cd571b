import { beforeEach, describe, expect, it } from 'vitest';
import { AksGpuCluster, type AksGpuClusterArgs } from '../../components/aks-gpu-cluster.ts';
import { newestKubernetes } from '../../domain/kubernetes-version.ts';
import { isSecretOutput, mockEngine, valueOf, type MockEngine } from '../support/mock-engine.ts';

const TAGS = { owner: 'platform', deployment: 'sandbox', costCentre: 'cc-1' };
const CLUSTER = 'azure-native:containerservice:ManagedCluster';
const POOL = 'azure-native:containerservice:AgentPool';
const GPU = { vmSize: 'Standard_NC24ads_A100_v4', maxCount: 3 };

let engine: MockEngine;
beforeEach(async () => {
  engine = await mockEngine();
});

async function make(args: Partial<AksGpuClusterArgs> = {}): Promise<AksGpuCluster> {
  const cluster = new AksGpuCluster('train', { tags: TAGS, location: 'swedencentral', ...args });
  await engine.settle();
  return cluster;
}

describe('an AKS cluster by default', () => {
  it('is private, with Entra identities, Azure RBAC and workload identity, and no local account', async () => {
    await make();
    expect(engine.find(CLUSTER)).toMatchObject({
      resourceName: 'train',
      kubernetesVersion: newestKubernetes('aks'),
      sku: { name: 'Base', tier: 'Standard' },
      apiServerAccessProfile: { enablePrivateCluster: true, enablePrivateClusterPublicFQDN: false },
      disableLocalAccounts: true,
      enableRBAC: true,
      aadProfile: { managed: true, enableAzureRBAC: true, adminGroupObjectIDs: [] },
      oidcIssuerProfile: { enabled: true },
      securityProfile: { workloadIdentity: { enabled: true } },
      identity: { type: 'UserAssigned' },
    });
    expect(engine.find(CLUSTER).apiServerAccessProfile).not.toHaveProperty('authorizedIPRanges');
  });

  it('has a network of its own, in which its identity may join nodes and do nothing elsewhere', async () => {
    await make();
    expect(engine.find('azure-native:network:Subnet')).toMatchObject({
      addressPrefix: '10.61.0.0/17',
      defaultOutboundAccess: false,
    });
    const grant = engine.find('azure-native:authorization:RoleAssignment');
    expect(grant).toMatchObject({
      principalId: 'principal-of-train-cluster',
      scope: expect.stringMatching(/subnets\/train-nodes$/),
      roleDefinitionId: expect.stringMatching(/^\/subscriptions\/sub\/providers\/.*4d97b98b/),
    });
    expect(grant.roleAssignmentName).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  it('has system nodes, no GPU pool, and keeps audit logs', async () => {
    await make();
    expect(engine.find(CLUSTER).agentPoolProfiles).toEqual([
      expect.objectContaining({ name: 'system', mode: 'System', count: 2, vmSize: 'Standard_D2s_v5' }),
    ]);
    expect(engine.list(POOL)).toEqual([]);
    expect(engine.find('azure-native:operationalinsights:Workspace').retentionInDays).toBe(30);
    expect(engine.find('azure-native:monitor:DiagnosticSetting').logs).toContainEqual({
      category: 'kube-audit-admin',
      enabled: true,
    });
  });

  it('gives a secret kubeconfig made of what Azure says, with a plugin and no credential', async () => {
    const cluster = await make();
    expect(await isSecretOutput(cluster.kubeconfig)).toBe(true);
    const kubeconfig = JSON.parse(await valueOf(cluster.kubeconfig));
    expect(kubeconfig.clusters[0].cluster).toEqual({
      'certificate-authority-data': 'QUtT',
      server: 'https://aks.example:443',
    });
    expect(Object.keys(kubeconfig.users[0].user)).toEqual(['exec']);
    expect(await isSecretOutput(cluster.endpoint)).toBe(false);
  });
});

describe('an option of an AKS cluster', () => {
  it('publicAccessCidrs opens the endpoint to them and no others', async () => {
    await make({ publicAccessCidrs: ['203.0.113.0/24'] });
    expect(engine.find(CLUSTER).apiServerAccessProfile).toMatchObject({
      enablePrivateCluster: false,
      authorizedIPRanges: ['203.0.113.0/24'],
    });
  });

  it('existingSubnetId makes no network', async () => {
    const subnet = '/subscriptions/other/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/s';
    await make({ existingSubnetId: subnet, gpuNodePools: [GPU] });
    expect(engine.registered.filter(({ type }) => type.startsWith('azure-native:network'))).toEqual([]);
    expect(engine.find(CLUSTER).agentPoolProfiles[0].vnetSubnetID).toBe(subnet);
    expect(engine.find(POOL).vnetSubnetID).toBe(subnet);
    expect(engine.find('azure-native:authorization:RoleAssignment').roleDefinitionId).toMatch(
      /^\/subscriptions\/other\//,
    );
  });

  it('gpuNodePools: a pool starts at zero nodes, tainted and labelled, with the driver installed', async () => {
    await make({ gpuNodePools: [GPU] });
    expect(engine.find(POOL)).toMatchObject({
      agentPoolName: 'gpu1',
      count: 0,
      enableAutoScaling: false,
      gpuProfile: { driver: 'Install' },
      powerState: { code: 'Running' },
      nodeLabels: { 'muster-node': 'gpu' },
      nodeTaints: ['nvidia.com/gpu=present:NoSchedule'],
    });
    expect(engine.find(POOL)).not.toHaveProperty('scaleSetPriority');
  });

  it('gpuNodePools: spot up to a price, autoscaled between bounds, without driver or taint, stopped', async () => {
    await make({
      gpuNodePools: [
        {
          ...GPU,
          name: 'spot',
          capacityType: 'spot',
          maxSpotPriceUsdPerHour: '1.50',
          autoscaled: true,
          minCount: 1,
          driver: 'none',
          tainted: false,
          powerState: 'stopped',
          kubernetesVersion: '1.34',
          diskGib: 256,
        },
      ],
    });
    expect(engine.find(POOL, 'train-spot')).toMatchObject({
      scaleSetPriority: 'Spot',
      scaleSetEvictionPolicy: 'Delete',
      spotMaxPrice: 1.5,
      enableAutoScaling: true,
      minCount: 1,
      maxCount: 3,
      gpuProfile: { driver: 'None' },
      powerState: { code: 'Stopped' },
      nodeTaints: ['kubernetes.azure.com/scalesetpriority=spot:NoSchedule'],
      orchestratorVersion: '1.34',
      osDiskSizeGB: 256,
    });
  });

  it('gpuNodePools: spot without a price goes up to the on-demand price', async () => {
    await make({ gpuNodePools: [{ ...GPU, capacityType: 'spot' }] });
    expect(engine.find(POOL).spotMaxPrice).toBe(-1);
  });

  it('workloadIdentities get an identity that exactly one service account may take', async () => {
    const cluster = await make({
      workloadIdentities: [{ name: 'loader', namespace: 'data', serviceAccount: 'loader-sa' }],
    });
    expect(engine.find('azure-native:managedidentity:FederatedIdentityCredential')).toMatchObject({
      subject: 'system:serviceaccount:data:loader-sa',
      issuer: 'https://oidc.example/id',
      resourceName: 'train-loader',
    });
    expect(await valueOf(cluster.workloadClientIds.loader as never)).toBe('client-of-train-loader');
    expect(engine.list('azure-native:authorization:RoleAssignment')).toHaveLength(1);
  });

  it('logRetentionDays: 0 keeps no logs', async () => {
    await make({ logRetentionDays: 0 });
    expect(engine.registered.filter(({ type }) => /Workspace|DiagnosticSetting/.test(type))).toEqual([]);
  });

  it('tier, groups, tenant, versions, addresses and system nodes are as asked', async () => {
    await make({
      tier: 'premium',
      adminGroupIds: ['group-1'],
      tenantId: 'tenant-1',
      kubernetesVersion: '1.34',
      vnetCidr: '10.8.0.0/20',
      podCidr: '10.100.0.0/16',
      serviceCidr: '172.29.0.0/16',
      systemNodes: { vmSize: 'Standard_D4s_v5', count: 3, diskGib: 100 },
    });
    expect(engine.find(CLUSTER)).toMatchObject({
      sku: { tier: 'Premium' },
      supportPlan: 'AKSLongTermSupport',
      kubernetesVersion: '1.34',
      aadProfile: { adminGroupObjectIDs: ['group-1'], tenantID: 'tenant-1' },
      networkProfile: { podCidr: '10.100.0.0/16', serviceCidr: '172.29.0.0/16', dnsServiceIP: '172.29.0.10' },
      agentPoolProfiles: [{ vmSize: 'Standard_D4s_v5', count: 3, osDiskSizeGB: 100 }],
    });
    expect(engine.find('azure-native:network:Subnet').addressPrefix).toBe('10.8.0.0/21');
  });
});
