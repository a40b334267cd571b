/**
 * Lambda's answers to domain values. A good answer is `{"data": …}`; what is missing becomes null, what is not the vendor's answer
 * throws `unbelievable`. Sources: the vendor's OpenAPI 1.8.3.
 */
import type { ObservedInstance, ObservedStatus } from '../../domain/observed-instance.ts';
import type { Offer } from '../../domain/offer.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import { readGpuModel } from './gpu-names.ts';
import { toOfferId } from './offer-id.ts';
import { countryOf } from './regions.ts';
import { isObject, type Json } from '../http.ts';

/** Carries our label besides the name, because a name can be changed at the vendor's console. */
export const LABEL_TAG = 'muster-label';
/** The vendor tells an address and no port: 22, unless this tag says otherwise, as for a machine that moved its sshd. */
export const SSH_PORT_TAG = 'ssh-port';
/** The user of the vendor's images. */
export const SSH_USER = 'ubuntu';

const SSH_PORT = 22;
const MICRO_PER_CENT = 10_000n;
/** Listed capacity was gone at 3 of 11 launches. */
const CONFIDENCE = 0.7;

export interface AccountKey {
  id: string;
  name: string;
  publicKey: string;
}

export interface InstancePage {
  instances: LambdaInstance[];
  /** null: the last page. The documented API has one page only. */
  nextToken: string | null;
}

export interface LambdaInstance extends ObservedInstance {
  /** Terminated ones may stay in the list for a while: they are gone. */
  isGone: boolean;
  isTerminating: boolean;
  /** Why a terminate would not be taken now; null: it would be. */
  terminateRefusal: string | null;
}

/** One offer for each type with GPUs and each region that has some of it. */
export function readOffers(reply: unknown): Offer[] {
  const types = dataOf(reply);
  if (!isObject(types)) throw unbelievable('the list of instance types is no object');
  return Object.entries(types).flatMap(([name, item]) => {
    if (!isObject(item) || !isObject(item.instance_type) || !Array.isArray(item.regions_with_capacity_available)) {
      throw unbelievable(`instance type ${name} has another shape`);
    }
    const { instance_type: type, regions_with_capacity_available: regions } = item;
    return regions.flatMap((region) => (isObject(region) ? readOffer(type, region) : []));
  });
}

function readOffer(type: Json, region: Json): Offer[] {
  const typeName = text(type.name);
  const regionName = text(region.name);
  const cents = wholeNumber(type.price_cents_per_hour);
  const specs = isObject(type.specs) ? type.specs : {};
  const gpuCount = wholeNumber(specs.gpus);
  const model = readGpuModel(text(type.gpu_description) ?? '');
  if (typeName === null || regionName === null || cents === null || cents <= 0 || !gpuCount || model === null)
    return [];
  const storageGib = wholeNumber(specs.storage_gib);
  return [
    {
      provider: 'lambda',
      providerOfferId: toOfferId(typeName, regionName),
      machineId: null,
      hostId: null,
      gpu: model.gpu,
      gpuCount,
      gpuMemoryGib: model.memoryGib,
      priceMicroUsdPerHour: BigInt(cents) * MICRO_PER_CENT,
      pricedDiskGib: storageGib ?? 0,
      // The disk comes with the type; there is no more of it to buy.
      diskMicroUsdPerGibHour: 0n,
      floorMicroUsdPerHour: null,
      interruptible: false,
      region: countryOf(regionName, text(region.description)),
      location: text(region.description) ?? regionName,
      reliability: null,
      verified: true,
      diskGib: storageGib,
      cpuCores: wholeNumber(specs.vcpus),
      memoryGib: wholeNumber(specs.memory_gib),
      inetDownMbps: null,
      inetUpMbps: null,
      cudaVersion: null,
      driverVersion: null,
      directPorts: null,
      maxDurationSeconds: null,
      stock: null,
      confidence: CONFIDENCE,
    },
  ];
}

/** A page may carry a token for the next one beside the data, as newer versions of the API are said to. */
export function readInstancePage(reply: unknown): InstancePage {
  const rows = dataOf(reply);
  if (!Array.isArray(rows)) throw unbelievable('the list of instances is no list');
  const token = isObject(reply) ? (reply.page_token ?? reply.next_page_token ?? reply.next) : null;
  return { instances: rows.map(readInstance), nextToken: text(token) };
}

/** @param id what was asked for: an answer about another instance is not believed */
export function readInstanceReply(reply: unknown, id: string): LambdaInstance {
  const instance = readInstance(dataOf(reply));
  if (instance.providerInstanceId !== id) throw unbelievable(`it was asked for ${id}`);
  return instance;
}

