/**
 * What the sandbox remembers over a restart and a kill -9: keyed JSON values in an append-only file.
 * Each `put` is one line written by one synchronous write before the vendor's answer leaves, so a machine whose
 * purchase was answered exists after a kill. It is not fsynced: it survives the process, not the computer.
 */
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export type JournalRecord = readonly [key: string, value: unknown];

export interface Journal {
  /** The last value put under each key before this start. */
  readonly restored: ReadonlyMap<string, unknown>;
  /** Writes all records or none (one line). A value of null forgets the key. */
  put(records: readonly JournalRecord[]): void;
  /** Forgets everything. */
  clear(): void;
  close(): void;
}

const FILE_NAME = 'journal.jsonl';
/** Rewriting beyond this keeps a restart under a second or two. */
const COMPACT_AFTER_BYTES = 64 * 1024 * 1024;

/** `dir` null keeps nothing: for tests that never restart. */
export function openJournal(dir: string | null): Journal {
  if (dir === null) return { restored: new Map(), put: () => {}, clear: () => {}, close: () => {} };
  mkdirSync(dir, { recursive: true });
  const path = join(dir, FILE_NAME);
  const values = existsSync(path) ? replay(path) : new Map<string, string>();
  const restored = new Map([...values].map(([key, json]) => [key, JSON.parse(json) as unknown]));
  let file = rewrite(path, values);
  let appendedBytes = 0;

  return {
    restored,
    put(records) {
      for (const [key, value] of records) {
        if (value === null) values.delete(key);
        else values.set(key, JSON.stringify(value));
      }
      const line = records.map(([key]) => `${JSON.stringify(key)},${values.get(key) ?? 'null'}`).join(',');
      appendedBytes += writeLine(file, `[${line}]\n`);
      if (appendedBytes > COMPACT_AFTER_BYTES) {
        closeSync(file);
        file = rewrite(path, values);
        appendedBytes = 0;
      }
    },
    clear() {
      values.clear();
      closeSync(file);
      file = rewrite(path, values);
    },
    close: () => closeSync(file),
  };
}

/** A line holds `[key, value, key, value, …]`. Only the last line can be torn (a kill in the middle of a write). */
function replay(path: string): Map<string, string> {
  const values = new Map<string, string>();
  const lines = readFileSync(path, 'utf8').split('\n');
  for (const [index, line] of lines.entries()) {
    if (line === '') continue;
    let flat: unknown[];
    try {
      flat = JSON.parse(line) as unknown[];
    } catch (cause) {
      if (index === lines.length - 1) break;
      throw new Error(`${path} line ${index + 1} cannot be read; delete the file to start the sandbox afresh`, {
        cause,
      });
    }
    for (let i = 0; i < flat.length; i += 2) {
      const key = flat[i] as string;
      if (flat[i + 1] === null) values.delete(key);
      else values.set(key, JSON.stringify(flat[i + 1]));
    }
  }
  return values;
}

/** Writes a compact copy beside the file and puts it in its place; returns it open for appending. */
function rewrite(path: string, values: ReadonlyMap<string, string>): number {
  const fresh = `${path}.new`;
  const file = openSync(fresh, 'w', 0o600);
  for (const [key, json] of values) writeLine(file, `[${JSON.stringify(key)},${json}]\n`);
  renameSync(fresh, path);
  return file;
}

function writeLine(file: number, line: string): number {
  const bytes = Buffer.from(line);
  let written = 0;
  while (written < bytes.length) written += writeSync(file, bytes, written);
  return bytes.length;
}
