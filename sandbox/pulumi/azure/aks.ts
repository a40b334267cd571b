/** AKS: clusters, agent pools and their kubeconfigs. */
import { CloudError } from '../cloud-error.ts';
import type { ResourceRules, Scene } from '../cloud-rules.ts';
import type { CloudResource } from '../cloud-store.ts';
import { hashHex, newUuid } from '../names.ts';
import { listOf, objectOf, textOf, type Properties, asText } from '../properties.ts';
import { azureError } from './errors.ts';
import { AKS_DEFAULT_VERSION, AKS_VERSIONS, plainLocation, TENANT_ID, vmSizeTrouble } from './places.ts';

const CLUSTER = 'azure-native:containerservice:ManagedCluster';
const POOL = 'azure-native:containerservice:AgentPool';

export const AKS_RULES: Record<string, ResourceRules> = {
  [CLUSTER]: {
    nameInput: 'resourceName',
    maxNameLength: 63,
    replaceOn: [
      'location',
      'dnsPrefix',
      'fqdnSubdomain',
      'nodeResourceGroup',
      'networkProfile.networkPlugin',
      'networkProfile.serviceCidr',
      'networkProfile.podCidr',
      'apiServerAccessProfile.enablePrivateCluster',
    ],
    status: {
      property: 'provisioningState',
      creating: 'Creating',
      ready: 'Succeeded',
      updating: 'Updating',
      deleting: 'Deleting',
      failed: 'Failed',
    },
    seconds: { create: [240, 480], update: [60, 600], delete: [180, 480] },
    outputs: describeCluster,
    refuseCreate(inputs) {
      const pools = listOf(inputs.agentPoolProfiles).map(objectOf);
      if (pools.length === 0)
        throw azureError(400, 'InvalidParameter', 'Required parameter agentPoolProfiles is missing (null).');
      if (!pools.some(({ mode }) => mode === 'System'))
        throw azureError(400, 'InvalidParameter', 'Must define at least one system pool.');
      if (textOf(inputs.dnsPrefix) === undefined && textOf(inputs.fqdnSubdomain) === undefined) {
        throw azureError(400, 'InvalidParameter', 'Required parameter dnsPrefix is missing (null).');
      }
      requireVersion(textOf(inputs.kubernetesVersion));
      for (const pool of pools) requirePool(pool, String(inputs.location), String(pool.name));
    },
    refuseUpdate(cluster, news, changes) {
      requireRunning(cluster);
      if (!changes.some(({ path }) => path === 'kubernetesVersion')) return;
      const before = String(cluster.outputs.currentKubernetesVersion);
      const after = textOf(news.kubernetesVersion) ?? before;
      requireVersion(after);
      const steps = minorOf(after) - minorOf(before);
      if (steps < 0)
        throw azureError(
          400,
          'OperationNotAllowed',
          `Downgrading Kubernetes version from ${before} to ${after} is not allowed.`,
        );
      if (steps > 1)
        throw azureError(
          400,
          'OperationNotAllowed',
          `Upgrading Kubernetes version from ${before} to ${after} is not allowed: only one minor version at a time.`,
        );
    },
    afterDelete(cluster, { scene, remove }) {
      for (const pool of scene.find(POOL)) if (pool.id.startsWith(`${cluster.id}/`)) remove(pool);
    },
  },
  [POOL]: {
    nameInput: 'agentPoolName',
    maxNameLength: 12,
    replaceOn: [
      'resourceName',
      'vmSize',
      'osDiskType',
      'osDiskSizeGB',
      'osType',
      'scaleSetPriority',
      'scaleSetEvictionPolicy',
      'spotMaxPrice',
      'vnetSubnetID',
      'availabilityZones',
      'gpuInstanceProfile',
      'maxPods',
    ],
    status: {
      property: 'provisioningState',
      creating: 'Creating',
      ready: 'Succeeded',
      updating: 'Updating',
      deleting: 'Deleting',
      failed: 'Failed',
      starting: 'Starting',
      stopping: 'Stopping',
    },
    seconds: { create: [120, 300], update: [60, 300], delete: [120, 300], start: [60, 180], stop: [60, 180] },
    updateKind: (_pool, changes, news) =>
      changes.some(({ path }) => path.startsWith('powerState'))
        ? objectOf(news.powerState).code === 'Stopped'
          ? 'stop'
          : 'start'
        : 'update',
    id: (inputs, scene) => `${clusterId(inputs, scene)}/agentPools/${String(inputs.agentPoolName)}`,
    outputs(inputs, { scene }) {
      const cluster = scene.find(CLUSTER).find(({ id }) => id === clusterId(inputs, scene));
      const version =
        textOf(inputs.orchestratorVersion) ?? asText(cluster?.outputs.currentKubernetesVersion ?? AKS_DEFAULT_VERSION);
      return {
        currentOrchestratorVersion: fullVersion(version),
        nodeImageVersion: 'AKSUbuntu-2204gen2containerd-202611.01.0',
        powerState: { code: 'Running' },
      };
    },
    refuseCreate(inputs, scene) {
      const cluster = requireCluster(inputs, scene);
      const name = String(inputs.agentPoolName);
      if (!/^[a-z][a-z0-9]{0,11}$/.test(name)) {
        throw azureError(
          400,
          'InvalidParameter',
          `The value of parameter agentPoolProfile.name is invalid: ${name}. It must be at most 12 lower-case letters and digits and begin with a letter.`,
        );
      }
      requirePool(inputs, String(cluster.inputs.location), name);
      requireNoSkew(inputs, cluster);
    },
    refuseUpdate(pool, news, _changes, scene) {
      const cluster = requireCluster(news, scene);
      requireRunning(cluster);
      requirePool(news, String(cluster.inputs.location), pool.id.split('/').at(-1)!);
      requireNoSkew(news, cluster);
    },
  },
};

