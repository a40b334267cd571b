/**
 * A Kubernetes cluster at AWS with groups of GPU nodes. Safe by default: private API endpoint, Secrets encrypted with a key of its own,
 * nodes in private subnets on encrypted disks, access by IAM alone, control plane logs kept, deletion refused.
 */
import { LogGroup } from '@pulumi/aws/cloudwatch/logGroup.js';
import { AccessEntry } from '@pulumi/aws/eks/accessEntry.js';
import { AccessPolicyAssociation } from '@pulumi/aws/eks/accessPolicyAssociation.js';
import { Addon, type AddonArgs } from '@pulumi/aws/eks/addon.js';
import { Cluster } from '@pulumi/aws/eks/cluster.js';
import type { NodeGroup } from '@pulumi/aws/eks/nodeGroup.js';
import { OpenIdConnectProvider } from '@pulumi/aws/iam/openIdConnectProvider.js';
import { Alias } from '@pulumi/aws/kms/alias.js';
import { Key } from '@pulumi/aws/kms/key.js';
import { output, type Input, type Output } from '@pulumi/pulumi/output.js';
import { ComponentResource, type ComponentResourceOptions, type Resource } from '@pulumi/pulumi/resource.js';
import { newestKubernetes } from '../domain/kubernetes-version.ts';
import { formatTags, type StackTags } from '../domain/stack-tags.ts';
import { EksNetwork } from './eks-network.ts';
import { makeNodeGroup } from './eks-node-group.ts';
import { makeServiceRole, partitionOf, type ServiceRole } from './eks-roles.ts';
import { GPU_NODE_LABELS, GPU_TAINT_KEY } from './gpu-nodes.ts';
import { makeKubeconfig } from './kubeconfig.ts';

/** Prices are of us-east-1. */
export interface EksGpuClusterArgs {
  tags: StackTags;
  /** AWS region: the same as the Pulumi provider's. */
  region: string;
  /** Kubernetes minor of the control plane ($0.10 per hour; $0.60 after its standard support). @default the newest known */
  kubernetesVersion?: string;
  /** Stay on a version after its standard support, at $0.60 per hour, instead of being upgraded by AWS. @default false */
  extendedSupport?: boolean;
  /** The network to make. @default 10.60.0.0/16 (free) */
  vpcCidr?: string;
  /** Private subnets to use instead; they must have a way to AWS and to container images. @default a network is made */
  existingVpc?: { vpcId: string; subnetIds: string[] };
  /** Addresses of Kubernetes Services. @default 172.20.0.0/16 (free) */
  serviceCidr?: string;
  /** 2 or 3. @default 3 (free; traffic between zones is $0.01 per GB and direction) */
  zoneCount?: number;
  /** How nodes reach out: $0.045 per hour and gateway, $0.045 per GB. @default single */
  nat?: 'single' | 'per_zone' | 'none';
  /** Networks that may reach a public API endpoint. @default none: the endpoint is private (free) */
  publicAccessCidrs?: string[];
  /** ARNs of IAM roles and users with cluster-admin. @default none: only whoever makes the cluster (free) */
  admins?: string[];
  /** Control plane logs: $0.50 per GB taken in. @default api, audit, authenticator */
  logTypes?: string[];
  /** $0.03 per GB and month. @default 30 */
  logRetentionDays?: number;
  /** KMS key for Kubernetes Secrets. @default one is made, $1 per month */
  secretsKeyArn?: string;
  /** Also let service accounts take IAM roles by OIDC (IRSA). @default false (free) */
  oidcProvider?: boolean;
  /** Nodes for what is no GPU workload. @default 2 m7i.large with 50 GiB: $0.21 per hour */
  systemNodes?: { instanceType?: string; size?: number; diskGib?: number };
  /** Groups of GPU nodes. @default none */
  gpuNodeGroups?: EksGpuNodeGroup[];
  /** Names of autoscaled groups whose number of nodes is set this once all the same. @default none */
  resize?: readonly string[];
  /**
   * The engine refuses to delete cluster and key. (AWS's own protection of a cluster would also stop a destroy of a stack that was let go
   * of in the state alone.) @default true (free)
   */
  protect?: boolean;
}

