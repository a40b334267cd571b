/**
 * Makes the agent one file: `node agent/bundle.ts FILE`. The same sources give the same bytes. The control plane runs it where it has no
 * bundle of its present sources yet (bundle-cache.ts).
 */
import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const PROJECT_DIR = join(import.meta.dirname, '..');

/** @param version goes into every heartbeat */
export async function bundleAgent(version: string): Promise<string> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: PROJECT_DIR,
    entryPoints: ['agent/main.ts'],
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    write: false,
    metafile: true,
    logLevel: 'silent',
    define: { AGENT_VERSION: JSON.stringify(version) },
    // Libraries that were written for require() find it here.
    banner: {
      js: "#!/usr/bin/env node\nimport { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);",
    },
  });
  const [first, ...rest] = outputFiles;
  if (!first || rest.length > 0) throw new Error('the agent did not become one file');
  const foreign = Object.values(metafile.outputs)
    .flatMap(({ imports }) => imports)
    .filter(({ path, external }) => external === true && !path.startsWith('node:'));
  if (foreign.length > 0)
    throw new Error(`the agent imports more than Node itself: ${foreign.map(({ path }) => path).join(', ')}`);
  return first.text;
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
