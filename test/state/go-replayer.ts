/**
 * The engine's own replayer (engine/replayer/), built once into a cache. Where there is no Go, or its modules cannot be had, it is null: then
 * the comparison is left out, visibly.
 */
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import type { Deployment, VersionedDeployment } from '../../domain/state/deployment.ts';
import type { JournalEntry } from '../../domain/state/journal.ts';
import { acquireProcessLock } from '../../scripts/process-lock.mjs';

const run = promisify(execFile);
const ENGINE = join(import.meta.dirname, '..', '..', 'engine');
const BUILD_MS = 15 * 60_000;

export interface GoReplayer {
  replay(base: Deployment, entries: readonly JournalEntry[]): Promise<VersionedDeployment | { error: string }>;
  close(): void;
}

export async function startGoReplayer(): Promise<GoReplayer | null> {
  const program = await buildReplayer();
  if (program === null) return null;
  const child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    async replay(base, entries) {
      child.stdin.write(`${JSON.stringify({ base, entries })}\n`);
      const { value, done } = await lines.next();
      if (done === true) throw new Error('the replayer ended');
      return JSON.parse(value) as VersionedDeployment;
    },
    close: () => child.stdin.end(),
  };
}

async function buildReplayer(): Promise<string | null> {
  const source = await Promise.all(
    ['replayer/main.go', 'go.mod', 'go.sum'].map((file) => readFile(join(ENGINE, file), 'utf8')),
  );
  const digest = createHash('sha256').update(source.join('')).digest('hex').slice(0, 16);
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'muster', 'replayer');
  const program = join(folder, digest);
  if (await exists(program)) return program;
  await mkdir(folder, { recursive: true });
  const release = await acquireProcessLock(`replayer:${digest}`);
  try {
    if (await exists(program)) return program;
    const args = ['build', '-trimpath', '-tags', 'osusergo,grpcnotrace', '-o', program, './replayer'];
    await run('go', args, { cwd: ENGINE, env: { ...process.env, CGO_ENABLED: '0' }, timeout: BUILD_MS });
    return program;
  } catch (error) {
    process.stderr.write(`the engine's replayer could not be built: ${(error as Error).message.slice(0, 500)}\n`);
    return null;
  } finally {
    await release();
  }
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
