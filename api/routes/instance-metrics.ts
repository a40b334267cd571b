/** What the agent of an instance has measured. Reads rows only; what the numbers are worth is domain/node.ts's. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { listAttemptsOfInstances } from '../../db/attempts.ts';
import { findInstance } from '../../db/instances.ts';
import { listSamples, type NodeSampleRow } from '../../db/node-samples.ts';
import { findNodeOfAttempt } from '../../db/nodes.ts';
import { instanceMetrics, metricsQuery, type MetricSample } from '../contract/metrics.ts';
import { id } from '../contract/values.ts';
import { attemptShown, phaseTimes } from '../replies/instance-reply.ts';
import { nodeReply } from '../replies/node-reply.ts';
import { iso } from '../reply-values.ts';
import { route, type Route } from '../route.ts';

export const instanceMetricRoutes: Route[] = [
  route({
    method: 'get',
    path: '/instances/:id/metrics',
    access: 'read',
    area: 'instances',
    summary: 'What its agent measures: GPUs, load and memory, one sample a minute',
    params: z.object({ id: id('instance') }),
    query: metricsQuery,
    replies: { 200: instanceMetrics },
    handle: async ({ params, query, caller, deps }) => {
      const db = deps.database.kysely;
      const row = await findInstance(db, caller.orgId, params.id);
      if (!row) throw new MusterError('not_found', `there is no instance ${params.id}`);
      const attempt = attemptShown(row, await listAttemptsOfInstances(db, [row.id]));
      const found = attempt && (await findNodeOfAttempt(db, attempt.id));
      const node = found && nodeReply(found, deps.agents.intervalMs, Date.now());
      const absence =
        attempt === undefined
          ? 'no machine of it is chosen'
          : attempt.agent_sealed === null
            ? 'its machine carries no agent'
            : 'its agent has not registered';
      return {
        status: 200,
        body: {
          instanceId: row.id,
          phase: row.phase,
          phaseAt: phaseTimes(row),
          nodeId: node?.id ?? null,
          nodeStatus: node?.status ?? null,
          health: node?.health ?? 'unknown',
          note: node ? (node.statusReason ?? node.healthReason) : absence,
          lastHeartbeatAt: node?.lastHeartbeatAt ?? null,
          samples: node ? (await listSamples(db, node.id, query.minutes)).map(sampleReply) : [],
        },
      };
    },
  }),
];

function sampleReply(row: NodeSampleRow): MetricSample {
  return {
    at: iso(row.at),
    verdict: row.verdict as MetricSample['verdict'],
    gpuPercent: row.gpu_percent,
    gpuMemoryUsedMib: row.gpu_memory_used_mib,
    gpuMemoryTotalMib: row.gpu_memory_total_mib,
    gpuTemperatureC: row.gpu_temperature_c,
    gpuPowerW: row.gpu_power_w,
    load1: row.load1,
    memoryAvailableMib: row.memory_available_mib,
    gpuPeakPercent: row.gpu_peak_percent,
    cpuPercent: row.cpu_percent,
    memoryUsedMib: row.memory_used_mib,
    diskFreeMib: row.disk_free_mib,
    networkReceivedBytesPerSecond: row.network_received_bytes_per_second,
    networkSentBytesPerSecond: row.network_sent_bytes_per_second,
    isActivityDeclared: row.is_activity_declared,
  };
}
