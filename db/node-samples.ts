/** Samples of nodes: one a minute for a day, in a ring, so they are bounded without anybody pruning. What is null was not known. */
import { sql, type RawBuilder, type Selectable } from 'kysely';
import type { NodeVerdict } from '../domain/node.ts';
import type { Executor } from './database.ts';
import type { Schema } from './schema.ts';

export type NodeSampleRow = Selectable<Schema['node_samples']>;

/** One value for the whole node; null: not known. */
export interface NodeSample {
  verdict: NodeVerdict;
  gpuPercent: number | null;
  gpuMemoryUsedMib: number | null;
  gpuMemoryTotalMib: number | null;
  gpuTemperatureC: number | null;
  gpuPowerW: number | null;
  load1: number | null;
  memoryAvailableMib: number | null;
  gpuPeakPercent: number | null;
  cpuPercent: number | null;
  memoryUsedMib: number | null;
  diskFreeMib: number | null;
  networkReceivedBytesPerSecond: number | null;
  networkSentBytesPerSecond: number | null;
  isActivityDeclared: boolean | null;
}

/** Of the last minutes, oldest first: one a minute, a day of them at most. */
export function listSamples(executor: Executor, nodeId: string, minutes: number): Promise<NodeSampleRow[]> {
  return executor
    .selectFrom('node_samples')
    .selectAll()
    .where('node_id', '=', nodeId)
    .where('at', '>', sql<Date>`now() - ${Math.min(minutes, 1_440)} * interval '1 minute'`)
    .orderBy('at')
    .execute();
}

/** What an agent saw while it could not reach us. */
export interface LateSample extends NodeSample {
  /** Before now; less than a day. */
  agoMs: number;
}

/** Kept where the ring has nothing newer; of a minute that is there already, nothing changes. They are no proof of life. */
export async function recordLateSamples(
  executor: Executor,
  nodeId: string,
  samples: readonly LateSample[],
): Promise<void> {
  for (const { agoMs, ...sample } of samples) {
    const at = sql`now() - ${agoMs}::float8 * interval '1 millisecond'`;
    await insertDueSample(sql`select ${nodeId}::text as id`, at, sample).execute(executor);
  }
}

/** The sample of the one node that `node` selects as `id`, where its minute has none yet. A statement, or a part of one. */
export function insertDueSample(
  node: RawBuilder<unknown>,
  at: RawBuilder<unknown>,
  sample: NodeSample,
): RawBuilder<unknown> {
  const values = sql.join(FIELDS.map(([, type, member]) => sql`${sample[member]}::${sql.raw(type)}`));
  return sql`
    insert into node_samples (node_id, slot, at, ${COLUMNS})
    select id, mod(floor(extract(epoch from ${at}) / 60)::bigint, 1440), ${at}, ${values} from (${node}) as sampled
    on conflict (node_id, slot) do update set at = excluded.at, ${UPDATES}
    where node_samples.at < excluded.at - interval '1 minute'`;
}

const FIELDS: readonly (readonly [column: string, type: 'text' | 'real' | 'boolean', member: keyof NodeSample])[] = [
  ['verdict', 'text', 'verdict'],
  ['gpu_percent', 'real', 'gpuPercent'],
  ['gpu_peak_percent', 'real', 'gpuPeakPercent'],
  ['gpu_memory_used_mib', 'real', 'gpuMemoryUsedMib'],
  ['gpu_memory_total_mib', 'real', 'gpuMemoryTotalMib'],
  ['gpu_temperature_c', 'real', 'gpuTemperatureC'],
  ['gpu_power_w', 'real', 'gpuPowerW'],
  ['load1', 'real', 'load1'],
  ['cpu_percent', 'real', 'cpuPercent'],
  ['memory_available_mib', 'real', 'memoryAvailableMib'],
  ['memory_used_mib', 'real', 'memoryUsedMib'],
  ['disk_free_mib', 'real', 'diskFreeMib'],
  ['network_received_bytes_per_second', 'real', 'networkReceivedBytesPerSecond'],
  ['network_sent_bytes_per_second', 'real', 'networkSentBytesPerSecond'],
  ['is_activity_declared', 'boolean', 'isActivityDeclared'],
];
const COLUMNS = sql.raw(FIELDS.map(([column]) => column).join(', '));
const UPDATES = sql.raw(FIELDS.map(([column]) => `${column} = excluded.${column}`).join(', '));