export interface EksGpuNodeGroup {
  /** @default gpu-1, gpu-2, … in their order */
  name?: string;
  /** What costs most: see the price table. Changing it replaces the group, the new one first. */
  instanceType: string;
  /** @default 0: an idle group costs nothing */
  minSize?: number;
  /** What the group costs at worst. */
  maxSize: number;
  /** @default minSize */
  desiredSize?: number;
  /** spot is cheaper by about 60 % and may be taken away with two minutes of warning. @default on_demand */
  capacityType?: 'on_demand' | 'spot';
  /** Both bring the NVIDIA driver. @default al2023 (free) */
  image?: 'al2023' | 'bottlerocket';
  /** gp3, encrypted, $0.08 per GiB and month. @default 100 */
  diskGib?: number;
  /** @default the control plane's */
  kubernetesVersion?: string;
  /** An autoscaler decides how many nodes there are; the engine then leaves that number alone. @default false (free) */
  autoscaled?: boolean;
  /** Keep Pods that ask for no GPU off. @default true (free) */
  tainted?: boolean;
  /** More Kubernetes labels. @default none (free) */
  labels?: Record<string, string>;
}

export class EksGpuCluster extends ComponentResource {
  declare readonly clusterName: Output<string>;
  declare readonly clusterArn: Output<string>;
  declare readonly endpoint: Output<string>;
  /** PEM in base64. */
  declare readonly certificateAuthority: Output<string>;
  declare readonly kubernetesVersion: Output<string>;
  /** Secret. Holds no credential. */
  declare readonly kubeconfig: Output<string>;
  declare readonly vpcId: Output<string>;
  declare readonly nodeGroupNames: Output<string>[];
  /** In-cluster parts wait for them: without nodes nothing starts. */
  declare readonly nodeGroups: NodeGroup[];
  readonly #name: string;
  readonly #args: EksGpuClusterArgs;
  readonly #tags: Record<string, string>;

  constructor(name: string, args: EksGpuClusterArgs, options?: ComponentResourceOptions) {
    super('muster:eks:GpuCluster', name, {}, options);
    this.#name = name;
    this.#args = args;
    this.#tags = formatTags(args.tags, name);

    const network = this.#makeNetwork();
    const secretsKeyArn = args.secretsKeyArn ?? this.#makeSecretsKey();
    const cluster = this.#makeCluster(network.subnetIds, secretsKeyArn);
    this.#makeAccess(cluster);
    const networking = ['vpc-cni', 'kube-proxy', 'eks-pod-identity-agent'].map((addOn) =>
      this.#makeAddOn(cluster, addOn, []),
    );
    const nodeGroups = this.#makeNodeGroups(cluster, network, networking);
    this.#makeAddOn(cluster, 'coredns', nodeGroups.slice(0, 1));
    this.#makeEbsDriver(cluster, nodeGroups.slice(0, 1));
    if (args.oidcProvider) this.#makeOidcProvider(cluster);

    this.clusterName = cluster.name;
    this.clusterArn = cluster.arn;
    this.endpoint = cluster.endpoint;
    this.certificateAuthority = cluster.certificateAuthority.data;
    this.kubernetesVersion = cluster.version;
    this.vpcId = network.vpcId;
    this.nodeGroups = nodeGroups;
    this.nodeGroupNames = nodeGroups.map((group) => group.nodeGroupName);
    this.kubeconfig = this.#makeKubeconfig(cluster);
    this.registerOutputs({
      clusterName: this.clusterName,
      clusterArn: this.clusterArn,
      endpoint: this.endpoint,
      kubernetesVersion: this.kubernetesVersion,
      kubeconfig: this.kubeconfig,
      vpcId: this.vpcId,
      nodeGroupNames: this.nodeGroupNames,
    });
  }

  #makeNetwork(): { vpcId: Output<string>; subnetIds: Input<string>[]; waysOut: Resource[] } {
    const { existingVpc, tags, region, vpcCidr, zoneCount, nat } = this.#args;
    if (existingVpc) return { vpcId: output(existingVpc.vpcId), subnetIds: existingVpc.subnetIds, waysOut: [] };
    return new EksNetwork(this.#name, { tags, region, cidr: vpcCidr, zoneCount, nat }, { parent: this });
  }

