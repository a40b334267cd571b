/** What the account has besides instances: SSH keys, file systems and firewall rules. */
import ssh2 from 'ssh2';
import type { SandboxClock } from '../clock.ts';
import type { Journal } from '../journal.ts';
import { isPublicKey } from '../public-keys.ts';
import { createRandom } from '../random.ts';
import { REGIONS } from './catalog.ts';
import { invalidParameters, notThere, notThereWithAdvice, refused } from './errors.ts';
import { toHex } from './ids.ts';
import { toWireRegion } from './instance-wire.ts';

export interface SshKey {
  id: string;
  name: string;
  public_key: string;
}

export interface FileSystem {
  id: string;
  name: string;
  region: string;
  createdAtMs: number;
}

export interface Ruleset {
  id: string;
  name: string;
  region: string;
  rules: unknown[];
  createdAtMs: number;
}

export interface LambdaAccount {
  keys(): SshKey[];
  /** Makes a pair when no public key is given; then the private one is told, once. */
  addKey(body: Record<string, unknown>): SshKey & { private_key?: string };
  removeKey(id: string): void;
  fileSystems(): FileSystem[];
  addFileSystem(body: Record<string, unknown>): FileSystem;
  removeFileSystem(id: string, isInUse: boolean): void;
  /** The rules of the whole account. */
  rules(): unknown[];
  setRules(body: Record<string, unknown>): unknown[];
  rulesets(): Ruleset[];
  addRuleset(body: Record<string, unknown>): Ruleset;
  changeRuleset(id: string, body: Record<string, unknown>): Ruleset;
  removeRuleset(id: string, isInUse: boolean): void;
}

interface Stored {
  nextNumber: number;
  keys: SshKey[];
  fileSystems: FileSystem[];
  rules: unknown[];
  rulesets: Ruleset[];
}

const ACCOUNT_KEY = 'lambda/account';
const MAX_NAME_LENGTH = 64;
const MAX_KEY_LENGTH = 4096;
const SSH_RULE = { protocol: 'tcp', port_range: [22, 22], source_network: '0.0.0.0/0', description: 'SSH' };

export function createAccount(seed: number, clock: SandboxClock, journal: Journal): LambdaAccount {
  const account: Stored = (journal.restored.get(ACCOUNT_KEY) as Stored | undefined) ?? {
    nextNumber: 1,
    keys: [],
    fileSystems: [],
    rules: [SSH_RULE],
    rulesets: [],
  };

  function save(): void {
    journal.put([[ACCOUNT_KEY, account]]);
  }
  function nextId(): string {
    return toHex(createRandom(seed, `lambda account ${account.nextNumber++}`));
  }
  function findRuleset(id: string): Ruleset {
    const found = account.rulesets.find((ruleset) => ruleset.id === id);
    if (found === undefined) throw notThereWithAdvice('firewall ruleset');
    return found;
  }

  return {
    keys: () => account.keys,
    addKey(body) {
      const name = needName(body);
      if (account.keys.some((key) => key.name === name)) throw duplicate('SSH key', name);
      const pair = body['public_key'] === undefined || body['public_key'] === null ? makePair() : null;
      const publicKey = pair?.public ?? body['public_key'];
      if (!isPublicKey(publicKey) || publicKey.length > MAX_KEY_LENGTH) {
        throw invalidParameters('public_key is not a valid OpenSSH public key.');
      }
      const key = { id: nextId(), name, public_key: publicKey.trim() };
      account.keys.push(key);
      save();
      return pair === null ? key : { ...key, private_key: pair.private };
    },
    removeKey(id) {
      const left = account.keys.filter((key) => key.id !== id);
      if (left.length === account.keys.length) throw notThere('SSH key');
      account.keys = left;
      save();
    },

    fileSystems: () => account.fileSystems,
    addFileSystem(body) {
      const name = needName(body);
      const region = needRegion(body['region']);
      if (account.fileSystems.some((one) => one.name === name)) throw duplicate('filesystem', name);
      const made = { id: nextId(), name, region, createdAtMs: clock.now() };
      account.fileSystems.push(made);
      save();
      return made;
    },
    removeFileSystem(id, isInUse) {
      if (!account.fileSystems.some((one) => one.id === id)) throw notThere('filesystem');
      if (isInUse) throw refused(400, 'filesystems/filesystem-in-use', 'The filesystem is in use.');
      account.fileSystems = account.fileSystems.filter((one) => one.id !== id);
      save();
    },

    rules: () => account.rules,
    setRules(body) {
      account.rules = needRules(body['data'] ?? body['rules']);
      save();
      return account.rules;
    },
    rulesets: () => account.rulesets,
    addRuleset(body) {
      const name = needName(body);
      const region = needRegion(body['region']);
      const made = { id: nextId(), name, region, rules: needRules(body['rules']), createdAtMs: clock.now() };
      account.rulesets.push(made);
      save();
      return made;
    },
    changeRuleset(id, body) {
      const found = findRuleset(id);
      if (body['name'] !== undefined) found.name = needName(body);
      if (body['rules'] !== undefined) found.rules = needRules(body['rules']);
      save();
      return found;
    },
    removeRuleset(id, isInUse) {
      findRuleset(id);
      if (isInUse) {
        const message = 'Firewall ruleset is in use by one or more instances.';
        const advice = 'Terminate all instances that are using the ruleset before deleting it.';
        throw refused(400, 'firewall-rulesets/firewall-ruleset-in-use', message, advice);
      }
      account.rulesets = account.rulesets.filter((ruleset) => ruleset.id !== id);
      save();
    },
  };
}

export function toWireFileSystem(one: FileSystem, isInUse: boolean): Record<string, unknown> {
  return {
    id: one.id,
    name: one.name,
    mount_point: `/lambda/nfs/${one.name}`,
    created: new Date(one.createdAtMs).toISOString(),
    created_by: { id: '0'.repeat(32), email: 'sandbox@example.com', status: 'active' },
    is_in_use: isInUse,
    region: toWireRegion(one.region),
    bytes_used: 0,
  };
}

export function toWireRuleset(ruleset: Ruleset, instanceIds: string[]): Record<string, unknown> {
  const { id, name, rules, createdAtMs } = ruleset;
  const created = new Date(createdAtMs).toISOString();
  return { id, name, region: toWireRegion(ruleset.region), rules, created, instance_ids: instanceIds };
}

/** Throws the vendor's refusal. */
export function needRegion(value: unknown): string {
  if (typeof value === 'string' && value in REGIONS) return value;
  throw invalidParameters(`Invalid region ${JSON.stringify(value)}.`);
}

function needName(body: Record<string, unknown>): string {
  const name = body['name'];
  if (typeof name === 'string' && name !== '' && name.length <= MAX_NAME_LENGTH) return name;
  throw invalidParameters(`name must have 1 to ${MAX_NAME_LENGTH} characters.`);
}

function needRules(value: unknown): unknown[] {
  if (Array.isArray(value)) return value;
  throw invalidParameters('rules must be a list.');
}

function duplicate(what: string, name: string): Error {
  return refused(400, 'global/duplicate', `A ${what} named ${name} exists already.`);
}

function makePair(): { public: string; private: string } {
  return ssh2.utils.generateKeyPairSync('rsa', { bits: 2048 });
}
