/** Metrics of an instance on the wire: what its agent has measured over the last day. null is always "not known", never zero. */
import { z } from 'zod';
import { NODE_STATUSES, NODE_VERDICTS } from '../../domain/node.ts';
import { PHASES } from '../../domain/instance.ts';
import { id, time } from './values.ts';

/** One a minute is kept, for a day. */
const MAX_MINUTES = 1_440;

export const metricsQuery = z.strictObject({
  minutes: z.coerce
    .number()
    .int()
    .min(1)
    .max(MAX_MINUTES)
    .default(60)
    .meta({ description: 'How far back the samples reach' }),
});

export const metricSample = z
  .object({
    at: time,
    verdict: z.enum(NODE_VERDICTS),
    gpuPercent: z.number().nullable().meta({ description: 'Mean over the GPUs that told it' }),
    gpuMemoryUsedMib: z.number().nullable().meta({ description: 'Sum over the GPUs that told it' }),
    gpuMemoryTotalMib: z.number().nullable(),
    gpuTemperatureC: z.number().nullable().meta({ description: 'Of the hottest GPU' }),
    gpuPowerW: z.number().nullable().meta({ description: 'Sum over the GPUs that told it' }),
    load1: z.number().nullable(),
    memoryAvailableMib: z.number().nullable(),
    gpuPeakPercent: z
      .number()
      .nullable()
      .meta({ description: 'Of the busiest GPU, the highest of the minute before; null: not known of all of them' }),
    cpuPercent: z.number().nullable(),
    memoryUsedMib: z.number().nullable(),
    diskFreeMib: z.number().nullable(),
    networkReceivedBytesPerSecond: z.number().nullable(),
    networkSentBytesPerSecond: z.number().nullable(),
    isActivityDeclared: z
      .boolean()
      .nullable()
      .meta({ description: 'Whether a workload declared activity in the minute before; null: not known' }),
  })
  .meta({ id: 'MetricSample' });
export type MetricSample = z.infer<typeof metricSample>;

export const instanceMetrics = z
  .object({
    instanceId: id('instance'),
    phase: z.enum(PHASES),
    phaseAt: z.partialRecord(z.enum(PHASES), time).meta({ description: 'When each phase began' }),
    nodeId: id('node').nullable().meta({ description: 'null: no agent of it has registered; `note` says why' }),
    nodeStatus: z.enum(NODE_STATUSES).nullable(),
    health: z.enum(NODE_VERDICTS).meta({ description: 'Of its GPUs, held against what was promised' }),
    note: z.string().nullable(),
    lastHeartbeatAt: time.nullable(),
    samples: z
      .array(metricSample)
      .meta({ description: 'Oldest first, one a minute; a gap is a time without heartbeats' }),
  })
  .meta({ id: 'InstanceMetrics' });
export type InstanceMetrics = z.infer<typeof instanceMetrics>;