  /** Without the key the cluster's Secrets cannot be read again: AWS keeps it 30 days after its deletion. */
  #makeSecretsKey(): Output<string> {
    const isProtected = this.#args.protect ?? true;
    const key = new Key(
      `${this.#name}-secrets`,
      {
        description: `Kubernetes Secrets of ${this.#name}`,
        deletionWindowInDays: 30,
        enableKeyRotation: true,
        // It has no name but this.
        tags: { ...this.#tags, Name: `${this.#name}-secrets` },
      },
      { parent: this, protect: isProtected, retainOnDelete: isProtected },
    );
    new Alias(
      `${this.#name}-secrets`,
      { name: `alias/${this.#name}-secrets`, targetKeyId: key.keyId },
      { parent: this },
    );
    return key.arn;
  }

  #makeRole(part: string, service: string, policies: string[]): ServiceRole {
    const { region } = this.#args;
    return makeServiceRole(
      `${this.#name}-${part}`,
      { name: `${this.#name}-${region}-${part}`, service, partition: partitionOf(region), policies, tags: this.#tags },
      this,
    );
  }

  #makeCluster(subnetIds: Input<string>[], secretsKeyArn: Input<string>): Cluster {
    const args = this.#args;
    const publicAccessCidrs = args.publicAccessCidrs ?? [];
    const { role, attachments } = this.#makeRole('cluster', 'eks.amazonaws.com', ['AmazonEKSClusterPolicy']);
    // EKS would make it itself, and keep it for ever.
    const logs = new LogGroup(
      `${this.#name}-logs`,
      { name: `/aws/eks/${this.#name}/cluster`, retentionInDays: args.logRetentionDays ?? 30, tags: this.#tags },
      { parent: this },
    );
    return new Cluster(
      this.#name,
      {
        name: this.#name,
        version: args.kubernetesVersion ?? newestKubernetes('eks'),
        roleArn: role.arn,
        vpcConfig: {
          subnetIds,
          endpointPrivateAccess: true,
          endpointPublicAccess: publicAccessCidrs.length > 0,
          ...(publicAccessCidrs.length > 0 ? { publicAccessCidrs } : {}),
        },
        kubernetesNetworkConfig: { ipFamily: 'ipv4', serviceIpv4Cidr: args.serviceCidr ?? '172.20.0.0/16' },
        accessConfig: { authenticationMode: 'API', bootstrapClusterCreatorAdminPermissions: true },
        // The add-ons below take their place, so that their versions are known.
        bootstrapSelfManagedAddons: false,
        encryptionConfig: { provider: { keyArn: secretsKeyArn }, resources: ['secrets'] },
        enabledClusterLogTypes: args.logTypes ?? ['api', 'audit', 'authenticator'],
        upgradePolicy: { supportType: args.extendedSupport ? 'EXTENDED' : 'STANDARD' },
        tags: this.#tags,
      },
      { parent: this, dependsOn: [...attachments, logs], protect: args.protect ?? true },
    );
  }

  #makeAccess(cluster: Cluster): void {
    const policyArn = `arn:${partitionOf(this.#args.region)}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy`;
    for (const principalArn of this.#args.admins ?? []) {
      const name = `${this.#name}-admin-${principalArn.replace(/^.*:/, '').replace(/[^\w-]+/g, '-')}`;
      const entry = new AccessEntry(
        name,
        { clusterName: cluster.name, principalArn, tags: this.#tags },
        { parent: this },
      );
      new AccessPolicyAssociation(
        name,
        { clusterName: cluster.name, principalArn, policyArn, accessScope: { type: 'cluster' } },
        { parent: this, dependsOn: [entry] },
      );
    }
  }

