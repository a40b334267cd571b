/**
 * Vast.ai's bodies, read tolerantly into domain values; the vendor's own words end here. What is missing becomes null, what
 * cannot be believed throws ProviderError `unbelievable`. Facts about fields are from the vendor's OpenAPI files and clients.
 */
import { microUsdFromVendorFloat } from '../../domain/money.ts';
import type { ObservedInstance, ObservedStatus } from '../../domain/observed-instance.ts';
import type { Offer } from '../../domain/offer.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import { isObject, type Json } from '../http.ts';

/** Each offer is one machine's own; about one in ten is gone when it is bought. */
const LISTING_CONFIDENCE = 0.9;

/** One page of the instance list, as the vendor counts it. Counts are null where the vendor gave none. */
export interface InstancePage {
  instances: ObservedInstance[];
  nextToken: string | null;
  /** How many match; whether of this page or of all pages the vendor does not say. */
  instancesFound: number | null;
  /** How many the account has. */
  totalInstances: number | null;
  labelCounts: Record<string, number> | null;
}

/** @param pricedDiskGib the `allocated_storage` that was asked for, which `dph_total` includes */
export function readOffers(body: unknown, pricedDiskGib: number, interruptible: boolean): Offer[] {
  const rows = isObject(body) ? body.offers : undefined;
  if (!Array.isArray(rows)) throw unbelievable('the search answer has no list of offers');
  const offers = rows.map((row) => readOffer(row, pricedDiskGib, interruptible)).filter((offer) => offer !== null);
  // A few odd rows are the vendor's; a page that is mostly unreadable is not its listing.
  if (offers.length * 2 < rows.length)
    throw unbelievable(`${rows.length - offers.length} of ${rows.length} offers are unreadable`);
  return offers;
}

function readOffer(row: unknown, pricedDiskGib: number, interruptible: boolean): Offer | null {
  if (!isObject(row)) return null;
  const id = text(row.id ?? row.ask_contract_id);
  const gpu = text(row.gpu_name);
  const gpuCount = number(row.num_gpus);
  const price = microUsdFromVendorFloat(row.dph_total);
  if (id === null || gpu === null || gpuCount === null || gpuCount < 1 || price === null) return null;
  return {
    provider: 'vastai',
    providerOfferId: id,
    machineId: text(row.machine_id),
    hostId: text(row.host_id),
    gpu,
    gpuCount,
    gpuMemoryGib: gibFromMib(row.gpu_ram),
    priceMicroUsdPerHour: price,
    pricedDiskGib,
    diskMicroUsdPerGibHour: perGibHour(row.storage_cost),
    floorMicroUsdPerHour: microUsdFromVendorFloat(row.min_bid),
    interruptible,
    region: countryOf(row.geolocation),
    location: text(row.geolocation),
    reliability: number(row.reliability2) ?? number(row.reliability),
    verified: row.verification === 'verified',
    diskGib: number(row.disk_space),
    cpuCores: number(row.cpu_cores_effective) ?? number(row.cpu_cores),
    memoryGib: memoryShare(row),
    inetDownMbps: number(row.inet_down),
    inetUpMbps: number(row.inet_up),
    inetDownMicroUsdPerGb: microUsdFromVendorFloat(row.inet_down_cost),
    inetUpMicroUsdPerGb: microUsdFromVendorFloat(row.inet_up_cost),
    cudaVersion: number(row.cuda_max_good)?.toFixed(1) ?? null,
    driverVersion: text(row.driver_version),
    directPorts: number(row.direct_port_count),
    maxDurationSeconds: number(row.duration),
    stock: 1,
    confidence: LISTING_CONFIDENCE,
  };
}

/** null: the vendor says that there is no such instance (`{"instances": null}`). */
export function readInstanceReply(body: unknown, id: string): ObservedInstance | null {
  if (!isObject(body) || !('instances' in body))
    throw unbelievable(`the answer about instance ${id} has no "instances"`);
  if (body.instances === null) return null;
  const instance = readInstance(body.instances);
  if (instance?.providerInstanceId !== id)
    throw unbelievable(`the answer about instance ${id} is about something else`);
  return instance;
}

/** Throws on any row that cannot be read: a list with holes must not pass for a whole one. */
export function readInstancePage(body: unknown): InstancePage {
  if (!isObject(body) || !Array.isArray(body.instances)) throw unbelievable('the list answer has no list of instances');
  const instances = body.instances.map((row) => {
    const instance = readInstance(row);
    if (instance === null) throw unbelievable('the list has an instance without an id');
    return instance;
  });
  return {
    instances,
    nextToken: typeof body.next_token === 'string' && body.next_token !== '' ? body.next_token : null,
    instancesFound: number(body.instances_found),
    totalInstances: number(body.total_instances),
    labelCounts: isObject(body.label_counts) ? readCounts(body.label_counts) : null,
  };
}

function readInstance(row: unknown): ObservedInstance | null {
  if (!isObject(row)) return null;
  const id = text(row.id);
  if (id === null) return null;
  const startedSeconds = number(row.start_date);
  return {
    provider: 'vastai',
    providerInstanceId: id,
    label: text(row.label),
    status: observedStatus(row),
    statusDetail: text(row.status_msg)?.trim() ?? text(row.actual_status),
    machineId: text(row.machine_id),
    gpu: text(row.gpu_name),
    gpuCount: number(row.num_gpus),
    gpuMemoryGib: gibFromMib(row.gpu_ram),
    priceMicroUsdPerHour: microUsdFromVendorFloat(row.dph_total),
    interruptible: typeof row.is_bid === 'boolean' ? row.is_bid : null,
    interrupted: row.is_bid === true && isStoppedThroughout(row),
    ssh: readSsh(row),
    image: text(row.image_uuid),
    region: countryOf(row.geolocation),
    startedAt: startedSeconds === null ? null : isoFromEpochSeconds(startedSeconds),
  };
}

