/**
 * The rotation of the master key: everything sealed with another key is sealed with the present one, in small transactions while everybody goes
 * on. It may be killed anywhere and begun again, and run twice at once: a value is either the old or the new one, and both open.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { sql } from 'kysely';
import type { Envelope } from '../secrets/envelope.ts';
import type { SealedPlace } from '../secrets/sealed-place.ts';
import { inTransaction, type Db } from './database.ts';
import { listMasterKeys, MasterKeyError, retireMasterKeys, type MasterKeyUse } from './key-holders.ts';
import { countSealed, resealBatch, SEALED_PLACES, type SealedCount } from './sealed-places.ts';

const BATCH = 100;
/** A value that somebody read before it was sealed anew may be written again, elsewhere, until then. */
const SETTLE_MS = 15_000;
/** Rows that others hold are looked at again so often. */
const HELD_TRIES = 40;
const HELD_WAIT_MS = 250;
/** Sweeps after which what comes up again and again is left to the next run. */
const MAX_SWEEPS = 5;

export interface ResealOptions {
  /** @param done values of the place that were sealed anew so far in this sweep */
  onProgress?: (place: SealedPlace, done: number) => void;
  /** Called after each transaction; what it throws ends the run. */
  afterBatch?: () => Promise<void> | void;
  batch?: number;
  settleMs?: number;
}

export interface ResealReport {
  resealed: number;
  /** `place row` of what does not open though its key is here. It stays as it is, and keeps its key in use. */
  broken: string[];
  /** Keys that nothing needs from now on. */
  retired: string[];
  /** Other keys that are still in use: processes seal with them, or what is broken is sealed with them. */
  inUse: MasterKeyUse[];
}

/**
 * Seals everything with the envelope's present key, and retires the other keys that are free then. The caller holds the keys
 * (holdMasterKeys). Throws MasterKeyError where something is sealed with a key that the envelope does not have, having changed nothing; and where
 * rows stay held by others.
 */
export async function resealEverything(db: Db, envelope: Envelope, options: ResealOptions = {}): Promise<ResealReport> {
  refuseUnknown(await countSealed(db), envelope);
  let sweep = await sweepPlaces(db, envelope, options);
  let { resealed } = sweep;
  let settledAt: Date | null = null;
  const isFree = (key: MasterKeyUse) => key.sealers.length === 0;
  if ((await listOthersInUse(db, envelope)).some(isFree)) {
    for (let sweeps = 1; sweeps === 1 || (sweep.resealed > 0 && sweeps < MAX_SWEEPS); sweeps++) {
      await delay(options.settleMs ?? SETTLE_MS);
      settledAt = await readClock(db);
      sweep = await sweepPlaces(db, envelope, options);
      resealed += sweep.resealed;
    }
  }
  const left = await countSealed(db);
  refuseUnknown(left, envelope);
  const free = (await listOthersInUse(db, envelope)).filter(
    (key) => isFree(key) && !left.some(({ keyId }) => keyId === key.id),
  );
  const retired =
    settledAt === null
      ? []
      : await retireMasterKeys(
          db,
          free.map(({ id }) => id),
          settledAt,
        );
  return { resealed, broken: sweep.broken, retired, inUse: await listOthersInUse(db, envelope) };
}

interface Sweep {
  resealed: number;
  broken: string[];
}

/** All places, until nothing is left but what is broken; once only while somebody goes on to seal with another key. */
async function sweepPlaces(db: Db, envelope: Envelope, options: ResealOptions): Promise<Sweep> {
  let resealed = 0;
  for (let tries = 1; ; tries++) {
    const pass = await passPlaces(db, envelope, options);
    resealed += pass.resealed;
    const stale = (await countSealed(db)).filter(({ keyId }) => keyId !== envelope.keyIds[0]);
    const held = stale.reduce((sum, { count }) => sum + count, 0) - pass.broken.length;
    const isSealedOn = (await listOthersInUse(db, envelope)).some((key) => key.sealers.length > 0);
    if (held <= 0 || isSealedOn) return { resealed, broken: pass.broken };
    if (pass.resealed > 0) tries = 0;
    if (tries >= HELD_TRIES)
      throw new MasterKeyError(`${held} rows are held by transactions of others: run this again when those have ended`);
    await delay(HELD_WAIT_MS);
  }
}

async function passPlaces(db: Db, envelope: Envelope, options: ResealOptions): Promise<Sweep> {
  const sweep: Sweep = { resealed: 0, broken: [] };
  for (const place of SEALED_PLACES) {
    let done = 0;
    for (let after: string | null = ''; after !== null;) {
      const from: string = after;
      const batch = await inTransaction(db, (tx) =>
        resealBatch(tx, envelope, place, { after: from, limit: options.batch ?? BATCH }),
      );
      after = batch.last;
      done += batch.resealed;
      sweep.broken.push(...batch.broken.map((row) => `${place} ${row}`));
      if (batch.resealed > 0) options.onProgress?.(place, done);
      await options.afterBatch?.();
    }
    sweep.resealed += done;
  }
  return sweep;
}

function refuseUnknown(counts: readonly SealedCount[], envelope: Envelope): void {
  const unknown = counts.filter(({ keyId }) => !envelope.keyIds.includes(keyId));
  if (unknown.length === 0) return;
  const lines = unknown.map(
    ({ place, keyId, count, example }) =>
      `  ${place}: ${count} sealed with the key ${keyId}, such as that of ${example}`,
  );
  throw new MasterKeyError(
    `keys that are not here (configured: ${envelope.keyIds.join(', ')}); give them among MUSTER_SECRETS_OTHER_KEYS:\n${lines.join('\n')}`,
  );
}

async function listOthersInUse(db: Db, envelope: Envelope): Promise<MasterKeyUse[]> {
  const keys = await listMasterKeys(db);
  return keys.filter((key) => !key.isRetired && key.id !== envelope.keyIds[0]);
}

async function readClock(db: Db): Promise<Date> {
  const { rows } = await sql<{ at: Date }>`select clock_timestamp() as at`.execute(db);
  return (rows[0] as { at: Date }).at;
}
