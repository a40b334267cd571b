/** The properties of one k3s server or agent on a host of ours: inputs, outputs, their check and their diff. Pure. */
import { createHash } from 'node:crypto';
import { HOST_DIRECTORY_PATTERN, HOST_DIRECTORY_RULE } from '../../domain/on-prem-host.ts';
import { UNKNOWN_VALUE, type DiffResult, type Properties } from '../dynamic-crud.ts';
import {
  ACCESS_DEFAULTS,
  ACCESS_RULES,
  checkBy,
  differing,
  diffOf,
  readBy,
  type HostAccess,
  type HostRule,
} from '../ssh-host/properties.ts';
import { renderConfig, type K3sState } from './wire.ts';

export interface K3sInputs extends HostAccess {
  role: 'server' | 'agent';
  /** `https://…`, or `file:///…` on the host itself. */
  artefactUrl: string;
  artefactSha256: string;
  /** Of an agent: the server that it joins, and the server's token (secret). */
  serverUrl: string | null;
  token: string | null;
  apiPort: number;
  nodeLabels: Record<string, string>;
  installDir: string;
  dataDir: string;
}

export interface K3sOutputs extends K3sInputs {
  state: K3sState;
  binarySha256: string | null;
  configSha256: string | null;
  url: string;
  /** Of a server. Secret. */
  nodeToken: string | null;
  kubeconfig: string | null;
}

export const K3S_SECRET_OUTPUTS = ['token', 'nodeToken', 'kubeconfig'] as const;

const isDirectory = (value: unknown): boolean => typeof value === 'string' && HOST_DIRECTORY_PATTERN.test(value);
const RULES: HostRule[] = [
  ...ACCESS_RULES,
  ['role', (value) => value === 'server' || value === 'agent', 'must be server or agent'],
  [
    'artefactUrl',
    (value) => typeof value === 'string' && /^(https?:\/\/[^\s']+|file:\/\/\/[^\s']+)$/.test(value),
    'must be the address of a k3s binary: https://… or file:///… on the host',
  ],
  [
    'artefactSha256',
    (value) => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value),
    'must be its SHA-256, 64 hexadecimal digits',
  ],
  [
    'apiPort',
    (value) => Number.isInteger(value) && (value as number) > 0 && (value as number) < 65_536,
    'must be a port',
  ],
  ['installDir', isDirectory, HOST_DIRECTORY_RULE],
  ['dataDir', isDirectory, HOST_DIRECTORY_RULE],
];

const DEFAULTS = {
  ...ACCESS_DEFAULTS,
  serverUrl: null,
  token: null,
  apiPort: 6443,
  nodeLabels: {},
  installDir: '/opt/muster-k3s',
  dataDir: '/var/lib/rancher/k3s',
};

export function checkK3s(news: Properties): ReturnType<typeof checkBy> {
  const checked = checkBy(RULES, DEFAULTS, news);
  for (const property of ['serverUrl', 'token'] as const) {
    if (checked.inputs.role === 'agent' && checked.inputs[property] === null)
      checked.failures.push({ property, reason: 'must be given for an agent' });
  }
  return checked;
}

/** What is wanted, with what was known before; adopted state holds inputs only. */
export function k3sOutputs(properties: Properties, known: Properties = {}): K3sOutputs {
  const { __provider: _text, ...all } = readBy<K3sInputs & Properties>(checkK3s, properties);
  const before = known as Partial<K3sOutputs>;
  return {
    ...(all as K3sInputs),
    state: before.state ?? 'missing',
    binarySha256: before.binarySha256 ?? null,
    configSha256: before.configSha256 ?? null,
    nodeToken: before.nodeToken ?? null,
    kubeconfig: before.kubeconfig ?? null,
    url: urlOf(all),
  };
}

export function configOf(inputs: K3sInputs): string {
  const { role, host, address, apiPort, dataDir, installDir, nodeLabels, serverUrl, token } = inputs;
  const labels = Object.entries(nodeLabels)
    .map(([key, value]) => `${key}=${value}`)
    .sort();
  const shared = { 'data-dir': dataDir, 'node-name': host, ...(labels.length === 0 ? {} : { 'node-label': labels }) };
  if (role === 'agent') return renderConfig({ ...shared, server: serverUrl ?? '', token: token ?? '' });
  return renderConfig({
    ...shared,
    'https-listen-port': apiPort,
    'tls-san': [address],
    'write-kubeconfig': `${installDir}/kubeconfig.yaml`,
    'write-kubeconfig-mode': '0600',
  });
}

/** As the host's own digest of its configuration file. */
export function configDigest(inputs: K3sInputs): string {
  return createHash('sha256').update(configOf(inputs)).digest('hex');
}

const REPLACING = ['address', 'port', 'host', 'role', 'installDir', 'dataDir'] as const;
const CHANGING = [
  'user',
  'hostKeySha256',
  'credentialRef',
  'artefactUrl',
  'artefactSha256',
  'serverUrl',
  'token',
  'apiPort',
  'nodeLabels',
] as const;

/** What an outside hand did to binary, configuration or process is a change too. */
export function diffK3s(olds: Properties, news: Properties): DiffResult {
  const { inputs } = checkK3s(news);
  const wanted = inputs as unknown as K3sInputs;
  const known = olds as Partial<K3sOutputs>;
  const updates = differing(olds, inputs, CHANGING);
  if (known.state !== undefined && known.state !== 'running') updates.push('state');
  if (known.binarySha256 != null && known.binarySha256 !== wanted.artefactSha256 && !updates.includes('artefactSha256'))
    updates.push('binarySha256');
  const isKnown = !Object.values(inputs).includes(UNKNOWN_VALUE);
  if (isKnown && known.configSha256 != null && known.configSha256 !== configDigest(wanted))
    updates.push('configSha256');
  return diffOf(differing(olds, inputs, REPLACING), updates);
}

/** k3s writes the loopback address into its kubeconfig. */
export function reachableKubeconfig(kubeconfig: string, outputs: Pick<K3sOutputs, 'address' | 'apiPort'>): string {
  return kubeconfig.replace(/server: https:\/\/(127\.0\.0\.1|\[::1\]|localhost):\d+/g, `server: ${urlOf(outputs)}`);
}

function urlOf({ address, apiPort }: Pick<K3sInputs, 'address' | 'apiPort'>): string {
  return `https://${address.includes(':') ? `[${address}]` : address}:${apiPort}`;
}
