/** The agent's one file as the control plane hands it out: made once per state of the sources, then read. Knows nothing of HTTP. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, globSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

export interface AgentBundle {
  text: string;
  /** Of the text, in hex. */
  sha256: string;
  version: string;
}

const PROJECT_DIR = join(import.meta.dirname, '..');
const SOURCES = 'agent/**/*.ts';
const BUNDLE_TIMEOUT_MS = 60_000;

/**
 * Resolves with the bundle; the first call may make it, in a process of its own, because the bundler takes 60 MB. Any number of processes
 * may do so at once. A failure is thrown and tried again with the next call.
 */
export function createBundleCache(cacheDir: string): () => Promise<AgentBundle> {
  let made: Promise<AgentBundle> | null = null;
  return () => {
    made ??= loadBundle(cacheDir).catch((error: unknown) => {
      made = null;
      throw error;
    });
    return made;
  };
}

async function loadBundle(cacheDir: string): Promise<AgentBundle> {
  const { version: release } = JSON.parse(readFileSync(join(PROJECT_DIR, 'package.json'), 'utf8')) as {
    version: string;
  };
  const version = `${release}+${digestSources().slice(0, 12)}`;
  const file = join(cacheDir, `agent-${version}.mjs`);
  if (!existsSync(file)) {
    mkdirSync(cacheDir, { recursive: true });
    const program = join(import.meta.dirname, 'bundle.ts');
    await promisify(execFile)(process.execPath, ['--disable-warning=ExperimentalWarning', program, file, version], {
      timeout: BUNDLE_TIMEOUT_MS,
    });
  }
  const text = readFileSync(file, 'utf8');
  return { text, sha256: createHash('sha256').update(text).digest('hex'), version };
}

function digestSources(): string {
  const hash = createHash('sha256');
  for (const file of globSync(SOURCES, { cwd: PROJECT_DIR }).sort()) {
    hash
      .update(`${file}\0`)
      .update(readFileSync(join(PROJECT_DIR, file)))
      .update('\0');
  }
  return hash.digest('hex');
}
