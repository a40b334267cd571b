/**
 * Reads clusters through Kubernetes' own client. It judges and records nothing. The client costs 76 MB and half a second, so it is
 * loaded by the first cluster that is read.
 */
import type { CoreV1Event, V1Node, V1StorageClass } from '@kubernetes/client-node';
import { AGENT_AUDIENCE, type ReviewedProof } from '../../domain/clusters/enrolment.ts';
import type { ClusterAccess } from '../../domain/clusters/kubeconfig.ts';
import type { KubernetesNode } from '../../domain/clusters/node-facts.ts';
import type { StorageClassFacts, WarningFacts } from '../../db/clusters.ts';
import { ClusterTrouble, troubleOf } from './cluster-trouble.ts';

/** What one look reads. */
export interface ClusterReading {
  gitVersion: string;
  apiGroups: string[];
  openshiftVersion: string | null;
  namespaceUid: string | null;
  nodes: KubernetesNode[];
  storageClasses: StorageClassFacts[];
  /** Newest first. */
  warnings: WarningFacts[];
}

export interface NeededRight {
  verb: string;
  group: string;
  resource: string;
  name?: string;
  /** Without it a cluster is not taken; without the others less is shown of it. */
  isRequired: boolean;
}

/** What we do with a cluster is to look at it, and to ask it who its agents are. */
export const NEEDED_RIGHTS: readonly NeededRight[] = [
  { verb: 'list', group: '', resource: 'nodes', isRequired: true },
  { verb: 'get', group: '', resource: 'namespaces', name: 'kube-system', isRequired: true },
  { verb: 'list', group: '', resource: 'events', isRequired: false },
  { verb: 'list', group: 'storage.k8s.io', resource: 'storageclasses', isRequired: false },
  // By which agents of its nodes prove where they are.
  { verb: 'create', group: 'authentication.k8s.io', resource: 'tokenreviews', isRequired: false },
];

export interface KubernetesReader {
  /** @param token for access that its cloud opens. Throws ClusterTrouble. */
  read(access: ClusterAccess, token: string | null): Promise<ClusterReading>;
  /** Those of {@link NEEDED_RIGHTS} that we have not. Throws ClusterTrouble. */
  missingRights(access: ClusterAccess, token: string | null): Promise<NeededRight[]>;
  /** What the cluster says of a service account token that somebody has shown us. Throws ClusterTrouble. */
  reviewProof(access: ClusterAccess, token: string | null, proof: string): Promise<ReviewedProof>;
}

/** Of everything that one look or review asks. */
const TIMEOUT_MS = 15_000;
const PAGE = 500;
/** Kubernetes itself is tested up to this. */
export const MAX_NODES = 5_000;
const MAX_WARNINGS = 100;

export function createKubernetesReader(timeoutMs = TIMEOUT_MS): KubernetesReader {
  return {
    read: (access, token) => guarded(access, () => readCluster(access, token, timeoutMs)),
    missingRights: (access, token) => guarded(access, () => reviewRights(access, token, timeoutMs)),
    reviewProof: (access, token, proof) => guarded(access, () => reviewProof(access, token, proof, timeoutMs)),
  };
}

async function guarded<T>(access: ClusterAccess, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    throw troubleOf(error, access.server);
  }
}

async function readCluster(access: ClusterAccess, token: string | null, timeoutMs: number): Promise<ClusterReading> {
  const apis = await openApis(access, token, timeoutMs);
  const version = await apis.version.getCode();
  if (typeof version.gitVersion !== 'string')
    throw new ClusterTrouble('no_kubernetes', `${access.server} does not answer as Kubernetes does`);
  const [nodes, groups, namespace, storage, events] = await Promise.all([
    listNodes(apis),
    apis.groups.getAPIVersions(),
    optional(apis.core.readNamespace({ name: 'kube-system' })),
    optional(apis.storage.listStorageClass({ limit: PAGE })),
    optional(apis.core.listEventForAllNamespaces({ fieldSelector: 'type=Warning', limit: PAGE })),
  ]);
  const apiGroups = groups.groups.map((group) => group.name);
  return {
    gitVersion: version.gitVersion,
    apiGroups,
    openshiftVersion: apiGroups.includes('config.openshift.io') ? await readOpenshift(apis) : null,
    namespaceUid: namespace?.metadata?.uid ?? null,
    nodes,
    storageClasses: (storage?.items ?? []).map(storageFacts),
    warnings: (events?.items ?? [])
      .map(warningFacts)
      .sort((a, b) => ((a.lastSeenAt ?? '') < (b.lastSeenAt ?? '') ? 1 : -1))
      .slice(0, MAX_WARNINGS),
  };
}

async function reviewRights(access: ClusterAccess, token: string | null, timeoutMs: number): Promise<NeededRight[]> {
  const apis = await openApis(access, token, timeoutMs);
  const isAllowed = await Promise.all(
    NEEDED_RIGHTS.map(async ({ verb, group, resource, name }) => {
      const review = await apis.authorization.createSelfSubjectAccessReview({
        body: { spec: { resourceAttributes: { verb, group, resource, ...(name === undefined ? {} : { name }) } } },
      });
      return review.status?.allowed === true;
    }),
  );
  return NEEDED_RIGHTS.filter((_right, index) => isAllowed[index] !== true);
}

