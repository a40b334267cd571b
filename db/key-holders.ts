/**
 * Who runs with which master keys. A process says at its start what it seals with and what it opens, and goes on saying that it lives; so nobody
 * begins to seal with a key that another one cannot open, and a key is not called free while somebody seals with it. The keys themselves are not here.
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { sql } from 'kysely';
import type { Envelope } from '../secrets/envelope.ts';
import { inTransaction, type Db, type Executor, type Tx } from './database.ts';

const BEAT_MS = 5_000;
/** Who was not seen for so long is dead. */
const DEAD_AFTER_MS = 15_000;
/** Somebody who has just died is waited for. */
const WAIT_MS = DEAD_AFTER_MS + 5_000;
const FORGET_AFTER_MS = 86_400_000;

/** The keys of this process are not those that the deployment needs. Its message names ids of keys, which are no secrets. */
export class MasterKeyError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'MasterKeyError';
  }
}

export interface KeyHolder {
  process: string;
  /** Ends the beat and forgets the process. */
  release(): Promise<void>;
}

export interface HoldOptions {
  onWait?: (message: string) => void;
  /** Told once, of a key that came into use and is not known here. */
  onTrouble?: (message: string) => void;
  signal?: AbortSignal;
  /** How long others that do not know our key may take to end. @default 20 s */
  waitMs?: number;
}

/**
 * Takes the envelope's keys for this process, until it is released. Throws MasterKeyError where something is sealed with a key that the envelope
 * does not have, or where another process runs that could not open what we seal.
 */
