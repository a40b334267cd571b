/**
 * The world's snapshot store: repositories in memory that fail, are slow, are away and keep what is damaged. Nodes add to it through the
 * gateway's own rule (db/repository-tokens.ts); the worker reads it back by the calls that it makes of restic.
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { OrderError } from '../../agent/orders.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import { openRepository, type RepositoryAccess } from '../../db/repository-tokens.ts';
import type { ResticOutcome, ResticPort, ResticRun } from '../../automation/snapshots/restic-port.ts';
import type { SeededRandom } from '../support/seeded-random.ts';
import { sizeOfWork, type Work } from './work.ts';

/** What happens to what is stored while it lasts. */
export interface StoreTrouble {
  /** Nobody reaches it. */
  isAway: boolean;
  /** Share of calls that fail in passing. */
  failing: number;
  /** Share of snapshots that are not what was sent. */
  damaging: number;
  /** How long a node takes to send one, or to fetch one. */
  slowMs: number;
}

export const NO_TROUBLE: StoreTrouble = { isAway: false, failing: 0, damaging: 0, slowMs: 0 };

interface Stored {
  resticId: string;
  snapshotId: string;
  work: Work;
  /** What is found where it is read; null: it is whole. */
  damage: 'cut' | 'flipped' | null;
  /** When it was damaged; null: never. */
  damagedAt: number | null;
}

/** A snapshot that the store took of a node. */
export interface Publication {
  instanceId: string;
  nodeId: string;
  epoch: number;
  snapshotId: string;
}

export interface SnapshotStore {
  trouble: StoreTrouble;
  readonly restic: ResticPort;
  readonly publications: Publication[];
  /** Uploads that were refused because somebody else writes by now. */
  readonly fenced: number;
  /** Throws OrderError, as a node's restic would end. @returns restic's id */
  publish(upload: Upload): Promise<string>;
  fetch(download: Download): Promise<Work>;
  /** Whether an old token opens anything for writing. */
  tryToken(token: string, instanceId: string): Promise<'open' | 'refused'>;
  /** Something in the newest repository of an instance rots; false: there is nothing. */
  rot(instanceId: string, random: SeededRandom): boolean;
  find(snapshotId: string): Stored | undefined;
}

interface Upload {
  token: string;
  instanceId: string;
  snapshotId: string;
  work: Work;
}

interface Download {
  token: string;
  instanceId: string;
  resticId: string;
}

export function createSnapshotStore(db: Db, random: SeededRandom, now: () => number): SnapshotStore {
  const repositories = new Map<string, Map<string, Stored>>();
  const publications: Publication[] = [];
  let fenced = 0;
  const fails = () => store.trouble.isAway || (store.trouble.failing > 0 && random.chance(store.trouble.failing));

  async function open(token: string, instanceId: string, access: 'read' | 'write'): Promise<RepositoryAccess> {
    if (fails()) throw new OrderError('store_unreachable', 'connection refused');
    return admit(await openRepository(db, token, instanceId), access);
  }

  function admit(
    outcome: Awaited<ReturnType<typeof openRepository>>,
    access: RepositoryAccess['access'],
  ): RepositoryAccess {
    if (outcome.kind === 'open' && outcome.access.access === access) return outcome.access;
    if (outcome.kind === 'refused' && outcome.reason === 'fenced') fenced++;
    const why = outcome.kind === 'open' ? 'other access' : outcome.reason;
    throw new OrderError('restic_failed', `Fatal: server response unexpected: 403 Forbidden (${why})`);
  }

  function add(repository: Map<string, Stored>, { snapshotId, work }: Upload): string {
    const resticId = createHash('sha256').update(snapshotId).digest('hex');
    // It shares what is there already, broken or not.
    const broken = [...repository.values()].find((one) => one.damage !== null)?.damage ?? null;
    const own = random.chance(store.trouble.damaging) ? random.pick(['cut', 'flipped'] as const) : null;
    const damage = broken ?? own;
    const copy = structuredClone(work);
    repository.set(resticId, { resticId, snapshotId, work: copy, damage, damagedAt: damage && now() });
    return resticId;
  }

  const store: SnapshotStore = {
    trouble: NO_TROUBLE,
    publications,
    get fenced() {
      return fenced;
    },
    async publish(upload) {
      const { token, instanceId, snapshotId } = upload;
      await open(token, instanceId, 'write');
      // As the gateway shows the file that names a snapshot: whoever becomes the writer waits for us, or we find that he did.
      return inTransaction(db, async (tx) => {
        const access = admit(await openRepository(tx, token, instanceId, { isLocked: true }), 'write');
        const row = await tx
          .selectFrom('workspaces')
          .select('epoch')
          .where('instance_id', '=', instanceId)
          .executeTakeFirstOrThrow();
        const repository = repositories.get(access.repository);
        if (!repository) throw new OrderError('restic_failed', 'Fatal: unable to open config file');
        publications.push({ instanceId, nodeId: access.nodeId, epoch: row.epoch, snapshotId });
        return add(repository, upload);
      });
    },
    async fetch({ token, instanceId, resticId }) {
      const access = await open(token, instanceId, 'read');
      const found = repositories.get(access.repository)?.get(resticId);
      if (!found) throw new OrderError('restic_failed', 'Fatal: no matching ID found');
      if (found.damage === 'cut') throw new OrderError('repository_damaged', 'a pack is missing');
      if (found.damage !== null) throw new OrderError('restic_failed', 'Fatal: ciphertext verification failed');
      return structuredClone(found.work);
    },
    async tryToken(token, instanceId) {
      const outcome = await openRepository(db, token, instanceId);
      if (outcome.kind === 'open' && outcome.access.access === 'write') return 'open';
      fenced++;
      return 'refused';
    },
    rot(instanceId, draw) {
      const own = [...repositories].filter(([name]) => name === instanceId || name.startsWith(`${instanceId}-`));
      const whole = [...(own.at(-1)?.[1].values() ?? [])].filter((one) => one.damage === null);
      if (whole.length === 0) return false;
      Object.assign(draw.pick(whole), { damage: draw.pick(['cut', 'flipped']), damagedAt: now() });
      return true;
    },
    find: (snapshotId) =>
      [...repositories.values()].flatMap((one) => [...one.values()]).find((one) => one.snapshotId === snapshotId),
    restic: { version: '0.14.0', run: (run) => runRestic(repositories, run, fails) },
  };
  return store;
}

