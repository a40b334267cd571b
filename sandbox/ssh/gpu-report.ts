/**
 * What `nvidia-smi` prints on a simulated machine. Query fields, headers, units and the error for an unknown field
 * follow the real program; the measurements are those of an idle GPU.
 */
import type { CommandResult } from './command-line.ts';

export interface ReportedGpus {
  smiName: string;
  memoryMib: number;
  count: number;
  powerWatts: number;
  computeCap: number;
  driverVersion: string;
  cudaVersion: string;
  /** Makes the UUIDs of this machine's GPUs its own. */
  uuidSeed: string;
}

const INVALID_ARGUMENT = 2;

interface QueryField {
  value: (gpus: ReportedGpus, index: number) => string;
  unit?: string;
}

const FIELDS: Record<string, QueryField> = {
  timestamp: { value: () => toSmiTime(new Date()) },
  index: { value: (_gpus, index) => String(index) },
  count: { value: (gpus) => String(gpus.count) },
  name: { value: (gpus) => gpus.smiName },
  gpu_name: { value: (gpus) => gpus.smiName },
  uuid: { value: toUuid },
  gpu_uuid: { value: toUuid },
  serial: { value: () => '[N/A]' },
  driver_version: { value: (gpus) => gpus.driverVersion },
  compute_cap: { value: (gpus) => (gpus.computeCap / 100).toFixed(1) },
  'pci.bus_id': { value: (_gpus, index) => toBusId(index) },
  gpu_bus_id: { value: (_gpus, index) => toBusId(index) },
  'pcie.link.gen.current': { value: () => '4' },
  'pcie.link.width.current': { value: () => '16' },
  pstate: { value: () => 'P8' },
  persistence_mode: { value: () => 'Enabled' },
  compute_mode: { value: () => 'Default' },
  display_active: { value: () => 'Disabled' },
  'mig.mode.current': { value: () => '[N/A]' },
  'ecc.mode.current': { value: () => '[N/A]' },
  'fan.speed': { value: () => '0', unit: '%' },
  'memory.total': { value: (gpus) => String(gpus.memoryMib), unit: 'MiB' },
  'memory.used': { value: () => '1', unit: 'MiB' },
  'memory.free': { value: (gpus) => String(gpus.memoryMib - 1), unit: 'MiB' },
  'memory.reserved': { value: () => '0', unit: 'MiB' },
  'utilization.gpu': { value: () => '0', unit: '%' },
  'utilization.memory': { value: () => '0', unit: '%' },
  'temperature.gpu': { value: (_gpus, index) => String(34 + (index % 4)) },
  'power.draw': { value: () => '18.42', unit: 'W' },
  'power.limit': { value: (gpus) => gpus.powerWatts.toFixed(2), unit: 'W' },
  'power.max_limit': { value: (gpus) => gpus.powerWatts.toFixed(2), unit: 'W' },
  'clocks.sm': { value: () => '210', unit: 'MHz' },
  'clocks.gr': { value: () => '210', unit: 'MHz' },
  'clocks.mem': { value: () => '405', unit: 'MHz' },
  'clocks.current.sm': { value: () => '210', unit: 'MHz' },
  'clocks.current.memory': { value: () => '405', unit: 'MHz' },
  'clocks.max.sm': { value: () => '3105', unit: 'MHz' },
  'clocks.max.memory': { value: () => '10501', unit: 'MHz' },
};

