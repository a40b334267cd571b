/** Nodes on the wire: what agents send and are answered, and what people see of them. null is always "not known", never zero. */
import { z } from 'zod';
import { GPU_TROUBLE_KINDS, NODE_STATUSES, NODE_VERDICTS } from '../../domain/node.ts';
import {
  CREDENTIAL_REF_PATTERN,
  CREDENTIAL_REF_RULE,
  DEFAULT_AGENT_DIRECTORY,
  DEFAULT_SSH_PORT,
  HOST_ADDRESS_PATTERN,
  HOST_ADDRESS_RULE,
  HOST_DIRECTORY_PATTERN,
  HOST_DIRECTORY_RULE,
  HOST_KEY_PATTERN,
  HOST_KEY_RULE,
  HOST_PATH_PATTERN,
  HOST_PATH_RULE,
  HOST_USER_PATTERN,
  HOST_USER_RULE,
} from '../../domain/on-prem-host.ts';
import { STACK_NAME_PATTERN, STACK_NAME_RULE } from '../../domain/stack-kind.ts';
import { TAG_VALUE_PATTERN, TAG_VALUE_RULE } from '../../domain/stack-tags.ts';
import { operationRef } from './operations.ts';
import { acknowledgedOrders, order, orderReports } from './orders.ts';
import { containerEngine, desiredPod, podReports } from './pods.ts';
import { flag, id, pageOf, pageQuery, time } from './values.ts';

/** As the header in which agents send their one-time token or their key. */
export const AGENT_KEY_HEADER = 'x-agent-api-key';

const MAX_GPUS = 64;
const MAX_MIG_DEVICES = 16;

const shortText = z.string().max(200);
const sentence = z.string().max(1_000);
const count = z.number().min(0).max(1e12);
const measured = z.number().min(-1e9).max(1e9);

export const migDevice = z.strictObject({
  index: z.int().min(0).max(255),
  uuid: shortText.nullable(),
  profile: shortText.nullable(),
  memoryTotalMib: count.nullable(),
  memoryUsedMib: count.nullable(),
});
export type MigDevice = z.infer<typeof migDevice>;

export const gpu = z
  .strictObject({
    index: z.int().min(0).max(1_023).nullable(),
    uuid: shortText.nullable(),
    name: shortText.nullable(),
    busId: shortText.nullable(),
    memoryTotalMib: count.nullable(),
    memoryUsedMib: count.nullable(),
    memoryFreeMib: count.nullable(),
    utilizationPercent: measured.nullable(),
    memoryUtilizationPercent: measured.nullable(),
    temperatureC: measured.nullable(),
    memoryTemperatureC: measured.nullable(),
    powerW: measured.nullable(),
    powerLimitW: measured.nullable(),
    pstate: shortText.nullable(),
    eccUncorrected: count.nullable().meta({ description: 'Uncorrected ECC errors since the driver was loaded' }),
    migMode: z.enum(['enabled', 'disabled']).nullable(),
    migDevices: z.array(migDevice).max(MAX_MIG_DEVICES).nullable(),
    problem: sentence.nullable().meta({ description: 'What is wrong with this GPU, in words' }),
  })
  .meta({ id: 'NodeGpu' });
export type Gpu = z.infer<typeof gpu>;

export const gpuReading = z
  .strictObject({
    verdict: z.enum(NODE_VERDICTS),
    reason: sentence.nullable(),
    trouble: z
      .enum(GPU_TROUBLE_KINDS)
      .optional()
      .meta({ description: 'What `failed` means. Absent: nothing that is known' }),
    readAt: time.nullable(),
    driverVersion: shortText.nullable(),
    hardwareType: z.enum(['cpu', 'cuda', 'hpu']).nullable().optional().meta({
      description: 'Whose devices they are: none, NVIDIA, Habana Gaudi. null or absent: not known',
    }),
    gpus: z.array(gpu).max(MAX_GPUS).nullable().meta({ description: 'null: could not be read, so nothing is known' }),
  })
  .meta({ id: 'GpuReading' });
export type GpuReading = z.infer<typeof gpuReading>;

