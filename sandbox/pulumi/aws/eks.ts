/** EKS: clusters, node groups, add-ons and who may use them, with the service's states and its refusals. */
import type { ResourceRules, Scene } from '../cloud-rules.ts';
import type { CloudResource } from '../cloud-store.ts';
import { hashHex } from '../names.ts';
import { objectOf, textOf, textsOf, type Properties, asText } from '../properties.ts';
import { awsError } from './errors.ts';
import { requireRole } from './iam.ts';
import { ACCOUNT_ID, EKS_DEFAULT_VERSION, EKS_VERSIONS, instanceTypeTrouble } from './places.ts';

const CLUSTER = 'aws:eks/cluster:Cluster';
const NODE_GROUP = 'aws:eks/nodeGroup:NodeGroup';
const ADDON = 'aws:eks/addon:Addon';
const ACCESS_ENTRY = 'aws:eks/accessEntry:AccessEntry';
const SUBNET = 'aws:ec2/subnet:Subnet';
const TEMPLATE = 'aws:ec2/launchTemplate:LaunchTemplate';

const AMI_TYPES = (
  'AL2_x86_64 AL2_x86_64_GPU AL2_ARM_64 AL2023_x86_64_STANDARD AL2023_ARM_64_STANDARD AL2023_x86_64_NEURON AL2023_x86_64_NVIDIA AL2023_ARM_64_NVIDIA ' +
  'BOTTLEROCKET_ARM_64 BOTTLEROCKET_x86_64 BOTTLEROCKET_ARM_64_FIPS BOTTLEROCKET_x86_64_FIPS BOTTLEROCKET_ARM_64_NVIDIA BOTTLEROCKET_x86_64_NVIDIA CUSTOM'
).split(' ');
const ADDONS =
  'vpc-cni coredns kube-proxy aws-ebs-csi-driver aws-efs-csi-driver eks-pod-identity-agent snapshot-controller amazon-cloudwatch-observability metrics-server eks-node-monitoring-agent aws-mountpoint-s3-csi-driver'.split(
    ' ',
  );
const NODE_GROUPS_PER_CLUSTER = 30;
const NODES_PER_GROUP = 450;

