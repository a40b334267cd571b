/**
 * A Kubernetes cluster at Azure with pools of GPU nodes. Safe by default: private API endpoint, Microsoft Entra identities and Azure
 * RBAC only, workload identity instead of secrets, audit logs kept, deletion refused.
 */
import { AgentPool } from '@pulumi/azure-native/containerservice/agentPool.js';
import { listManagedClusterUserCredentialsOutput } from '@pulumi/azure-native/containerservice/listManagedClusterUserCredentials.js';
import { ManagedCluster } from '@pulumi/azure-native/containerservice/managedCluster.js';
import { DiagnosticSetting } from '@pulumi/azure-native/monitor/diagnosticSetting.js';
import { Workspace } from '@pulumi/azure-native/operationalinsights/workspace.js';
import { ResourceGroup } from '@pulumi/azure-native/resources/resourceGroup.js';
import { secret, unsecret, type Input, type Output } from '@pulumi/pulumi/output.js';
import { ComponentResource, type ComponentResourceOptions, type Resource } from '@pulumi/pulumi/resource.js';
import { formatCidr, parseCidr } from '../domain/cidr.ts';
import { newestKubernetes } from '../domain/kubernetes-version.ts';
import { formatTags, type StackTags } from '../domain/stack-tags.ts';
import {
  grantSubnet,
  makeIdentity,
  makeWorkloadIdentity,
  type IdentityPlace,
  type WorkloadIdentity,
} from './aks-identity.ts';
import { AksNetwork } from './aks-network.ts';
import { GPU_NODE_LABELS, GPU_TAINT_KEY } from './gpu-nodes.ts';
import { makeKubeconfig } from './kubeconfig.ts';

/** Prices are of East US. */
export interface AksGpuClusterArgs {
  tags: StackTags;
  /** Azure location. */
  location: string;
  /** Kubernetes minor of the control plane. @default the newest known (free) */
  kubernetesVersion?: string;
  /** free has no SLA; standard is $0.10, premium (long-term support) $0.60 per hour. @default standard */
  tier?: 'free' | 'standard' | 'premium';
  /** The network to make. @default 10.61.0.0/16 (free) */
  vnetCidr?: string;
  /** ARM id of a subnet to use instead. @default a network is made */
  existingSubnetId?: string;
  /** Addresses of Kubernetes Pods. @default 10.244.0.0/16 (free) */
  podCidr?: string;
  /** Addresses of Kubernetes Services. @default 172.21.0.0/16 (free) */
  serviceCidr?: string;
  /** Networks that may reach a public API endpoint. Between none and some the cluster is replaced. @default none: private ($0.01 per hour) */
  publicAccessCidrs?: string[];
  /** Microsoft Entra groups with cluster-admin. @default none: roles of Azure RBAC only (free) */
  adminGroupIds?: string[];
  /** Microsoft Entra tenant. @default the subscription's */
  tenantId?: string;
  /** Nodes for what is no GPU workload; fixed when the cluster is made. @default 2 Standard_D2s_v5 with 64 GiB: $0.19 per hour */
  systemNodes?: { vmSize?: string; count?: number; diskGib?: number };
  /** Pools of GPU nodes. @default none */
  gpuNodePools?: AksGpuNodePool[];
  /** Names of autoscaled pools whose number of nodes is set this once all the same. @default none */
  resize?: readonly string[];
  /** Azure identities that Kubernetes service accounts may take. @default none (free) */
  workloadIdentities?: WorkloadIdentity[];
  /** Audit logs: about $2.30 per GB taken in. 0 is off. @default 30 */
  logRetentionDays?: number;
  /** Refuse to delete cluster and resource group. To destroy: set false, update, destroy. @default true (free) */
  protect?: boolean;
}