export const systemFacts = z
  .strictObject({
    hostname: shortText.nullable(),
    os: shortText.nullable(),
    kernel: shortText.nullable(),
    architecture: shortText.nullable(),
    cpuModel: shortText.nullable(),
    cpuCount: count.nullable(),
    load1: measured.nullable(),
    memoryTotalMib: count.nullable(),
    memoryAvailableMib: count.nullable(),
    diskTotalMib: count.nullable(),
    diskFreeMib: count.nullable(),
    uptimeSeconds: count.nullable(),
    agentRssMib: count.nullable(),
    agentUpdateTrouble: z
      .string()
      .max(300)
      .optional()
      .meta({ description: 'Why its agent is not the one that is handed out. Absent: nothing went wrong' }),
    cpuPercent: measured.nullable().optional().meta({ description: 'Of all processors, since the heartbeat before' }),
    memoryUsedMib: count.nullable().optional(),
    disks: z
      .array(z.strictObject({ path: z.string().max(300), totalMib: count.nullable(), freeMib: count.nullable() }))
      .max(8)
      .optional(),
    networkReceivedBytes: count.nullable().optional().meta({ description: 'Since the boot, without loopback' }),
    networkSentBytes: count.nullable().optional(),
    networkReceivedBytesPerSecond: count.nullable().optional(),
    networkSentBytesPerSecond: count.nullable().optional(),
  })
  .meta({ id: 'NodeSystem' });
export type SystemFacts = z.infer<typeof systemFacts>;

export const registerBody = z
  .strictObject({
    nonce: z
      .string()
      .regex(/^[A-Za-z0-9_-]{32,128}$/, 'must be 32 to 128 letters, digits, "_" or "-"')
      .meta({ description: 'Random, made and kept by the agent: the same one may ask again when the answer was lost' }),
    agentVersion: shortText,
    hostname: shortText.nullable(),
    kubernetesToken: z
      .string()
      .max(16_384)
      .regex(/^[\w-]+\.[\w-]+\.[\w-]+$/, 'must be a service account token')
      .optional()
      .meta({
        description:
          'On a node of a cluster: the service account token of the Pod, made out for the audience `muster`. The cluster is asked which node it is',
      }),
  })
  .meta({ id: 'RegisterNode' });
export type RegisterBody = z.infer<typeof registerBody>;

export const registerReply = z
  .object({
    nodeId: id('node'),
    key: z.string().meta({ description: 'Shown only now. Sent from then on as X-Agent-API-Key' }),
    intervalMs: z.int().meta({ description: 'Between two heartbeats' }),
  })
  .meta({ id: 'RegisteredNode' });
export type RegisterReply = z.infer<typeof registerReply>;

/** A minute that could not be told when it was. */
export const lateSample = z
  .strictObject({
    agoMs: z.int().min(0).max(86_399_999).meta({ description: 'Before this heartbeat' }),
    verdict: z.enum(NODE_VERDICTS),
    gpuPercent: measured.nullable(),
    gpuPeakPercent: measured.nullable(),
    gpuMemoryUsedMib: count.nullable(),
    gpuMemoryTotalMib: count.nullable(),
    gpuTemperatureC: measured.nullable(),
    gpuPowerW: measured.nullable(),
    load1: measured.nullable(),
    cpuPercent: measured.nullable(),
    memoryAvailableMib: count.nullable(),
    memoryUsedMib: count.nullable(),
    diskFreeMib: count.nullable(),
    networkReceivedBytesPerSecond: count.nullable(),
    networkSentBytesPerSecond: count.nullable(),
    isActivityDeclared: z.boolean().nullable(),
  })
  .meta({ id: 'LateSample' });
export type LateSample = z.infer<typeof lateSample>;

/** What is optional came later: an agent sends it only to a control plane that names a `desiredRevision` in its answers. */
export const heartbeatBody = z
  .strictObject({
    bootId: z.string().regex(/^[A-Za-z0-9._-]{8,128}$/, 'must be 8 to 128 letters, digits, ".", "_" or "-"'),
    sequence: z.int().min(0).meta({ description: 'Grows with every heartbeat of a boot' }),
    agentVersion: shortText,
    system: systemFacts,
    gpu: gpuReading,
    gpuPeakPercent: measured
      .nullable()
      .optional()
      .meta({ description: 'Of the busiest GPU, the highest of the last minute; null: not known of all of them' }),
    activity: z
      .strictObject({ declaredAgoMs: z.int().min(0).nullable().meta({ description: 'null: none was declared' }) })
      .optional()
      .meta({ description: 'When a workload last declared that it is busy. Absent: not known' }),
    desiredRevision: z.int().min(0).optional().meta({ description: 'What the agent acts upon' }),
    orders: orderReports.optional().meta({ description: 'Those that run, and those ended that were not acknowledged' }),
    pods: podReports
      .optional()
      .meta({ description: 'Absent: the node has no container engine, or it is not known yet' }),
    samples: z.array(lateSample).max(60).optional(),
  })
  .meta({ id: 'Heartbeat' });
