/**
 * Makes the agent one file: `node agent/bundle.ts FILE`. The same sources give the same bytes. The control plane runs it where it has no
 * bundle of its present sources yet (bundle-cache.ts).
 */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'rolldown';

const PROJECT_DIR = join(import.meta.dirname, '..');

/** @param version goes into every heartbeat */
export async function bundleAgent(version: string): Promise<string> {
  const { output } = await build({
    cwd: PROJECT_DIR,
    input: 'agent/main.ts',
    platform: 'node',
    write: false,
    logLevel: 'silent',
    transform: { define: { AGENT_VERSION: JSON.stringify(version) } },
    output: { format: 'esm', minify: false, codeSplitting: false, banner: '#!/usr/bin/env node' },
  });
  const [first, ...rest] = output;
  if (first.type !== 'chunk' || rest.length > 0) throw new Error('the agent did not become one file');
  const foreign = [...first.imports, ...first.dynamicImports].filter((name) => !name.startsWith('node:'));
  if (foreign.length > 0) throw new Error(`the agent imports more than Node itself: ${foreign.join(', ')}`);
  return first.code;
}

if (import.meta.main) {
  const [file, version] = process.argv.slice(2);
  if (file === undefined || version === undefined) {
    process.stderr.write('usage: node agent/bundle.ts FILE VERSION\n');
    process.exit(2);
  }
  const aside = `${file}.${process.pid}`;
  writeFileSync(aside, await bundleAgent(version));
  renameSync(aside, file); // whoever reads it meanwhile gets the old one or the new one
}
