/**
 * TensorDock's instances and secrets, read tolerantly into domain values; the vendor's own words end here. Lists come in three
 * shapes, single instances wrapped or not. What is missing becomes null, what cannot be believed throws `unbelievable`.
 */
import { microUsdFromVendorFloat } from '../../domain/money.ts';
import type { ObservedInstance, ObservedStatus } from '../../domain/observed-instance.ts';
import { unbelievable } from './errors.ts';
import { readGpuModel } from './gpu-names.ts';
import { isObject, type Json } from '../http.ts';
import { number, text } from './wire-value.ts';

export interface InstanceRow {
  observed: ObservedInstance;
  /** null: the row does not say. */
  ipAddress: string | null;
  /** It says how to reach the machine and what it is: rows of lists often do not. */
  isWhole: boolean;
}

/** Our cloud-init lets the keys in for root, besides the image's own `user`. */
const SSH_USER = 'root';

/** Throws `unbelievable` where it is about something else, or about nothing. */
export function readInstanceReply(body: unknown, id: string): InstanceRow {
  const row = isObject(body) && isObject(body.data) ? body.data : body;
  const instance = readInstance(row);
  if (instance === null) throw unbelievable(`the answer about instance ${id} has no instance`);
  if (instance.observed.providerInstanceId !== id)
    throw unbelievable(`the answer about instance ${id} is about something else`);
  return instance;
}

/** Throws on any row that cannot be read: a list with holes must not pass for a whole one. There are no pages. */
export function readInstanceList(body: unknown): InstanceRow[] {
  return listOf(body).map((row) => {
    const instance = readInstance(row);
    if (instance === null) throw unbelievable('the list has an instance without an id');
    return instance;
  });
}

/** `{data:{instances:[…]}}`, `{data:[…]}` or `{data:{attributes:{instances:[…]}}}`. */
function listOf(body: unknown): unknown[] {
  const data = isObject(body) ? body.data : undefined;
  if (Array.isArray(data)) return data;
  const attributes = isObject(data) && isObject(data.attributes) ? data.attributes : {};
  const rows = isObject(data) ? (data.instances ?? attributes.instances) : undefined;
  if (!Array.isArray(rows)) throw unbelievable('the list answer has no list of instances');
  return rows;
}

function readInstance(value: unknown): InstanceRow | null {
  const id = isObject(value) ? text(value.id) : null;
  if (!isObject(value) || id === null) return null;
  const row: Json = isObject(value.attributes) ? { ...value, ...value.attributes, id } : value;
  const words = text(row.status);
  const status = observedStatus(words);
  const { gpu, gpuCount } = readGpus(row);
  const model = gpu === null ? null : readGpuModel(gpu);
  const ssh = status === 'running' ? readSsh(row) : null;
  const price = microUsdFromVendorFloat(number(row.rateHourly) ?? number(row.price_per_hour));
  return {
    observed: {
      provider: 'tensordock',
      providerInstanceId: id,
      label: text(row.name),
      status,
      statusDetail: statusDetail(words, row, ssh),
      // The vendor does not tell on which host it put the machine.
      machineId: null,
      gpu: model?.gpu ?? null,
      gpuCount,
      gpuMemoryGib: model?.memoryGib ?? null,
      priceMicroUsdPerHour: price,
      interruptible: false,
      interrupted: false,
      ssh,
      image: text(row.image),
      region: null,
      startedAt: readTime(row.created_at),
    },
    ipAddress: text(row.ipAddress),
    isWhole: Array.isArray(row.portForwards) && text(row.ipAddress) !== null && gpu !== null && price !== null,
  };
}

/**
 * Words differ in case and dashes between endpoints. `deleting` and `deleted` are machines on their way out: they do not come up
 * again, may still bill, and are gone only when the vendor says not-found.
 */