const fine: ResticOutcome = { code: 0, trouble: '', ended: null };
const failed = (trouble: string, ended: ResticOutcome['ended'] = null): ResticOutcome => ({ code: 1, trouble, ended });

async function runRestic(
  repositories: Map<string, Map<string, Stored>>,
  run: ResticRun,
  fails: () => boolean,
): Promise<ResticOutcome> {
  const name = run.env['RESTIC_REPOSITORY']?.split('/').at(-1) ?? '';
  const [command, ...rest] = run.args.filter((arg) => arg !== '--no-cache' && arg !== '--no-lock');
  const repository = repositories.get(name);
  if (fails()) return failed('dial tcp: connection refused');
  if (command === 'init') {
    if (repository) return failed('Fatal: create repository failed: config file already exists');
    repositories.set(name, new Map());
    return fine;
  }
  if (!repository) return failed('Fatal: unable to open config file', 'missing');
  const all = [...repository.values()];
  switch (command) {
    case 'ls':
    case 'dump': {
      const found = repository.get(rest.find((arg) => /^[0-9a-f]{8,}$/.test(arg)) ?? '');
      if (!found) return failed('Fatal: no matching ID found');
      return command === 'ls' ? list(found, run) : dump(found, run);
    }
    case 'check':
      return all.some((one) => one.damage === 'cut') ? failed('Fatal: repository contains errors') : fine;
    case 'stats':
      run.onLine?.(JSON.stringify({ total_size: all.reduce((sum, one) => sum + sizeOfWork(one.work), 0) }));
      return fine;
    case 'snapshots':
      run.onLine?.(JSON.stringify(all.map((one) => ({ id: one.resticId, tags: [one.snapshotId] }))));
      return fine;
    case 'forget':
      for (const id of rest) repository.delete(id);
      return fine;
    default:
      return fine;
  }
}

function list(found: Stored, run: ResticRun): ResticOutcome {
  run.onLine?.(JSON.stringify({ struct_type: 'snapshot', id: found.resticId, tags: [found.snapshotId] }));
  run.onLine?.(JSON.stringify({ type: 'file', size: sizeOfWork(found.work) }));
  return fine;
}

async function dump(found: Stored, run: ResticRun): Promise<ResticOutcome> {
  const isWhole = found.damage === null;
  await run.consume?.(Readable.from([tarOf(isWhole ? sizeOfWork(found.work) : 0)]));
  return isWhole ? fine : failed('Fatal: ciphertext verification failed', found.damage === 'cut' ? 'missing' : null);
}

const BLOCK = 512;

/** One file of so many bytes. */
function tarOf(bytes: number): Buffer {
  const header = Buffer.alloc(BLOCK);
  header.write('work', 0);
  header.write(`${bytes.toString(8).padStart(11, '0')}\0`, 124);
  header.write('0', 156);
  header.write('ustar\x0000', 257);
  header.fill(' ', 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return Buffer.concat([header, Buffer.alloc(Math.ceil(bytes / BLOCK) * BLOCK), Buffer.alloc(2 * BLOCK)]);
}