export const CLUSTER_RULES: Record<string, ResourceRules> = {
  [CLUSTER]: {
    nameInput: 'name',
    maxNameLength: 100,
    replaceOn: [
      'roleArn',
      'bootstrapSelfManagedAddons',
      'encryptionConfig',
      'kubernetesNetworkConfig.serviceIpv4Cidr',
      'kubernetesNetworkConfig.ipFamily',
      'accessConfig.bootstrapClusterCreatorAdminPermissions',
      'outpostConfig',
    ],
    defaults: () => ({ bootstrapSelfManagedAddons: true }),
    status: {
      property: 'status',
      creating: 'CREATING',
      ready: 'ACTIVE',
      updating: 'UPDATING',
      deleting: 'DELETING',
      failed: 'FAILED',
    },
    seconds: { create: [480, 900], update: [60, 600], delete: [180, 600] },
    id: (inputs) => String(inputs.name),
    outputs: describeCluster,
    changingOutputs: (changes) => (changes.some(({ path }) => path === 'version') ? ['platformVersion'] : []),
    refuseCreate(inputs, scene) {
      const call = ['creating EKS Cluster', 'EKS CreateCluster', 400] as const;
      requireRole(textOf(inputs.roleArn) ?? '', scene, call[0], 'IAM GetRole');
      requireVersion(textOf(inputs.version), 'creating EKS Cluster', 'EKS CreateCluster');
      requireSubnets(textsOf(objectOf(inputs.vpcConfig).subnetIds), scene, call[0], call[1]);
      const { endpointPrivateAccess, endpointPublicAccess } = objectOf(inputs.vpcConfig);
      if (endpointPublicAccess === false && endpointPrivateAccess !== true) {
        throw awsError(...call, 'InvalidParameterException', 'Private and public endpoint access cannot be false');
      }
    },
    refuseUpdate(cluster, news, changes) {
      const before = textOf(cluster.inputs.version) ?? String(cluster.outputs.version);
      const after = textOf(news.version) ?? before;
      const call = ['updating EKS Cluster version', 'EKS UpdateClusterVersion', 400] as const;
      if (!changes.some(({ path }) => path === 'version')) return;
      requireVersion(after, call[0], call[1]);
      const steps = minorOf(after) - minorOf(before);
      if (steps < 0 || steps > 1) {
        throw awsError(
          ...call,
          'InvalidParameterException',
          `Unsupported Kubernetes minor version update from ${before} to ${after}`,
        );
      }
    },
    refuseDelete(cluster, scene) {
      const call = [
        `deleting EKS Cluster (${cluster.id})`,
        'EKS DeleteCluster',
        409,
        'ResourceInUseException',
      ] as const;
      if (cluster.inputs.deletionProtection === true) {
        throw awsError(
          call[0],
          call[1],
          400,
          'InvalidRequestException',
          `The cluster ${cluster.id} has deletion protection enabled`,
        );
      }
      if (scene.find(NODE_GROUP).some(({ inputs }) => inputs.clusterName === cluster.id)) {
        throw awsError(...call, 'Cluster has nodegroups attached');
      }
    },
    afterDelete(cluster, { scene, remove }) {
      for (const type of [ADDON, ACCESS_ENTRY, 'aws:eks/podIdentityAssociation:PodIdentityAssociation']) {
        for (const one of scene.find(type)) if (one.inputs.clusterName === cluster.id) remove(one);
      }
    },
  },
  [NODE_GROUP]: {
    nameInput: 'nodeGroupName',
    maxNameLength: 63,
    replaceOn: [
      'clusterName',
      'nodeRoleArn',
      'subnetIds',
      'amiType',
      'capacityType',
      'diskSize',
      'instanceTypes',
      'remoteAccess',
      'nodeGroupNamePrefix',
      'launchTemplate.id',
      'launchTemplate.name',
    ],
    status: {
      property: 'status',
      creating: 'CREATING',
      ready: 'ACTIVE',
      updating: 'UPDATING',
      deleting: 'DELETING',
      failed: 'CREATE_FAILED',
    },
    seconds: { create: [120, 480], update: [60, 600], delete: [180, 600] },
    id: (inputs) => `${String(inputs.clusterName)}:${String(inputs.nodeGroupName)}`,
    outputs: describeNodeGroup,
    refuseCreate: (inputs, scene) => refuseNodeGroup(inputs, scene, 'creating EKS Node Group', 'EKS CreateNodegroup'),
    refuseUpdate(group, news, _changes, scene) {
      requireScaling(news, `updating EKS Node Group (${group.id}) config`, 'EKS UpdateNodegroupConfig');
      requireNoSkew(news, scene, `updating EKS Node Group (${group.id}) version`, 'EKS UpdateNodegroupVersion');
    },
  },
  [ADDON]: {
    replaceOn: ['addonName', 'clusterName'],
    status: {
      property: 'status',
      creating: 'CREATING',
      ready: 'ACTIVE',
      updating: 'UPDATING',
      deleting: 'DELETING',
      failed: 'CREATE_FAILED',
    },
    seconds: { create: [15, 60], update: [15, 60], delete: [10, 30] },
    id: (inputs) => `${String(inputs.clusterName)}:${String(inputs.addonName)}`,
    outputs: (inputs, { scene, before }) => ({
      addonVersion: textOf(inputs.addonVersion) ?? 'v1.20.4-eksbuild.1',
      arn: `arn:aws:eks:${scene.scope}:${ACCOUNT_ID}:addon/${String(inputs.clusterName)}/${String(inputs.addonName)}/${hashHex(String(inputs.addonName), 8)}`,
      createdAt: before?.outputs.createdAt ?? new Date(scene.now()).toISOString(),
      modifiedAt: new Date(scene.now()).toISOString(),
    }),
    refuseCreate(inputs, scene) {
      const name = textOf(inputs.addonName) ?? '';
      requireActiveCluster(inputs, scene, 'creating EKS Add-On', 'EKS CreateAddon');
      if (!ADDONS.includes(name)) {
        throw awsError(
          'creating EKS Add-On',
          'EKS CreateAddon',
          400,
          'InvalidParameterException',
          `Addon ${name} specified is not supported`,
        );
      }
    },
  },
  [ACCESS_ENTRY]: {
    replaceOn: ['clusterName', 'principalArn', 'type'],
    defaults: () => ({ type: 'STANDARD' }),
    id: (inputs) => `${String(inputs.clusterName)}:${String(inputs.principalArn)}`,
    outputs: (inputs, { scene, before }) => ({
      accessEntryArn: `arn:aws:eks:${scene.scope}:${ACCOUNT_ID}:access-entry/${String(inputs.clusterName)}/role/${hashHex(String(inputs.principalArn), 12)}`,
      userName: textOf(inputs.userName) ?? inputs.principalArn,
      createdAt: before?.outputs.createdAt ?? new Date(scene.now()).toISOString(),
      modifiedAt: new Date(scene.now()).toISOString(),
    }),
    refuseCreate(inputs, scene) {
      const cluster = requireActiveCluster(inputs, scene, 'creating EKS Access Entry', 'EKS CreateAccessEntry');
      if (objectOf(cluster.inputs.accessConfig).authenticationMode === 'CONFIG_MAP') {
        throw awsError(
          'creating EKS Access Entry',
          'EKS CreateAccessEntry',
          400,
          'InvalidRequestException',
          "The cluster's authentication mode must be set to one of [API, API_AND_CONFIG_MAP] to perform this operation.",
        );
      }
      if (!/^arn:aws:(iam|sts)::\d{12}:/.test(textOf(inputs.principalArn) ?? '')) {
        throw awsError(
          'creating EKS Access Entry',
          'EKS CreateAccessEntry',
          400,
          'InvalidParameterException',
          'The specified principalArn is invalid: invalid principal.',
        );
      }
    },
  },
  'aws:eks/accessPolicyAssociation:AccessPolicyAssociation': {
    replaceOn: ['clusterName', 'principalArn', 'policyArn', 'accessScope'],
    id: (inputs) => [inputs.clusterName, inputs.principalArn, inputs.policyArn].join('#'),
    outputs: (_inputs, { scene }) => ({
      associatedAt: new Date(scene.now()).toISOString(),
      modifiedAt: new Date(scene.now()).toISOString(),
    }),
    refuseCreate(inputs, scene) {
      const call = ['creating EKS Access Policy Association', 'EKS AssociateAccessPolicy'] as const;
      requireActiveCluster(inputs, scene, ...call);
      const hasEntry = scene
        .find(ACCESS_ENTRY)
        .some(({ id }) => id === `${String(inputs.clusterName)}:${String(inputs.principalArn)}`);
      if (!hasEntry)
        throw awsError(
          ...call,
          404,
          'ResourceNotFoundException',
          'The specified principalArn could not be found. You can view your available access entries with ListAccessEntries.',
        );
      if (!/^arn:aws:eks::aws:cluster-access-policy\/\w+$/.test(textOf(inputs.policyArn) ?? '')) {
        throw awsError(...call, 400, 'InvalidParameterException', 'The policyArn parameter format is not valid');
      }
    },
  },
  'aws:eks/podIdentityAssociation:PodIdentityAssociation': {
    replaceOn: ['clusterName', 'namespace', 'serviceAccount'],
    id: (inputs) =>
      `a-${hashHex(`${String(inputs.clusterName)} ${String(inputs.namespace)} ${String(inputs.serviceAccount)}`, 17)}`,
    outputs: (inputs, { scene, id }) => ({
      associationId: id,
      associationArn: `arn:aws:eks:${scene.scope}:${ACCOUNT_ID}:podidentityassociation/${String(inputs.clusterName)}/${id}`,
    }),
    refuseCreate(inputs, scene) {
      requireActiveCluster(inputs, scene, 'creating EKS Pod Identity Association', 'EKS CreatePodIdentityAssociation');
      requireRole(textOf(inputs.roleArn) ?? '', scene, 'creating EKS Pod Identity Association', 'IAM GetRole');
    },
  },
};

