/**
 * Small files of the agent's own, mode 600 in a directory of mode 700. Each is written aside, flushed and moved into place, so that a crash
 * leaves the old one or the new one. Read and written synchronously, which spares the agent a pool of threads.
 */
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

/** Throws where it cannot be written; then the old one is still there. */
export function writePrivately(file: string, text: string): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const aside = `${file}.${process.pid}`;
  rmSync(aside, { force: true });
  const handle = openSync(aside, 'wx', 0o600);
  try {
    writeSync(handle, text);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  renameSync(aside, file);
}

/** null: it is not there. Throws where it cannot be read. */
export function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** What a file of ours holds; null: none is there, or it is damaged, which is as good as none. */
export function readJson(file: string): unknown {
  try {
    return JSON.parse(readIfThere(file) ?? 'null') as unknown;
  } catch {
    return null;
  }
}