function requireRunning({ id, outputs }: CloudResource): void {
  if (objectOf(outputs.powerState).code !== 'Stopped') return;
  const name = id.split('/').at(-1)!;
  throw azureError(
    400,
    'OperationNotAllowed',
    `Managed cluster ${name} is in stopped state, no operations except for start and delete are allowed.`,
  );
}

type Described = Parameters<NonNullable<ResourceRules['outputs']>>[1];

function describeCluster(inputs: Properties, { id, scene, before }: Described): Properties {
  const name = id.split('/').at(-1)!;
  const location = plainLocation(inputs.location);
  const mark = hashHex(`${id} ${String(before?.createdAtMs ?? scene.now())}`, 32);
  const fqdn =
    textOf(before?.outputs.fqdn) ??
    `${String(inputs.dnsPrefix ?? inputs.fqdnSubdomain)}-${mark.slice(0, 8)}.hcp.${location}.azmk8s.io`;
  const isSystemAssigned = objectOf(inputs.identity).type === 'SystemAssigned';
  const hasIssuer = objectOf(inputs.oidcIssuerProfile).enabled === true;
  return {
    name,
    fqdn,
    azurePortalFQDN: fqdn.replace('.hcp.', '.portal.hcp.'),
    ...(objectOf(inputs.apiServerAccessProfile).enablePrivateCluster === true
      ? { privateFQDN: fqdn.replace('.hcp.', '.privatelink.') }
      : {}),
    currentKubernetesVersion: fullVersion(textOf(inputs.kubernetesVersion) ?? AKS_DEFAULT_VERSION),
    kubernetesVersion: AKS_DEFAULT_VERSION,
    nodeResourceGroup: `MC_${String(inputs.resourceGroupName)}_${name}_${location}`,
    maxAgentPools: 100,
    powerState: { code: 'Running' },
    ...(hasIssuer
      ? {
          oidcIssuerProfile: {
            issuerURL: `https://${location}.oic.prod-aks.azure.com/${TENANT_ID}/${mark.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')}/`,
          },
        }
      : {}),
    ...(isSystemAssigned
      ? { identity: { principalId: objectOf(before?.outputs.identity).principalId ?? newUuid(), tenantId: TENANT_ID } }
      : {}),
    identityProfile: {
      kubeletidentity: objectOf(before?.outputs.identityProfile).kubeletidentity ?? {
        clientId: newUuid(),
        objectId: newUuid(),
        resourceId: `${id}-agentpool`,
      },
    },
  };
}

/** User and admin credentials; the user's has no secret where local accounts are off. */
export function invokeAks(token: string, args: Properties, scene: Scene): Properties {
  const kinds: Record<string, string> = {
    'azure-native:containerservice:listManagedClusterUserCredentials': 'clusterUser',
    'azure-native:containerservice:listManagedClusterAdminCredentials': 'clusterAdmin',
  };
  const kind = kinds[token];
  if (kind === undefined)
    throw new CloudError('UnknownFunction', `the simulated azure-native has no behaviour for ${token}`);
  const cluster = requireCluster(args, scene);
  const isLocal = cluster.inputs.disableLocalAccounts !== true;
  if (kind === 'clusterAdmin' && !isLocal) {
    throw azureError(
      400,
      'BadRequest',
      'Getting static credential is not allowed because this cluster is set to disable local accounts.',
    );
  }
  const kubeconfig = renderKubeconfig(cluster, kind, isLocal, scene);
  return { kubeconfigs: [{ name: kind, value: Buffer.from(kubeconfig).toString('base64') }] };
}