type Described = Parameters<NonNullable<ResourceRules['outputs']>>[1];

function describeCluster(inputs: Properties, { id, scene, before }: Described): Properties {
  // A cluster of the same name made later is another one.
  const createdAt = textOf(before?.outputs.createdAt) ?? new Date(scene.now()).toISOString();
  const mark = hashHex(`${scene.scope} ${id} ${createdAt}`, 32).toUpperCase();
  const subnets = textsOf(objectOf(inputs.vpcConfig).subnetIds);
  const vpcId = scene.find(SUBNET).find((subnet) => subnets.includes(subnet.id))?.inputs.vpcId;
  return {
    arn: `arn:aws:eks:${scene.scope}:${ACCOUNT_ID}:cluster/${id}`,
    endpoint: scene.clusterApi?.urlOf(mark) ?? `https://${mark}.gr7.${scene.scope}.eks.amazonaws.com`,
    certificateAuthority: { data: scene.clusterApi?.authority() ?? caData(mark) },
    identities: [{ oidcs: [{ issuer: `https://oidc.eks.${scene.scope}.amazonaws.com/id/${mark}` }] }],
    version: textOf(inputs.version) ?? before?.outputs.version ?? EKS_DEFAULT_VERSION,
    platformVersion: 'eks.9',
    createdAt,
    // EKS has this id for clusters on Outposts only.
    clusterId: '',
    accessConfig: { authenticationMode: 'CONFIG_MAP', bootstrapClusterCreatorAdminPermissions: true },
    kubernetesNetworkConfig: { ipFamily: 'ipv4', serviceIpv4Cidr: '172.20.0.0/16', serviceIpv6Cidr: '' },
    upgradePolicy: { supportType: 'EXTENDED' },
    vpcConfig: {
      clusterSecurityGroupId: `sg-${hashHex(`${scene.scope} ${id} cluster`, 17)}`,
      vpcId: vpcId ?? '',
      endpointPrivateAccess: false,
      endpointPublicAccess: true,
      publicAccessCidrs: ['0.0.0.0/0'],
    },
  };
}