export type HeartbeatBody = z.infer<typeof heartbeatBody>;

export const heartbeatReply = z
  .object({
    accepted: z.boolean().meta({ description: 'false: an older one than the last; nothing was recorded' }),
    intervalMs: z.int(),
    key: z.string().optional().meta({ description: 'Replaces the present key; both work until this one is used' }),
    desiredRevision: z.int().meta({ description: 'Ask `GET /nodes/desired` where it is another than yours' }),
    acknowledgedOrders,
    deadManMs: z
      .int()
      .nullable()
      .meta({ description: 'Without an answer of ours for so long the machine switches itself off; null: never' }),
    isFenced: z.boolean().meta({ description: 'Stop the pods, and write nothing that outlives the machine' }),
    agentSha256: z.string().nullable().meta({ description: 'Of the agent that we hand out; null: not known now' }),
  })
  .meta({ id: 'HeartbeatAnswer' });
export type HeartbeatReply = z.infer<typeof heartbeatReply>;

/** Proxies cut what is silent for longer. */
export const MAX_DESIRED_WAIT_MS = 25_000;

export const desiredQuery = z.strictObject({
  after: z.coerce
    .number({ error: 'must be a revision' })
    .int()
    .min(-1)
    .default(-1)
    .meta({ description: 'The revision that the agent acts upon; -1: none' }),
  waitMs: z.coerce
    .number({ error: `must be an integer from 0 to ${MAX_DESIRED_WAIT_MS}` })
    .int()
    .min(0)
    .max(MAX_DESIRED_WAIT_MS)
    .default(0)
    .meta({ description: 'How long to wait for a greater one' }),
});

export const desiredReply = z
  .object({
    revision: z.int(),
    isFenced: z.boolean(),
    orders: z.array(order).nullable().meta({
      description: 'All that shall be done or go on; null: as at `after`. One that is not there is not wanted',
    }),
    pods: z.array(desiredPod).nullable().meta({
      description:
        'All that shall be on the node; null: as at `after`. A container of ours that is not there is removed',
    }),
  })
  .meta({ id: 'DesiredNode' });
export type DesiredReply = z.infer<typeof desiredReply>;

export const reportsBody = z
  .strictObject({
    orders: orderReports.optional(),
    pods: podReports.optional(),
    poweringOff: z
      .strictObject({ reason: z.string().max(200) })
      .optional()
      .meta({ description: 'The agent switches the machine off' }),
  })
  .meta({ id: 'NodeReports' });
export type ReportsBody = z.infer<typeof reportsBody>;

export const reportsReply = z.object({ acknowledgedOrders }).meta({ id: 'NodeReportsAnswer' });
export type ReportsReply = z.infer<typeof reportsReply>;

export const nodeHost = z
  .object({
    stackId: id('stack').meta({ description: 'The stack that looks after it' }),
    name: z.string().meta({ description: 'In the stack' }),
    address: z.string(),
    port: z.int(),
    user: z.string(),
    hostKeySha256: z.string(),
    credentialId: id('credential').nullable(),
    labels: z.record(z.string(), z.string()),
    isAddedAlone: z
      .boolean()
      .meta({ description: 'By `POST /nodes`, with a stack of its own; false: its stack has it among others' }),
  })
  .meta({ id: 'NodeHost' });

const label = z.string().max(128);

