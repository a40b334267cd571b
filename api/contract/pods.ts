/** Pods on the wire: what people ask for and see, what a node's agent is to run, and what it says of that. */
import { z } from 'zod';
import { CREDENTIAL_REF_PATTERN, CREDENTIAL_REF_RULE } from '../../domain/on-prem-host.ts';
import {
  LOG_STREAMS,
  NODE_LOSS_POLICIES,
  POD_HEALTHS,
  POD_REPORT_STATUSES,
  POD_STATUSES,
  PORT_PROTOCOLS,
  RESTART_POLICIES,
} from '../../domain/pods/pod.ts';
import { isImageReference } from './image-reference.ts';
import { commaList, flag, id, pageOf, pageQuery, time } from './values.ts';

const MAX_PODS_OF_NODE = 200;
const MAX_ENV_CHARS = 32_768;

const name = z
  .string()
  .regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, 'must be 1 to 63 lower-case letters, digits and inner dashes');
const words = z.array(z.string().max(8_192).refine(isClean, 'must not have a NUL')).max(256);
const envName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'must be a letter or "_", then letters, digits, "_"');
const env = z
  .record(envName, z.string().max(8_192).refine(isClean, 'must not have a NUL'))
  .refine((record) => Object.keys(record).length <= 200, 'must be at most 200')
  .refine((record) => JSON.stringify(record).length <= MAX_ENV_CHARS, `must be at most ${MAX_ENV_CHARS} characters`);
const portNumber = z.int().min(1).max(65_535);

const port = z.strictObject({
  containerPort: portNumber,
  hostPort: portNumber.nullable().default(null).meta({ description: 'On the node. null: a free one, told in `ports`' }),
  protocol: z.enum(PORT_PROTOCOLS).default('tcp'),
});

const target = z
  .string()
  .max(255)
  .regex(/^(?:\/[A-Za-z0-9._@+-]+)+$/, 'must be an absolute path in the container, and not /')
  .refine((path) => !hasDots(path), 'must not have "." or ".."');
const mount = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('workspace'),
    path: z
      .string()
      .max(255)
      .regex(
        /^(?:[A-Za-z0-9._@+-]+(?:\/[A-Za-z0-9._@+-]+)*)?$/,
        'must be a relative path below the workspace, or empty',
      )
      .refine((path) => !hasDots(path), 'must not have "." or ".."')
      .default('')
      .meta({ description: "A folder below the node's workspace, made where it is not there; empty: all of it" }),
    target,
    isReadOnly: z.boolean().default(false),
  }),
  z.strictObject({
    kind: z.literal('volume'),
    name: z
      .string()
      .regex(/^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/, 'must be 1 to 32 lower-case letters, digits and inner dashes'),
    target,
    isReadOnly: z.boolean().default(false),
  }),
]);

const seconds = z.int().min(1).max(3_600);
const probe = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('command'), command: words.min(1) }),
  z.strictObject({ kind: z.literal('tcp'), port: portNumber }),
  z.strictObject({
    kind: z.literal('http'),
    port: portNumber,
    path: z
      .string()
      .max(1_024)
      .regex(/^\/[\x21-\x7e]*$/, 'must be a path that begins with "/"')
      .default('/'),
  }),
]);
const healthCheck = z.strictObject({
  probe: probe.meta({
    description:
      '`command` is run in the container by the engine; `tcp` and `http` (2xx, 3xx) are asked by the agent, of a port that is published',
  }),
  intervalSeconds: seconds.default(10),
  timeoutSeconds: seconds.default(5),
  retries: z.int().min(1).max(100).default(3),
  startPeriodSeconds: z.int().min(0).max(3_600).default(30),
});
const resources = z.strictObject({
  cpus: z
    .number()
    .min(0.01)
    .max(1_024)
    .nullable()
    .default(null)
    .meta({ description: 'null: no limit, and nothing is kept for it' }),
  memoryMib: z
    .int()
    .min(8)
    .max(16_777_216)
    .nullable()
    .default(null)
    .meta({ description: 'null: no limit, and nothing is kept for it' }),
  shmMib: z.int().min(1).max(1_048_576).nullable().default(null),
  maxProcesses: z.int().min(16).max(4_194_304).default(4_096),
});

export const podSpec = z.strictObject({
  image: z.string().refine(isImageReference, 'must be an image reference, such as "ghcr.io/acme/tool:1"'),
  command: words.min(1).nullable().default(null).meta({ description: "Replaces the image's entry point" }),
  args: words.nullable().default(null),
  env: env.default({}),
  workingDir: target.nullable().default(null),
  user: z
    .string()
    .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,31})?$/, 'must be user or user:group')
    .nullable()
    .default(null),
  ports: z.array(port).max(64).default([]),
  mounts: z.array(mount).max(32).default([]),
  restartPolicy: z.enum(RESTART_POLICIES).default('on_failure'),
  maxRestarts: z.int().min(0).max(1_000_000).nullable().default(null).meta({ description: 'null: without end' }),
  healthCheck: healthCheck
    .nullable()
    .default(null)
    .meta({ description: 'Unhealthy is treated as ended with a failure' }),
  resources: resources.prefault({}),
  stopGraceSeconds: z.int().min(0).max(600).default(10),
});

