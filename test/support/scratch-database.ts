/** A Postgres of one program's own, migrated, in a folder that goes with it: for benches and seeded runs, which are no tests and share no server. */
import { mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '../../db/embedded-postgres.ts';
import { migrateDatabase } from '../../db/migrate.ts';

export interface ScratchDatabase {
  /** The owner's URL. */
  url: string;
  /** SIGKILL; it comes back on its port. */
  kill(): void;
  close(): Promise<void>;
}

/** @param isDurable as a user's would be; else nothing waits for the disk @default true */
export async function openScratchDatabase({ isDurable = true } = {}): Promise<ScratchDatabase> {
  const dataDir = await mkdtemp(join(tmpdir(), 'muster-scratch-'));
  const server = await startEmbeddedPostgres({
    dataDir,
    cacheDir: join(homedir(), '.cache', 'muster'),
    log: () => {},
    isDurable,
  });
  await migrateDatabase(server.url);
  return {
    url: server.url,
    kill: () => void process.kill(server.pid, 'SIGKILL'),
    async close() {
      await server.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