export interface AksGpuNodePool {
  /** At most 12 lower-case letters and digits. @default gpu1, gpu2, … in their order */
  name?: string;
  /** What costs most: see the price table. Changing it replaces the pool. */
  vmSize: string;
  /** @default 0: an idle pool costs nothing */
  minCount?: number;
  /** What the pool costs at worst. */
  maxCount: number;
  /** @default minCount */
  count?: number;
  /** AKS's own autoscaler decides between minCount and maxCount; the engine then leaves count alone. @default false (free) */
  autoscaled?: boolean;
  /** spot is cheaper by 60 to 90 % and may be taken away with 30 seconds of warning. @default on_demand */
  capacityType?: 'on_demand' | 'spot';
  /** Dollars as text; with spot. @default up to the on-demand price */
  maxSpotPriceUsdPerHour?: string;
  /** Managed OS disk, about $0.13 per GiB and month. @default 128 */
  diskGib?: number;
  /** @default the control plane's */
  kubernetesVersion?: string;
  /** A stopped pool costs its disks only. @default running */
  powerState?: 'running' | 'stopped';
  /** none leaves the driver to the GPU operator. @default install (free) */
  driver?: 'install' | 'none';
  /** Keep Pods that ask for no GPU off. @default true (free) */
  tainted?: boolean;
  /** More Kubernetes labels. @default none (free) */
  labels?: Record<string, string>;
}

const SPOT_KEY = 'kubernetes.azure.com/scalesetpriority';
const TIERS = { free: 'Free', standard: 'Standard', premium: 'Premium' } as const;
/** Microsoft's own application for AKS: the same in every tenant. */
const AKS_SERVER_APPLICATION = '6dae42f8-4368-4678-94ff-3960e28e3630';

export class AksGpuCluster extends ComponentResource {
  declare readonly clusterName: Output<string>;
  /** ARM id: what start and stop of the whole cluster are asked of. */
  declare readonly clusterId: Output<string>;
  declare readonly resourceGroupName: Output<string>;
  declare readonly kubernetesVersion: Output<string>;
  declare readonly oidcIssuerUrl: Output<string>;
  /** Secret. Holds no credential. */
  declare readonly kubeconfig: Output<string>;
  declare readonly endpoint: Output<string>;
  /** PEM in base64. */
  declare readonly certificateAuthority: Output<string>;
  /** By the workload's name: the client id for its service account's annotation. */
  declare readonly workloadClientIds: Record<string, Output<string>>;
  /** In-cluster parts wait for them. */
  declare readonly nodePools: Resource[];
  readonly #name: string;
  readonly #args: AksGpuClusterArgs;
  readonly #tags: Record<string, string>;

