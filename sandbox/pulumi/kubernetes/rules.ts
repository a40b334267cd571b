/**
 * The simulated Kubernetes: objects by cluster. Which cluster is meant is the server of the provider's kubeconfig, so that objects of an EKS
 * or AKS cluster live and go with it; a server that is nobody's here stands for a cluster of one's own.
 */
import { CloudError } from '../cloud-error.ts';
import type { FillRequest, PackageRules, Scene } from '../cloud-rules.ts';
import type { CloudResource } from '../cloud-store.ts';
import { autoName, seededHex } from '../names.ts';
import { objectOf, textOf, withPath, type Properties, asText } from '../properties.ts';
import type { ResourceTable } from '../tables/table.ts';
import { KIND_RULES, PLAIN_OBJECT, RELEASE } from './kinds.ts';

/** Kinds that lie in no namespace. */
const CLUSTER_KINDS = new Set([
  'Namespace',
  'ClusterRole',
  'ClusterRoleBinding',
  'StorageClass',
  'RuntimeClass',
  'PriorityClass',
  'CustomResourceDefinition',
  'ClusterPolicy',
  'NVIDIADriver',
  'NodeFeatureRule',
  'NodePool',
  'EC2NodeClass',
  'SecurityContextConstraints',
]);
const OWN_NAMESPACES = ['default', 'kube-system', 'kube-public', 'kube-node-lease'];
const NAMESPACE = 'kubernetes:core/v1:Namespace';
const EKS_CLUSTER = 'aws:eks/cluster:Cluster';
const AKS_CLUSTER = 'azure-native:containerservice:ManagedCluster';

export const KUBERNETES_RULES: PackageRules = {
  name: 'kubernetes',
  types: KIND_RULES,
  plainType: PLAIN_OBJECT,
  commonReplaceOn: ['apiVersion', 'kind', 'metadata.name', 'metadata.namespace'],
  unlistedType: customResource,
  readConfig: (args) => ({
    ...args,
    server: serverOf(args),
    hasServerSideApply: args.enableServerSideApply !== 'false' && args.enableServerSideApply !== false,
  }),
  scopeOf: (_type, _properties, config) => String(config.server),
  fillInputs,
  knownOutputs: () => ({}),
  refuseCall: requireReachable,
  defaultId(type, inputs) {
    if (type === RELEASE) return `${String(inputs.namespace)}/${String(inputs.name)}`;
    const { name, namespace } = objectOf(inputs.metadata);
    return isClusterKind(type) ? String(name) : `${String(namespace)}/${String(name)}`;
  },
  makeOutput: ({ kind }) => (kind.startsWith('[') ? [] : ({ string: '', number: 0, boolean: false }[kind] ?? {})),
  faultError(fault, { type, operation, name }) {
    const kind = type.split(':').at(-1)!;
    switch (fault.kind) {
      case 'throttled':
        return new CloudError(
          'TooManyRequests',
          fault.message ?? 'the server has received too many requests and has asked us to try again later',
        );
      case 'quota_exceeded':
        return new CloudError('Forbidden', fault.message ?? `${kind} "${name}" is forbidden: exceeded quota`);
      case 'access_denied':
        return new CloudError(
          'Forbidden',
          fault.message ?? `${kind} "${name}" is forbidden: User "muster" cannot ${operation} resource`,
        );
      case 'conflict':
        return new CloudError(
          'Conflict',
          fault.message ?? `Apply failed with 1 conflict: conflict with "kubectl" using v1: .spec`,
        );
      case 'create_failed':
      case 'degraded':
        return new CloudError(
          'Timeout',
          fault.message ??
            `resource ${name} was successfully created, but the Kubernetes API server reported that it failed to fully initialize or become live: timed out waiting for the condition`,
        );
      default:
        return new CloudError(
          fault.code ?? 'Invalid',
          fault.message ?? `${kind} "${name}" is invalid: refused by a fault`,
        );
    }
  },
  conflictError: ({ type, id }) =>
    new CloudError(
      'Conflict',
      `Operation cannot be fulfilled on ${type.split(':').at(-1)} "${id}": the object is being deleted or changed`,
    ),
  existsError(type, id, inputs, { config }) {
    const name = asText(objectOf(inputs.metadata).name ?? id);
    if (type === RELEASE) return new CloudError('Exists', `cannot re-use a name that is still in use: ${id}`);
    // Server-side apply takes over what is there.
    if (config.hasServerSideApply === true) return undefined;
    return new CloudError(
      'AlreadyExists',
      `resource ${id} was not successfully created by the Kubernetes API server: ${type.split(':').at(-1)!.toLowerCase()}s "${name}" already exists`,
    );
  },
  goneError: (type, id) => new CloudError('NotFound', `${type.split(':').at(-1)} "${id}" not found`),
  invoke(token) {
    throw new CloudError('UnknownFunction', `the simulated kubernetes has no function ${token}`);
  },
};

/** `kubernetes:nvidia.com/v1:ClusterPolicy`: any kind of a group that is not Kubernetes' own. */
function customResource(type: string): ResourceTable | undefined {
  const group = /^kubernetes:([^/:]+)\/[^/:]+:\w+$/.exec(type)?.[1];
  if (
    group === undefined ||
    !group.includes('.') ||
    (group.endsWith('.k8s.io') && !group.endsWith('.x-k8s.io') && !group.includes('sigs'))
  )
    return undefined;
  return {
    in: {
      'apiVersion!': 'string',
      'kind!': 'string',
      metadata: '#meta.v1.ObjectMeta',
      spec: 'any',
      status: 'any',
      data: 'any',
      ...OPENSHIFT,
    },
    out: {},
  };
}

