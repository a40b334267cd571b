/**
 * The agent's key and, until it has one, the nonce of its registration: files of mode 600 in a directory of mode 700. Each is written
 * aside, flushed and moved into place, so that a crash leaves the old one or the new one. Files of a line, hours apart: read and written
 * synchronously, which spares the agent a pool of threads.
 */
import { randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';

export interface AgentKey {
  nodeId: string;
  key: string;
}

export interface KeyStore {
  /** null: not registered. Throws where the file cannot be read. */
  read(): AgentKey | null;
  /** Throws where it cannot be kept: then the new key must not be used, for a restart would know only the old one. */
  write(key: AgentKey): void;
  /** The same one until a key is written, over restarts too. */
  readNonce(): string;
}

export function createKeyStore(directory: string): KeyStore {
  const keyFile = join(directory, 'agent.key');
  const nonceFile = join(directory, 'registration.nonce');
  return {
    read() {
      const text = readIfThere(keyFile);
      return text === null ? null : parseKey(text);
    },
    write(key) {
      writePrivately(directory, keyFile, JSON.stringify(key));
      rmSync(nonceFile, { force: true });
    },
    readNonce() {
      const kept = readIfThere(nonceFile)?.trim();
      if (kept !== undefined && /^[A-Za-z0-9_-]{32,128}$/.test(kept)) return kept;
      const nonce = randomBytes(32).toString('base64url');
      writePrivately(directory, nonceFile, nonce);
      return nonce;
    },
  };
}

/** A file that holds no key is as good as none: the agent can only register again. */
function parseKey(text: string): AgentKey | null {
  try {
    const { nodeId, key } = JSON.parse(text) as Partial<AgentKey>;
    return typeof nodeId === 'string' && typeof key === 'string' && key !== '' ? { nodeId, key } : null;
  } catch {
    return null;
  }
}

function readIfThere(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

function writePrivately(directory: string, file: string, text: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
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
