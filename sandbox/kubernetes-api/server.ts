/**
 * A simulated Kubernetes API, over real HTTPS with an authority of its own: what a control plane that looks at clusters asks. Any number of
 * clusters live on one port, each below its path. It schedules nothing and keeps no history.
 */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { makeAuthority, type Authority } from './certificates.ts';
import type { SimulatedNode } from './nodes.ts';
import { makeServiceAccountToken, reviewToken, type PodIdentity, type TokenReview } from './token-review.ts';

export interface SimulatedCluster {
  gitVersion: string;
  apiGroups: string[];
  /** Of kube-system. */
  namespaceUid: string;
  nodes: SimulatedNode[];
  storageClasses: { metadata: { name: string; annotations?: Record<string, string> }; provisioner: string }[];
  warnings: { reason: string; message: string; object: string; count: number; lastTimestamp: string }[];
  /** Who may come. */
  tokens: Set<string>;
  /** `verb resource`, such as "list nodes": what the user may not. */
  denied: Set<string>;
  fault: ClusterFault | null;
  /** Paths that were asked for, in order. */
  asked: string[];
}

export type ClusterFault =
  /** Connections are cut. */
  | { kind: 'down' }
  | { kind: 'slow'; ms: number }
  | { kind: 'status'; status: number }
  /** Something else answers. */
  | { kind: 'web_page' };

export interface KubernetesApi {
  readonly port: number;
  /** Whose certificate it shows. */
  authority(): Authority;
  /** From the next connection on. */
  useAuthority(authority: Authority): void;
  /** By name. Add and change freely. */
  readonly clusters: Map<string, SimulatedCluster>;
  urlOf(name: string): string;
  /** Of the map, or of a cloud. */
  find(name: string): SimulatedCluster | undefined;
  /** JSON of a kubeconfig that opens it. */
  kubeconfigOf(name: string, token?: string): string;
  /** As the kubelet projects it into a Pod of that cluster. */
  issueToken(name: string, pod: PodIdentity): string;
  /** The Pod is deleted: its tokens are worth nothing from now on. */
  endPod(name: string, podName: string): void;
  stop(): Promise<void>;
}

export interface KubernetesApiOptions {
  /** @default a free one */
  port?: number;
  /** @default its own */
  authority?: Authority;
  /** A cluster that is asked for and not in the map. @default none */
  find?: (name: string) => SimulatedCluster | undefined;
}

export const SANDBOX_TOKEN = 'sandbox';