function observedStatus(words: string | null): ObservedStatus {
  switch (normaliseStatus(words)) {
    case 'creating':
    case 'queued':
    case 'pending':
    case 'provisioning':
    case 'starting':
      return 'starting';
    case 'running':
      return 'running';
    case 'stopping':
    case 'stopped':
    case 'stoppeddisassociated':
    case 'outbid':
      return 'stopped';
    case 'deleting':
    case 'deleted':
    case 'error':
    case 'failed':
      return 'failed';
    default:
      return 'unknown';
  }
}

function normaliseStatus(words: string | null): string {
  return (words ?? '').toLowerCase().replace(/[_\-\s]/g, '');
}

function statusDetail(words: string | null, row: Json, ssh: ObservedInstance['ssh']): string | null {
  switch (normaliseStatus(words)) {
    case 'stopped':
      return `${words}: the GPU stays reserved and bills in full`;
    case 'stoppeddisassociated':
      return `${words}: the GPU is released, only the disk bills`;
    case 'running':
      if (ssh === null && text(row.ipAddress) !== null && Array.isArray(row.portForwards))
        return `${words}: no port is forwarded to its port 22, and the address is not its own, so it can never be reached`;
      if (ssh !== null && forwardedSshPort(row) === null)
        return `${words}: no port is forwarded to its port 22; unless the address is its own it can never be reached`;
  }
  return words;
}

/**
 * The port forwarded to 22, whose number the vendor may have changed. Without one, port 22 of a dedicated address; whether the
 * address is one the vendor rarely says, so it is tried, and `statusDetail` tells.
 */
function readSsh(row: Json): ObservedInstance['ssh'] {
  const host = text(row.ipAddress);
  if (host === null || !Array.isArray(row.portForwards)) return null;
  const port = forwardedSshPort(row);
  if (port !== null) return { host, port, user: SSH_USER };
  const isShared = row.useDedicatedIp === false || row.dedicatedIp === false;
  return isShared ? null : { host, port: 22, user: SSH_USER };
}

function forwardedSshPort(row: Json): number | null {
  const forwards = Array.isArray(row.portForwards) ? row.portForwards : [];
  const forward = forwards.filter(isObject).find((each) => number(each.internal_port) === 22);
  const port = number(forward?.external_port);
  return port !== null && Number.isInteger(port) && port > 0 && port <= 65_535 ? port : null;
}

/** A map by the vendor's GPU name where one instance is read, two fields in a list. Empty once the GPU was taken away. */
function readGpus(row: Json): { gpu: string | null; gpuCount: number | null } {
  const resources = isObject(row.resources) ? row.resources : {};
  const [entry] = isObject(resources.gpus) ? Object.entries(resources.gpus) : [];
  if (entry === undefined) return { gpu: text(row.gpu_model), gpuCount: number(row.gpu_count) };
  const [name, details] = entry;
  return isObject(details)
    ? { gpu: text(details.v0Name) ?? name, gpuCount: number(details.count) }
    : { gpu: name, gpuCount: number(details) };
}

/** The account's SSH keys; the vendor may hide the value, which is then null. */
export function readSshSecrets(body: unknown): { id: string; publicKey: string | null }[] {
  const data = isObject(body) ? body.data : undefined;
  const rows = isObject(data) ? data.secrets : undefined;
  if (!Array.isArray(rows)) throw unbelievable('the answer is no list of secrets');
  return rows.filter(isObject).flatMap((row) => {
    const id = text(row.id);
    return id === null || text(row.type)?.toUpperCase() !== 'SSHKEY' ? [] : [{ id, publicKey: publicKeyOf(row) }];
  });
}

export function readSecretKey(body: unknown): string | null {
  return isObject(body) && isObject(body.data) ? publicKeyOf(body.data) : null;
}

function publicKeyOf(row: Json): string | null {
  const value = text(row.value);
  return value !== null && /^(?:ssh|ecdsa|sk-)\S* \S+/.test(value) ? value : null;
}

function readTime(value: unknown): string | null {
  const time = typeof value === 'string' ? Date.parse(value) : NaN;
  return Number.isNaN(time) ? null : new Date(time).toISOString();
}
