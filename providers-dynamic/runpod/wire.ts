/**
 * RunPod's REST v2 bodies, read tolerantly into domain values; the vendor's own words end here. What is missing becomes null,
 * what cannot be believed throws ProviderError `unbelievable`. Facts about fields are from the vendor's OpenAPI file.
 */
import { microUsdFromVendorFloat, type MicroUsd } from '../../domain/money.ts';
import type { ObservedInstance, ObservedStatus } from '../../domain/observed-instance.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import { countryOfDataCenter } from './data-centers.ts';
import { canonicalGpuName } from './gpu-names.ts';
import { isObject, type Json } from '../http.ts';

/** Dollars per GB and month: a disk while the pod runs; the volume of a stopped pod. The vendor's page "Pod pricing". */
const RUNNING_DISK_USD_PER_MONTH = 0.1;
const STOPPED_VOLUME_USD_PER_MONTH = 0.2;
/** The months that vendors bill by have 30 days. */
const HOURS_PER_MONTH = 720;

/** Storage is billed beside `cost` and beside the catalogue's price. */
export const DISK_MICRO_USD_PER_GIB_HOUR = perGibHour(RUNNING_DISK_USD_PER_MONTH);

/** Permanently deleted in the vendor's words; still shown by some of its lists for a while. */
const TERMINATED = 'TERMINATED';

/** Throws on any row that cannot be read: a list with holes must not pass for a whole one. */
export function readPodList(body: unknown): ObservedInstance[] {
  const rows = isObject(body) ? body.pods : undefined;
  if (!Array.isArray(rows)) throw unbelievable('the list answer has no list of pods');
  const pods = rows.map(readPod);
  if (new Set(pods.map((pod) => pod.providerInstanceId)).size < pods.length)
    throw unbelievable('the list has a pod twice');
  return pods;
}

export function readPodReply(body: unknown, id: string): ObservedInstance {
  const pod = readPod(body);
  if (pod.providerInstanceId !== id) throw unbelievable(`the answer about pod ${id} is about something else`);
  return pod;
}

/** A pod that was terminated is no machine any more: nothing may adopt it. That it is gone only the 404 proves. */
export function isTerminated(pod: ObservedInstance): boolean {
  return pod.statusDetail === TERMINATED;
}

/** The vendor's word for the pod's status, such as "EXITED". */
export function readStatusWord(body: unknown): string | null {
  return isObject(body) ? text(body.status) : null;
}

/** The id of a pod just made; null where the answer names none. */
export function readCreatedId(body: unknown): string | null {
  return isObject(body) && typeof body.id === 'string' && isPodId(body.id) ? body.id : null;
}

/** Pod ids become part of paths: nothing but letters, digits, dash and underscore. */
export function isPodId(id: string): boolean {
  return /^[A-Za-z0-9_-]{1,64}$/.test(id);
}

function readPod(row: unknown): ObservedInstance {
  if (!isObject(row)) throw unbelievable('a pod is no object');
  const id = text(row.id);
  const word = text(row.status);
  if (id === null || word === null) throw unbelievable(`the pod ${id ?? 'without an id'} has no status`);
  const gpuTypeId = isObject(row.gpu) ? text(row.gpu.id) : null;
  const dataCenter = text(row.dataCenterId);
  return {
    provider: 'runpod',
    providerInstanceId: id,
    label: text(row.name),
    status: observedStatus(word),
    statusDetail: describeStatus(row, word),
    machineId: null,
    gpu: gpuTypeId === null ? null : canonicalGpuName(gpuTypeId),
    gpuCount: readGpuCount(row),
    gpuMemoryGib: null,
    priceMicroUsdPerHour: readPrice(row, word),
    // REST v2 rents on demand only, and does not tell the interruptible pods that the older APIs made.
    interruptible: null,
    interrupted: false,
    ssh: word === 'RUNNING' ? readSsh(row) : null,
    image: text(row.image),
    region: dataCenter === null ? null : countryOfDataCenter(dataCenter),
    // Billed from its creation on; `startedAt` moves with every start.
    startedAt: readTime(row.createdAt) ?? readTime(row.startedAt),
  };
}