export const addNodeBody = z
  .strictObject({
    name: z
      .string()
      .regex(STACK_NAME_PATTERN, STACK_NAME_RULE)
      .optional()
      .meta({ description: 'Of its stack. Default: made of its id' }),
    address: z.string().regex(HOST_ADDRESS_PATTERN, HOST_ADDRESS_RULE),
    port: z.int().min(1).max(65_535).default(DEFAULT_SSH_PORT),
    user: z
      .string()
      .regex(HOST_USER_PATTERN, HOST_USER_RULE)
      .default('root')
      .meta({ description: 'root, or one who may use sudo without a password' }),
    hostKeySha256: z.string().regex(HOST_KEY_PATTERN, HOST_KEY_RULE).meta({
      description: 'Fingerprint of one of its host keys. A host that shows another gets no login and no command',
    }),
    credentialRef: z.string().regex(CREDENTIAL_REF_PATTERN, CREDENTIAL_REF_RULE).meta({
      description: 'Id or name of a credential (`POST /credentials`): the SSH private key',
    }),
    labels: z
      .record(
        z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/, 'must be 1 to 63 letters, digits and . _ / -'),
        label,
      )
      .refine((labels) => Object.keys(labels).length <= 32, 'must be at most 32')
      .default({}),
    nodePath: z
      .string()
      .regex(HOST_PATH_PATTERN, HOST_PATH_RULE)
      .optional()
      .meta({ description: 'The Node that runs the agent. Default: the newest on its PATH' }),
    agentDir: z
      .string()
      .regex(HOST_DIRECTORY_PATTERN, HOST_DIRECTORY_RULE)
      .default(DEFAULT_AGENT_DIRECTORY)
      .meta({ description: 'Where everything of the agent lies' }),
    costCentre: z.string().regex(TAG_VALUE_PATTERN, TAG_VALUE_RULE).default('on-prem'),
  })
  .meta({ id: 'AddNode' });
export type AddNodeInput = z.output<typeof addNodeBody>;

export const deleteNodeQuery = z.strictObject({
  forget: flag.optional().meta({
    description: '`true`: its host is dead for ever. What cannot be uninstalled is let go. Default: it is tried again',
  }),
});

export const node = z
  .object({
    id: id('node'),
    status: z.enum(NODE_STATUSES),
    statusReason: z.string().nullable(),
    instanceId: id('instance').nullable(),
    attemptId: id('attempt').nullable(),
    standbyId: id('standby').nullable().meta({ description: 'null: no standby' }),
    host: nodeHost.nullable().meta({ description: 'null: no host of our own' }),
    cluster: z
      .object({ id: id('cluster'), name: z.string(), nodeName: z.string(), nodeUid: z.string() })
      .nullable()
      .meta({ description: 'Whose node it is, and how Kubernetes calls it. null: of no cluster' }),
    isCordoned: z.boolean().meta({ description: 'It takes no new work' }),
    suspicion: z
      .object({
        verdict: z.enum(['suspect', 'dead']),
        since: time,
        reasons: z.array(z.string()),
        checkedAt: time,
      })
      .nullable()
      .meta({
        description:
          'What speaks against it: one source alone makes it `suspect`, two that agree `dead`, and then its work goes on elsewhere by policy. null: nothing does',
      }),
    health: z.enum(NODE_VERDICTS).meta({ description: 'Of its GPUs, held against what was promised' }),
    healthReason: z.string().nullable(),
    agentVersion: z.string().nullable().meta({ description: 'null: no agent has registered yet' }),
    engine: containerEngine.nullable().meta({ description: 'By which it runs pods; null: its agent told of none' }),
    bootId: z.string().nullable(),
    reboots: z.int(),
    rebootedAt: time.nullable(),
    registeredAt: time.nullable(),
    lastHeartbeatAt: time.nullable(),
    system: systemFacts.nullable(),
    gpu: gpuReading.nullable(),
    isFenced: z.boolean().meta({ description: 'It may write nothing that outlives its machine' }),
    activityDeclaredAt: time.nullable().meta({ description: 'When a workload last declared that it is busy' }),
    poweringOffAt: time.nullable().meta({ description: 'When its agent said that it switches the machine off' }),
    poweringOffReason: z.string().nullable(),
  })
  .meta({ id: 'Node' });
export type Node = z.infer<typeof node>;

export const nodeAccepted = z.object({ operation: operationRef, node }).meta({ id: 'NodeAccepted' });

export const nodePage = pageOf(node).meta({ id: 'NodePage' });

export const nodeListQuery = pageQuery.extend({
  status: z.enum(NODE_STATUSES).optional(),
  instanceId: id('instance').optional(),
  clusterId: id('cluster').optional(),
});