const TOLD_BY = 'authentication.kubernetes.io/';

async function reviewProof(
  access: ClusterAccess,
  token: string | null,
  proof: string,
  timeoutMs: number,
): Promise<ReviewedProof> {
  const { authentication } = await openApis(access, token, timeoutMs);
  const { status } = await authentication.createTokenReview({
    body: { spec: { token: proof, audiences: [AGENT_AUDIENCE] } },
  });
  const extra = (status?.user?.extra ?? {}) as Record<string, string[]>;
  return {
    isAuthenticated: status?.authenticated === true,
    audiences: status?.audiences ?? [],
    username: status?.user?.username ?? null,
    nodeName: extra[`${TOLD_BY}node-name`]?.[0] ?? null,
    nodeUid: extra[`${TOLD_BY}node-uid`]?.[0] ?? null,
  };
}

type Apis = Awaited<ReturnType<typeof openApis>>;

async function openApis(access: ClusterAccess, token: string | null, timeoutMs: number) {
  const kubernetes = await import('@kubernetes/client-node');
  // From here on: loading the client is no fault of the cluster's.
  const signal = AbortSignal.timeout(timeoutMs);
  const config = new kubernetes.KubeConfig();
  const { server, certificateAuthority, tlsServerName } = access;
  config.loadFromClusterAndUser(
    {
      name: 'cluster',
      server,
      skipTLSVerify: false,
      ...(certificateAuthority === null ? {} : { caData: certificateAuthority }),
      ...(tlsServerName === null ? {} : { tlsServerName }),
    },
    { name: 'user', ...userOf(access, token) },
  );
  const settings = kubernetes.createConfiguration({
    baseServer: new kubernetes.ServerConfiguration(server, {}),
    authMethods: { default: config },
    promiseMiddleware: [
      {
        pre: (request) => {
          request.setSignal(signal);
          request.setHeaderParam('User-Agent', 'muster');
          return Promise.resolve(request);
        },
        post: (response) => Promise.resolve(response),
      },
    ],
  });
  return {
    core: new kubernetes.CoreV1Api(settings),
    storage: new kubernetes.StorageV1Api(settings),
    authorization: new kubernetes.AuthorizationV1Api(settings),
    authentication: new kubernetes.AuthenticationV1Api(settings),
    version: new kubernetes.VersionApi(settings),
    groups: new kubernetes.ApisApi(settings),
    custom: new kubernetes.CustomObjectsApi(settings),
  };
}

function userOf({ credential }: ClusterAccess, token: string | null) {
  switch (credential.kind) {
    case 'token':
      return { token: credential.token };
    case 'client_certificate':
      return { certData: credential.certificate, keyData: credential.key };
    case 'cloud':
      if (token === null) throw new ClusterTrouble('no_token', `${credential.cloud} has given no token for it`);
      return { token };
  }
}

async function listNodes({ core }: Apis): Promise<V1Node[]> {
  const nodes: V1Node[] = [];
  let next: string | undefined;
  do {
    const page = await core.listNode({ limit: PAGE, ...(next === undefined ? {} : { _continue: next }) });
    nodes.push(...page.items);
    next = page.metadata?._continue || undefined;
  } while (next !== undefined && nodes.length < MAX_NODES);
  return nodes;
}

/** What we are not allowed to see, or what this cluster has not, is left out; that it is out of reach is not. */
async function optional<T>(asking: Promise<T>): Promise<T | null> {
  try {
    return await asking;
  } catch (error) {
    const code = (error as { code?: unknown }).code;
    if (code === 403 || code === 404) return null;
    throw error;
  }
}

async function readOpenshift({ custom }: Apis): Promise<string | null> {
  const found = await optional(
    custom.getClusterCustomObject({
      group: 'config.openshift.io',
      version: 'v1',
      plural: 'clusterversions',
      name: 'version',
    }) as Promise<{ status?: { desired?: { version?: string } } }>,
  );
  return found?.status?.desired?.version ?? null;
}

const IS_DEFAULT = 'storageclass.kubernetes.io/is-default-class';

function storageFacts(storage: V1StorageClass): StorageClassFacts {
  return {
    name: storage.metadata?.name ?? '',
    provisioner: storage.provisioner,
    isDefault: storage.metadata?.annotations?.[IS_DEFAULT] === 'true',
    reclaimPolicy: storage.reclaimPolicy ?? null,
    volumeBindingMode: storage.volumeBindingMode ?? null,
    allowsExpansion: storage.allowVolumeExpansion === true,
  };
}

const MAX_MESSAGE = 1_000;

function warningFacts(event: CoreV1Event): WarningFacts {
  const seen =
    event.series?.lastObservedTime ?? event.lastTimestamp ?? event.eventTime ?? event.metadata?.creationTimestamp;
  return {
    reason: event.reason ?? '',
    message: (event.message ?? '').slice(0, MAX_MESSAGE),
    objectKind: event.involvedObject?.kind ?? '',
    objectName: event.involvedObject?.name ?? '',
    namespace: event.involvedObject?.namespace ?? null,
    count: event.series?.count ?? event.count ?? 1,
    lastSeenAt: seen ? new Date(seen).toISOString() : null,
  };
}