/** A certificate in shape, so that whoever decodes it finds PEM. */
export function caData(name: string): string {
  const body = Buffer.from(hashHex(name, 64).repeat(6))
    .toString('base64')
    .match(/.{1,64}/g)!;
  return Buffer.from(`-----BEGIN CERTIFICATE-----\n${body.join('\n')}\n-----END CERTIFICATE-----\n`).toString('base64');
}

function describeNodeGroup(inputs: Properties, { id, scene, before }: Described): Properties {
  const cluster = String(inputs.clusterName);
  const name = String(inputs.nodeGroupName);
  const clusterVersion = scene.find(CLUSTER).find((one) => one.id === cluster)?.outputs.version;
  const version =
    textOf(inputs.version) ?? textOf(before?.outputs.version) ?? asText(clusterVersion ?? EKS_DEFAULT_VERSION);
  const mark = hashHex(`${scene.scope} ${id}`, 32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  const hasTemplate = inputs.launchTemplate !== undefined;
  return {
    arn: `arn:aws:eks:${scene.scope}:${ACCOUNT_ID}:nodegroup/${cluster}/${name}/${mark}`,
    version,
    releaseVersion: textOf(inputs.releaseVersion) ?? `${version}.2-20261101`,
    amiType: 'AL2023_x86_64_STANDARD',
    capacityType: 'ON_DEMAND',
    diskSize: hasTemplate ? 0 : 20,
    instanceTypes: hasTemplate ? [] : ['t3.medium'],
    updateConfig: { maxUnavailable: 1 },
    nodeGroupNamePrefix: '',
    resources: [{ autoscalingGroups: [{ name: `eks-${name}-${mark}` }], remoteAccessSecurityGroupId: '' }],
  };
}

function refuseNodeGroup(inputs: Properties, scene: Scene, what: string, call: string): void {
  const cluster = requireActiveCluster(inputs, scene, what, call);
  requireRole(textOf(inputs.nodeRoleArn) ?? '', scene, what, 'IAM GetRole');
  requireScaling(inputs, what, call);
  requireNoSkew(inputs, scene, what, call);
  const invalid = (message: string) => awsError(what, call, 400, 'InvalidParameterException', message);
  const subnets = textsOf(inputs.subnetIds);
  const known = scene.find(SUBNET).filter(({ id }) => subnets.includes(id));
  const missing = subnets.filter((subnet) => !known.some(({ id }) => id === subnet));
  if (subnets.length === 0 || missing.length > 0)
    throw invalid(`The following subnets do not exist: [${missing.join(', ')}]`);
  const vpcId = objectOf(cluster.outputs.vpcConfig).vpcId;
  if (known.some(({ inputs: { vpcId: own } }) => own !== vpcId)) {
    throw invalid('Subnets specified must belong to the VPC of the cluster');
  }
  const amiType = textOf(inputs.amiType);
  if (amiType !== undefined && !AMI_TYPES.includes(amiType)) throw invalid(`${amiType} is not a valid AMI type`);
  const capacity = textOf(inputs.capacityType);
  if (capacity !== undefined && !['ON_DEMAND', 'SPOT', 'CAPACITY_BLOCK'].includes(capacity)) {
    throw invalid(`${capacity} is not a valid capacity type`);
  }
  const template = objectOf(inputs.launchTemplate);
  const templateId = textOf(template.id);
  if (templateId !== undefined && !scene.find(TEMPLATE).some(({ id }) => id === templateId)) {
    throw awsError(what, call, 400, 'InvalidRequestException', `Launch template ${templateId} could not be found`);
  }
  if (templateId !== undefined && inputs.diskSize !== undefined) {
    throw invalid('Disk size must be specified within the launch template.');
  }
  for (const type of textsOf(inputs.instanceTypes)) {
    const trouble = instanceTypeTrouble(type, scene.scope);
    if (trouble === 'unknown') throw invalid(`The following supplied instance types do not exist: [${type}]`);
    if (trouble === 'not_here')
      throw invalid(
        `Instance type ${type} is not supported in ${scene.scope}: no Availability Zone of the region offers it`,
      );
  }
  if (
    scene.find(NODE_GROUP).filter((other) => other.inputs.clusterName === cluster.id).length >= NODE_GROUPS_PER_CLUSTER
  ) {
    throw awsError(
      what,
      call,
      400,
      'ResourceLimitExceededException',
      `Nodegroup limit of ${NODE_GROUPS_PER_CLUSTER} per cluster exceeded`,
    );
  }
}

function requireScaling(inputs: Properties, what: string, call: string): void {
  const { minSize, maxSize, desiredSize } = objectOf(inputs.scalingConfig) as Record<string, number>;
  const invalid = (message: string) => awsError(what, call, 400, 'InvalidParameterException', message);
  if (minSize === undefined || maxSize === undefined || desiredSize === undefined) return;
  if (maxSize < 1) throw invalid('maxSize must be at least 1');
  if (minSize > maxSize) throw invalid(`Minimum capacity ${minSize} can't be greater than max size ${maxSize}`);
  if (desiredSize < minSize) throw invalid(`desired capacity ${desiredSize} can't be less than min size ${minSize}`);
  if (desiredSize > maxSize) throw invalid(`desired capacity ${desiredSize} can't be greater than max size ${maxSize}`);
  if (maxSize > NODES_PER_GROUP)
    throw awsError(
      what,
      call,
      400,
      'ResourceLimitExceededException',
      `Nodes per nodegroup limit of ${NODES_PER_GROUP} exceeded`,
    );
}

/** Nodes must not be newer than their cluster, nor three versions older. */
function requireNoSkew(inputs: Properties, scene: Scene, what: string, call: string): void {
  const version = textOf(inputs.version);
  const cluster = scene.find(CLUSTER).find(({ id }) => id === inputs.clusterName);
  if (version === undefined || !cluster) return;
  requireVersion(version, what, call);
  const clusterVersion = String(cluster.outputs.version);
  if (minorOf(version) > minorOf(clusterVersion) || minorOf(clusterVersion) - minorOf(version) > 3) {
    throw awsError(
      what,
      call,
      400,
      'InvalidParameterException',
      `Nodegroup Kubernetes version ${version} is not compatible with cluster version ${clusterVersion}`,
    );
  }
}

function requireVersion(version: string | undefined, what: string, call: string): void {
  if (version === undefined || EKS_VERSIONS.includes(version)) return;
  throw awsError(what, call, 400, 'InvalidParameterException', `unsupported Kubernetes version ${version}`);
}

function minorOf(version: string): number {
  return Number(version.split('.')[1]);
}

function requireSubnets(subnetIds: readonly string[], scene: Scene, what: string, call: string): void {
  const known = scene.find(SUBNET).filter(({ id }) => subnetIds.includes(id));
  const missing = subnetIds.filter((subnet) => !known.some(({ id }) => id === subnet));
  const invalid = (message: string) => awsError(what, call, 400, 'InvalidParameterException', message);
  if (missing.length > 0) throw invalid(`The subnet ID '${missing[0]}' does not exist`);
  const zones = new Set(known.map(({ inputs, outputs }) => inputs.availabilityZone ?? outputs.availabilityZone));
  if (zones.size < 2) throw invalid('Subnets specified must be in at least two different AZs');
  if (new Set(known.map(({ inputs }) => inputs.vpcId)).size > 1)
    throw invalid('Subnets specified must be in the same VPC');
}

function requireActiveCluster(inputs: Properties, scene: Scene, what: string, call: string): CloudResource {
  const name = textOf(inputs.clusterName) ?? '';
  const cluster = scene.find(CLUSTER).find(({ id }) => id === name);
  if (!cluster) throw awsError(what, call, 404, 'ResourceNotFoundException', `No cluster found for name: ${name}.`);
  const { status } = cluster.outputs;
  if (status !== 'ACTIVE' && status !== 'UPDATING') {
    throw awsError(
      what,
      call,
      400,
      'InvalidRequestException',
      `Cluster '${name}' is not in ACTIVE status: ${String(status)}`,
    );
  }
  return cluster;
}