export const podRequirements = z.strictObject({
  nodeId: id('node').nullable().default(null).meta({ description: 'That node only' }),
  instanceId: id('instance').nullable().default(null).meta({
    description: 'A node of that instance only, whichever machine it is at the time',
  }),
  gpuCount: z.int().min(0).max(64).default(0),
  gpuModel: z.string().min(1).max(100).nullable().default(null).meta({ example: 'RTX 4090' }),
  minGpuMemoryGib: z.int().min(1).max(4_096).nullable().default(null),
  labels: z
    .record(z.string().max(128), z.string().max(128))
    .refine((labels) => Object.keys(labels).length <= 32, 'must be at most 32')
    .default({})
    .meta({ description: 'Of the node; rented ones have `provider`, `region` and `instance`' }),
});

const credentialRef = z.string().regex(CREDENTIAL_REF_PATTERN, CREDENTIAL_REF_RULE);

export const createPodBody = z
  .strictObject({
    name: name.optional().meta({ description: 'Unique in the org. Default: made of its id' }),
    ...podSpec.shape,
    ...podRequirements.shape,
    secretEnv: env.default({}).meta({ description: 'Environment variables that are kept sealed and never shown' }),
    registryCredentialRef: credentialRef.nullable().default(null).meta({
      description: 'Id or name of a credential of the kind `registry`, by which the image is fetched',
    }),
    onNodeLost: z.enum(NODE_LOSS_POLICIES).default('reschedule').meta({
      description: 'What becomes of it when its node is lost or drained',
    }),
  })
  .superRefine((body, context) => {
    const say = (path: (string | number)[], message: string) =>
      context.addIssue({ code: 'custom', path, message, input: body });
    for (const secret of Object.keys(body.secretEnv))
      if (secret in body.env) say(['secretEnv', secret], 'is in env too');
    const targets = body.mounts.map((one) => one.target);
    for (const [index, one] of targets.entries())
      if (targets.indexOf(one) !== index) say(['mounts', index, 'target'], 'is a target already');
    const places = body.ports.map((one) => `${one.protocol}/${one.hostPort}`);
    for (const [index, place] of places.entries())
      if (body.ports[index]?.hostPort !== null && places.indexOf(place) !== index)
        say(['ports', index, 'hostPort'], 'is taken already');
    const probed = body.healthCheck?.probe;
    if (
      probed &&
      probed.kind !== 'command' &&
      !body.ports.some((one) => one.protocol === 'tcp' && one.containerPort === probed.port)
    )
      say(['healthCheck', 'probe', 'port'], 'must be one of ports');
    if (body.gpuCount === 0 && (body.gpuModel !== null || body.minGpuMemoryGib !== null))
      say(['gpuCount'], 'must be at least 1 where gpuModel or minGpuMemoryGib is given');
  })
  .meta({ id: 'CreatePod' });
export type CreatePodInput = z.output<typeof createPodBody>;

const publishedPort = z.strictObject({
  containerPort: portNumber,
  hostPort: portNumber,
  protocol: z.enum(PORT_PROTOCOLS),
});
const gpuShare = z.strictObject({ index: z.int(), uuid: z.string().max(200).nullable() });

/** The spec as it is shown: without what is sealed. */
export const pod = z
  .object({
    id: id('pod'),
    name: z.string(),
    status: z.enum(POD_STATUSES),
    reason: z.string().nullable(),
    allowedActions: z.array(z.enum(['start', 'stop', 'restart', 'delete'])),
    nodeId: id('node').nullable().meta({ description: 'null: no node has it now' }),
    run: z.int().meta({ description: 'Which life of its container this is: each start, restart and move is another' }),
    isLeaving: z.boolean().meta({ description: 'It ends on its node, and is placed on another then' }),
    gpus: z.array(gpuShare).meta({ description: 'Of its node, its alone' }),
    ports: z.array(publishedPort).meta({ description: 'As its agent said: where they are on the node' }),
    health: z.enum(POD_HEALTHS).nullable().meta({ description: 'null: it has no health check, or does not run' }),
    pullPercent: z.number().nullable(),
    imageDigest: z.string().nullable(),
    restarts: z.int().meta({ description: 'In this run' }),
    exitCode: z.int().nullable(),
    moves: z.int().meta({ description: 'How often it was placed on another node' }),
    spec: podSpec,
    secretEnvNames: z.array(z.string()),
    registryCredentialId: id('credential').nullable(),
    requirements: podRequirements,
    onNodeLost: z.enum(NODE_LOSS_POLICIES),
    createdBy: z.string(),
    createdAt: time,
    startedAt: time.nullable(),
    finishedAt: time.nullable(),
    removedAt: time.nullable(),
  })
  .meta({ id: 'Pod' });