  constructor(name: string, args: AksGpuClusterArgs, options?: ComponentResourceOptions) {
    super('muster:aks:GpuCluster', name, {}, options);
    this.#name = name;
    this.#args = args;
    this.#tags = formatTags(args.tags, name);

    const group = this.#makeResourceGroup();
    const place = { resourceGroupName: group.name, location: args.location, tags: this.#tags };
    const subnetId = args.existingSubnetId ?? this.#makeNetwork(group.name);
    const cluster = this.#makeCluster(place, subnetId);
    const pools = this.#makeGpuPools(cluster, group.name, subnetId);
    if (args.logRetentionDays !== 0) this.#makeAuditLogs(cluster, place);
    const access = this.#readAccess(cluster, group.name);

    this.clusterName = cluster.name;
    this.clusterId = cluster.id;
    this.resourceGroupName = group.name;
    this.kubernetesVersion = cluster.currentKubernetesVersion;
    this.oidcIssuerUrl = issuerOf(cluster);
    this.workloadClientIds = this.#makeWorkloadIdentities(issuerOf(cluster), place);
    this.nodePools = [cluster, ...pools];
    this.endpoint = access.server;
    this.certificateAuthority = access.certificateAuthority;
    this.kubeconfig = this.#makeKubeconfig(access);
    this.registerOutputs({
      clusterName: this.clusterName,
      clusterId: this.clusterId,
      resourceGroupName: this.resourceGroupName,
      kubernetesVersion: this.kubernetesVersion,
      oidcIssuerUrl: this.oidcIssuerUrl,
      kubeconfig: this.kubeconfig,
      workloadClientIds: this.workloadClientIds,
    });
  }

  #makeResourceGroup(): ResourceGroup {
    return new ResourceGroup(
      `${this.#name}-group`,
      { resourceGroupName: this.#name, location: this.#args.location, tags: this.#tags },
      { parent: this, protect: this.#args.protect ?? true },
    );
  }

  #makeNetwork(resourceGroupName: Input<string>): Output<string> {
    const { tags, location, vnetCidr } = this.#args;
    return new AksNetwork(this.#name, { tags, resourceGroupName, location, cidr: vnetCidr }, { parent: this }).subnetId;
  }

  #makeCluster(place: IdentityPlace, subnetId: Input<string>): ManagedCluster {
    const args = this.#args;
    const identity = makeIdentity(`${this.#name}-cluster`, place, this);
    const grant = grantSubnet(`${this.#name}-subnet`, identity, subnetId, this);
    const systemNodes = args.systemNodes ?? {};
    return new ManagedCluster(
      this.#name,
      {
        ...place,
        resourceName: this.#name,
        dnsPrefix: this.#name,
        nodeResourceGroup: `${this.#name}-nodes`,
        kubernetesVersion: args.kubernetesVersion ?? newestKubernetes('aks'),
        sku: { name: 'Base', tier: TIERS[args.tier ?? 'standard'] },
        supportPlan: args.tier === 'premium' ? 'AKSLongTermSupport' : 'KubernetesOfficial',
        identity: { type: 'UserAssigned', userAssignedIdentities: [identity.id] },
        enableRBAC: true,
        disableLocalAccounts: true,
        aadProfile: {
          managed: true,
          enableAzureRBAC: true,
          adminGroupObjectIDs: args.adminGroupIds ?? [],
          ...(args.tenantId === undefined ? {} : { tenantID: args.tenantId }),
        },
        apiServerAccessProfile: accessProfile(args.publicAccessCidrs ?? []),
        oidcIssuerProfile: { enabled: true },
        securityProfile: {
          workloadIdentity: { enabled: true },
          imageCleaner: { enabled: true, intervalHours: 168 },
        },
        networkProfile: networkProfile(args),
        autoUpgradeProfile: { upgradeChannel: 'patch', nodeOSUpgradeChannel: 'NodeImage' },
        agentPoolProfiles: [
          {
            name: 'system',
            mode: 'System',
            type: 'VirtualMachineScaleSets',
            vmSize: systemNodes.vmSize ?? 'Standard_D2s_v5',
            count: systemNodes.count ?? 2,
            osType: 'Linux',
            osSKU: 'AzureLinux',
            osDiskSizeGB: systemNodes.diskGib ?? 64,
            vnetSubnetID: subnetId,
            tags: this.#tags,
          },
        ],
      },
      // Azure lists every pool here, those too that are resources of their own.
      { parent: this, dependsOn: [grant], protect: args.protect ?? true, ignoreChanges: ['agentPoolProfiles'] },
    );
  }

  #makeGpuPools(cluster: ManagedCluster, resourceGroupName: Input<string>, subnetId: Input<string>): AgentPool[] {
    return (this.#args.gpuNodePools ?? []).map((pool, index) => {
      const poolName = pool.name ?? `gpu${index + 1}`;
      const isAutoscaled = pool.autoscaled ?? false;
      const isLeftAlone = isAutoscaled && this.#args.resize?.includes(poolName) !== true;
      const bounds = isAutoscaled ? { minCount: pool.minCount ?? 0, maxCount: pool.maxCount } : {};
      return new AgentPool(
        `${this.#name}-${poolName}`,
        {
          agentPoolName: poolName,
          resourceGroupName,
          resourceName: cluster.name,
          mode: 'User',
          type: 'VirtualMachineScaleSets',
          vmSize: pool.vmSize,
          count: pool.count ?? pool.minCount ?? 0,
          enableAutoScaling: isAutoscaled,
          ...bounds,
          orchestratorVersion: pool.kubernetesVersion ?? this.#args.kubernetesVersion ?? newestKubernetes('aks'),
          osType: 'Linux',
          osSKU: 'Ubuntu',
          osDiskSizeGB: pool.diskGib ?? 128,
          gpuProfile: { driver: pool.driver === 'none' ? 'None' : 'Install' },
          powerState: { code: pool.powerState === 'stopped' ? 'Stopped' : 'Running' },
          vnetSubnetID: subnetId,
          tags: this.#tags,
          ...scheduling(pool),
        },
        // A pool's name is taken until the old one is gone.
        { parent: this, deleteBeforeReplace: true, ...(isLeftAlone ? { ignoreChanges: ['count'] } : {}) },
      );
    });
  }

  #makeAuditLogs(cluster: ManagedCluster, place: IdentityPlace): void {
    const workspace = new Workspace(
      `${this.#name}-logs`,
      {
        ...place,
        workspaceName: `${this.#name}-logs`,
        retentionInDays: this.#args.logRetentionDays ?? 30,
        sku: { name: 'PerGB2018' },
      },
      { parent: this },
    );
    new DiagnosticSetting(
      `${this.#name}-audit`,
      {
        name: 'audit',
        resourceUri: cluster.id,
        workspaceId: workspace.id,
        logs: ['guard', 'kube-audit-admin'].map((category) => ({ category, enabled: true })),
      },
      { parent: this },
    );
  }

  #makeWorkloadIdentities(issuer: Output<string>, place: IdentityPlace): Record<string, Output<string>> {
    const entries = (this.#args.workloadIdentities ?? []).map((workload) => {
      const name = `${this.#name}-${workload.name}`;
      return [workload.name, makeWorkloadIdentity(name, workload, issuer, place, this)] as const;
    });
    return Object.fromEntries(entries);
  }

  /** Where the API is and how to trust it stand only in the kubeconfig that Azure gives; of it all, these two are no secret. */
  #readAccess(cluster: ManagedCluster, resourceGroupName: Input<string>) {
    const given = listManagedClusterUserCredentialsOutput(
      { resourceGroupName, resourceName: cluster.name },
      { parent: this },
    );
    const text = secret(given).apply(({ kubeconfigs }) =>
      Buffer.from(kubeconfigs[0]?.value ?? '', 'base64').toString('utf8'),
    );
    return {
      server: unsecret(text.apply((kubeconfig) => fieldOf(kubeconfig, 'server'))),
      certificateAuthority: unsecret(text.apply((kubeconfig) => fieldOf(kubeconfig, 'certificate-authority-data'))),
    };
  }

  #makeKubeconfig(access: { server: Output<string>; certificateAuthority: Output<string> }): Output<string> {
    return makeKubeconfig({
      name: this.#name,
      ...access,
      exec: {
        command: 'kubelogin',
        args: ['get-token', '--login', 'azurecli', '--server-id', AKS_SERVER_APPLICATION],
        installHint:
          'Install kubelogin and log in with the Azure CLI as somebody with a role of Azure RBAC in the cluster.',
      },
    });
  }
}

