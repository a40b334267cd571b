/** The agent's key and, until it has one, the nonce of its registration. */
import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { readIfThere, writePrivately } from './private-file.ts';

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
      writePrivately(keyFile, JSON.stringify(key));
      rmSync(nonceFile, { force: true });
    },
    readNonce() {
      const kept = readIfThere(nonceFile)?.trim();
      if (kept !== undefined && /^[A-Za-z0-9_-]{32,128}$/.test(kept)) return kept;
      const nonce = randomBytes(32).toString('base64url');
      writePrivately(nonceFile, nonce);
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
