/** Clusters on the wire: Kubernetes clusters that an org makes of cloud resources, or registers with a kubeconfig. */
import { z } from 'zod';
import { CLUSTER_KINDS, CLUSTER_STATUSES } from '../../domain/clusters/cluster.ts';
import { DEFAULT_AGENT_NAMESPACE } from '../../domain/clusters/enrolment.ts';
import { PLATFORMS } from '../../domain/clusters/platform.ts';
import { NODE_STATUSES, NODE_VERDICTS } from '../../domain/node.ts';
import { STACK_NAME_PATTERN, STACK_NAME_RULE } from '../../domain/stack-kind.ts';
import { TAG_VALUE_PATTERN, TAG_VALUE_RULE } from '../../domain/stack-tags.ts';
import { operationRef } from './operations.ts';
import { commaList, id, pageOf, pageQuery, positiveUsd, time } from './values.ts';

const name = z.string().regex(STACK_NAME_PATTERN, STACK_NAME_RULE);
const tag = z.string().regex(TAG_VALUE_PATTERN, TAG_VALUE_RULE);
const planHash = z.string().regex(/^[0-9a-f]{64}$/, 'must be the planHash of a dry run');
const kubernetesVersion = z.string().regex(/^1\.\d{1,3}$/, 'must be a minor version such as "1.34"');
const groups = z.array(z.record(z.string(), z.unknown())).max(20);

/** 200 KiB hold a kubeconfig with long certificate chains. */
const kubeconfig = z.union([z.string().min(1).max(200_000), z.record(z.string(), z.unknown())]).meta({
  description:
    'YAML or JSON text, or the JSON document itself. Its current context is used. It must prove itself by a token or by certificate data: plugins, files, passwords and blind trust are refused',
});

const atCloud = {
  kubernetesVersion: kubernetesVersion.optional().meta({ description: 'Default: the newest that the cloud offers' }),
};

/** What every cluster that is made here takes. */
const made = {
  name,
  config: z.record(z.string(), z.unknown()).optional().meta({
    description: "More of what the kind's stack takes (`GET /stacks/kinds`), such as networks, admins and logs",
  }),
  owner: tag.optional().meta({ description: 'Who answers for it: a tag on everything. Default: who asks' }),
  costCentre: tag.optional().meta({ description: "Who pays: a tag on everything. Default: the org's id" }),
  ceilingUsdPerHour: positiveUsd.optional().meta({ description: 'What costs more is refused before anything is made' }),
  protect: z.boolean().default(true).meta({ description: 'Refuse to delete it' }),
  dryRun: z.boolean().default(false).meta({ description: 'Only say what would be made and what it would cost' }),
  planHash: planHash.optional().meta({ description: 'Of a dry run: exactly that is made, or nothing' }),
};

export const createClusterBody = z
  .discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('eks'),
      region: z.string(),
      gpuNodeGroups: groups.optional().meta({ description: 'As the eks stack takes them' }),
      ...atCloud,
      ...made,
    }),
    z.strictObject({
      kind: z.literal('aks'),
      location: z.string(),
      gpuNodePools: groups.optional().meta({ description: 'As the aks stack takes them' }),
      ...atCloud,
      ...made,
    }),
    z.strictObject({
      kind: z.literal('onprem'),
      hosts: z.array(z.record(z.string(), z.unknown())).min(1).max(200).meta({
        description:
          '`{address, port, user, hostKeySha256, …}` as the onprem stack takes them; the first is the server',
      }),
      credentialRef: z
        .string()
        .optional()
        .meta({ description: 'Id or name of the credential of all hosts that name none of their own' }),
      k3s: z
        .record(z.string(), z.unknown())
        .meta({ description: 'What is installed: `{artefactUrl, artefactSha256, …}` as the onprem stack takes it' }),
      ...made,
    }),
    z.strictObject({ kind: z.literal('registered'), name, kubeconfig }),
  ])
  .meta({ id: 'CreateCluster' });
export type CreateClusterInput = z.infer<typeof createClusterBody>;

export const replaceKubeconfigBody = z.strictObject({ kubeconfig }).meta({ id: 'ReplaceKubeconfig' });

/** What every change of a cluster takes. */
const planned = {
  dryRun: z.boolean().default(false).meta({ description: 'Only say what would change and what it would cost' }),
  planHash: planHash.optional().meta({ description: 'Of a dry run: exactly that is done, or nothing' }),
};

