/** One heartbeat as one value per measure: sums and means over the GPUs of which something is known; nothing known is null. */
import type { NodeSample } from '../db/nodes.ts';
import type { Gpu, HeartbeatBody } from './contract/nodes.ts';

export function sampleOf({ gpu, system }: HeartbeatBody): NodeSample {
  const known = (measure: (one: Gpu) => number | null): number[] =>
    (gpu.gpus ?? []).map(measure).filter((value) => value !== null);
  return {
    verdict: gpu.verdict,
    gpuPercent: mean(known((one) => one.utilizationPercent)),
    gpuMemoryUsedMib: sum(known((one) => one.memoryUsedMib)),
    gpuMemoryTotalMib: sum(known((one) => one.memoryTotalMib)),
    gpuTemperatureC: max(known((one) => one.temperatureC)),
    gpuPowerW: sum(known((one) => one.powerW)),
    load1: system.load1,
    memoryAvailableMib: system.memoryAvailableMib,
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
