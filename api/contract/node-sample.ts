/**
 * One heartbeat as one value per measure: sums and means over the GPUs of which something is known; nothing known is null. The control
 * plane keeps them, and an agent that cannot reach it remembers them. Types only: an agent carries no schemas.
 */
import type { Gpu, HeartbeatBody, LateSample } from './nodes.ts';

/** Activity counts for so long after it was declared. */
const ACTIVITY_MS = 60_000;

export function sampleOf({ gpu, system, gpuPeakPercent, activity }: HeartbeatBody): Omit<LateSample, 'agoMs'> {
  const known = (measure: (one: Gpu) => number | null): number[] =>
    (gpu.gpus ?? []).map(measure).filter((value) => value !== null);
  return {
    verdict: gpu.verdict,
    gpuPercent: mean(known((one) => one.utilizationPercent)),
    gpuPeakPercent: gpuPeakPercent ?? null,
    gpuMemoryUsedMib: sum(known((one) => one.memoryUsedMib)),
    gpuMemoryTotalMib: sum(known((one) => one.memoryTotalMib)),
    gpuTemperatureC: max(known((one) => one.temperatureC)),
    gpuPowerW: sum(known((one) => one.powerW)),
    load1: system.load1,
    cpuPercent: system.cpuPercent ?? null,
    memoryAvailableMib: system.memoryAvailableMib,
    memoryUsedMib: system.memoryUsedMib ?? null,
    diskFreeMib: system.diskFreeMib,
    networkReceivedBytesPerSecond: system.networkReceivedBytesPerSecond ?? null,
    networkSentBytesPerSecond: system.networkSentBytesPerSecond ?? null,
    isActivityDeclared: activity ? activity.declaredAgoMs !== null && activity.declaredAgoMs <= ACTIVITY_MS : null,
  };
}

function sum(values: number[]): number | null {
  return values.length === 0 ? null : values.reduce((total, value) => total + value, 0);
}

function mean(values: number[]): number | null {
  const total = sum(values);
  return total === null ? null : total / values.length;
}

function max(values: number[]): number | null {
  return values.length === 0 ? null : Math.max(...values);
}
