/** The launch of an instance: what the vendor checks, in the order in which it checks, and the machine that comes of it. */
import type { HttpReply } from '../http-listener.ts';
import { runUserData } from '../rental/cloud-init.ts';
import type { NewRentalMachine } from '../rental/fleet.ts';
import { VendorRefusal } from '../rental/api.ts';
import { needRegion } from './account.ts';
import { INSTANCE_TYPES, type InstanceType } from './catalog.ts';
import { invalidParameters, notThereWithAdvice, NO_CAPACITY, QUOTA_EXCEEDED, refused } from './errors.ts';
import type { LambdaDetails } from './instance-wire.ts';
import { offerKey } from './stock.ts';
import type { LambdaWorld } from './world.ts';

const MAX_NAME_LENGTH = 64;
const MAX_USER_DATA_LENGTH = 1_000_000;
const HOSTNAME = /^[a-z0-9][0-9a-z-]{0,62}$/;
const TAG_KEY = /^[a-z][a-z0-9-:]+$/;
const MAX_TAG_KEY_LENGTH = 55;
const MAX_TAG_VALUE_LENGTH = 128;
/** Of the image's user. */
const HOME = '/home/ubuntu';
const MICRO_PER_CENT = 10_000;

/** Answers a launch; the machine is in the journal before this returns. Throws VendorRefusal. */
export function launch(world: LambdaWorld, body: Record<string, unknown>): HttpReply {
  const { market, stock } = world;
  const { type, machine } = readLaunch(world, body);
  const { region } = machine.details;
  const { quota } = market.switches();
  const live = market.fleet.listed(0).filter((one) => one.origin === 'bought').length;
  if (quota !== null && live >= quota) throw new VendorRefusal(QUOTA_EXCEEDED);
  if (!stock.canLaunch(type.name, region)) throw new VendorRefusal(NO_CAPACITY);
  const { id } = market.fleet.create(machine, 'bought', 'boot', (made) =>
    market.purchases.count(machine.label, 'accepted', made),
  );
  return { status: 200, body: { data: { instance_ids: [id] } } };
}

/** A machine for the admin route: whoever launched it used no key of ours. */
export function describePlaced(world: LambdaWorld, label: string): NewRentalMachine<LambdaDetails> {
  const type = INSTANCE_TYPES.get('gpu_1x_a10')!;
  const details = { ...emptyDetails(type, 'us-west-1', world.stock.priceOf(type)), name: label === '' ? null : label };
  return { ...toNewMachine(type, details), offerKey: 'not for sale' };
}

function readLaunch(
  world: LambdaWorld,
  body: Record<string, unknown>,
): { type: InstanceType; machine: NewRentalMachine<LambdaDetails> } {
  const region = needRegion(body['region_name']);
  const type = INSTANCE_TYPES.get(String(body['instance_type_name']));
  if (type === undefined) throw invalidParameters('Invalid instance type.');
  const quantity = body['quantity'] ?? 1;
  if (quantity !== 1) throw invalidParameters('quantity must be 1.');
  const keyNames = needTexts(body, 'ssh_key_names');
  if (keyNames.length !== 1) throw invalidParameters('Exactly one SSH key must be specified.');
  const key = world.account.keys().find(({ name }) => name === keyNames[0]);
  if (key === undefined) throw notThereWithAdvice('SSH key');
  const userData = readText(body, 'user_data', MAX_USER_DATA_LENGTH);
  const startup = userData === null ? null : runUserData(userData);
  const details: LambdaDetails = {
    ...emptyDetails(type, region, world.stock.priceOf(type)),
    name: readText(body, 'name', MAX_NAME_LENGTH),
    hostname: readHostname(body),
    sshKeyNames: keyNames,
    tags: readTags(body['tags']),
    ...readMounts(world, body, region),
    firewallRulesets: readRulesets(world, body, region),
  };
  const machine = {
    ...toNewMachine(type, details),
    publicKeys: [key.public_key, ...(startup?.keysOf(HOME) ?? [])],
    startupScript: startup?.startupScript ?? null,
    env: startup?.env ?? {},
  };
  return { type, machine };
}

