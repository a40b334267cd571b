/** `muster instances metrics`: what the agent of an instance has measured. What is not known is shown as "-", never as 0. */
import type { InstanceMetrics, MetricSample } from '../../api/contract/metrics.ts';
import type { Context } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { orDash } from '../format.ts';

const HEAD = ['AT', 'GPUS', 'GPU %', 'GPU MIB', 'C', 'W', 'LOAD', 'FREE MIB'];

export async function showMetrics(context: Context, [id]: string[], options: { minutes?: string }): Promise<ExitCode> {
  const { terminal, api } = context;
  const query = options.minutes === undefined ? '' : `?minutes=${encodeURIComponent(options.minutes)}`;
  const metrics = await api.get<InstanceMetrics>(`/instances/${encodeURIComponent(id as string)}/metrics${query}`);
  if (terminal.isJson) {
    terminal.printJson(metrics);
    return EXIT.done;
  }
  const { nodeId, nodeStatus, health, note } = metrics;
  terminal.print(`${orDash(nodeId)} ${orDash(nodeStatus)}, GPUs ${health}${note === null ? '' : `: ${note}`}`);
  if (metrics.samples.length > 0) await terminal.printTable(HEAD, metrics.samples.map(rowOf));
  return EXIT.done;
}

function rowOf(sample: MetricSample): string[] {
  const { gpuMemoryUsedMib: used, gpuMemoryTotalMib: total } = sample;
  return [
    sample.at,
    sample.verdict,
    rounded(sample.gpuPercent),
    used === null && total === null ? '-' : `${rounded(used)}/${rounded(total)}`,
    rounded(sample.gpuTemperatureC),
    rounded(sample.gpuPowerW),
    sample.load1 === null ? '-' : sample.load1.toFixed(2),
    rounded(sample.memoryAvailableMib),
  ];
}

function rounded(value: number | null): string {
  return value === null ? '-' : String(Math.round(value));
}
