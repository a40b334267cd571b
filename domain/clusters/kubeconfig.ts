/**
 * Kubeconfigs: from what a person brings to the little that is needed to reach one cluster, and back. Whatever would make us run a
 * program, read a file of ours or trust anybody is refused: a kubeconfig comes from outside, and is used by a machine that holds secrets.
 */
import type { FieldError } from '../error-table.ts';

/** How to reach a cluster and prove who we are. Secret as a whole. */
export interface ClusterAccess {
  /** https URL. */
  server: string;
  /** PEM in base64; null: the world's authorities. */
  certificateAuthority: string | null;
  tlsServerName: string | null;
  credential: ClusterCredential;
}

export type ClusterCredential =
  | { kind: 'token'; token: string }
  /** PEM in base64. */
  | { kind: 'client_certificate'; certificate: string; key: string }
  /** A short-lived token that the cloud gives: minted when it is needed. */
  | { kind: 'cloud'; cloud: 'eks' | 'aks' };

export type ParsedKubeconfig = { access: ClusterAccess; context: string } | { errors: FieldError[] };

interface Entry {
  index: number;
  fields: Record<string, unknown>;
}

/**
 * @param value the document as YAML or JSON gives it
 * @param path of it in the request, before each path of an error
 * @param allowExec a plugin is taken as "the cloud gives a token": only for what our own stacks put out
 */
export function parseKubeconfig(
  value: unknown,
  path: string,
  allowExec: 'eks' | 'aks' | null = null,
): ParsedKubeconfig {
  const errors: FieldError[] = [];
  const problem = (at: string, message: string) =>
    void errors.push({ path: at === '' ? path : `${path}.${at}`, message });
  if (!isRecord(value))
    return { errors: [{ path, message: 'is no kubeconfig: a document with clusters, users and contexts' }] };
  if (value['kind'] !== undefined && value['kind'] !== 'Config') problem('kind', 'must be Config');
  const current = value['current-context'];
  if (typeof current !== 'string' || current === '') {
    problem('current-context', 'must name the context to use');
    return { errors };
  }
  const context = findEntry(value['contexts'], current, 'context');
  if (!context) {
    problem('contexts', `has no context "${current}", which current-context names`);
    return { errors };
  }
  const cluster = findEntry(value['clusters'], textOf(context.fields['cluster']) ?? '', 'cluster');
  const user = findEntry(value['users'], textOf(context.fields['user']) ?? '', 'user');
  if (!cluster)
    problem('clusters', `has no cluster "${textOf(context.fields['cluster']) ?? ''}", which the context names`);
  if (!user) problem('users', `has no user "${textOf(context.fields['user']) ?? ''}", which the context names`);
  const target = cluster ? readCluster(cluster, problem) : null;
  const credential = user ? readUser(user, problem, allowExec) : null;
  if (errors.length > 0 || !target || !credential) return { errors };
  return { access: { ...target, credential }, context: current };
}

type Problem = (at: string, message: string) => void;

function readCluster({ index, fields }: Entry, problem: Problem): Omit<ClusterAccess, 'credential'> | null {
  const at = (name: string) => `clusters.${index}.cluster.${name}`;
  if (fields['insecure-skip-tls-verify'] === true)
    problem(
      at('insecure-skip-tls-verify'),
      'is refused: it would trust whoever answers. Bring certificate-authority-data',
    );
  if (fields['certificate-authority'] !== undefined)
    problem(
      at('certificate-authority'),
      'names a file, which we do not have: bring its content as certificate-authority-data',
    );
  if (fields['proxy-url'] !== undefined) problem(at('proxy-url'), 'is refused: clusters are reached directly');
  const server = textOf(fields['server']);
  const url = server !== null && URL.canParse(server) ? new URL(server) : null;
  if (url?.protocol !== 'https:') problem(at('server'), 'must be an https:// URL');
  else if (url.username !== '' || url.password !== '') problem(at('server'), 'must not hold a password');
  const authority = fields['certificate-authority-data'];
  if (authority !== undefined && !isPem(authority, 'CERTIFICATE'))
    problem(at('certificate-authority-data'), 'must be a PEM certificate in base64');
  const tlsServerName = fields['tls-server-name'];
  if (
    tlsServerName !== undefined &&
    (typeof tlsServerName !== 'string' || !/^[A-Za-z0-9.-]{1,253}$/.test(tlsServerName))
  )
    problem(at('tls-server-name'), 'must be a host name');
  if (!url) return null;
  return {
    server: url.href.replace(/\/$/, ''),
    certificateAuthority: textOf(authority),
    tlsServerName: textOf(tlsServerName),
  };
}