function renderKubeconfig(
  { id, inputs, outputs }: CloudResource,
  kind: string,
  isLocal: boolean,
  { clusterApi }: Scene,
): string {
  const name = id.split('/').at(-1)!;
  const user = `${kind}_${String(inputs.resourceGroupName)}_${name}`;
  const login = isLocal
    ? { token: hashHex(`${id} ${kind} token`, 64) }
    : {
        exec: {
          apiVersion: 'client.authentication.k8s.io/v1beta1',
          command: 'kubelogin',
          args: ['get-token', '--server-id', '6dae42f8-4368-4678-94ff-3960e28e3630'],
        },
      };
  const shape = Buffer.from(
    `-----BEGIN CERTIFICATE-----\n${Buffer.from(hashHex(id, 48)).toString('base64')}\n-----END CERTIFICATE-----\n`,
  ).toString('base64');
  const fqdn = String(outputs.fqdn);
  const server = clusterApi?.urlOf(fqdn) ?? `https://${fqdn}:443`;
  const ca = clusterApi?.authority() ?? shape;
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name, cluster: { server, 'certificate-authority-data': ca } }],
    contexts: [{ name, context: { cluster: name, user } }],
    'current-context': name,
    users: [{ name: user, user: login }],
  });
}

function requireCluster(inputs: Properties, scene: Scene): CloudResource {
  const wanted = clusterId(inputs, scene);
  const cluster = scene.find(CLUSTER).find(({ id }) => id === wanted);
  if (!cluster)
    throw azureError(
      404,
      'ResourceNotFound',
      `The Resource 'Microsoft.ContainerService/managedClusters/${String(inputs.resourceName)}' under resource group '${String(inputs.resourceGroupName)}' was not found.`,
    );
  const { provisioningState } = cluster.outputs;
  if (provisioningState !== 'Succeeded') {
    throw azureError(
      409,
      'OperationNotAllowed',
      `Operation is not allowed: cluster ${String(inputs.resourceName)} is in provisioning state ${String(provisioningState)}.`,
    );
  }
  return cluster;
}

function clusterId(inputs: Properties, { config }: Scene): string {
  return `/subscriptions/${String(config.subscriptionId)}/resourceGroups/${String(inputs.resourceGroupName)}/providers/Microsoft.ContainerService/managedClusters/${String(inputs.resourceName)}`;
}

function requirePool(pool: Properties, location: string, name: string): void {
  const size = textOf(pool.vmSize);
  const trouble = size === undefined ? undefined : vmSizeTrouble(size, location);
  if (trouble === 'unknown')
    throw azureError(
      400,
      'BadRequest',
      `The VM size of ${size} is not allowed in your subscription in location '${location}'.`,
    );
  if (trouble === 'not_here')
    throw azureError(
      400,
      'SkuNotAvailable',
      `The requested VM size ${size} is not available in location '${location}'.`,
    );
  const { count, minCount, maxCount, enableAutoScaling } = pool as {
    count?: number;
    minCount?: number;
    maxCount?: number;
    enableAutoScaling?: boolean;
  };
  if (enableAutoScaling === true && (minCount === undefined || maxCount === undefined)) {
    throw azureError(
      400,
      'InvalidParameter',
      `The value of parameter agentPoolProfile.minCount or maxCount of ${name} is missing: autoscaling needs both.`,
    );
  }
  if (enableAutoScaling !== true && (minCount !== undefined || maxCount !== undefined)) {
    throw azureError(
      400,
      'InvalidParameter',
      `The value of parameter agentPoolProfile.minCount of ${name} is invalid: it needs enableAutoScaling.`,
    );
  }
  if (minCount !== undefined && maxCount !== undefined && minCount > maxCount) {
    throw azureError(
      400,
      'InvalidParameter',
      `The value of parameter agentPoolProfile.minCount of ${name} is greater than maxCount.`,
    );
  }
  if (pool.mode === 'System' && (count === 0 || minCount === 0)) {
    throw azureError(400, 'InvalidParameter', `The system pool ${name} must have at least one node.`);
  }
  if (pool.mode === 'System' && pool.scaleSetPriority === 'Spot') {
    throw azureError(400, 'InvalidParameter', `The system pool ${name} can not be a spot pool.`);
  }
}

/** Nodes must not be newer than their cluster, nor four versions older. */
function requireNoSkew(inputs: Properties, cluster: CloudResource): void {
  const version = textOf(inputs.orchestratorVersion);
  if (version === undefined) return;
  requireVersion(version);
  const ahead = minorOf(version) - minorOf(String(cluster.outputs.currentKubernetesVersion));
  if (ahead > 0 || ahead < -3) {
    throw azureError(
      400,
      'NodePoolMcVersionIncompatible',
      `Node pool version ${version} and control plane version ${String(cluster.outputs.currentKubernetesVersion)} are incompatible.`,
    );
  }
}

function requireVersion(version: string | undefined): void {
  if (version === undefined || AKS_VERSIONS.includes(version.split('.').slice(0, 2).join('.'))) return;
  throw azureError(
    400,
    'K8sVersionNotSupported',
    `Managed cluster is on version ${version} which is not supported in this region. Supported: ${AKS_VERSIONS.join(', ')}.`,
  );
}

function fullVersion(version: string): string {
  return version.split('.').length === 2 ? `${version}.2` : version;
}

function minorOf(version: string): number {
  return Number(version.split('.')[1]);
}