function emptyDetails(type: InstanceType, region: string, centsPerHour: number): LambdaDetails {
  return {
    typeName: type.name,
    region,
    centsPerHour,
    name: null,
    hostname: null,
    sshKeyNames: [],
    fileSystemNames: [],
    fileSystemMounts: [],
    tags: [],
    firewallRulesets: [],
  };
}

function toNewMachine(type: InstanceType, details: LambdaDetails): NewRentalMachine<LambdaDetails> {
  return {
    label: details.name ?? '',
    offerKey: offerKey(type.name, details.region),
    gpuName: type.gpu?.name ?? 'A10',
    gpuCount: type.gpus,
    computeMicroUsdPerHour: details.centsPerHour * MICRO_PER_CENT,
    storageMicroUsdPerHour: 0,
    // From the passed health check to the terminate; a guest that powers itself off is billed on.
    billing: { whileBooting: false, whileStopped: 'all' },
    publicKeys: [],
    startupScript: null,
    env: {},
    details,
  };
}

function readMounts(
  world: LambdaWorld,
  body: Record<string, unknown>,
  region: string,
): Pick<LambdaDetails, 'fileSystemNames' | 'fileSystemMounts'> {
  const known = world.account.fileSystems();
  const mounts = (Array.isArray(body['file_system_mounts']) ? body['file_system_mounts'] : []) as {
    file_system_id: string;
    mount_point: string;
  }[];
  const named = body['file_system_names'] === undefined ? [] : needTexts(body, 'file_system_names');
  const used = [
    ...named.map((name) => known.find((one) => one.name === name)),
    ...mounts.map(({ file_system_id: id }) => known.find((one) => one.id === id)),
  ];
  for (const one of used) {
    if (one === undefined) throw notThereWithAdvice('filesystem');
    if (one.region === region) continue;
    const code = 'instance-operations/launch/file-system-in-wrong-region';
    throw refused(400, code, 'Filesystem is in a different region than the instance.');
  }
  return { fileSystemNames: used.map((one) => one!.name), fileSystemMounts: mounts };
}

function readRulesets(world: LambdaWorld, body: Record<string, unknown>, region: string): { id: string }[] {
  const asked = (Array.isArray(body['firewall_rulesets']) ? body['firewall_rulesets'] : []) as { id: string }[];
  for (const { id } of asked) {
    const found = world.account.rulesets().find((ruleset) => ruleset.id === id);
    if (found === undefined || found.region !== region) throw notThereWithAdvice('firewall ruleset');
  }
  return asked.map(({ id }) => ({ id }));
}

function readHostname(body: Record<string, unknown>): string | null {
  const hostname = readText(body, 'hostname', 63);
  if (hostname === null || HOSTNAME.test(hostname)) return hostname;
  throw invalidParameters('hostname is not valid.');
}

function readTags(value: unknown): LambdaDetails['tags'] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalidParameters('tags must be a list.');
  return value.map((tag: { key?: unknown; value?: unknown } | null) => {
    const [key, text] = [tag?.key, tag?.value];
    const isKey = typeof key === 'string' && key.length <= MAX_TAG_KEY_LENGTH && TAG_KEY.test(key);
    if (!isKey) throw invalidParameters(`Tag key ${JSON.stringify(key)} is not valid.`);
    if (typeof text !== 'string' || text.length > MAX_TAG_VALUE_LENGTH) {
      throw invalidParameters(`The value of tag ${key} must have at most ${MAX_TAG_VALUE_LENGTH} characters.`);
    }
    return { key, value: text };
  });
}

function readText(body: Record<string, unknown>, field: string, limit: number): string | null {
  const value = body[field] ?? null;
  if (value === null) return null;
  if (typeof value === 'string' && value.length <= limit) return value;
  throw invalidParameters(`${field} must be a string of at most ${limit} characters.`);
}

function needTexts(body: Record<string, unknown>, field: string): string[] {
  const value = body[field];
  if (Array.isArray(value) && value.every((one) => typeof one === 'string')) return value;
  throw invalidParameters(`${field} must be a list of strings.`);
}
