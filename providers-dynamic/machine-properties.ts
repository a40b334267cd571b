/**
 * The properties of a rented machine as a dynamic resource: inputs (what is wanted), outputs (what was bought and seen), their
 * check and their diff. Pure; the same for every marketplace. Outputs hold no environment and no script, only their digests.
 */
import { createHash } from 'node:crypto';
import type { ObservedInstance } from '../domain/observed-instance.ts';
import { canonicalGpuKey, type OfferRequirements } from '../domain/offer.ts';
import type { ProviderName } from '../domain/provider.ts';
import { UNKNOWN_VALUE, type CheckFailure, type DiffResult, type Properties } from './dynamic-crud.ts';

/** Money is a number here, because the engine stores JSON; all amounts are far below 2^53. */
export interface MachineInputs {
  /** null: made from `resourceKey` by the runtime. */
  label: string | null;
  resourceKey: string;
  gpu: string;
  gpuCount: number;
  minGpuMemoryGib: number | null;
  diskGib: number;
  maxPriceMicroUsdPerHour: number;
  regions: string[];
  minReliability: number | null;
  interruptible: boolean;
  /** Whole machine per hour; null for on demand. Defaults to the highest price for an interruptible one. */
  bidMicroUsdPerHour: number | null;
  image: string;
  env: Record<string, string>;
  onStart: string | null;
  sshPublicKeys: string[];
}

/** What stands in the engine's state. Nothing is undefined there; null: the vendor does not say (yet). */
export interface MachineOutputs {
  provider: ProviderName;
  providerInstanceId: string;
  label: string;
  gpu: string;
  gpuCount: number;
  diskGib: number;
  interruptible: boolean;
  bidMicroUsdPerHour: number | null;
  image: string;
  envDigest: string;
  onStartDigest: string;
  /** All keys that were let in, the deployment's included. */
  attachedSshPublicKeys: string[];
  /** The vendor refused the purchase, made the machine all the same, and it could not be destroyed yet. */
  rejected: boolean;
  /** Further machines with our label, which should not exist. */
  duplicateInstanceIds: string[];
  status: string;
  statusDetail: string | null;
  interrupted: boolean;
  machineId: string | null;
  observedGpu: string | null;
  observedGpuCount: number | null;
  gpuMemoryGib: number | null;
  priceMicroUsdPerHour: number | null;
  sshHost: string | null;
  sshPort: number | null;
  sshUser: string | null;
  region: string | null;
  startedAt: string | null;
}

/** Kept encrypted in the state: a digest of a short secret can be guessed. */
export const SECRET_OUTPUTS = ['envDigest', 'onStartDigest'] as const;

const MAX_GPU_COUNT = 64;
const MAX_DISK_GIB = 100_000;
/** Fits every vendor's label or name. */
const LABEL_PATTERN = /^[a-z0-9][a-z0-9-]{2,62}$/;

/** Fills defaults in and names everything that is wrong; values not known yet (in a preview) are passed as they are. */
export function checkInputs(news: Properties): { inputs: Properties; failures: CheckFailure[] } {
  const isInterruptible = news.interruptible === true;
  const inputs: Properties = {
    label: null,
    gpuCount: 1,
    minGpuMemoryGib: null,
    diskGib: 40,
    regions: [],
    minReliability: null,
    interruptible: false,
    bidMicroUsdPerHour: isInterruptible ? (news.maxPriceMicroUsdPerHour ?? null) : null,
    env: {},
    onStart: null,
    sshPublicKeys: [],
    ...withoutNulls(news),
  };
  const failures: CheckFailure[] = [];
  for (const [property, isGood, allowed] of INPUT_RULES) {
    const value = inputs[property];
    if (value !== UNKNOWN_VALUE && !isGood(value)) failures.push({ property, reason: `must be ${allowed}` });
  }
  const { bidMicroUsdPerHour: bid, maxPriceMicroUsdPerHour: max } = inputs;
  if (!isInterruptible && typeof bid === 'number')
    failures.push({ property: 'bidMicroUsdPerHour', reason: 'only with interruptible: true' });
  if (typeof bid === 'number' && typeof max === 'number' && bid > max) {
    failures.push({ property: 'bidMicroUsdPerHour', reason: `must not be above maxPriceMicroUsdPerHour (${max})` });
  }
  return { inputs, failures };
}