export type Pod = z.infer<typeof pod>;

export const podPage = pageOf(pod).meta({ id: 'PodPage' });

export const podListQuery = pageQuery.extend({
  status: commaList(POD_STATUSES).optional(),
  nodeId: id('node').optional(),
  name: z.string().max(63).optional(),
  includeRemoved: flag.optional(),
});

export const MAX_LOG_LINES = 5_000;
const nanoTime = z
  .string()
  .max(40)
  .regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/, 'must be a time in UTC, such as 2026-11-21T09:00:00Z');

export const podLogsQuery = z.strictObject({
  follow: flag.optional().meta({ description: '`true`: Server-Sent Events, until the container has ended or you go' }),
  since: nanoTime.optional().meta({ description: 'Later lines only' }),
  tail: z.coerce
    .number({ error: `must be an integer from 0 to ${MAX_LOG_LINES}` })
    .int()
    .min(0)
    .max(MAX_LOG_LINES)
    .default(200)
    .meta({ description: 'At most so many of the last lines' }),
});

export const logLine = z.strictObject({
  at: nanoTime,
  stream: z.enum(LOG_STREAMS),
  text: z.string().max(16_384),
});

export const podLogs = z
  .object({
    podId: id('pod'),
    nodeId: id('node'),
    lines: z.array(logLine),
    isTruncated: z.boolean().meta({ description: 'There was more than may be given at once' }),
  })
  .meta({ id: 'PodLogs' });
export type PodLogs = z.infer<typeof podLogs>;

// What follows is between the control plane and agents.

export const desiredPod = z
  .object({
    podId: id('pod'),
    run: z.int(),
    state: z.enum(['running', 'stopped', 'removed']),
    spec: podSpec.meta({ description: 'Its environment includes what is sealed elsewhere' }),
    gpus: z.array(gpuShare),
    registryLogin: z
      .object({ registry: z.string(), username: z.string(), password: z.string() })
      .nullable()
      .meta({ description: 'null: the image is fetched without one' }),
  })
  .meta({ id: 'DesiredPod' });
export type DesiredPod = z.infer<typeof desiredPod>;

const moment = z.iso.datetime({ precision: 3 }).nullable();

export const podReport = z
  .strictObject({
    podId: id('pod'),
    run: z.int().min(0),
    status: z.enum(POD_REPORT_STATUSES),
    reason: z.string().max(500).nullable(),
    health: z.enum(POD_HEALTHS).nullable(),
    pullPercent: z.number().min(0).max(100).nullable(),
    restarts: z.int().min(0),
    exitCode: z.int().nullable(),
    ports: z.array(publishedPort).max(128),
    imageDigest: z.string().max(200).nullable(),
    startedAt: moment,
    finishedAt: moment,
  })
  .meta({ id: 'PodReport' });
export type PodReport = z.infer<typeof podReport>;

export const containerEngine = z
  .strictObject({
    name: z.string().max(60).meta({ example: 'podman' }),
    version: z.string().max(60).nullable(),
    problem: z.string().max(300).nullable().meta({ description: 'Why it takes no pods; null: it does' }),
  })
  .meta({ id: 'ContainerEngine' });
export type ContainerEngine = z.infer<typeof containerEngine>;

export const podReports = z
  .strictObject({ engine: containerEngine, items: z.array(podReport).max(2 * MAX_PODS_OF_NODE) })
  .meta({ id: 'PodReports' });
export type PodReports = z.infer<typeof podReports>;

export const MAX_LINES_OF_BATCH = 500;

/** Lines on their way to a reader. The same batch may be sent again: it counts once. */
export const logBatchBody = z
  .strictObject({
    orderId: id('order'),
    seq: z.int().min(0),
    lines: z.array(logLine).max(MAX_LINES_OF_BATCH),
    isEnd: z.boolean(),
    error: z.string().max(300).nullable(),
  })
  .meta({ id: 'PodLogBatch' });
export type LogBatch = z.infer<typeof logBatchBody>;

export const logBatchReply = z
  .object({
    isWanted: z.boolean().meta({ description: 'false: nobody reads it any more' }),
    isTaken: z.boolean().meta({ description: 'false: the reader is slow; send it again' }),
  })
  .meta({ id: 'PodLogBatchAnswer' });
export type LogBatchReply = z.infer<typeof logBatchReply>;

function isClean(text: string): boolean {
  return !text.includes('\0');
}

function hasDots(path: string): boolean {
  return path.split('/').some((part) => part === '.' || part === '..');
}

/** In `GET /events`: a pod has another status. */
export const podEvent = z
  .object({
    podId: id('pod'),
    seq: z.int().meta({ description: "Rises with each of the pod's" }),
    at: time,
    type: z.literal('pod'),
    data: z.record(z.string(), z.unknown()).meta({
      description: 'name, status, previousStatus, nodeId, run, reason, exitCode',
    }),
  })
  .meta({ id: 'PodEvent' });
export type PodEvent = z.infer<typeof podEvent>;
