/**
 * Reads the GPUs: the CSV query first, the XML report where the query cannot be read, one GPU at a time where one that is lost makes the
 * query of all of them fail. A reading that failed says why and has no GPUs; it never says that there are none.
 */
import type { GpuReading, MigDevice } from '../../api/contract/nodes.ts';
import { HABANA_PCI, NVIDIA_PCI, type Devices } from './devices.ts';
import { EXTRA_FIELDS, joinMigDevices, judgeGpus, judgeRow, MAIN_FIELDS } from './gpu-health.ts';
import { SMI_TIMEOUT_MS, type RunSmi } from './run-smi.ts';
import { parseSmiCsv, type SmiRow } from './smi-csv.ts';
import { describeFailure, UNREADABLE, type SmiFailure, type SmiResult } from './smi-failure.ts';
import { parseSmiList } from './smi-list.ts';
import { readText } from './smi-value.ts';
import { parseSmiXml } from './smi-xml.ts';

export interface GpuReader {
  /** Never throws. */
  read(): Promise<GpuReading>;
}

/** What drivers may not know, and MIG devices, are read once in so many readings: each costs a further nvidia-smi. */
const EXTRAS_EVERY = 6;
/** Of GPUs asked one by one where nobody told how many there are. */
const MAX_SINGLE_GPUS = 16;
const CSV = '--format=csv,noheader,nounits';

/** One GPU's raw values. */
interface RawGpu {
  row: SmiRow;
  /** Why it does not answer for itself; its row is what was known before. */
  unread: string | null;
}

/** @param devices what the kernel shows; absent: only nvidia-smi is asked */
export function createGpuReader(run: RunSmi, now: () => Date, devices?: () => Devices): GpuReader {
  let known: SmiRow[] = [];
  const extras = createExtras(run);
  let readings = 0;

  return {
    async read() {
      const other = devices === undefined ? null : readOthers(devices(), now());
      if (other && other.hardwareType !== 'cpu') return other;
      const isFull = readings++ % EXTRAS_EVERY === 0;
      const raw = await readRawGpus(run, known);
      // A bus without NVIDIA's devices proves that there are none only where nvidia-smi shows none either: WSL and some
      // virtual machines hand GPUs over beside the bus.
      if (other && (!Array.isArray(raw) || raw.length === 0)) return other;
      if (!Array.isArray(raw)) {
        return {
          verdict: raw.verdict,
          reason: raw.reason,
          ...troubleOf(raw),
          readAt: now().toISOString(),
          driverVersion: null,
          hardwareType: null,
          gpus: null,
        };
      }
      known = raw.map(({ row }) => ({ index: row['index'] ?? '', uuid: row['uuid'] ?? '', name: row['name'] ?? '' }));
      if (isFull) await extras.refresh(raw);
      const judged = raw.map(({ row, unread }) => judgeRow({ ...extras.of(row), ...row }, unread));
      return {
        ...judgeGpus(judged),
        readAt: now().toISOString(),
        driverVersion:
          raw.map(({ row }) => readText(row['driver_version'])).find((version) => version !== null) ?? null,
        hardwareType: 'cuda',
        gpus: judged.map(({ gpu }) => ({ ...gpu, migDevices: extras.migDevicesOf(gpu.uuid) })),
      };
    },
  };
}

/** What the kernel tells without nvidia-smi: Gaudi devices, or a bus that has neither vendor's. null: nothing. */
function readOthers({ pciVendors, gaudi }: Devices, at: Date): GpuReading | null {
  const { judged, driverVersion } = gaudi;
  const readAt = at.toISOString();
  if (judged.length > 0)
    return {
      ...judgeGpus(judged),
      readAt,
      driverVersion,
      hardwareType: 'hpu',
      gpus: judged.map(({ gpu }) => gpu),
    };
  if (pciVendors === null || pciVendors.has(NVIDIA_PCI) || pciVendors.size === 0) return null;
  if (pciVendors.has(HABANA_PCI)) {
    const reason = "a Gaudi device is on the bus, but Habana's driver shows none";
    return { verdict: 'failed', reason, readAt, driverVersion: null, hardwareType: 'hpu', gpus: null };
  }
  return { verdict: 'healthy', reason: null, readAt, driverVersion: null, hardwareType: 'cpu', gpus: [] };
}

