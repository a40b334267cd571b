import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createKubernetesReader } from '../../../automation/clusters/kubernetes-reader.ts';
import { factsOf } from '../../../automation/clusters/look-at-cluster.ts';
import { parseKubeconfig, type ClusterAccess } from '../../../domain/clusters/kubeconfig.ts';
import { makeAuthority } from '../../../sandbox/kubernetes-api/certificates.ts';
import { makeEksGpuNode, makeGaudiNode, makeMigNode, makeSystemNode } from '../../../sandbox/kubernetes-api/nodes.ts';
import {
  makeCluster,
  startKubernetesApi,
  type KubernetesApi,
  type SimulatedCluster,
} from '../../../sandbox/kubernetes-api/server.ts';

const reader = createKubernetesReader(2_000);
let api: KubernetesApi;
let cluster: SimulatedCluster;
let access: ClusterAccess;
beforeAll(async () => {
  api = await startKubernetesApi();
});
afterAll(() => api.stop());
beforeEach(() => {
  cluster = makeCluster({
    gitVersion: 'v1.34.1-eks-3025e55',
    nodes: [makeSystemNode('sys'), makeEksGpuNode('gpu'), makeMigNode('mig'), makeGaudiNode('gaudi')],
    warnings: [
      {
        reason: 'BackOff',
        message: 'Back-off restarting',
        object: 'old',
        count: 3,
        lastTimestamp: '2026-11-21T09:00:00Z',
      },
      {
        reason: 'FailedScheduling',
        message: '0/4 nodes',
        object: 'new',
        count: 7,
        lastTimestamp: '2026-11-21T10:00:00Z',
      },
    ],
  });
  api.clusters.set('c', cluster);
  access = accessTo('c');
});

function accessTo(name: string, change: (config: Record<string, never>) => void = () => {}): ClusterAccess {
  const config = JSON.parse(api.kubeconfigOf(name)) as Record<string, never>;
  change(config);
  const parsed = parseKubeconfig(config, 'kubeconfig');
  if ('errors' in parsed) throw new Error(JSON.stringify(parsed.errors));
  return parsed.access;
}

const base64 = (text: string) => Buffer.from(text).toString('base64');

