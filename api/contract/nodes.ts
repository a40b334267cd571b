/** Nodes on the wire: what agents send and are answered, and what people see of them. null is always "not known", never zero. */
import { z } from 'zod';
import { NODE_STATUSES, NODE_VERDICTS } from '../../domain/node.ts';
import { id, pageOf, pageQuery, time } from './values.ts';

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
    readAt: time.nullable(),
    driverVersion: shortText.nullable(),
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

export const heartbeatBody = z
  .strictObject({
    bootId: z.string().regex(/^[A-Za-z0-9._-]{8,128}$/, 'must be 8 to 128 letters, digits, ".", "_" or "-"'),
    sequence: z.int().min(0).meta({ description: 'Grows with every heartbeat of a boot' }),
    agentVersion: shortText,
    system: systemFacts,
    gpu: gpuReading,
  })
  .meta({ id: 'Heartbeat' });
export type HeartbeatBody = z.infer<typeof heartbeatBody>;

export const heartbeatReply = z
  .object({
    accepted: z.boolean().meta({ description: 'false: an older one than the last; nothing was recorded' }),
    intervalMs: z.int(),
    key: z.string().optional().meta({ description: 'Replaces the present key; both work until this one is used' }),
  })
  .meta({ id: 'HeartbeatAnswer' });
export type HeartbeatReply = z.infer<typeof heartbeatReply>;

export const node = z
  .object({
    id: id('node'),
    status: z.enum(NODE_STATUSES),
    statusReason: z.string().nullable(),
    instanceId: id('instance').nullable(),
    attemptId: id('attempt').nullable(),
    health: z.enum(NODE_VERDICTS).meta({ description: 'Of its GPUs, held against what was promised' }),
    healthReason: z.string().nullable(),
    agentVersion: z.string(),
    bootId: z.string().nullable(),
    reboots: z.int(),
    rebootedAt: time.nullable(),
    registeredAt: time,
    lastHeartbeatAt: time.nullable(),
    system: systemFacts.nullable(),
    gpu: gpuReading.nullable(),
  })
  .meta({ id: 'Node' });
export type Node = z.infer<typeof node>;

export const nodePage = pageOf(node).meta({ id: 'NodePage' });

export const nodeListQuery = pageQuery.extend({
  status: z.enum(NODE_STATUSES).optional(),
  instanceId: id('instance').optional(),
});