export function readInstance(row: unknown): LambdaInstance {
  if (!isObject(row)) throw unbelievable('an instance is no object');
  const id = text(row.id);
  const status = text(row.status);
  if (id === null || status === null) throw unbelievable('an instance has no id or no status');
  const type = isObject(row.instance_type) ? row.instance_type : {};
  const specs = isObject(type.specs) ? type.specs : {};
  const model = readGpuModel(text(type.gpu_description) ?? '');
  const cents = wholeNumber(type.price_cents_per_hour);
  const region = isObject(row.region) ? row.region : {};
  const tags = readTags(row.tags);
  return {
    provider: 'lambda',
    providerInstanceId: id,
    label: tags.get(LABEL_TAG) ?? text(row.name),
    status: observedStatus(status),
    statusDetail: status,
    machineId: null,
    gpu: model?.gpu ?? null,
    gpuCount: wholeNumber(specs.gpus),
    gpuMemoryGib: model?.memoryGib ?? null,
    priceMicroUsdPerHour: cents === null ? null : BigInt(cents) * MICRO_PER_CENT,
    interruptible: false,
    interrupted: status === 'preempted',
    ssh: readSsh(text(row.ip), tags.get(SSH_PORT_TAG)),
    image: null,
    region: countryOf(text(region.name) ?? '', text(region.description)),
    // The vendor does not tell when it was launched.
    startedAt: null,
    isGone: status === 'terminated',
    isTerminating: status === 'terminating',
    terminateRefusal: readRefusal(row.actions),
  };
}

export function readAccountKeys(reply: unknown): AccountKey[] {
  const rows = dataOf(reply);
  if (!Array.isArray(rows)) throw unbelievable('the list of SSH keys is no list');
  return rows.map((row: unknown) => {
    const [id, name, publicKey] = isObject(row) ? [text(row.id), text(row.name), text(row.public_key)] : [];
    if (!id || !name || !publicKey) throw unbelievable('an SSH key has another shape');
    return { id, name, publicKey };
  });
}

/** null: the launch was accepted without naming exactly one instance. */
export function readLaunchedId(reply: unknown): string | null {
  const data = isObject(reply) ? reply.data : undefined;
  const ids = isObject(data) && Array.isArray(data.instance_ids) ? data.instance_ids : [];
  return ids.length === 1 ? text(ids[0]) : null;
}

/** Whether the answer to a terminate names the instance. It was seen empty although it worked. */
export function namesTerminated(reply: unknown, id: string): boolean {
  const data = isObject(reply) ? reply.data : undefined;
  const rows = isObject(data) && Array.isArray(data.terminated_instances) ? data.terminated_instances : [];
  return rows.some((row: unknown) => isObject(row) && row.id === id);
}

/** `unhealthy` is how a boot ends that failed, and a machine whose host is in trouble: both bill on. */
function observedStatus(status: string): ObservedStatus {
  switch (status) {
    case 'booting':
      return 'starting';
    case 'active':
      return 'running';
    case 'unhealthy':
      return 'failed';
    case 'preempted':
    case 'terminating':
    case 'terminated':
      return 'stopped';
    default:
      return 'unknown';
  }
}

function readSsh(host: string | null, taggedPort: string | undefined): ObservedInstance['ssh'] {
  if (host === null) return null;
  const port = Number(taggedPort ?? SSH_PORT);
  return { host, port: Number.isInteger(port) && port > 0 && port < 65_536 ? port : SSH_PORT, user: SSH_USER };
}

function readTags(value: unknown): Map<string, string> {
  const tags = new Map<string, string>();
  for (const tag of Array.isArray(value) ? (value as unknown[]) : []) {
    const [key, content] = isObject(tag) ? [text(tag.key), text(tag.value)] : [];
    if (key && content) tags.set(key, content);
  }
  return tags;
}

function readRefusal(actions: unknown): string | null {
  const terminate = isObject(actions) && isObject(actions.terminate) ? actions.terminate : {};
  if (terminate.available !== false) return null;
  return text(terminate.reason_code) ?? 'not available';
}

function dataOf(reply: unknown): unknown {
  if (!isObject(reply) || reply.data === undefined) throw unbelievable('the answer has no data');
  return reply.data;
}

/** null for anything but a text with something in it. */
export function text(value: unknown): string | null {
  return typeof value === 'string' && value !== '' ? value : null;
}

function wholeNumber(value: unknown): number | null {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : null;
}

export function unbelievable(message: string): ProviderError {
  return new ProviderError('unbelievable', `Lambda: ${message}`);
}