  #makeAddOn(cluster: Cluster, addonName: string, dependsOn: Resource[], more: Partial<AddonArgs> = {}): Addon {
    return new Addon(
      `${this.#name}-${addonName}`,
      {
        clusterName: cluster.name,
        addonName,
        resolveConflictsOnCreate: 'OVERWRITE',
        resolveConflictsOnUpdate: 'OVERWRITE',
        tags: this.#tags,
        ...more,
      },
      { parent: this, dependsOn },
    );
  }

  #makeEbsDriver(cluster: Cluster, nodes: Resource[]): void {
    const { role, attachments } = this.#makeRole('ebs-csi', 'pods.eks.amazonaws.com', [
      'service-role/AmazonEBSCSIDriverPolicy',
    ]);
    const podIdentityAssociations = [{ roleArn: role.arn, serviceAccount: 'ebs-csi-controller-sa' }];
    this.#makeAddOn(cluster, 'aws-ebs-csi-driver', [...nodes, ...attachments], { podIdentityAssociations });
  }

  #makeNodeGroups(
    cluster: Cluster,
    network: { subnetIds: Input<string>[]; waysOut: Resource[] },
    networking: Resource[],
  ): NodeGroup[] {
    const {
      systemNodes = {},
      gpuNodeGroups = [],
      resize = [],
      kubernetesVersion = newestKubernetes('eks'),
    } = this.#args;
    const { role, attachments } = this.#makeRole('node', 'ec2.amazonaws.com', [
      'AmazonEKSWorkerNodePolicy',
      'AmazonEC2ContainerRegistryPullOnly',
      'AmazonEKS_CNI_Policy',
    ]);
    const options = { parent: this, dependsOn: [...attachments, ...network.waysOut, ...networking] };
    const shared = { clusterName: cluster.name, nodeRoleArn: role.arn, subnetIds: network.subnetIds, tags: this.#tags };
    const systemSize = systemNodes.size ?? 2;
    const system = makeNodeGroup(
      this.#name,
      {
        ...shared,
        group: 'system',
        instanceType: systemNodes.instanceType ?? 'm7i.large',
        amiType: 'AL2023_x86_64_STANDARD',
        capacityType: 'ON_DEMAND',
        scaling: { minSize: systemSize, desiredSize: systemSize, maxSize: systemSize + 1 },
        autoscaled: false,
        diskGib: systemNodes.diskGib ?? 50,
        kubernetesVersion,
        labels: { 'muster-node': 'system' },
        taints: [],
      },
      options,
    );
    const gpu = gpuNodeGroups.map((group, index) =>
      makeNodeGroup(
        this.#name,
        {
          ...shared,
          group: group.name ?? `gpu-${index + 1}`,
          instanceType: group.instanceType,
          amiType: group.image === 'bottlerocket' ? 'BOTTLEROCKET_x86_64_NVIDIA' : 'AL2023_x86_64_NVIDIA',
          capacityType: group.capacityType === 'spot' ? 'SPOT' : 'ON_DEMAND',
          scaling: {
            minSize: group.minSize ?? 0,
            desiredSize: group.desiredSize ?? group.minSize ?? 0,
            maxSize: group.maxSize,
          },
          autoscaled: (group.autoscaled ?? false) && !resize.includes(group.name ?? `gpu-${index + 1}`),
          diskGib: group.diskGib ?? 100,
          kubernetesVersion: group.kubernetesVersion ?? kubernetesVersion,
          labels: { ...group.labels, ...GPU_NODE_LABELS },
          taints: group.tainted === false ? [] : [{ key: GPU_TAINT_KEY, value: 'present', effect: 'NO_SCHEDULE' }],
        },
        options,
      ),
    );
    return [system, ...gpu];
  }

  #makeOidcProvider(cluster: Cluster): void {
    const url = cluster.identities.apply((identities) => identities[0]?.oidcs[0]?.issuer ?? '');
    new OpenIdConnectProvider(
      `${this.#name}-oidc`,
      { url, clientIdLists: ['sts.amazonaws.com'], tags: this.#tags },
      { parent: this },
    );
  }

  #makeKubeconfig(cluster: Cluster): Output<string> {
    const { region } = this.#args;
    return makeKubeconfig({
      name: this.#name,
      server: cluster.endpoint,
      certificateAuthority: cluster.certificateAuthority.data,
      exec: {
        command: 'aws',
        args: ['--region', region, 'eks', 'get-token', '--cluster-name', this.#name, '--output', 'json'],
        installHint: 'Install the AWS CLI and log in as somebody whom the cluster admits.',
      },
    });
  }
}