/** `ERROR` is unrecoverable by the vendor's own description. */
function observedStatus(word: string): ObservedStatus {
  switch (word) {
    case 'PROVISIONING':
    case 'STARTING':
      return 'starting';
    case 'RUNNING':
      return 'running';
    case 'EXITED':
      return 'stopped';
    case 'ERROR':
    case TERMINATED:
      return 'failed';
    default:
      return 'unknown';
  }
}

function describeStatus(row: Json, word: string): string {
  if (word !== 'RUNNING') return word;
  if (readGpuCount(row) === 0 && !isObject(row.cpu)) return 'RUNNING without a GPU';
  return readSsh(row) === null ? 'RUNNING, no public port for SSH yet' : word;
}

/**
 * A pod that was stopped may start again with fewer GPUs than bought, even none: then the pod has a count of 0, no GPU at all,
 * or reports on fewer than it has. A pod that reports on no GPU has not measured yet: that says nothing.
 */
function readGpuCount(row: Json): number | null {
  if (!('gpu' in row) && isObject(row.cpu)) return 0;
  if (row.gpu === null) return 0;
  if (!isObject(row.gpu)) return null;
  const bought = row.gpu.count === undefined ? 1 : number(row.gpu.count);
  const reported = isObject(row.runtime) && Array.isArray(row.runtime.gpus) ? row.runtime.gpus.length : 0;
  return bought !== null && reported > 0 ? Math.min(bought, reported) : bought;
}

/** `cost` is the whole pod per hour without storage; what storage costs depends on whether it runs. null: no cost said. */
function readPrice(row: Json, word: string): MicroUsd | null {
  const cost = microUsdFromVendorFloat(row.cost);
  if (cost === null) return null;
  const volumeGib = isObject(row.mounts) && isObject(row.mounts.persistent) ? number(row.mounts.persistent.size) : 0;
  const volume = BigInt(Math.ceil(Math.max(0, volumeGib ?? 0)));
  if (word === TERMINATED) return cost;
  if (word === 'EXITED') return cost + volume * perGibHour(STOPPED_VOLUME_USD_PER_MONTH);
  const disk = BigInt(Math.ceil(Math.max(0, number(row.disk) ?? 0)));
  return cost + (disk + volume) * DISK_MICRO_USD_PER_GIB_HOUR;
}

/**
 * The pod's own sshd at its public port, which changes with every restart. The vendor's proxy is never used: it carries a shell
 * only, no commands, no files, no forwarding.
 */
function readSsh(row: Json): ObservedInstance['ssh'] {
  const direct = isObject(row.ssh) && isObject(row.ssh.direct) ? row.ssh.direct : null;
  const host = text(direct?.host)?.trim() ?? '';
  const port = portNumber(direct?.port);
  if (host !== '' && port !== null) return { host, port, user: text(direct?.username) ?? 'root' };
  const ports: unknown[] = isObject(row.runtime) && Array.isArray(row.runtime.ports) ? row.runtime.ports : [];
  for (const mapping of ports) {
    if (!isObject(mapping) || mapping.private !== 22 || mapping.type !== 'tcp') continue;
    const ip = text(mapping.ip)?.trim() ?? '';
    const mapped = portNumber(mapping.public);
    if (ip !== '' && mapped !== null) return { host: ip, port: mapped, user: 'root' };
  }
  return null;
}

/** The account's keys have no ids: the key itself is its id. */
export function readAccountKeys(body: unknown): { id: string; publicKey: string }[] {
  const keys = isObject(body) ? body.keys : undefined;
  if (!Array.isArray(keys) || !keys.every((key) => typeof key === 'string'))
    throw unbelievable('the answer is no list of SSH keys');
  return keys.map((key) => ({ id: key, publicKey: key }));
}

/** Empty is null. */
export function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

export function number(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

export function unbelievable(message: string): ProviderError {
  return new ProviderError('unbelievable', `RunPod: ${message}`);
}

function portNumber(value: unknown): number | null {
  const port = number(value);
  return port !== null && Number.isInteger(port) && port > 0 && port <= 65_535 ? port : null;
}

function readTime(value: unknown): string | null {
  const date = new Date(text(value) ?? Number.NaN);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}

function perGibHour(usdPerMonth: number): MicroUsd {
  return microUsdFromVendorFloat(usdPerMonth / HOURS_PER_MONTH) ?? 0n;
}