async function readRawGpus(run: RunSmi, known: readonly SmiRow[]): Promise<RawGpu[] | SmiFailure> {
  const rows = await queryGpus(run);
  if (Array.isArray(rows)) return rows.map((row) => ({ row, unread: null }));
  if (rows.kind === 'gpu_lost') return readOneByOne(run, known, rows);
  if (rows.kind !== 'invalid_field' && rows.kind !== 'unreadable') return rows;
  const report = parse(await run(['-q', '-x']), parseSmiXml);
  if (report === null) return rows;
  const driverVersion = report.driverVersion ?? '';
  return report.gpus.map(({ fields }) => ({ row: { ...fields, driver_version: driverVersion }, unread: null }));
}

async function queryGpus(run: RunSmi, only?: string): Promise<SmiRow[] | SmiFailure> {
  const result = await run([`--query-gpu=${MAIN_FIELDS.join(',')}`, CSV, ...(only === undefined ? [] : ['-i', only])]);
  return describeFailure(result, SMI_TIMEOUT_MS) ?? parseSmiCsv(result.stdout, MAIN_FIELDS) ?? UNREADABLE;
}

/** The GPUs that answer for themselves, and with its reason each that does not. */
async function readOneByOne(run: RunSmi, known: readonly SmiRow[], whole: SmiFailure): Promise<RawGpu[] | SmiFailure> {
  const found: RawGpu[] = [];
  const listed = known.length > 0 ? known : await listGpus(run);
  const wanted = listed ?? Array.from({ length: MAX_SINGLE_GPUS }, (_, index) => ({ index: String(index) }));
  for (const row of wanted) {
    const rows = await queryGpus(run, row['index']);
    if (Array.isArray(rows)) {
      found.push({ row: rows[0] ?? row, unread: null });
      continue;
    }
    if (rows.kind === 'hang') return rows;
    if (rows.kind === 'no_devices' && listed === null) break;
    found.push({ row, unread: rows.kind === 'gpu_lost' ? 'GPU is lost' : rows.reason });
  }
  return found.some(({ unread }) => unread === null) || listed !== null ? found : whole;
}

async function listGpus(run: RunSmi): Promise<SmiRow[] | null> {
  const list = parse(await run(['-L']), parseSmiList);
  return list?.map(({ index, uuid, name }) => ({ index: String(index), uuid, name })) ?? null;
}

/** What is read more rarely than the rest: fields that not every driver knows, and MIG devices. */
function createExtras(run: RunSmi) {
  let fields: string[] = [...EXTRA_FIELDS];
  let rows = new Map<string, SmiRow>();
  let migDevices = new Map<string, MigDevice[]>();

  async function refreshFields(): Promise<void> {
    // Each round leaves one field out, so this ends.
    while (fields.length > 0) {
      const asked = ['uuid', ...fields];
      const result = await run([`--query-gpu=${asked.join(',')}`, CSV]);
      const failure = describeFailure(result, SMI_TIMEOUT_MS);
      if (failure === null) {
        rows = new Map((parseSmiCsv(result.stdout, asked) ?? []).map((row) => [row['uuid'] ?? '', row]));
        return;
      }
      const unknown = /Field "([^"]+)" is not a valid field/i.exec(`${result.stdout}${result.stderr}`)?.[1];
      if (unknown === undefined || !fields.includes(unknown)) return void (rows = new Map());
      fields = fields.filter((field) => field !== unknown);
    }
  }

  async function refreshMigDevices(raw: readonly RawGpu[]): Promise<void> {
    migDevices = new Map();
    const sliced = raw.map(({ row }) => judgeRow(row).gpu).filter((gpu) => gpu.migMode === 'enabled');
    if (sliced.length === 0) return;
    const list = parse(await run(['-L']), parseSmiList);
    const report = parse(await run(['-q', '-x']), parseSmiXml);
    for (const gpu of sliced) {
      const devices = joinMigDevices(gpu, list, report);
      if (devices !== null) migDevices.set(gpu.uuid ?? '', devices);
    }
  }

  return {
    async refresh(raw: readonly RawGpu[]): Promise<void> {
      await refreshFields();
      await refreshMigDevices(raw);
    },
    of: (row: SmiRow): SmiRow => rows.get(row['uuid'] ?? '') ?? {},
    migDevicesOf: (uuid: string | null): MigDevice[] | null => migDevices.get(uuid ?? '') ?? null,
  };
}

function troubleOf({ verdict, kind }: SmiFailure): Pick<GpuReading, 'trouble'> {
  if (verdict !== 'failed') return {};
  return { trouble: kind === 'invalid_field' || kind === 'unreadable' ? 'other' : kind };
}

/** null: it failed, or what it printed is something else. */
function parse<T>(result: SmiResult, read: (text: string) => T | null): T | null {
  return describeFailure(result, SMI_TIMEOUT_MS) === null ? read(result.stdout) : null;
}