export async function startKubernetesApi(options: KubernetesApiOptions = {}): Promise<KubernetesApi> {
  let authority = options.authority ?? makeAuthority();
  const clusters = new Map<string, SimulatedCluster>();
  const issued: IssuedTokens = new Map();
  const server: Server = createServer(certify(authority), (request, response) => {
    answer({ clusters, find: options.find, issued }, request, response).catch(() => response.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port ?? 0, '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  const urlOf = (name: string) => `https://127.0.0.1:${port}/clusters/${encodeURIComponent(name)}`;
  return {
    port,
    authority: () => authority,
    useAuthority(next) {
      authority = next;
      server.setSecureContext(certify(next));
    },
    clusters,
    find: (name) => clusters.get(name) ?? options.find?.(name),
    urlOf,
    kubeconfigOf: (name, token = SANDBOX_TOKEN) => makeKubeconfig(name, urlOf(name), authority.certificate, token),
    issueToken(name, pod) {
      const token = makeServiceAccountToken(pod);
      const tokens = issued.get(name) ?? new Map<string, PodIdentity>();
      issued.set(name, tokens.set(token, pod));
      return token;
    },
    endPod(name, podName) {
      for (const [token, pod] of issued.get(name) ?? []) if (pod.podName === podName) issued.get(name)?.delete(token);
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function certify(authority: Authority): { cert: string; key: string } {
  const { certificate, key } = authority.issue({
    commonName: 'kube-apiserver',
    dnsNames: ['localhost', 'kubernetes.default.svc'],
    ipAddresses: ['127.0.0.1'],
  });
  return { cert: certificate, key };
}

export function makeCluster(change: Partial<SimulatedCluster> = {}): SimulatedCluster {
  return {
    gitVersion: 'v1.34.1',
    apiGroups: ['apps', 'storage.k8s.io', 'authorization.k8s.io'],
    namespaceUid: randomUUID(),
    nodes: [],
    storageClasses: [
      {
        metadata: { name: 'gp3', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
        provisioner: 'ebs.csi.aws.com',
      },
    ],
    warnings: [],
    tokens: new Set([SANDBOX_TOKEN]),
    denied: new Set(),
    fault: null,
    asked: [],
    ...change,
  };
}

function makeKubeconfig(name: string, server: string, authority: string, token: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': name,
    clusters: [{ name, cluster: { server, 'certificate-authority-data': Buffer.from(authority).toString('base64') } }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    users: [{ name, user: { token } }],
  });
}

/** By cluster and token. */
type IssuedTokens = Map<string, Map<string, PodIdentity>>;

interface World {
  clusters: Map<string, SimulatedCluster>;
  find: KubernetesApiOptions['find'];
  issued: IssuedTokens;
}

async function answer(
  { clusters, find, issued }: World,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? '/', 'https://cluster');
  const [, encodedName = '', path = '/'] = /^\/clusters\/([^/]+)(\/.*)?$/.exec(url.pathname) ?? [];
  const name = decodeURIComponent(encodedName);
  const cluster = clusters.get(name) ?? find?.(name);
  if (!cluster) return send(response, 404, statusOf(404, 'NotFound', 'there is no such cluster'));
  cluster.asked.push(`${request.method ?? ''} ${path}`);
  const { fault } = cluster;
  if (fault?.kind === 'down') return void response.destroy();
  if (fault?.kind === 'slow') await pause(fault.ms);
  if (fault?.kind === 'status') return send(response, fault.status, statusOf(fault.status, 'Fault', 'as told'));
  if (fault?.kind === 'web_page') {
    response.writeHead(200, { 'content-type': 'text/html' }).end('<html>hello</html>');
    return;
  }
  const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1];
  if (token === undefined || !cluster.tokens.has(token))
    return send(response, 401, statusOf(401, 'Unauthorized', 'Unauthorized'));
  const reply = await route(cluster, issued.get(name) ?? new Map(), request, path, url.searchParams);
  send(response, reply.status, reply.body);
}

interface Answer {
  status: number;
  body: unknown;
}

async function route(
  cluster: SimulatedCluster,
  tokens: ReadonlyMap<string, PodIdentity>,
  request: IncomingMessage,
  path: string,
  query: URLSearchParams,
): Promise<Answer> {
  if (request.method === 'POST') {
    if (path === '/apis/authentication.k8s.io/v1/tokenreviews') {
      const asked = JSON.parse(await readBody(request)) as TokenReview;
      return allowed(cluster, 'create tokenreviews') ?? { status: 201, body: reviewToken(tokens, asked) };
    }
    if (path !== '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews') return notFound(path);
    return review(cluster, JSON.parse(await readBody(request)) as AccessReview);
  }
  switch (path) {
    case '/version':
    case '/version/':
      return ok({ major: '1', minor: '34', gitVersion: cluster.gitVersion, platform: 'linux/amd64' });
    case '/apis':
    case '/apis/':
      return ok({ kind: 'APIGroupList', apiVersion: 'v1', groups: cluster.apiGroups.map(describeGroup) });
    case '/api/v1/nodes':
      return allowed(cluster, 'list nodes') ?? listed('NodeList', 'v1', cluster.nodes, query);
    case '/api/v1/namespaces/kube-system':
      return (
        allowed(cluster, 'get namespaces') ??
        ok({ kind: 'Namespace', apiVersion: 'v1', metadata: { name: 'kube-system', uid: cluster.namespaceUid } })
      );
    case '/apis/storage.k8s.io/v1/storageclasses':
      return (
        allowed(cluster, 'list storageclasses') ??
        listed('StorageClassList', 'storage.k8s.io/v1', cluster.storageClasses, query)
      );
    case '/api/v1/events':
      return allowed(cluster, 'list events') ?? listed('EventList', 'v1', cluster.warnings.map(describeWarning), query);
    default:
      return notFound(path);
  }
}

interface AccessReview {
  spec?: { resourceAttributes?: { verb?: string; resource?: string } };
}

function review(cluster: SimulatedCluster, { spec }: AccessReview): Answer {
  const { verb = '', resource = '' } = spec?.resourceAttributes ?? {};
  const isAllowed = !cluster.denied.has(`${verb} ${resource}`);
  return {
    status: 201,
    body: {
      kind: 'SelfSubjectAccessReview',
      apiVersion: 'authorization.k8s.io/v1',
      metadata: {},
      spec,
      status: { allowed: isAllowed, ...(isAllowed ? {} : { reason: 'no RBAC policy matched' }) },
    },
  };
}

/** With `limit` and `continue`, as Kubernetes pages. */
function listed(kind: string, apiVersion: string, items: unknown[], query: URLSearchParams): Answer {
  const from = Number(query.get('continue') ?? 0);
  const limit = Number(query.get('limit') ?? 0) || items.length;
  const to = from + limit;
  const metadata = { resourceVersion: '1', ...(to < items.length ? { continue: String(to) } : {}) };
  return ok({ kind, apiVersion, metadata, items: items.slice(from, to) });
}

function allowed(cluster: SimulatedCluster, what: string): Answer | null {
  if (!cluster.denied.has(what)) return null;
  return { status: 403, body: statusOf(403, 'Forbidden', `User "sandbox" cannot ${what}`) };
}

function ok(body: unknown): Answer {
  return { status: 200, body };
}

function notFound(path: string): Answer {
  return { status: 404, body: statusOf(404, 'NotFound', `the server could not find ${path}`) };
}

function statusOf(code: number, reason: string, message: string) {
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code };
}

function describeGroup(name: string) {
  const version = { groupVersion: `${name}/v1`, version: 'v1' };
  return { name, versions: [version], preferredVersion: version };
}

function describeWarning(warning: SimulatedCluster['warnings'][number], index: number) {
  return {
    metadata: { name: `${warning.object}.${index}`, namespace: 'default' },
    involvedObject: { kind: 'Pod', name: warning.object, namespace: 'default' },
    type: 'Warning',
    reason: warning.reason,
    message: warning.message,
    count: warning.count,
    lastTimestamp: warning.lastTimestamp,
  };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
