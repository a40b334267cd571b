/**
 * The state backend: where stacks' checkpoints are kept. Chosen here and nowhere else. Today the engine's file backend under the
 * data directory (or MUSTER_PULUMI_BACKEND_URL when it is a file URL too); the rest of the runner sees only this interface.
 */
import { createCipheriv, pbkdf2 as pbkdf2Callback, randomBytes } from 'node:crypto';
import { access, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import type { MadeSecret } from '../../secrets/deployment-secrets.ts';

const pbkdf2 = promisify(pbkdf2Callback);

export const PROJECT = 'muster';
const ORGANIZATION = 'organization';

export interface StackResource {
  urn: string;
  /** Last part of the urn. */
  name: string;
  type: string;
  id: string | null;
  /** Urn of the component it belongs to. */
  parent: string | null;
  /** Reference (`urn::id`) of the provider that made it; null: it has none of its own. */
  provider: string | null;
  /** The engine refuses to delete it. */
  isProtected: boolean;
  inputs: Record<string, unknown>;
  outputs: Record<string, unknown>;
  initErrors: string[];
}

export interface StackState {
  resources: StackResource[];
  /** Creates that were begun and never ended: what they made is not in `resources`. */
  pendingCreates: StackResource[];
}

/** What a pending create made. */
export interface FoundResource {
  id: string;
  /** As the provider read them, in the state's own form; absent: its inputs stand for them until the next up. */
  outputs?: Record<string, unknown>;
  /** It is to be deleted by the next update and made anew. */
  isUseless?: boolean;
}

/** Something that may be at a cloud. */
export interface LookUpCandidate {
  /** The pending create that may have made it. */
  urn: string;
  id: string;
}

export interface StateBackend {
  readonly url: string;
  /**
   * Makes the stack where it is missing, and mends what a killed engine left torn (from its own backup: a step older, which pending
   * creates and labels make up for). Idempotent; only while no update runs.
   */
  prepareStack(stackName: string): Promise<void>;
  /** null: there is no such stack. */
  readState(stackName: string): Promise<StackState | null>;
  /**
   * Ends all pending creates: those in `found` (by urn) become resources that the next up makes whole (they carry an init error, so the
   * engine calls update), the others are dropped. Only while no update runs.
   */
  resolvePendingCreates(stackName: string, found: Record<string, FoundResource>): Promise<void>;
  /** Inputs of a provider of the stack, as the state has them (secrets sealed); null: there is none of this reference. */
  readProvider(stackName: string, reference: string): Promise<Record<string, unknown> | null>;
  /**
   * Makes a stack beside it that holds its providers and the candidates as if they were there, so that a refresh of that stack says which
   * of them are: readState then has those, with what the provider told. Replaces one that is left from before. @returns its name; the
   * candidates' resources are named `name~index`
   */
  openLookUp(stackName: string, candidates: LookUpCandidate[]): Promise<string>;
  closeLookUp(stackName: string): Promise<void>;
  /** Forgets an empty stack. Throws when it still has resources. Idempotent. */
  removeStack(stackName: string): Promise<void>;
  /**
   * Takes every protection off, so that a destroy deletes what the stack's owner no longer protects: also the mark by which the engine would
   * forget data and keys instead of deleting them. Only while no update runs.
   */
  unprotect(stackName: string): Promise<void>;
  /**
   * Breaks locks that dead updates left. Only for the holder of the stack's lease: a lock of a living engine of this host is
   * from an update that lost its lease, so that engine is killed first.
   */
  breakLocks(stackName: string): Promise<void>;
}

export async function chooseStateBackend(backendUrl: string | null, dataDir: string): Promise<StateBackend> {
  const url = backendUrl ?? pathToFileURL(join(dataDir, 'engine', 'state')).href;
  if (!url.startsWith('file://'))
    throw new Error(`MUSTER_PULUMI_BACKEND_URL: only file:// URLs are supported, got ${url}`);
  return openFileBackend(url);
}

async function openFileBackend(url: string): Promise<StateBackend> {
  const root = join(fileURLToPath(url), '.pulumi');
  const stacks = join(root, 'stacks', PROJECT);
  const fileOf = (stackName: string) => join(stacks, `${stackName}.json`);
  /** The engine keeps backups and attributes beside the state: <name>.json, .json.bak, .json.attrs, … */
  async function removeFiles(stackName: string): Promise<void> {
    for (const file of await readdir(stacks)) {
      if (file.startsWith(`${stackName}.json`)) await rm(join(stacks, file), { force: true });
    }
    for (const part of ['history', 'backups'])
      await rm(join(root, part, PROJECT, stackName), { recursive: true, force: true });
    await rm(join(root, 'locks', ORGANIZATION, PROJECT, stackName), { recursive: true, force: true });
  }
  await mkdir(stacks, { recursive: true, mode: 0o700 });
  await writeFile(join(root, 'meta.yaml'), 'version: 1\n', { flag: 'wx' }).catch(ignoreExisting);
  return {
    url,
    async prepareStack(stackName) {
      const file = fileOf(stackName);
      await removeTornFiles(stacks, `${stackName}.json`);
      const kept = await readCheckpoint(file);
      const empty = { version: 3, checkpoint: { stack: `${ORGANIZATION}/${PROJECT}/${stackName}`, latest: null } };
      if (kept?.path !== file) await replaceFile(file, kept?.text ?? JSON.stringify(empty));
    },
    async readState(stackName) {
      const kept = await readCheckpoint(fileOf(stackName));
      return kept && parseCheckpoint(kept.text);
    },
    async resolvePendingCreates(stackName, found) {
      const file = JSON.parse(await readFile(fileOf(stackName), 'utf8')) as CheckpointFile;
      const latest = file.checkpoint.latest;
      if (!latest?.pending_operations?.length) return;
      for (const { resource, type } of latest.pending_operations) {
        const made = found[resource.urn];
        if (type === 'creating' && made !== undefined)
          latest.resources = withAdopted(latest.resources ?? [], adopt(resource, made));
      }
      delete latest.pending_operations;
      await replaceFile(fileOf(stackName), JSON.stringify(file));
    },
    async removeStack(stackName) {
      const kept = await readCheckpoint(fileOf(stackName));
      if (kept === null) return;
      const state = parseCheckpoint(kept.text);
      if (state.resources.length > 0)
        throw new Error(`stack ${stackName} still has ${state.resources.length} resources`);
      await removeFiles(stackName);
      await removeFiles(lookUpName(stackName));
    },
    async readProvider(stackName, reference) {
      const kept = await readCheckpoint(fileOf(stackName));
      const { latest } = (kept && (JSON.parse(kept.text) as CheckpointFile).checkpoint) ?? { latest: null };
      const found = latest?.resources?.find(({ urn, id }) => `${urn}::${id}` === reference);
      return found?.inputs ?? null;
    },
    async openLookUp(stackName, candidates) {
      const name = lookUpName(stackName);
      const file = JSON.parse(await readFile(fileOf(stackName), 'utf8')) as CheckpointFile;
      await removeFiles(name);
      await replaceFile(fileOf(name), JSON.stringify(lookUpCheckpoint(file, name, candidates)));
      return name;
    },
    closeLookUp: (stackName) => removeFiles(lookUpName(stackName)),
    async unprotect(stackName) {
      const kept = await readCheckpoint(fileOf(stackName));
      if (kept === null) return;
      const file = JSON.parse(kept.text) as CheckpointFile;
      const resources = file.checkpoint.latest?.resources ?? [];
      if (!resources.some((resource) => resource.protect || resource.retainOnDelete)) return;
      for (const resource of resources) {
        delete resource.protect;
        delete resource.retainOnDelete;
      }
      await replaceFile(fileOf(stackName), JSON.stringify(file));
    },
    async breakLocks(stackName) {
      const folder = join(root, 'locks', ORGANIZATION, PROJECT, stackName);
      for (const file of await readdir(folder).catch(() => [])) {
        const lock = await readFile(join(folder, file), 'utf8').catch(missingIsNull);
        if (lock !== null) await killLockHolder(lock);
        await rm(join(folder, file), { force: true });
      }
    },
  };
}

async function killLockHolder(text: string): Promise<void> {
  const lock = parseLock(text);
  if (typeof lock.pid !== 'number' || lock.hostname !== hostname()) return;
  const command = await readFile(`/proc/${lock.pid}/cmdline`, 'utf8').catch(() => '');
  if (!/pulumi/.test(command.split('\0')[0] ?? '')) return;
  try {
    process.kill(lock.pid, 'SIGKILL');
  } catch {
    return; // gone meanwhile
  }
  for (let tries = 0; tries < 200 && (await exists(`/proc/${lock.pid}/exe`)); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Nothing of one that was cut off in the middle of writing: its writer is dead. */
function parseLock(text: string): { pid?: number; hostname?: string } {
  try {
    return JSON.parse(text) as { pid?: number; hostname?: string };
  } catch {
    return {};
  }
}

/** A name that no stack of ours can have. */
function lookUpName(stackName: string): string {
  return `${stackName}.look-up`;
}

function adopt(resource: CheckpointResource, { id, outputs, isUseless }: FoundResource): CheckpointResource {
  const adopted = { ...resource, id, outputs: outputs ?? { ...resource.inputs } };
  return isUseless ? { ...adopted, delete: true } : { ...adopted, initErrors: ['adopted after an interrupted create'] };
}

/**
 * Where it replaces another the new one comes before the old one, which waits for its deletion (what the engine deleted already is
 * forgotten); else it comes last, because nothing depends on it yet.
 */
function withAdopted(resources: CheckpointResource[], adopted: CheckpointResource): CheckpointResource[] {
  const { urn, id } = adopted;
  if (resources.some((known) => known.urn === urn && known.id === id && !known.pendingReplacement)) return resources;
  const at = resources.findIndex((known) => known.urn === urn && !known.delete);
  const old = resources[at];
  if (old === undefined || adopted.delete) return [...resources, adopted];
  const kept = old.pendingReplacement ? [] : [{ ...old, delete: true }];
  return [...resources.slice(0, at), adopted, ...kept, ...resources.slice(at + 1)];
}

/** Everything by which the resources hang together in their own stack is left out: each is only to be read. */
function lookUpCheckpoint(file: CheckpointFile, name: string, candidates: LookUpCandidate[]): CheckpointFile {
  const latest = file.checkpoint.latest ?? {};
  const pending = (latest.pending_operations ?? []).map(({ resource }) => resource);
  const resources = candidates.map(({ urn, id }, index): CheckpointResource => {
    const { type, inputs, provider } = pending.find((one) => one.urn === urn) ?? { type: '' };
    const own = `urn:pulumi:${name}::${PROJECT}::${type}::${urn.split('::').at(-1)}~${index}`;
    return { urn: own, type, custom: true, id, inputs, outputs: { ...inputs }, ...(provider ? { provider } : {}) };
  });
  const providers = (latest.resources ?? [])
    .filter(({ urn, id }) => resources.some(({ provider }) => provider === `${urn}::${id}`))
    .map(({ urn, type, custom, id, inputs, outputs }): CheckpointResource => {
      return { urn, type, custom, id, inputs: withoutGuess(inputs), outputs: withoutGuess(outputs) };
    });
  return {
    ...file,
    checkpoint: {
      ...file.checkpoint,
      stack: `${ORGANIZATION}/${PROJECT}/${name}`,
      latest: { ...latest, resources: [...providers, ...resources], pending_operations: [] },
    },
  };
}

/** A cluster that does not answer is no reason to believe that what was in it is gone. */
function withoutGuess(values: Record<string, unknown> = {}): Record<string, unknown> {
  const { deleteUnreachable: _, ...rest } = values;
  return rest;
}

interface CheckpointResource {
  urn: string;
  type: string;
  id?: string;
  custom?: boolean;
  parent?: string;
  provider?: string;
  protect?: boolean;
  retainOnDelete?: boolean;
  /** Waits for its deletion. */
  delete?: boolean;
  /** Was deleted to be made anew. */
  pendingReplacement?: boolean;
  inputs?: Record<string, unknown>;
  outputs?: Record<string, unknown>;
  initErrors?: string[];
}

interface CheckpointFile {
  checkpoint: {
    stack?: string;
    latest: {
      resources?: CheckpointResource[];
      pending_operations?: { resource: CheckpointResource; type: string }[];
    } | null;
  };
}

function parseCheckpoint(text: string): StackState {
  const file = JSON.parse(text) as CheckpointFile;
  const latest = file.checkpoint.latest;
  return {
    resources: (latest?.resources ?? []).filter(isSomewhere).map(toResource),
    pendingCreates: (latest?.pending_operations ?? [])
      .filter(({ type, resource }) => type === 'creating' && isSomewhere(resource))
      .map((operation) => toResource(operation.resource)),
  };
}

/** Components and providers are the state's own; what was deleted to be made anew is nowhere. */
function isSomewhere({ custom, type, pendingReplacement }: CheckpointResource): boolean {
  return custom === true && !type.startsWith('pulumi:providers:') && !pendingReplacement;
}

function toResource(resource: CheckpointResource): StackResource {
  return {
    urn: resource.urn,
    name: resource.urn.split('::').at(-1) ?? '',
    type: resource.type,
    id: resource.id ?? null,
    parent: resource.parent ?? null,
    provider: resource.provider ?? null,
    isProtected: resource.protect ?? false,
    inputs: resource.inputs ?? {},
    outputs: resource.outputs ?? {},
    initErrors: resource.initErrors ?? [],
  };
}

/** Temporary files, and attribute files that were cut off empty: the engine would read them as a broken checkpoint. */
async function removeTornFiles(folder: string, prefix: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(prefix)) continue;
    const path = join(folder, name);
    const isTorn = name.endsWith('.tmp') || (name.endsWith('.attrs') && (await stat(path)).size === 0);
    if (isTorn) await rm(path, { force: true });
  }
}

/** The checkpoint, or the engine's backup of it where the file is missing or torn; null: neither is there. */
async function readCheckpoint(file: string): Promise<{ path: string; text: string } | null> {
  for (const path of [file, `${file}.bak`]) {
    const text = await readFile(path, 'utf8').catch(missingIsNull);
    try {
      if (text !== null && 'checkpoint' in (JSON.parse(text) as object)) return { path, text };
    } catch {
      // cut off in the middle of writing
    }
  }
  return null;
}

async function replaceFile(path: string, text: string): Promise<void> {
  await writeFile(`${path}.new`, text, { mode: 0o600 });
  await rename(`${path}.new`, path);
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function missingIsNull(error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null;
  throw error;
}

function ignoreExisting(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error;
}

/**
 * The engine's passphrase and its salt line, made once per deployment: with the salt given in every stack's settings no update
 * has to make one. Format of the engine's passphrase secrets manager, version 1 (PBKDF2-SHA-256, a million rounds, AES-256-GCM).
 */
export async function makeEnginePassphrase(): Promise<MadeSecret> {
  const passphrase = randomBytes(32).toString('base64url');
  const salt = randomBytes(8);
  const key = await pbkdf2(passphrase, salt, 1_000_000, 32, 'sha256');
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', key, nonce);
  const sealed = Buffer.concat([cipher.update('pulumi', 'utf8'), cipher.final(), cipher.getAuthTag()]);
  const encryptionSalt = `v1:${salt.toString('base64')}:v1:${nonce.toString('base64')}:${sealed.toString('base64')}`;
  return { secret: passphrase, publicPart: encryptionSalt };
}