/** The contract is stopped and nobody intends to run it: outbid, or stopped by us. */
function isStoppedThroughout(row: Json): boolean {
  return row.intended_status === 'stopped' && row.cur_state === 'stopped' && row.next_state === 'stopped';
}

/**
 * `actual_status` is the host's report and null until there is one; `intended_status`, `cur_state` and `next_state` tell what
 * is wanted. Not running while that is wanted will not heal by itself, except while the scheduler is still starting it.
 */
function observedStatus(row: Json): ObservedStatus {
  const isWantedRunning = row.intended_status !== 'stopped';
  const message = text(row.status_msg) ?? '';
  switch (row.actual_status ?? null) {
    case 'running':
      return 'running';
    case null:
    case 'created':
    case 'loading':
    case 'restarting':
    case 'rebooting':
      if (message.includes('OCI runtime create failed')) return 'failed';
      return isWantedRunning ? 'starting' : 'stopped';
    case 'stopped':
    case 'exited':
      if (!isWantedRunning) return 'stopped';
      // "Scheduling": asked to run again, the GPU is not there yet.
      return row.cur_state === 'stopped' && row.next_state === 'running' ? 'starting' : 'failed';
    case 'frozen':
    case 'offline':
      return 'failed';
    default:
      return 'unknown';
  }
}

/** Direct port where the host maps one (only while running), else the vendor's proxy, whose port is one higher for Jupyter images. */
function readSsh(row: Json): ObservedInstance['ssh'] {
  const ports = isObject(row.ports) ? row.ports['22/tcp'] : undefined;
  const mapping: unknown = Array.isArray(ports) ? ports[0] : undefined;
  const directPort = isObject(mapping) ? portNumber(mapping.HostPort) : null;
  const directHost = text(row.public_ipaddr)?.trim() ?? '';
  if (directPort !== null && directHost !== '') return { host: directHost, port: directPort, user: 'root' };
  const proxyHost = text(row.ssh_host)?.trim() ?? '';
  const proxyPort = portNumber(row.ssh_port);
  if (proxyPort === null || proxyHost === '') return null;
  const isJupyter = (text(row.image_runtype) ?? '').includes('jupyter');
  return { host: proxyHost, port: isJupyter ? proxyPort + 1 : proxyPort, user: 'root' };
}

export function readGpuNames(body: unknown): string[] | null {
  if (!isObject(body) || !Array.isArray(body.gpu_names)) return null;
  return body.gpu_names.filter((name) => typeof name === 'string');
}

/** Account keys: a bare array. */
export function readAccountKeys(body: unknown): { id: string; publicKey: string }[] {
  if (!Array.isArray(body)) throw unbelievable('the answer is no list of SSH keys');
  return body.filter(isObject).flatMap((row) => {
    const id = text(row.id);
    const publicKey = text(row.public_key) ?? text(row.key);
    return id === null || publicKey === null ? [] : [{ id, publicKey }];
  });
}

export function readAccountReply(body: unknown): { accountId: string; creditMicroUsd: bigint | null } {
  const accountId = isObject(body) ? text(body.id) : null;
  if (!isObject(body) || accountId === null) throw unbelievable('the answer is no account');
  return { accountId, creditMicroUsd: microUsdFromVendorFloat(body.credit) };
}

/** Ids come as integers, names as strings; both become text. Empty is null. */
export function text(value: unknown): string | null {
  if (typeof value === 'string') return value === '' ? null : value;
  return typeof value === 'number' && Number.isFinite(value) ? String(value) : null;
}

function number(value: unknown): number | null {
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value !== 'string' || value.trim() === '') return null;
  const parsed = Number(value);
  return Number.isFinite(parsed) ? parsed : null;
}

function portNumber(value: unknown): number | null {
  const port = number(value);
  return port !== null && Number.isInteger(port) && port > 0 && port < 65_535 ? port : null;
}

/** 24564 MiB is sold as 24 GiB: rounded, because vendors subtract what the driver keeps. */
function gibFromMib(value: unknown): number | null {
  const mib = number(value);
  return mib === null || mib <= 0 ? null : Math.round(mib / 1024);
}

/** The share of the host's memory that a fractional offer gets; cpu_cores may be null, then the host's whole memory. */
function memoryShare(row: Json): number | null {
  const mib = number(row.cpu_ram);
  if (mib === null) return null;
  const cores = number(row.cpu_cores);
  const effective = number(row.cpu_cores_effective);
  const share = cores !== null && effective !== null && cores > 0 ? Math.min(1, effective / cores) : 1;
  return Math.round((mib * share) / 1024);
}

/** `storage_cost` is dollars per GB and month of 30 days. */
function perGibHour(value: unknown): bigint {
  const perMonth = number(value);
  return (perMonth === null ? null : microUsdFromVendorFloat(perMonth / 720)) ?? 0n;
}

/** "Sweden, SE" → "SE"; ", CN" → "CN". */
function countryOf(value: unknown): string | null {
  const match = /,\s*([A-Za-z]{2})\s*$/.exec(text(value) ?? '');
  return match?.[1]?.toUpperCase() ?? null;
}

function isoFromEpochSeconds(seconds: number): string | null {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}

function readCounts(counts: Json): Record<string, number> {
  return Object.fromEntries(
    Object.entries(counts).flatMap(([label, count]) => (typeof count === 'number' ? [[label, count]] : [])),
  );
}

export function unbelievable(message: string): ProviderError {
  return new ProviderError('unbelievable', `Vast.ai: ${message}`);
}