/** Checked inputs as a value. Throws TypeError where they were never checked. */
export function readInputs(properties: Properties): MachineInputs {
  const { inputs, failures } = checkInputs(properties);
  const [failure] = failures;
  if (failure) throw new TypeError(`${failure.property} ${failure.reason}`);
  return inputs as unknown as MachineInputs;
}

export function requirementsOf(inputs: MachineInputs, provider: ProviderName): OfferRequirements {
  return {
    gpu: inputs.gpu,
    gpuCount: inputs.gpuCount,
    minGpuMemoryGib: inputs.minGpuMemoryGib,
    diskGib: inputs.diskGib,
    maxPriceMicroUsdPerHour: BigInt(inputs.maxPriceMicroUsdPerHour),
    providers: [provider],
    regions: inputs.regions,
    minReliability: inputs.minReliability,
    interruptible: inputs.interruptible,
  };
}

/** Outputs right after a purchase: what is wanted is what was ordered; nothing was seen yet. */
export function outputsOf(inputs: MachineInputs, provider: ProviderName, id: string, label: string): MachineOutputs {
  return {
    provider,
    providerInstanceId: id,
    label,
    gpu: inputs.gpu,
    gpuCount: inputs.gpuCount,
    diskGib: inputs.diskGib,
    interruptible: inputs.interruptible,
    bidMicroUsdPerHour: inputs.bidMicroUsdPerHour,
    image: inputs.image,
    envDigest: digest(inputs.env),
    onStartDigest: digest(inputs.onStart),
    attachedSshPublicKeys: [],
    rejected: false,
    duplicateInstanceIds: [],
    status: 'unknown',
    statusDetail: null,
    interrupted: false,
    machineId: null,
    observedGpu: null,
    observedGpuCount: null,
    gpuMemoryGib: null,
    priceMicroUsdPerHour: null,
    sshHost: null,
    sshPort: null,
    sshUser: null,
    region: null,
    startedAt: null,
  };
}

/** What the listing says now. The label stays ours, whatever the vendor shows: it is what proves ownership at delete. */
export function withObserved(outputs: MachineOutputs, observed: ObservedInstance): MachineOutputs {
  return {
    ...outputs,
    status: observed.status,
    statusDetail: observed.statusDetail,
    interrupted: observed.interrupted,
    machineId: observed.machineId ?? outputs.machineId,
    observedGpu: observed.gpu,
    observedGpuCount: observed.gpuCount,
    gpuMemoryGib: observed.gpuMemoryGib,
    priceMicroUsdPerHour: observed.priceMicroUsdPerHour === null ? null : Number(observed.priceMicroUsdPerHour),
    sshHost: observed.ssh?.host ?? null,
    sshPort: observed.ssh?.port ?? null,
    sshUser: observed.ssh?.user ?? null,
    region: observed.region,
    startedAt: observed.startedAt,
  };
}

/**
 * What differs. Bought for good: model, count, disk, image, environment, script, rental type: another value needs another
 * machine (`replaces`). Label, keys and bid change in place. What only steered the purchase (highest price, regions,
 * reliability, memory) never changes a machine that was bought, nor does the shim's text.
 * @param deploymentKeys the keys that must be let in besides the resource's own
 */
export function diffMachine(olds: Properties, news: Properties, deploymentKeys: string[]): DiffResult {
  const bought = olds as Partial<MachineOutputs>;
  const wanted = checkInputs(news).inputs as unknown as MachineInputs;
  const differs = (old: unknown, now: unknown): boolean => old !== undefined && (old ?? null) !== (now ?? null);
  const replaces = [
    differs(bought.gpu && canonicalGpuKey(bought.gpu), canonicalGpuKey(String(wanted.gpu))) && 'gpu',
    differs(bought.gpuCount, wanted.gpuCount) && 'gpuCount',
    differs(bought.diskGib, wanted.diskGib) && 'diskGib',
    differs(bought.interruptible, wanted.interruptible) && 'interruptible',
    differs(bought.image, wanted.image) && 'image',
    differs(bought.envDigest, digest(wanted.env)) && 'env',
    differs(bought.onStartDigest, digest(wanted.onStart)) && 'onStart',
    bought.rejected === true && 'rejected',
  ].filter((field) => field !== false);
  const updates = [
    wanted.label !== null && differs(bought.label, wanted.label) && 'label',
    missingKeys(bought, wanted, deploymentKeys).length > 0 && 'sshPublicKeys',
    wanted.interruptible && differs(bought.bidMicroUsdPerHour, wanted.bidMicroUsdPerHour) && 'bidMicroUsdPerHour',
  ].filter((field) => field !== false);
  const changed = [...replaces, ...updates];
  return { changes: changed.length > 0, replaces, deleteBeforeReplace: true, changed };
}

