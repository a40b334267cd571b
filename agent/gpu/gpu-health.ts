/** From raw values to a GPU as it is reported, and from GPUs to a verdict. What a GPU should be is not known here; the control plane compares. */
import type { Gpu, GpuReading, MigDevice } from '../../api/contract/nodes.ts';
import type { SmiRow } from './smi-csv.ts';
import type { ListedGpu } from './smi-list.ts';
import { readAmount, readBits, readNumber, readSickness, readText, readYesNo } from './smi-value.ts';
import type { XmlReport } from './smi-xml.ts';

/** Known to every driver since 450. */
export const MAIN_FIELDS = [
  'index',
  'uuid',
  'name',
  'pci.bus_id',
  'driver_version',
  'memory.total',
  'memory.used',
  'memory.free',
  'utilization.gpu',
  'utilization.memory',
  'temperature.gpu',
  'power.draw',
  'power.limit',
  'pstate',
  'ecc.errors.uncorrected.volatile.total',
  'mig.mode.current',
] as const;

/** Not known to every driver: one that is unknown fails the whole question. */
export const EXTRA_FIELDS = [
  'remapped_rows.pending',
  'remapped_rows.failure',
  'retired_pages.pending',
  'clocks_event_reasons.active',
  'gpu_recovery_action',
  'temperature.memory',
] as const;

/** nvml.h: hardware slowdown, software and hardware thermal slowdown, power brake. A software power cap is normal under load. */
const SLOWDOWN_BITS = 0x8 | 0x20 | 0x40 | 0x80;

export interface JudgedGpu {
  gpu: Gpu;
  verdict: 'healthy' | 'degraded' | 'failed';
}

/** @param unread why the GPU does not answer for itself; null: it does */
export function judgeRow(row: SmiRow, unread: string | null = null): JudgedGpu {
  const { verdict, problem } = unread === null ? findProblem(row) : { verdict: 'failed' as const, problem: unread };
  return {
    verdict,
    gpu: {
      index: readAmount(row['index']),
      uuid: readText(row['uuid']),
      name: readText(row['name']),
      busId: readText(row['pci.bus_id']),
      memoryTotalMib: positive(readAmount(row['memory.total'])),
      memoryUsedMib: readAmount(row['memory.used']),
      memoryFreeMib: readAmount(row['memory.free']),
      utilizationPercent: readAmount(row['utilization.gpu']),
      memoryUtilizationPercent: readAmount(row['utilization.memory']),
      temperatureC: readNumber(row['temperature.gpu']),
      memoryTemperatureC: readNumber(row['temperature.memory']),
      powerW: readAmount(row['power.draw']),
      powerLimitW: readAmount(row['power.limit']),
      pstate: readText(row['pstate']),
      eccUncorrected: readAmount(row['ecc.errors.uncorrected.volatile.total']),
      migMode: readMigMode(row['mig.mode.current']),
      migDevices: null,
      problem,
    },
  };
}

/** The worst GPU decides. */
export function judgeGpus(judged: readonly JudgedGpu[]): Pick<GpuReading, 'verdict' | 'reason' | 'trouble'> {
  const worst = (['failed', 'degraded'] as const).find((verdict) => judged.some((one) => one.verdict === verdict));
  if (worst === undefined) return { verdict: 'healthy', reason: null };
  const reasons = judged
    .filter((one) => one.verdict === worst)
    .map(({ gpu }) => `GPU ${gpu.index ?? gpu.uuid ?? '?'}: ${gpu.problem ?? worst}`);
  const trouble =
    worst === 'failed' ? { trouble: reasons.some(isLoss) ? ('gpu_lost' as const) : ('hardware' as const) } : {};
  return { verdict: worst, reason: reasons.join('; ').slice(0, 1_000), ...trouble };
}

/** The XML report has no uuid and no profile of MIG devices, the list no memory: both number them alike. */
export function joinMigDevices(
  gpu: Gpu,
  list: readonly ListedGpu[] | null,
  report: XmlReport | null,
): MigDevice[] | null {
  const listed = list?.find((one) => one.uuid === gpu.uuid)?.migDevices;
  const reported = report?.gpus.find((one) => one.fields['uuid'] === gpu.uuid)?.migDevices;
  if (listed === undefined && (reported === undefined || reported === null)) return null;
  const indexes = new Set([...(listed ?? []), ...(reported ?? [])].map(({ index }) => index));
  return [...indexes]
    .sort((a, b) => a - b)
    .slice(0, 16)
    .map((index) => {
      const named = listed?.find((one) => one.index === index);
      const measured = reported?.find((one) => one.index === index);
      return {
        index,
        uuid: named?.uuid ?? null,
        profile: named?.profile ?? null,
        memoryTotalMib: measured?.memoryTotalMib ?? null,
        memoryUsedMib: measured?.memoryUsedMib ?? null,
      };
    });
}

/** In NVML's own words, or when the driver asks for a reset. */
function isLoss(reason: string): boolean {
  return /GPU is lost|requires reset|asks for/i.test(reason);
}

function findProblem(row: SmiRow): { verdict: JudgedGpu['verdict']; problem: string | null } {
  const sick = Object.entries(row).flatMap(([field, raw]) => {
    const token = readSickness(raw);
    return token === null ? [] : [{ field, token }];
  });
  const dead = sick.find(({ token }) => !/unknown error/i.test(token));
  if (dead) return { verdict: 'failed', problem: dead.token };
  if (readYesNo(row['remapped_rows.failure']) === true)
    return { verdict: 'failed', problem: 'remapping memory rows failed' };
  const action = readText(row['gpu_recovery_action']);
  if (action !== null && /reset|reboot/i.test(action))
    return { verdict: 'failed', problem: `the driver asks for: ${action}` };
  if (sick.length > 0) return degraded(`unknown error for ${sick.map(({ field }) => field).join(', ')}`);
  if (action !== null) return degraded(`the driver asks for: ${action}`);
  const errors = readAmount(row['ecc.errors.uncorrected.volatile.total']);
  if (errors !== null && errors > 0) return degraded(`${errors} uncorrected ECC errors`);
  if (readYesNo(row['remapped_rows.pending']) === true) return degraded('memory rows wait to be remapped');
  if (readYesNo(row['retired_pages.pending']) === true) return degraded('memory pages wait to be retired');
  const reasons = readBits(row['clocks_event_reasons.active']);
  if (reasons !== null && (reasons & SLOWDOWN_BITS) !== 0) return degraded('slowed down by heat or power');
  return { verdict: 'healthy', problem: null };
}

function degraded(problem: string): { verdict: 'degraded'; problem: string } {
  return { verdict: 'degraded', problem: problem.slice(0, 500) };
}

function readMigMode(raw: string | undefined): Gpu['migMode'] {
  const mode = readText(raw)?.toLowerCase();
  return mode === 'enabled' || mode === 'disabled' ? mode : null;
}

/** No GPU has no memory. */
function positive(value: number | null): number | null {
  return value === 0 ? null : value;
}