const size = z.int().min(0).max(1000);
export const scaleClusterBody = z
  .strictObject({
    nodeGroup: z.string().min(1).max(63).meta({ description: 'Name of a group (EKS) or pool (AKS) of GPU nodes' }),
    minSize: size.optional().meta({
      description:
        'Fewest nodes: of a fixed group that `desiredSize` may be, of an autoscaled one that its autoscaler may leave. Default: as it is',
    }),
    maxSize: size.min(1).optional().meta({ description: 'Most nodes, likewise: what the group can cost at worst' }),
    desiredSize: size.optional().meta({
      description:
        'Nodes now. Of a fixed group it stays so; of an autoscaled one it is set once, and its autoscaler goes on from there. Default: the number stays as it is, moved between minSize and maxSize where it is outside; needed for an autoscaled group whose nodes nobody has seen lately',
    }),
    ...planned,
  })
  .refine(
    (body) => body.minSize !== undefined || body.maxSize !== undefined || body.desiredSize !== undefined,
    'must say minSize, maxSize or desiredSize',
  )
  .meta({ id: 'ScaleCluster' });

export const upgradeClusterBody = z
  .strictObject({
    kubernetesVersion: kubernetesVersion.meta({ description: 'The next minor: one at a time, never back' }),
    ...planned,
  })
  .meta({ id: 'UpgradeCluster' });

const summary = z.object({
  total: z.int(),
  ready: z.int(),
  withUnknownGpuCount: z.int().meta({ description: 'Nodes with accelerators of which nobody tells how many' }),
  accelerators: z.array(
    z.object({
      hardwareType: z.enum(['cpu', 'cuda', 'hpu']),
      gpuModel: z.string().nullable(),
      nodes: z.int(),
      gpus: z.int(),
    }),
  ),
});

export const cluster = z
  .object({
    id: id('cluster'),
    name: z.string(),
    kind: z.enum(CLUSTER_KINDS),
    status: z.enum(CLUSTER_STATUSES),
    reason: z.string().nullable().meta({ description: 'Why it is not available; null: it is, or nobody has looked' }),
    stackId: z.string().nullable().meta({ description: 'The stack that it is made by; null: a registered one' }),
    region: z.string().nullable(),
    endpoint: z.string().nullable(),
    platform: z.enum(PLATFORMS).nullable().meta({ description: 'null: nobody has looked yet; likewise what follows' }),
    platformVersion: z.string().nullable(),
    kubernetesVersion: z.string().nullable(),
    nodes: summary.nullable(),
    isStopped: z.boolean().nullable().meta({ description: 'Whether the whole of it is stopped; null: it cannot be' }),
    priceMicroUsdPerHour: z.int().nullable().meta({
      description:
        'Of all of its stack that has a price, as it is now; stopped it is less. null: nothing was made yet, or a registered one',
    }),
    operation: operationRef.nullable().meta({ description: 'What is under way on its stack' }),
    allowedActions: z.array(z.string()),
    failure: z.object({ code: z.string(), detail: z.string() }).nullable(),
    checkedAt: time.nullable(),
    answeredAt: time.nullable().meta({ description: 'When it last answered' }),
    createdAt: time,
  })
  .meta({ id: 'Cluster' });
export type ClusterReply = z.infer<typeof cluster>;
export const clusterPage = pageOf(cluster).meta({ id: 'ClusterPage' });

export const clusterListQuery = pageQuery.extend({
  kind: z.enum(CLUSTER_KINDS).optional(),
  status: commaList(CLUSTER_STATUSES).optional().meta({ description: 'Default: all but `destroyed`' }),
});

export const clusterAccepted = z
  .object({
    operation: operationRef,
    cluster: cluster.nullable().meta({
      description: 'null: a dry run that takes long; its plan is `GET /stacks/:id/plans/:operationId`',
    }),
  })
  .meta({ id: 'ClusterAccepted' });
export type ClusterAccepted = z.infer<typeof clusterAccepted>;

const taint = z.object({ key: z.string(), value: z.string().nullable(), effect: z.string() });

/** Beside what Kubernetes tells: read on the node itself, and newer. */
const nodeAgent = z.object({
  nodeId: id('node'),
  status: z.enum(NODE_STATUSES),
  statusReason: z.string().nullable(),
  lastHeartbeatAt: time.nullable(),
  health: z.enum(NODE_VERDICTS),
  healthReason: z.string().nullable(),
  hardwareType: z.enum(['cpu', 'cuda', 'hpu']).nullable(),
  gpuModels: z.array(z.string()).nullable(),
  gpuCount: z.int().nullable().meta({ description: 'null: could not be read, which is not 0' }),
  gpuMemoryMib: z.number().nullable().meta({ description: 'Of all its GPUs' }),
  driverVersion: z.string().nullable(),
  migDevices: z.int().nullable().meta({ description: 'Slices; null: MIG is off, or nobody tells' }),
});

