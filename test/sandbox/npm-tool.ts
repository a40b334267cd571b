/**
 * A vendor's own npm package, in a folder outside the project that all test runs share. Made on first use; a run without npm or
 * without a registry gets the reason instead.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const INSTALL_TIMEOUT_MS = 240_000;

/** Resolves with the package's folder, or with the reason why there is none. Its scripts are not run. */
export async function installNpmTool(name: string, version: string): Promise<{ folder: string } | { missing: string }> {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const place = join(cache, 'muster', 'test-tools', `${name.replace(/^@/, '').replaceAll('/', '-')}-${version}`);
  const folder = join(place, 'node_modules', ...name.split('/'));
  if (existsSync(folder)) return { folder };
  await mkdir(dirname(place), { recursive: true });
  // Beside the folder and renamed: a run that is killed leaves no half package, and two runs do not meet.
  const building = await mkdtemp(`${place}.building-`);
  try {
    const failure = await runNpm([
      'install',
      '--prefix',
      building,
      '--no-audit',
      '--no-fund',
      '--ignore-scripts',
      `${name}@${version}`,
    ]);
    if (failure !== null) return { missing: `${name} could not be installed: ${failure}` };
    await rename(building, place).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
    return { folder };
  } finally {
    await rm(building, { recursive: true, force: true });
  }
}

/** The last line of what npm complained about; null when it went well. */
function runNpm(args: readonly string[]): Promise<string | null> {
  return new Promise((resolve) => {
    execFile('npm', [...args], { timeout: INSTALL_TIMEOUT_MS, cwd: homedir() }, (error, _stdout, stderr) => {
      resolve(error === null ? null : stderr.trim().split('\n').at(-1) || error.message);
    });
  });
}