/** Fields outside of spec that kinds of OpenShift have. */
const OPENSHIFT = Object.fromEntries(
  [
    'allowHostDirVolumePlugin',
    'allowHostIPC',
    'allowHostNetwork',
    'allowHostPID',
    'allowHostPorts',
    'allowPrivilegeEscalation',
    'allowPrivilegedContainer',
    'allowedCapabilities',
    'defaultAddCapabilities',
    'fsGroup',
    'groups',
    'priority',
    'readOnlyRootFilesystem',
    'requiredDropCapabilities',
    'runAsUser',
    'seLinuxContext',
    'seccompProfiles',
    'supplementalGroups',
    'users',
    'volumes',
  ].map((name) => [name, 'any']),
);

function isClusterKind(type: string): boolean {
  return CLUSTER_KINDS.has(type.split(':').at(-1)!);
}

/** The server that the kubeconfig's text names; what is no such text is its own place. */
function serverOf({ kubeconfig }: Properties): string {
  const text = textOf(kubeconfig);
  if (text === undefined) return 'ambient';
  return /["']?server["']?\s*:\s*["']?([^"'\s,}]+)/.exec(text)?.[1]?.replace(/:443$/, '') ?? text.slice(0, 200);
}

function fillInputs({ type, logicalName, news, olds, randomSeed, proposedName, scene }: FillRequest): Properties {
  const chosen = (old: unknown): string =>
    textOf(old) ?? (proposedName || autoName(logicalName.toLowerCase(), seededHex(randomSeed, 8), '-', 253));
  const namespace = textOf(scene.config.namespace) ?? 'default';
  if (type === RELEASE) {
    return { ...news, name: news.name ?? chosen(olds?.name), namespace: news.namespace ?? namespace };
  }
  const metadata = objectOf(news.metadata);
  let filled: Properties = { ...news, metadata };
  if (metadata.name === undefined && metadata.generateName === undefined && proposedName !== null) {
    const old = objectOf(olds?.metadata);
    const wasAutomatic = objectOf(old.annotations)['pulumi.com/autonamed'] === 'true';
    filled = withPath(filled, 'metadata.name', chosen(wasAutomatic ? old.name : undefined));
    const annotations = { ...objectOf(metadata.annotations), 'pulumi.com/autonamed': 'true' };
    filled = withPath(filled, 'metadata.annotations', annotations);
  }
  if (!isClusterKind(type) && metadata.namespace === undefined)
    filled = withPath(filled, 'metadata.namespace', namespace);
  return filled;
}

/** A cluster that is gone, not made yet or stopped does not answer; nor does a namespace that is not there take anything. */
function requireReachable(type: string, inputs: Properties, scene: Scene, operation: string): void {
  const { server } = scene.config;
  if (!isAnswering(String(server), scene)) {
    throw new CloudError(
      'Unreachable',
      `configured Kubernetes cluster is unreachable: unable to load schema information from the API server: Get "${String(server)}/openapi/v2?timeout=32s": dial tcp: connect: no route to host`,
    );
  }
  if (operation !== 'create') return;
  const namespace = textOf(type === RELEASE ? inputs.namespace : objectOf(inputs.metadata).namespace);
  if (
    namespace === undefined ||
    OWN_NAMESPACES.includes(namespace) ||
    (type === RELEASE && inputs.createNamespace === true)
  )
    return;
  const isThere =
    scene.find(NAMESPACE).some(({ id, transition }) => id === namespace && transition?.operation !== 'delete') ||
    scene.find(RELEASE).some(({ inputs: other }) => other.createNamespace === true && other.namespace === namespace);
  if (!isThere) {
    throw new CloudError(
      'NotFound',
      `resource ${namespace}/${String(objectOf(inputs.metadata).name ?? inputs.name)} was not successfully created by the Kubernetes API server: namespaces "${namespace}" not found`,
    );
  }
}

function isAnswering(server: string, scene: Scene): boolean {
  const host = server.replace(/^https?:\/\//, '').toLowerCase();
  const isOf = (value: unknown): boolean =>
    textOf(value)
      ?.replace(/^https?:\/\//, '')
      .toLowerCase() === host;
  const isEks = () => scene.find(EKS_CLUSTER, null).some(({ outputs }) => isOf(outputs.endpoint));
  const isAks = (isIts: (fqdn: unknown) => boolean) =>
    scene.find(AKS_CLUSTER, null).some((cluster) => isIts(cluster.outputs.fqdn) && !isStopped(cluster));
  const { clusterApi } = scene;
  // Where clusters answer for themselves, all of them have the address of the sandbox and differ by path.
  if (clusterApi !== null && server.startsWith(clusterApi.urlOf('')))
    return isEks() || isAks((fqdn) => clusterApi.urlOf(String(fqdn)) === server);
  if (host.endsWith('.eks.amazonaws.com')) return isEks();
  if (host.endsWith('.azmk8s.io')) return isAks(isOf);
  return true;
}

function isStopped({ outputs }: CloudResource): boolean {
  return objectOf(outputs.powerState).code === 'Stopped';
}