describe("reading a cluster with Kubernetes' own client", () => {
  it('tells platform, identity, nodes, storage classes and warnings, newest first', async () => {
    const reading = await reader.read(access, null);
    const facts = factsOf(reading);
    expect(facts).toMatchObject({
      platform: 'eks',
      platformVersion: 'eks-3025e55',
      kubernetesVersion: '1.34.1',
      namespaceUid: cluster.namespaceUid,
      storageClasses: [{ name: 'gp3', provisioner: 'ebs.csi.aws.com', isDefault: true }],
      summary: { total: 4, ready: 4, withUnknownGpuCount: 0 },
    });
    expect(facts.warnings.map((warning) => [warning.objectName, warning.count])).toEqual([
      ['new', 7],
      ['old', 3],
    ]);
    expect(
      facts.nodes.map(({ name, hardwareType, gpuModel, gpuCount }) => [name, hardwareType, gpuModel, gpuCount]),
    ).toEqual([
      ['gaudi', 'hpu', null, 8],
      ['gpu', 'cuda', 'NVIDIA-A10G', 1],
      ['mig', 'cuda', 'NVIDIA-A100-SXM4-40GB', 8],
      ['sys', 'cpu', null, 0],
    ]);
    expect(facts.nodes[2]?.mig).toEqual({ strategy: 'mixed', profiles: [{ profile: '1g.5gb', count: 56 }] });
  });

  it('reads all pages of a large cluster', async () => {
    cluster.nodes = Array.from({ length: 1201 }, (_, index) => makeSystemNode(`n-${index}`));
    expect((await reader.read(access, null)).nodes).toHaveLength(1201);
    expect(cluster.asked.filter((path) => path === 'GET /api/v1/nodes')).toHaveLength(3);
  });

  it('leaves out what we may not see', async () => {
    cluster.denied = new Set(['list events', 'list storageclasses']);
    expect(await reader.read(access, null)).toMatchObject({ warnings: [], storageClasses: [] });
    expect(
      (await reader.missingRights(access, null)).map(({ resource, isRequired }) => [resource, isRequired]),
    ).toEqual([
      ['events', false],
      ['storageclasses', false],
    ]);
  });

  it.each([
    ['a server that is down', { kind: 'down' }, 'unreachable', /does not answer/],
    ['a server that is too slow', { kind: 'slow', ms: 10_000 }, 'unreachable', /in time/],
    ['a server that fails', { kind: 'status', status: 503 }, 'unreachable', /503/],
    ['a web page', { kind: 'web_page' }, 'no_kubernetes', /Kubernetes/],
    ['something else', { kind: 'status', status: 404 }, 'no_kubernetes', /404/],
    ['a right we lack', { kind: 'status', status: 403 }, 'forbidden', /may not/],
  ] as const)('tells of %s', async (_name, fault, kind, message) => {
    cluster.fault = fault;
    const quick = createKubernetesReader(300);
    await expect(quick.read(access, null)).rejects.toMatchObject({
      kind,
      message: expect.stringMatching(message) as string,
    });
  });

  it('tells of a credential that is refused, without showing it', async () => {
    cluster.tokens = new Set(['another']);
    const error = await reader.read(access, null).catch((caught: unknown) => caught as Error);
    expect(error).toMatchObject({ kind: 'unauthorized' });
    expect((error as Error).message).not.toContain('sandbox');
  });

  it('tells of a port where nothing listens', async () => {
    const nowhere = { ...access, server: 'https://127.0.0.1:1' };
    await expect(reader.read(nowhere, null)).rejects.toMatchObject({ kind: 'unreachable' });
  });

  it('trusts the authority of the kubeconfig and nobody else', async () => {
    const foreign = { ...access, certificateAuthority: base64(makeAuthority('kubernetes').certificate) };
    const worldly = { ...access, certificateAuthority: null };
    for (const each of [foreign, worldly]) {
      cluster.asked = [];
      await expect(reader.read(each, null)).rejects.toMatchObject({
        kind: 'foreign_certificate',
        message: expect.stringMatching(/certificate of https:\/\/127\.0\.0\.1/) as string,
      });
      // The token did not leave before trust was there.
      expect(cluster.asked).toEqual([]);
    }
  });

  it('checks the name in the certificate, which a kubeconfig may say', async () => {
    const named = (tlsServerName: string) => ({ ...access, tlsServerName });
    expect((await reader.read(named('localhost'), null)).namespaceUid).toBe(cluster.namespaceUid);
    await expect(reader.read(named('elsewhere.test'), null)).rejects.toMatchObject({ kind: 'foreign_certificate' });
  });

  it('opens a cluster of a cloud by the token that it is given, and by none without', async () => {
    const cloud: ClusterAccess = { ...access, credential: { kind: 'cloud', cloud: 'eks' } };
    expect((await reader.read(cloud, 'sandbox')).nodes).toHaveLength(4);
    await expect(reader.read(cloud, null)).rejects.toMatchObject({ kind: 'no_token' });
  });
});

describe("a simulated cluster's certificates", () => {
  it('are signed by its authority, for its addresses and its time', () => {
    const authority = makeAuthority('test');
    const { certificate } = authority.issue({ commonName: 'x', dnsNames: ['a.test'], ipAddresses: ['127.0.0.1'] });
    const [ours, leaf] = [new X509Certificate(authority.certificate), new X509Certificate(certificate)];
    expect(ours.ca).toBe(true);
    expect(leaf.ca).toBe(false);
    expect(leaf.verify(ours.publicKey)).toBe(true);
    expect(leaf.checkIssued(ours)).toBe(true);
    expect(leaf.checkHost('a.test')).toBe('a.test');
    expect(leaf.checkIP('127.0.0.1')).toBe('127.0.0.1');
    expect(leaf.checkHost('b.test')).toBeUndefined();
    expect(new Date(leaf.validTo).getTime()).toBeGreaterThan(Date.now());
  });
});
