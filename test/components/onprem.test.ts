import { beforeEach, describe, expect, it } from 'vitest';
import { OnPremCluster, type OnPremClusterArgs } from '../../components/onprem-cluster.ts';
import { OnPremHost, type OnPremHostArgs } from '../../components/onprem-host.ts';
import { isSecretOutput, mockEngine, valueOf, type MockEngine } from '../support/mock-engine.ts';

const TAGS = { owner: 'Platform Team', deployment: 'sandbox', costCentre: 'cc-1' };
const HOST = 'pulumi-nodejs:dynamic/ssh-host:Host';
const K3S = 'pulumi-nodejs:dynamic/k3s:Node';
const ACCESS = { hostKeySha256: `SHA256:${'A'.repeat(43)}`, credentialRef: 'dc-key' };
const ARTEFACT = { artefactUrl: 'https://a.example/k3s', artefactSha256: 'a'.repeat(64) };

let engine: MockEngine;
beforeEach(async () => {
  engine = await mockEngine();
});

async function makeHost(args: Partial<OnPremHostArgs> = {}): Promise<OnPremHost> {
  const host = new OnPremHost('box', { tags: TAGS, address: '10.0.0.5', ...ACCESS, ...args });
  await engine.settle();
  return host;
}

async function makeCluster(args: Partial<OnPremClusterArgs>): Promise<OnPremCluster> {
  const cluster = new OnPremCluster('lab', { tags: TAGS, ...args });
  await engine.settle();
  return cluster;
}

describe('a host of our own', () => {
  it('is one resource that the control plane knows by its name, with the tags among its labels', async () => {
    await makeHost();
    const made = engine.find(HOST);
    expect(made).toMatchObject({ host: 'box', address: '10.0.0.5', ...ACCESS });
    expect(made['labels']).toEqual({
      'muster-owner': 'Platform Team',
      'muster-deployment': 'sandbox',
      'muster-cost-centre': 'cc-1',
      'muster-stack': 'box',
    });
    expect(made['__provider']).toContain("dynamicCrud('ssh_host')");
  });

  it.each([
    ['port', 2222],
    ['user', 'ops'],
    ['agent', false],
    ['agentDir', '/srv/muster/agent'],
    ['nodePath', '/opt/node/bin/node'],
  ])('passes %s on', async (name, value) => {
    await makeHost({ [name]: value });
    expect(engine.find(HOST)).toMatchObject({ [name]: value });
  });

  it('keeps labels of its own beside the tags', async () => {
    await makeHost({ labels: { rack: 'b4' } });
    expect(engine.find(HOST)['labels']).toMatchObject({ rack: 'b4', 'muster-owner': 'Platform Team' });
  });
});

describe('a cluster of our own', () => {
  const hosts = [
    { name: 'cp', address: '10.0.0.1', ...ACCESS },
    { name: 'w1', address: '10.0.0.2', port: 2222, user: 'ops', labels: { gpu: 'yes' }, ...ACCESS },
  ];

  it('of k3s is a server on the first host and agents on the others, which join by its token', async () => {
    const cluster = await makeCluster({ hosts, k3s: ARTEFACT });
    expect(engine.list(HOST).map(({ name }) => name)).toEqual(['lab-cp', 'lab-w1']);
    expect(engine.find(K3S, 'lab-cp')).toMatchObject({ role: 'server', address: '10.0.0.1', ...ARTEFACT });
    expect(engine.find(K3S, 'lab-w1')).toMatchObject({
      role: 'agent',
      port: 2222,
      user: 'ops',
      nodeLabels: { gpu: 'yes' },
      serverUrl: 'https://10.0.0.1:6443',
      token: 'K10::server:token',
    });
    expect(await isSecretOutput(cluster.kubeconfig)).toBe(true);
    expect(await valueOf(cluster.apiUrl as never)).toBe('https://10.0.0.1:6443');
  });

  it('takes port and places of k3s', async () => {
    await makeCluster({
      hosts: hosts.slice(0, 1),
      k3s: { ...ARTEFACT, apiPort: 7443, installDir: '/srv/k3s/bin', dataDir: '/srv/k3s/data' },
    });
    expect(engine.find(K3S)).toMatchObject({ apiPort: 7443, installDir: '/srv/k3s/bin', dataDir: '/srv/k3s/data' });
  });

  it('carries no agent of ours where none is wanted', async () => {
    await makeCluster({ hosts, k3s: ARTEFACT, agent: false });
    expect(engine.list(HOST).map(({ inputs }) => inputs['agent'])).toEqual([false, false]);
  });

  it('that exists already is taken by its kubeconfig, and nothing is installed', async () => {
    const cluster = await makeCluster({ kubeconfig: 'the-kubeconfig' });
    expect(engine.list(K3S)).toEqual([]);
    expect(await valueOf(cluster.kubeconfig)).toBe('the-kubeconfig');
    expect(await isSecretOutput(cluster.kubeconfig)).toBe(true);
    expect(cluster.apiUrl).toBeNull();
  });

  it('is one or the other', async () => {
    await expect(makeCluster({})).rejects.toThrow('exactly one of k3s and kubeconfig');
    await expect(makeCluster({ k3s: ARTEFACT, kubeconfig: 'x', hosts })).rejects.toThrow('exactly one of');
    await expect(makeCluster({ k3s: ARTEFACT })).rejects.toThrow('k3s needs at least one host');
  });
});