function issuerOf(cluster: ManagedCluster): Output<string> {
  return cluster.oidcIssuerProfile.apply((profile) => profile?.issuerURL ?? '');
}

function accessProfile(publicAccessCidrs: string[]) {
  return publicAccessCidrs.length > 0
    ? { enablePrivateCluster: false, authorizedIPRanges: publicAccessCidrs, disableRunCommand: true }
    : {
        enablePrivateCluster: true,
        enablePrivateClusterPublicFQDN: false,
        privateDNSZone: 'system',
        disableRunCommand: true,
      };
}

function networkProfile(args: AksGpuClusterArgs) {
  const serviceCidr = args.serviceCidr ?? '172.21.0.0/16';
  const service = parseCidr(serviceCidr);
  if (!service) throw new RangeError(`serviceCidr: "${serviceCidr}" is no IPv4 network`);
  return {
    networkPlugin: 'azure',
    networkPluginMode: 'overlay',
    networkDataplane: 'cilium',
    networkPolicy: 'cilium',
    podCidr: args.podCidr ?? '10.244.0.0/16',
    serviceCidr,
    // Kubernetes' custom: the tenth address.
    dnsServiceIP: formatCidr({ base: service.base + 10, prefix: 32 }).replace('/32', ''),
    loadBalancerSku: 'standard',
    outboundType: 'loadBalancer',
  };
}

function scheduling(pool: AksGpuNodePool) {
  const isSpot = pool.capacityType === 'spot';
  const taints = [
    ...(pool.tainted === false ? [] : [`${GPU_TAINT_KEY}=present:NoSchedule`]),
    ...(isSpot ? [`${SPOT_KEY}=spot:NoSchedule`] : []),
  ];
  return {
    nodeLabels: { ...pool.labels, ...GPU_NODE_LABELS, ...(isSpot ? { [SPOT_KEY]: 'spot' } : {}) },
    nodeTaints: taints,
    ...(isSpot
      ? {
          scaleSetPriority: 'Spot',
          scaleSetEvictionPolicy: 'Delete',
          spotMaxPrice: pool.maxSpotPriceUsdPerHour === undefined ? -1 : Number(pool.maxSpotPriceUsdPerHour),
        }
      : {}),
  };
}

/** From YAML or JSON; the first one, because Azure's has one cluster. */
function fieldOf(kubeconfig: string, field: string): string {
  return new RegExp(`["']?${field}["']?:\\s*["']?([^\\s"',}]+)`).exec(kubeconfig)?.[1] ?? '';
}