/** Keys still to be let in. A key taken out of the inputs stays let in: vendors have no dependable way to withdraw one. */
export function missingKeys(
  outputs: Partial<MachineOutputs>,
  inputs: MachineInputs,
  deploymentKeys: string[],
): string[] {
  const attached = outputs.attachedSshPublicKeys ?? [];
  return allKeys(inputs, deploymentKeys).filter((key) => !attached.includes(key));
}

/** Every key that is to be let in, the deployment's first, each once. */
export function allKeys(inputs: MachineInputs, deploymentKeys: string[]): string[] {
  const own = Array.isArray(inputs.sshPublicKeys) ? inputs.sshPublicKeys : [];
  return [...new Set([...deploymentKeys, ...own])];
}

type InputRule = [property: keyof MachineInputs, isGood: (value: unknown) => boolean, allowed: string];

const isText = (value: unknown): value is string => typeof value === 'string' && value.trim() !== '';
const isTextList = (value: unknown): boolean => Array.isArray(value) && value.every((item) => isText(item));
const isIntegerWithin = (value: unknown, low: number, high: number): boolean =>
  Number.isSafeInteger(value) && (value as number) >= low && (value as number) <= high;
const isPrice = (value: unknown): boolean => isIntegerWithin(value, 1, Number.MAX_SAFE_INTEGER);
const orNull =
  (isGood: (value: unknown) => boolean) =>
  (value: unknown): boolean =>
    value === null || isGood(value);

const INPUT_RULES: InputRule[] = [
  [
    'label',
    orNull((value) => isText(value) && LABEL_PATTERN.test(value)),
    '3 to 63 lower-case letters, digits and dashes',
  ],
  ['gpu', isText, 'the name of a GPU model'],
  ['gpuCount', (value) => isIntegerWithin(value, 1, MAX_GPU_COUNT), `an integer from 1 to ${MAX_GPU_COUNT}`],
  ['minGpuMemoryGib', orNull((value) => isIntegerWithin(value, 1, 10_000)), 'a positive integer of GiB'],
  ['diskGib', (value) => isIntegerWithin(value, 8, MAX_DISK_GIB), `an integer from 8 to ${MAX_DISK_GIB}`],
  ['maxPriceMicroUsdPerHour', isPrice, 'a positive integer of micro-dollars'],
  ['regions', isTextList, 'a list of two-letter country codes'],
  ['minReliability', orNull((value) => typeof value === 'number' && value >= 0 && value <= 1), 'a number from 0 to 1'],
  ['interruptible', (value) => typeof value === 'boolean', 'true or false'],
  ['bidMicroUsdPerHour', orNull(isPrice), 'a positive integer of micro-dollars'],
  ['image', (value) => isText(value) && !/\s/.test(value), 'a container image reference'],
  ['env', isTextMap, 'a map of names to texts'],
  ['onStart', orNull((value) => typeof value === 'string'), 'a shell script'],
  ['sshPublicKeys', isTextList, 'a list of OpenSSH public keys'],
];

function isTextMap(value: unknown): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((item) => typeof item === 'string')
  );
}

function withoutNulls(properties: Properties): Properties {
  return Object.fromEntries(Object.entries(properties).filter(([, value]) => value !== null && value !== undefined));
}

/** Independent of the order of keys. */
function digest(value: Record<string, string> | string | null): string {
  const canonical =
    typeof value === 'object' && value !== null ? Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)) : value;
  return createHash('sha256').update(JSON.stringify(canonical)).digest('hex');
}
