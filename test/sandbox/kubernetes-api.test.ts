import { afterEach, describe, expect, it } from 'vitest';
import { createKubernetesReader } from '../../automation/clusters/kubernetes-reader.ts';
import { factsOf } from '../../automation/clusters/look-at-cluster.ts';
import type { ClusterAccess } from '../../domain/clusters/kubeconfig.ts';
import { findCloudCluster } from '../../sandbox/kubernetes-api/cloud-clusters.ts';
import { startKubernetesApi, type KubernetesApi } from '../../sandbox/kubernetes-api/server.ts';
import { makeAuthority } from '../../sandbox/kubernetes-api/certificates.ts';
import type { CloudResourceReport } from '../../sandbox/pulumi/clouds.ts';

let api: KubernetesApi | undefined;
afterEach(() => api?.stop());

let held: CloudResourceReport[];
const hold = (type: string, id: string, properties: object, scope = ''): CloudResourceReport =>
  ({ type, id, scope, properties, package: 'aws', logicalName: id, createdAtMs: 0, transition: null }) as never;
const clouds = { resources: (type?: string) => held.filter((resource) => resource.type === type) };

async function read(name: string) {
  api = await startKubernetesApi({ find: (asked) => findCloudCluster(clouds, asked) });
  const access: ClusterAccess = {
    server: api.urlOf(name),
    certificateAuthority: Buffer.from(api.authority().certificate).toString('base64'),
    tlsServerName: null,
    credential: { kind: 'cloud', cloud: 'eks' },
  };
  return { access, look: async () => factsOf(await createKubernetesReader(5_000).read(access, 'sandbox')) };
}

describe('clusters of the simulated clouds', () => {
  it('show an EKS cluster with as many GPU nodes as its groups want now', async () => {
    const group = hold(
      'aws:eks/nodeGroup:NodeGroup',
      'train:gpu-1',
      {
        clusterName: 'train',
        nodeGroupName: 'gpu-1',
        instanceTypes: ['g5.12xlarge'],
        scalingConfig: { desiredSize: 2 },
      },
      'eu-west-1',
    );
    held = [
      hold(
        'aws:eks/cluster:Cluster',
        'train',
        { version: '1.34', endpoint: 'https://127.0.0.1:1/clusters/ABC' },
        'eu-west-1',
      ),
      group,
      hold(
        'aws:eks/nodeGroup:NodeGroup',
        'other:gpu-1',
        { clusterName: 'other', scalingConfig: { desiredSize: 9 } },
        'eu-west-1',
      ),
    ];
    const { look } = await read('ABC');
    const facts = await look();
    expect(facts).toMatchObject({
      platform: 'eks',
      kubernetesVersion: '1.34.1',
      summary: { total: 2, ready: 2, accelerators: [{ gpuModel: 'NVIDIA-A10G', gpus: 8 }] },
    });
    group.properties['scalingConfig'] = { desiredSize: 3 };
    const scaled = await look();
    expect(scaled.summary.total).toBe(3);
    expect(scaled.namespaceUid).toBe(facts.namespaceUid);
  });

  it('show an AKS cluster without the pools that are stopped', async () => {
    const id = '/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerService/managedClusters/train';
    const pool = (name: string, code: string) =>
      hold('azure-native:containerservice:AgentPool', `${id}/agentPools/${name}`, {
        vmSize: 'Standard_NC48ads_A100_v4',
        count: 1,
        powerState: { code },
      });
    held = [
      hold('azure-native:containerservice:ManagedCluster', id, {
        fqdn: 'train.azmk8s.io',
        location: 'swedencentral',
        currentKubernetesVersion: '1.34.2',
        agentPoolProfiles: [{ name: 'system', vmSize: 'Standard_D2s_v5', count: 2 }],
      }),
      pool('gpu1', 'Running'),
      pool('gpu2', 'Stopped'),
    ];
    const { look } = await read('train.azmk8s.io');
    expect(await look()).toMatchObject({
      platform: 'aks',
      summary: { total: 3, accelerators: [{ gpuModel: 'NVIDIA-A100-80GB-PCIe', gpus: 2 }] },
    });
  });

  it('answer nobody else, and by another authority once told', async () => {
    held = [];
    const { access, look } = await read('nothing');
    await expect(look()).rejects.toMatchObject({ kind: 'no_kubernetes' });
    const stored = makeAuthority('kubernetes').stored;
    api?.useAuthority(makeAuthority('kubernetes', stored));
    await expect(createKubernetesReader(5_000).read(access, 'sandbox')).rejects.toMatchObject({
      kind: 'foreign_certificate',
    });
    const again = { ...access, certificateAuthority: Buffer.from(stored.certificate).toString('base64') };
    await expect(createKubernetesReader(5_000).read(again, 'sandbox')).rejects.toMatchObject({ kind: 'no_kubernetes' });
  });
});
