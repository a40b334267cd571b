import { describe, expect, it } from 'vitest';
import { formatKubeconfig, parseKubeconfig, type ClusterAccess } from '../../../domain/clusters/kubeconfig.ts';

const pem = (label: string) =>
  Buffer.from(`-----BEGIN ${label}-----\nAAAA\n-----END ${label}-----\n`).toString('base64');
const CA = pem('CERTIFICATE');

function make(cluster: object = {}, user: object = { token: 'abc' }): Record<string, unknown> {
  return {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'c',
    clusters: [{ name: 'k', cluster: { server: 'https://k.test:6443', 'certificate-authority-data': CA, ...cluster } }],
    contexts: [
      { name: 'other', context: { cluster: 'gone', user: 'gone' } },
      { name: 'c', context: { cluster: 'k', user: 'u' } },
    ],
    users: [{ name: 'u', user }],
  };
}

describe('a kubeconfig', () => {
  it('is taken down to what reaches the cluster of its current context', () => {
    expect(parseKubeconfig(make({ server: 'https://k.test:6443/' }), 'kubeconfig')).toEqual({
      context: 'c',
      access: {
        server: 'https://k.test:6443',
        certificateAuthority: CA,
        tlsServerName: null,
        credential: { kind: 'token', token: 'abc' },
      },
    });
  });

  it('may prove us by a certificate, whatever kind of key', () => {
    const user = { 'client-certificate-data': CA, 'client-key-data': pem('EC PRIVATE KEY') };
    expect(parseKubeconfig(make({}, user), 'kubeconfig')).toMatchObject({
      access: { credential: { kind: 'client_certificate', certificate: CA } },
    });
  });

  it.each([
    ['an exec plugin', make({}, { exec: { command: 'aws' } }), 'kubeconfig.users.0.user.exec', /program/],
    [
      'an auth provider',
      make({}, { 'auth-provider': { name: 'gcp' } }),
      'kubeconfig.users.0.user.auth-provider',
      /removed/,
    ],
    [
      'trust in anybody',
      make({ 'insecure-skip-tls-verify': true }),
      'kubeconfig.clusters.0.cluster.insecure-skip-tls-verify',
      /whoever/,
    ],
    [
      'a CA file',
      make({ 'certificate-authority': '/etc/ca' }),
      'kubeconfig.clusters.0.cluster.certificate-authority',
      /file/,
    ],
    ['a token file', make({}, { tokenFile: '/run/token' }), 'kubeconfig.users.0.user.tokenFile', /file/],
    [
      'a certificate file',
      make({}, { 'client-certificate': 'a', 'client-key': 'b' }),
      'kubeconfig.users.0.user.client-key',
      /file/,
    ],
    ['plain http', make({ server: 'http://k.test' }), 'kubeconfig.clusters.0.cluster.server', /https/],
    ['a proxy', make({ 'proxy-url': 'http://p' }), 'kubeconfig.clusters.0.cluster.proxy-url', /directly/],
    [
      'no certificate for its CA',
      make({ 'certificate-authority-data': 'AAAA' }),
      'kubeconfig.clusters.0.cluster.certificate-authority-data',
      /PEM/,
    ],
    ['a password', make({}, { username: 'a', password: 'b' }), 'kubeconfig.users.0.user.password', /removed/],
    ['impersonation', make({}, { token: 'abc', as: 'admin' }), 'kubeconfig.users.0.user.as', /impersonating/],
    ['nobody', make({}, {}), 'kubeconfig.users.0.user', /token/],
    ['a context that is not there', { ...make(), 'current-context': 'x' }, 'kubeconfig.contexts', /"x"/],
    ['a cluster that is not there', { ...make(), 'current-context': 'other' }, 'kubeconfig.clusters', /"gone"/],
    ['no context', { ...make(), 'current-context': '' }, 'kubeconfig.current-context', /name/],
    ['something else', 'hello', 'kubeconfig', /no kubeconfig/],
  ])('with %s is refused, naming the field', (_name, value, path, message) => {
    const parsed = parseKubeconfig(value, 'kubeconfig');
    expect('errors' in parsed && parsed.errors.find((error) => error.path === path)?.message).toMatch(message);
  });

  it('is refused with all that is wrong at once, and says nothing secret', () => {
    const value = make(
      { 'insecure-skip-tls-verify': true, server: 'http://u:hunter2@x' },
      { token: 'hunter2 hunter2' },
    );
    const parsed = parseKubeconfig(value, 'kubeconfig');
    expect('errors' in parsed && parsed.errors).toHaveLength(3);
    expect(JSON.stringify(parsed)).not.toContain('hunter2');
  });

  it('of a stack of ours stands for a token of its cloud', () => {
    const parsed = parseKubeconfig(make({}, { exec: { command: 'aws' } }), 'kubeconfig', 'eks');
    expect(parsed).toMatchObject({ access: { credential: { kind: 'cloud', cloud: 'eks' } } });
  });

  it('comes back as one that is taken again', () => {
    const { access } = parseKubeconfig(make(), 'kubeconfig') as { access: ClusterAccess };
    expect(parseKubeconfig(JSON.parse(formatKubeconfig('c', access, null)), 'kubeconfig')).toEqual({
      access,
      context: 'c',
    });
    const cloud: ClusterAccess = { ...access, credential: { kind: 'cloud', cloud: 'aks' } };
    expect(JSON.parse(formatKubeconfig('c', cloud, 'short-lived')).users[0].user).toEqual({ token: 'short-lived' });
  });
});
