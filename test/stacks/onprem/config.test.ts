import { describe, expect, it } from 'vitest';
import { nameOfHost, onpremConfigSchema } from '../../../stacks/onprem/config.ts';
import { stackArgsFromConfig } from '../../../stacks/stack-args.ts';
import { problemsOf } from '../../support/config-problems.ts';
import { readExample } from '../../support/example-config.ts';

const HOST = { address: '10.0.0.1', hostKeySha256: `SHA256:${'A'.repeat(43)}` };
const K3S = { artefactUrl: 'https://a.example/k3s', artefactSha256: 'a'.repeat(64) };
const MINIMAL = { hosts: [HOST], credentialRef: 'dc-key', k3s: K3S };
const problems = (config: object) => problemsOf(onpremConfigSchema, { ...MINIMAL, ...config });

describe('the configuration of the onprem stack', () => {
  it('is the example', () => {
    const { kind, ...values } = readExample('onprem');
    expect(kind).toBe('onprem');
    const { config } = stackArgsFromConfig('onprem', onpremConfigSchema, values, 'lab');
    expect(config.hosts.map(({ name, port, user }) => [name, port, user])).toEqual([
      ['cp-1', 22, 'root'],
      ['gpu-1', 22, 'root'],
    ]);
    expect(config.k3s).toMatchObject({ apiPort: 6443 });
  });

  it('describes each field with its default or that there is none', () => {
    for (const [name, field] of Object.entries(onpremConfigSchema.shape))
      expect(`${name}: ${(field as { description?: string }).description}`).toMatch(/default/i);
  });

  it('is k3s on hosts or a kubeconfig', () => {
    expect(problems({})).toEqual([]);
    expect(problems({ kubeconfig: 'x' })).toEqual(['k3s: give exactly one of k3s and kubeconfig']);
    expect(problems({ k3s: undefined })).toEqual(['k3s: give exactly one of k3s and kubeconfig']);
    expect(problems({ hosts: [] })).toEqual(['hosts: k3s needs at least one host']);
    expect(problems({ k3s: undefined, hosts: [], kubeconfig: 'x', openshift: true })).toEqual([]);
    expect(problems({ openshift: true })).toEqual(['openshift: k3s is no OpenShift']);
  });

  it('wants each host once, with a key to it and the fingerprint of its own', () => {
    expect(problems({ hosts: [HOST, HOST] })).toEqual([
      'hosts.1.name: is the name of another host too',
      'hosts.1.address: is there twice',
    ]);
    expect(problems({ credentialRef: undefined })).toEqual([
      'hosts.0.credentialRef: is needed where the cluster names none',
    ]);
    expect(problems({ hosts: [{ ...HOST, hostKeySha256: 'ab:cd' }] })).toEqual([
      expect.stringMatching(/^hosts\.0\.hostKeySha256: must be the fingerprint/),
    ]);
    expect(problems({ hosts: [{ ...HOST, agentDir: '/etc' }] })).toEqual([
      expect.stringMatching(/^hosts\.0\.agentDir: must be an absolute path at least two levels deep/),
    ]);
    expect(problems({ k3s: { ...K3S, artefactSha256: 'short' } })).toHaveLength(1);
    expect(problems({ k3s: { ...K3S, artefactUrl: 'ftp://x' } })).toHaveLength(1);
  });

  it('names a host by its address, wherever it stands in the list', () => {
    expect(nameOfHost({ name: undefined, address: '10.0.0.1', port: 22 })).toBe('10-0-0-1');
    expect(nameOfHost({ name: undefined, address: 'GPU.example.net', port: 2222 })).toBe('gpu-example-net-2222');
    expect(nameOfHost({ name: 'cp', address: 'x', port: 22 })).toBe('cp');
  });
});
