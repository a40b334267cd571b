/**
 * `npm run keys`: which master keys the secrets in the database are sealed with, and their rotation (docs/runbooks/rotate-keys.md). It reads the
 * same configuration as Muster itself and works on its database, while Muster runs or not. Exits with 1 where something is left to do.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, loadConfig, readEnvironment, type Config } from './config.ts';
import { openDatabase, type Db } from './db/database.ts';
import { startEmbeddedPostgres } from './db/embedded-postgres.ts';
import { holdMasterKeys, listMasterKeys } from './db/key-holders.ts';
import { resealEverything } from './db/reseal.ts';
import { countSealed } from './db/sealed-places.ts';
import type { Envelope } from './secrets/envelope.ts';
import { openEnvelope } from './secrets/key-file.ts';

const USAGE = `Use: npm run keys             what is sealed with which key
     npm run keys -- reseal   seal everything with the present key (MUSTER_SECRETS_KEY)`;

async function main(args: string[]): Promise<number> {
  const run = args.length === 0 ? show : args.length === 1 && args[0] === 'reseal' ? reseal : null;
  if (!run) return fail(USAGE, 2);
  try {
    const config = loadConfig(readEnvironment());
    if (config.database.url === null && !existsSync(join(config.dataDir, 'mode')))
      return fail(`Muster was never started on the data directory ${config.dataDir}`, 1);
    const envelope = openEnvelope(config);
    return await withDatabase(config, (db) => run(db, envelope));
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error), error instanceof ConfigError ? 2 : 1);
  }
}

async function show(db: Db, { keyIds }: Envelope): Promise<number> {
  const counts = await countSealed(db);
  for (const key of await listMasterKeys(db)) {
    const mine = counts.filter(({ keyId }) => keyId === key.id);
    const total = mine.reduce((sum, { count }) => sum + count, 0);
    const role = key.id === keyIds[0] ? 'seals' : keyIds.includes(key.id) ? 'opens' : 'not here';
    const use = key.isRetired ? 'retired: nothing needs it' : `${total} values`;
    print(`${key.id}  ${role}, ${use}${key.sealers.length > 0 ? `; sealed with by ${key.sealers.join(', ')}` : ''}`);
    for (const { place, count } of mine) print(`          ${place}: ${count}`);
  }
  return 0;
}

async function reseal(db: Db, envelope: Envelope): Promise<number> {
  const [current] = envelope.keyIds;
  const holder = await holdMasterKeys(db, envelope, { onWait: (message) => print(`waiting: ${message}`) });
  try {
    const report = await resealEverything(db, envelope, {
      onProgress: (place, done) => print(`${place}: ${done} sealed anew`),
    });
    print(`${report.resealed} values were sealed anew; the key is ${current}`);
    for (const row of report.broken) print(`does not open, and stays as it is: ${row}`);
    for (const id of report.retired) print(`the key ${id} may be taken away: nothing needs it`);
    for (const { id, sealers } of report.inUse) {
      const why = sealers.length > 0 ? `${sealers.join(', ')} still seal with it` : 'something is still sealed with it';
      print(`the key ${id} must stay: ${why}. Run this again when that is over`);
    }
    return report.inUse.length > 0 || report.broken.length > 0 ? 1 : 0;
  } finally {
    await holder.release();
  }
}

async function withDatabase<T>(config: Config, work: (db: Db) => Promise<T>): Promise<T> {
  const { dataDir, cacheDir } = config;
  const given = config.database.url?.reveal();
  const embedded =
    given === undefined ? await startEmbeddedPostgres({ dataDir, cacheDir, log: () => undefined }) : undefined;
  const database = openDatabase({
    url: given ?? (embedded as { url: string }).url,
    ca: config.database.ca,
    applicationName: 'muster-keys',
    poolSize: 2,
  });
  try {
    return await work(database.kysely);
  } finally {
    await database.close();
    await embedded?.stop();
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

function fail(message: string, code: number): number {
  process.stderr.write(`${message}\n`);
  return code;
}

process.exitCode = await main(process.argv.slice(2));