export const clusterNode = z
  .object({
    name: z.string(),
    hardwareType: z.enum(['cpu', 'cuda', 'hpu']),
    gpuModel: z.string().nullable(),
    gpuCount: z.int().nullable().meta({ description: 'null: not known, which is not 0' }),
    gpuMemoryMib: z.int().nullable().meta({ description: 'Of one GPU' }),
    driverVersion: z.string().nullable(),
    cudaVersion: z.string().nullable(),
    mig: z
      .object({ strategy: z.string(), profiles: z.array(z.object({ profile: z.string(), count: z.int() })) })
      .nullable(),
    gaudi: z.object({ devices: z.int().nullable(), model: z.string().nullable() }).nullable(),
    isReady: z.boolean(),
    notReadyReason: z.string().nullable(),
    isSchedulable: z.boolean(),
    pressures: z.array(z.string()),
    taints: z.array(taint),
    cpuMilli: z.int().nullable(),
    memoryBytes: z.int().nullable(),
    instanceType: z.string().nullable(),
    zone: z.string().nullable(),
    nodeGroup: z.string().nullable(),
    kubeletVersion: z.string().nullable(),
    osImage: z.string().nullable(),
    architecture: z.string().nullable(),
    uid: z.string().nullable(),
    agent: nodeAgent.nullable().meta({ description: 'What our agent on it reports. null: none has joined' }),
  })
  .meta({ id: 'ClusterNode' });

const takenAt = time.nullable().meta({ description: 'When it was read; null: nobody could yet' });

export const clusterNodes = z.object({ takenAt, items: z.array(clusterNode) }).meta({ id: 'ClusterNodes' });
export type ClusterNodesReply = z.infer<typeof clusterNodes>;

export const clusterHealth = z
  .object({
    status: z.enum(CLUSTER_STATUSES),
    reason: z.string().nullable(),
    checkedAt: time.nullable(),
    answeredAt: time.nullable(),
    changing: z
      .object({ direction: z.enum(['worse', 'better']), to: z.string(), looks: z.int(), of: z.int() })
      .nullable()
      .meta({ description: 'Looks in a row that say otherwise, and how many it takes; null: they agree' }),
    nodes: summary.nullable(),
    unfitNodes: z.array(
      z.object({
        name: z.string(),
        isReady: z.boolean(),
        reason: z.string().nullable(),
        pressures: z.array(z.string()),
      }),
    ),
  })
  .meta({ id: 'ClusterHealth' });
export type ClusterHealthReply = z.infer<typeof clusterHealth>;

export const clusterKubeconfig = z
  .object({
    kubeconfig: z.string().meta({ description: 'JSON, which is YAML. Secret' }),
    expiresAt: time.nullable().meta({ description: 'Of the token in it; null: it holds what was registered' }),
  })
  .meta({ id: 'ClusterKubeconfig' });

export const enrolClusterBody = z
  .strictObject({
    namespace: z
      .string()
      .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'must be a Kubernetes namespace')
      .default(DEFAULT_AGENT_NAMESPACE)
      .meta({ description: 'Where its agents run, under the service account `muster-agent`' }),
  })
  .meta({ id: 'EnrolCluster' });

export const clusterEnrolment = z
  .object({
    token: z.string().meta({ description: 'For the agents of its nodes. Shown only now' }),
    namespace: z.string(),
    serviceAccount: z.string(),
    audience: z.string().meta({ description: 'For whom the service account tokens must be made out' }),
    previousUntil: time
      .nullable()
      .meta({ description: 'Until when the token before still works; null: there is none' }),
  })
  .meta({ id: 'ClusterEnrolment' });

export const clusterEvents = z
  .object({
    takenAt,
    items: z.array(
      z.object({
        reason: z.string(),
        message: z.string(),
        objectKind: z.string(),
        objectName: z.string(),
        namespace: z.string().nullable(),
        count: z.int(),
        lastSeenAt: time.nullable(),
      }),
    ),
  })
  .meta({ id: 'ClusterEvents' });

export const clusterStorageClasses = z
  .object({
    takenAt,
    items: z.array(
      z.object({
        name: z.string(),
        provisioner: z.string(),
        isDefault: z.boolean(),
        reclaimPolicy: z.string().nullable(),
        volumeBindingMode: z.string().nullable(),
        allowsExpansion: z.boolean(),
      }),
    ),
  })
  .meta({ id: 'ClusterStorageClasses' });
