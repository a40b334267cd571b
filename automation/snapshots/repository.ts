/** The repository of a workspace, as the worker opens it: at the store itself, with the deployment's own key. */
import { randomBytes } from 'node:crypto';
import { MusterError } from '../../domain/error-table.ts';
import { parseStoreUrl, type SnapshotStore } from '../../domain/snapshots/store.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import { repositoryName } from '../../db/repository-tokens.ts';
import {
  findWorkspace,
  lockWorkspace,
  recordInitialized,
  recordRepository,
  type WorkspaceRow,
} from '../../db/workspaces.ts';
import type { Envelope } from '../../secrets/envelope.ts';
import { identityAt } from '../../secrets/sealed-place.ts';
import type { ResticOutcome, ResticPort, ResticRun, SnapshotServices, StoreKey } from './restic-port.ts';

/** The data is not what it should be, or not there: trying again changes nothing. */
export class DamagedRepository extends Error {}
/** The store or the program did not do it this time. */
export class RepositoryTrouble extends Error {}

export interface Repository {
  restic: ResticPort;
  /** Throws DamagedRepository or RepositoryTrouble unless it ends with 0. Without a cache: what is read comes from the store. */
  run(run: Omit<ResticRun, 'env'>): Promise<ResticOutcome>;
}

interface RepositoryParts {
  db: Db;
  envelope: Envelope;
  snapshots: SnapshotServices;
}

/** @param generation which of the workspace's repositories */
export async function openRepositoryOf(
  { envelope, snapshots }: Omit<RepositoryParts, 'db'>,
  workspace: WorkspaceRow,
  generation: number,
): Promise<Repository> {
  const { password_sealed: sealed, store_url: storeUrl, instance_id: instanceId } = workspace;
  if (sealed === null || storeUrl === null) throw new Error(`${instanceId} has no repository`);
  const restic = await snapshots.restic();
  const env = {
    ...environmentOf(storeOf(storeUrl), repositoryName({ instance_id: instanceId, generation }), snapshots.storeKey),
    RESTIC_PASSWORD: openPassword(envelope, instanceId, sealed),
  };
  return {
    restic,
    async run(run) {
      const outcome = await restic.run({ ...run, args: ['--no-cache', ...run.args], env });
      if (outcome.code === 0) return outcome;
      throw troubleOf(outcome);
    },
  };
}

/**
 * Makes the workspace's present repository where it is not there yet: first its password is kept, then restic makes it. Harmless when done
 * twice, and by two at once. Throws RepositoryTrouble. @returns the workspace as it is then
 */
export async function ensureRepository(
  parts: RepositoryParts,
  instanceId: string,
  signal: AbortSignal,
): Promise<WorkspaceRow> {
  const { db, envelope, snapshots } = parts;
  const before = await requireWorkspace(db, instanceId);
  if (before.initialized_at !== null) return before;
  const restic = await snapshots.restic(); // before anything is kept: without it there is nothing to make
  const passwordSealed = envelope.seal(
    randomBytes(32).toString('base64url'),
    identityAt('workspaces.password_sealed', instanceId),
  );
  const { storeUrl } = snapshots;
  await inTransaction(db, (tx) => recordRepository(tx, instanceId, { passwordSealed, storeUrl }));
  return inTransaction(db, async (tx) => {
    const workspace = await lockWorkspace(tx, instanceId); // one makes it, the others wait
    if (!workspace || workspace.initialized_at !== null) return requireWorkspace(tx, instanceId);
    const env = {
      ...environmentOf(storeOf(workspace.store_url as string), repositoryName(workspace), snapshots.storeKey),
      RESTIC_PASSWORD: openPassword(envelope, instanceId, workspace.password_sealed as string),
    };
    const made = await restic.run({ args: ['--no-cache', 'init'], env, signal });
    // Made before, and its making not recorded: it must open with our password.
    if (made.code !== 0) {
      const opened = await restic.run({ args: ['--no-cache', '--no-lock', 'cat', 'config'], env, signal });
      if (opened.code !== 0)
        throw new RepositoryTrouble(lastLine(made.trouble) || 'restic could not make the repository');
    }
    await recordInitialized(tx, instanceId);
    return requireWorkspace(tx, instanceId);
  });
}

export function openPassword(envelope: Envelope, instanceId: string, sealed: string): string {
  return envelope.open(sealed, identityAt('workspaces.password_sealed', instanceId));
}

/** How restic finds it, beside the password. */
export function environmentOf(store: SnapshotStore, repository: string, key: StoreKey | null): Record<string, string> {
  if (store.kind === 'file') return { RESTIC_REPOSITORY: `${store.path}/${repository}` };
  if (key === null) throw new MusterError('unavailable', 'the key of the snapshot store is not set');
  return {
    RESTIC_REPOSITORY: bucketUrl(store, repository),
    AWS_ACCESS_KEY_ID: key.accessKeyId,
    AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
    AWS_DEFAULT_REGION: store.region,
  };
}

/** As restic names a place at a bucket. */
export function bucketUrl(store: Exclude<SnapshotStore, { kind: 'file' }>, repository: string): string {
  return `s3:${[store.endpoint, store.bucket, store.prefix, repository].filter((part) => part !== '').join('/')}`;
}

export function storeOf(storeUrl: string): SnapshotStore {
  const store = parseStoreUrl(storeUrl);
  if (store === undefined) throw new Error(`no place of snapshots: ${storeUrl}`);
  return store;
}

const PASSING =
  /connection refused|connection reset|broken pipe|no such host|timed? ?out|timeout|TLS handshake|server misbehaving|SlowDown|InternalError|ServiceUnavailable|(?:status|code|response)\b.{0,30}\b50[0234]\b|\b50[0234] (?:Internal|Bad|Service|Gateway)|no space left|repository is already locked/i;

/** What restic says decides whether the store fails for now, or what it has is broken. */
export function troubleOf({ ended, trouble, code }: ResticOutcome): Error {
  const detail = lastLine(trouble) || `restic ended with ${code ?? 'a signal'}`;
  if (ended === 'missing') return new DamagedRepository(`a file of the repository is missing: ${detail}`);
  if (ended !== null || PASSING.test(trouble)) return new RepositoryTrouble(detail);
  return new DamagedRepository(detail);
}

function lastLine(text: string): string {
  return text.split('\n').at(-1)?.slice(0, 500) ?? '';
}

async function requireWorkspace(
  executor: Parameters<typeof findWorkspace>[0],
  instanceId: string,
): Promise<WorkspaceRow> {
  const found = await findWorkspace(executor, instanceId);
  if (!found) throw new Error(`${instanceId} has no workspace`);
  return found;
}