export async function holdMasterKeys(db: Db, envelope: Envelope, options: HoldOptions = {}): Promise<KeyHolder> {
  const process = `${hostname()}/${globalThis.process.pid}/${randomBytes(3).toString('hex')}`;
  const deadline = performance.now() + (options.waitMs ?? WAIT_MS);
  let isTold = false;
  for (;;) {
    const blind = await inTransaction(db, (tx) => takeKeys(tx, envelope, process));
    if (blind.length === 0) break;
    const message = describeBlind(envelope.keyIds[0], blind);
    if (performance.now() > deadline || options.signal?.aborted) throw new MasterKeyError(message);
    if (!isTold) options.onWait?.(message);
    isTold = true;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  return startBeat(db, envelope, process, options.onTrouble);
}

/** @returns processes that do not know our key; where there are any, nothing was taken */
async function takeKeys(tx: Tx, envelope: Envelope, process: string): Promise<string[]> {
  await sql`lock table master_keys in share row exclusive mode`.execute(tx);
  const unknown = await listUnknownKeys(tx, envelope);
  if (unknown.length > 0) throw new MasterKeyError(describeUnknown(unknown, envelope));
  const [current] = envelope.keyIds;
  const blind = await liveHolders(tx)
    .where(sql<boolean>`not (opens @> array[${current}])`)
    .execute();
  if (blind.length > 0) return blind.map((holder) => holder.process);
  await tx
    .insertInto('master_keys')
    .values({ id: current })
    .onConflict((conflict) => conflict.column('id').doUpdateSet({ taken_at: sql<Date>`now()`, retired_at: null }))
    .execute();
  await tx.deleteFrom('key_holders').where('seen_at', '<', ago(FORGET_AFTER_MS)).execute();
  await beat(tx, envelope, process);
  return [];
}

function startBeat(db: Db, envelope: Envelope, process: string, onTrouble?: (message: string) => void): KeyHolder {
  let underWay: Promise<void> | null = null;
  let isTold = false;
  const look = async () => {
    await beat(db, envelope, process);
    const unknown = await listUnknownKeys(db, envelope);
    if (unknown.length === 0 || isTold) return;
    isTold = true;
    onTrouble?.(describeUnknown(unknown, envelope));
  };
  const timer = setInterval(() => {
    underWay ??= look()
      .catch(() => {}) // the database is away, so nobody seals anything either
      .finally(() => (underWay = null));
  }, BEAT_MS);
  return {
    process,
    async release() {
      clearInterval(timer);
      await underWay;
      await db.deleteFrom('key_holders').where('process', '=', process).execute();
    },
  };
}

async function beat(executor: Executor, { keyIds }: Envelope, process: string): Promise<void> {
  await executor
    .insertInto('key_holders')
    .values({ process, seals_with: keyIds[0], opens: [...keyIds] })
    .onConflict((conflict) => conflict.column('process').doUpdateSet({ seen_at: sql<Date>`now()` }))
    .execute();
}

/** Keys that something may be sealed with, and that the envelope does not have. */
async function listUnknownKeys(executor: Executor, { keyIds }: Envelope): Promise<string[]> {
  const rows = await executor
    .selectFrom('master_keys')
    .select('id')
    .where('retired_at', 'is', null)
    .where('id', 'not in', [...keyIds])
    .orderBy('id')
    .execute();
  return rows.map((row) => row.id);
}

export interface MasterKeyUse {
  id: string;
  takenAt: Date;
  isRetired: boolean;
  /** Processes that run and seal with it. */
  sealers: string[];
}

export async function listMasterKeys(executor: Executor): Promise<MasterKeyUse[]> {
  const keys = await executor.selectFrom('master_keys').selectAll().orderBy('taken_at').orderBy('id').execute();
  const holders = await liveHolders(executor).execute();
  return keys.map((key) => ({
    id: key.id,
    takenAt: key.taken_at,
    isRetired: key.retired_at !== null,
    sealers: holders.filter((holder) => holder.seals_with === key.id).map((holder) => holder.process),
  }));
}

/**
 * Retires the keys among `ids` that nobody who runs seals with, and that nobody began to seal with after `before`. The caller has seen, later than
 * `before`, that nothing is sealed with them. @returns those retired
 */
export async function retireMasterKeys(db: Db, ids: readonly string[], before: Date): Promise<string[]> {
  if (ids.length === 0) return [];
  return inTransaction(db, async (tx) => {
    await sql`lock table master_keys in share row exclusive mode`.execute(tx);
    const holders = await liveHolders(tx).execute();
    const free = ids.filter((id) => !holders.some((holder) => holder.seals_with === id));
    if (free.length === 0) return [];
    const rows = await tx
      .updateTable('master_keys')
      .set({ retired_at: sql<Date>`now()` })
      .where('id', 'in', free)
      .where('taken_at', '<=', before)
      .where('retired_at', 'is', null)
      .returning('id')
      .execute();
    return rows.map((row) => row.id).sort();
  });
}

function liveHolders(executor: Executor) {
  return executor
    .selectFrom('key_holders')
    .select(['process', 'seals_with'])
    .where('seen_at', '>', ago(DEAD_AFTER_MS))
    .orderBy('process');
}

function ago(ms: number) {
  return sql<Date>`now() - ${ms} * interval '1 millisecond'`;
}

function describeUnknown(unknown: readonly string[], { keyIds }: Envelope): string {
  const one = unknown.length === 1;
  return (
    `what is secret in this database is sealed with the master key${one ? '' : 's'} ${unknown.join(', ')}, which ${one ? 'is' : 'are'} not here; ` +
    `configured: ${keyIds.join(', ')}. Give ${one ? 'it' : 'them'} as MUSTER_SECRETS_KEY or among MUSTER_SECRETS_OTHER_KEYS ` +
    '(docs/runbooks/rotate-keys.md)'
  );
}

function describeBlind(keyId: string, processes: readonly string[]): string {
  return (
    `these processes run and do not know the master key ${keyId}, so they could not open what this one seals: ${processes.join(', ')}. ` +
    'Give it to them among MUSTER_SECRETS_OTHER_KEYS first (docs/runbooks/rotate-keys.md)'
  );
}