const FILES: Record<string, string> = {
  tokenFile: 'token',
  'client-certificate': 'client-certificate-data',
  'client-key': 'client-key-data',
};

function readUser(
  { index, fields }: Entry,
  problem: Problem,
  allowExec: 'eks' | 'aks' | null,
): ClusterCredential | null {
  const at = (name: string) => `users.${index}.user.${name}`;
  if (fields['exec'] !== undefined) {
    if (allowExec) return { kind: 'cloud', cloud: allowExec };
    problem(
      at('exec'),
      'is refused: a plugin is a program of yours that we would have to run. Bring a token of a service account',
    );
  }
  if (fields['auth-provider'] !== undefined)
    problem(at('auth-provider'), 'is refused: Kubernetes has removed it. Bring a token of a service account');
  for (const [name, instead] of Object.entries(FILES)) {
    if (fields[name] !== undefined)
      problem(at(name), `names a file, which we do not have: bring its content as ${instead}`);
  }
  for (const name of ['username', 'password']) {
    if (fields[name] !== undefined) problem(at(name), 'is refused: Kubernetes has removed basic authentication');
  }
  for (const name of ['as', 'as-uid', 'as-groups', 'as-user-extra']) {
    if (fields[name] !== undefined)
      problem(at(name), 'is refused: bring a user of its own instead of impersonating one');
  }
  const token = fields['token'];
  if (typeof token === 'string' && /^[\x21-\x7e]{1,16384}$/.test(token)) return { kind: 'token', token };
  if (token !== undefined) {
    problem(at('token'), 'must be a token: printable characters without spaces');
    return null;
  }
  const [certificate, key] = [fields['client-certificate-data'], fields['client-key-data']];
  if (certificate !== undefined || key !== undefined) {
    if (!isPem(certificate, 'CERTIFICATE'))
      problem(at('client-certificate-data'), 'must be a PEM certificate in base64');
    if (!isPem(key, 'PRIVATE KEY')) problem(at('client-key-data'), 'must be a PEM private key in base64');
    return { kind: 'client_certificate', certificate: String(certificate), key: String(key) };
  }
  const isRefused = ['exec', 'auth-provider', 'username', ...Object.keys(FILES)].some(
    (name) => fields[name] !== undefined,
  );
  if (!isRefused) problem(`users.${index}.user`, 'must hold a token, or client-certificate-data with client-key-data');
  return null;
}

/** A kubeconfig as JSON, which YAML readers take. @param token for access that the cloud gives */
export function formatKubeconfig(name: string, access: ClusterAccess, token: string | null): string {
  const { server, certificateAuthority, tlsServerName, credential } = access;
  return `${JSON.stringify(
    {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': name,
      clusters: [
        {
          name,
          cluster: {
            ...(certificateAuthority === null ? {} : { 'certificate-authority-data': certificateAuthority }),
            server,
            ...(tlsServerName === null ? {} : { 'tls-server-name': tlsServerName }),
          },
        },
      ],
      contexts: [{ name, context: { cluster: name, user: name } }],
      users: [{ name, user: userOf(credential, token) }],
    },
    null,
    2,
  )}\n`;
}

function userOf(credential: ClusterCredential, token: string | null): Record<string, string> {
  switch (credential.kind) {
    case 'token':
      return { token: credential.token };
    case 'client_certificate':
      return { 'client-certificate-data': credential.certificate, 'client-key-data': credential.key };
    case 'cloud':
      return token === null ? {} : { token };
  }
}

/** The entry of that name in a list of `{name, <kind>: {…}}`. */
function findEntry(list: unknown, name: string, kind: string): Entry | null {
  if (!Array.isArray(list)) return null;
  const index = list.findIndex((entry) => isRecord(entry) && entry['name'] === name);
  const fields = index < 0 ? null : (list[index] as Record<string, unknown>)[kind];
  return isRecord(fields) ? { index, fields } : null;
}

function isPem(value: unknown, label: string): boolean {
  if (typeof value !== 'string' || !/^[A-Za-z0-9+/=\s]{1,200000}$/.test(value)) return false;
  const text = Buffer.from(value, 'base64').toString('latin1');
  return new RegExp(`-----BEGIN [A-Z ]*${label}-----`).test(text);
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