/** `args` are the words after `nvidia-smi`. */
export function runNvidiaSmi(args: readonly string[], gpus: ReportedGpus): CommandResult {
  if (args.length === 0) return ok(drawTable(gpus));
  const options = new Map<string, string>();
  for (let i = 0; i < args.length; i++) {
    const [name, value] = splitOption(args[i]!);
    if (name === '-L' || name === '--list-gpus') return ok(listGpus(gpus));
    if (!['--query-gpu', '--format', '-i', '--id'].includes(name)) {
      return fail(`Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n\n`);
    }
    options.set(name === '--id' ? '-i' : name, value ?? args[++i] ?? '');
  }
  const query = options.get('--query-gpu');
  if (query === undefined) return ok(drawTable(gpus));
  const format = new Set((options.get('--format') ?? '').split(','));
  if (!format.has('csv')) return fail('"--format=" switch is missing. Please run \'nvidia-smi -h\' for help.\n\n');
  return queryGpus(query.split(','), format, options.get('-i'), gpus);
}

function queryGpus(
  names: readonly string[],
  format: ReadonlySet<string>,
  only: string | undefined,
  gpus: ReportedGpus,
): CommandResult {
  const fields: (QueryField & { name: string })[] = [];
  for (const raw of names) {
    const name = raw.trim();
    const field = FIELDS[name];
    if (field === undefined) return fail(`Field "${name}" is not a valid field to query.\n\n`);
    fields.push({ ...field, name });
  }
  const hasUnits = !format.has('nounits');
  const lines: string[] = [];
  if (!format.has('noheader')) {
    lines.push(fields.map(({ name, unit }) => (hasUnits && unit ? `${name} [${unit}]` : name)).join(', '));
  }
  for (let index = 0; index < gpus.count; index++) {
    if (only !== undefined && !only.split(',').includes(String(index))) continue;
    lines.push(
      fields
        .map(({ value, unit }) => (hasUnits && unit ? `${value(gpus, index)} ${unit}` : value(gpus, index)))
        .join(', '),
    );
  }
  return ok(`${lines.join('\n')}\n`);
}

function listGpus(gpus: ReportedGpus): string {
  let text = '';
  for (let i = 0; i < gpus.count; i++) text += `GPU ${i}: ${gpus.smiName} (UUID: ${toUuid(gpus, i)})\n`;
  return text;
}

function drawTable(gpus: ReportedGpus): string {
  const rule = `+${'-'.repeat(89)}+`;
  const lines = [toSmiTime(new Date()), rule];
  lines.push(
    `| NVIDIA-SMI ${gpus.driverVersion.padEnd(22)} Driver Version: ${gpus.driverVersion.padEnd(14)} CUDA Version: ${gpus.cudaVersion.padEnd(9)}|`,
    rule,
  );
  for (let i = 0; i < gpus.count; i++) {
    lines.push(
      `| ${String(i).padStart(3)}  ${gpus.smiName.padEnd(34)} On | ${toBusId(i)} Off |                  N/A |`,
      `|  0%   ${34 + (i % 4)}C    P8              18W / ${String(gpus.powerWatts).padStart(3)}W |      1MiB / ${String(gpus.memoryMib).padStart(6)}MiB |      0%      Default |`,
      rule,
    );
  }
  return `${lines.join('\n')}\n`;
}

function toUuid(gpus: ReportedGpus, index: number): string {
  const text = `${gpus.uuidSeed}-${index}`;
  let hex = '';
  for (let round = 0; hex.length < 32; round++) {
    let hash = 2_166_136_261 ^ round;
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 16_777_619) >>> 0;
    hex += (hash >>> 0).toString(16).padStart(8, '0');
  }
  return `GPU-${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}

function toBusId(index: number): string {
  return `00000000:${(index + 1).toString(16).toUpperCase().padStart(2, '0')}:00.0`;
}

function toSmiTime(date: Date): string {
  return date.toISOString().replaceAll('-', '/').replace('T', ' ').replace('Z', '');
}

function splitOption(word: string): [name: string, value: string | undefined] {
  const at = word.indexOf('=');
  return at < 0 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
}

function ok(stdout: string): CommandResult {
  return { stdout, stderr: '', exitCode: 0 };
}

/** The real program writes its complaints to standard output. */
function fail(stdout: string): CommandResult {
  return { stdout, stderr: '', exitCode: INVALID_ARGUMENT };
}
