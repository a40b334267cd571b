/** One managed node group of an EKS cluster, with the launch template that says how its nodes start. */
import { createHash } from 'node:crypto';
import { LaunchTemplate } from '@pulumi/aws/ec2/launchTemplate.js';
import { NodeGroup } from '@pulumi/aws/eks/nodeGroup.js';
import type { Input } from '@pulumi/pulumi/output.js';
import type { Resource } from '@pulumi/pulumi/resource.js';
import { DISK_TAG } from '../domain/stack-tags.ts';

export interface EksNodeGroupArgs {
  /** Name within the cluster: "system", "gpu-1". */
  group: string;
  clusterName: Input<string>;
  nodeRoleArn: Input<string>;
  subnetIds: Input<string>[];
  instanceType: string;
  amiType: 'AL2023_x86_64_STANDARD' | 'AL2023_x86_64_NVIDIA' | 'BOTTLEROCKET_x86_64_NVIDIA';
  capacityType: 'ON_DEMAND' | 'SPOT';
  scaling: { minSize: number; desiredSize: number; maxSize: number };
  /** Somebody else (an autoscaler) decides how many nodes there are: the engine leaves that number alone. */
  autoscaled: boolean;
  diskGib: number;
  kubernetesVersion: string;
  labels: Record<string, string>;
  taints: { key: string; value: string; effect: string }[];
  tags: Record<string, string>;
}

/**
 * What replaces a group is in its name, so that the new one can be made while the old one still runs its Pods. @param dependsOn what
 * nodes need before they start
 */
export function makeNodeGroup(
  cluster: string,
  args: EksNodeGroupArgs,
  options: { parent: Resource; dependsOn: Resource[] },
): NodeGroup {
  const logicalName = `${cluster}-${args.group}`;
  const template = makeLaunchTemplate(logicalName, args, options.parent);
  return new NodeGroup(
    logicalName,
    {
      clusterName: args.clusterName,
      nodeGroupName: `${args.group}-${hashOf([args.instanceType, args.amiType, args.capacityType])}`,
      nodeRoleArn: args.nodeRoleArn,
      subnetIds: args.subnetIds,
      amiType: args.amiType,
      capacityType: args.capacityType,
      instanceTypes: [args.instanceType],
      launchTemplate: { id: template.id, version: template.latestVersion.apply(String) },
      scalingConfig: args.scaling,
      updateConfig: { maxUnavailable: 1 },
      nodeRepairConfig: { enabled: true },
      version: args.kubernetesVersion,
      labels: args.labels,
      taints: args.taints,
      tags: { ...args.tags, [DISK_TAG]: String(args.diskGib) },
    },
    { ...options, ...(args.autoscaled ? { ignoreChanges: ['scalingConfig.desiredSize'] } : {}) },
  );
}

/** Disks encrypted; node credentials not for Pods (a hop limit of 1), only by session tokens; nodes and disks tagged, which the group's own tags do not do. */
function makeLaunchTemplate(logicalName: string, args: EksNodeGroupArgs, parent: Resource): LaunchTemplate {
  const disk = {
    volumeType: 'gp3',
    volumeSize: args.diskGib,
    encrypted: 'true',
    deleteOnTermination: 'true',
  };
  // Bottlerocket keeps images and containers on its second disk.
  const deviceName = args.amiType.startsWith('BOTTLEROCKET') ? '/dev/xvdb' : '/dev/xvda';
  return new LaunchTemplate(
    logicalName,
    {
      name: logicalName,
      updateDefaultVersion: true,
      blockDeviceMappings: [{ deviceName, ebs: disk }],
      metadataOptions: { httpEndpoint: 'enabled', httpTokens: 'required', httpPutResponseHopLimit: 1 },
      tagSpecifications: ['instance', 'volume', 'network-interface'].map((resourceType) => ({
        resourceType,
        tags: { ...args.tags, Name: logicalName },
      })),
      tags: { ...args.tags, Name: logicalName },
    },
    { parent },
  );
}

function hashOf(parts: readonly string[]): string {
  return createHash('sha256').update(parts.join('\n')).digest('hex').slice(0, 6);
}
