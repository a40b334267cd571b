/**
 * A vendor's own Python package, in an environment outside the project that all test runs share. Made on first use; a run without
 * Python or without a package index gets the reason instead.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const INSTALL_TIMEOUT_MS = 240_000;
const COMMAND_TIMEOUT_MS = 60_000;

export interface CommandOutput {
  exitCode: number;
  stdout: string;
  stderr: string;
}

/** Resolves with the environment's Python, or with the reason why there is none. */
export async function installPythonTool(
  name: string,
  version: string,
): Promise<{ python: string } | { missing: string }> {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const folder = join(cache, 'muster', 'test-tools', `${name}-${version}`);
  const python = join(folder, 'bin', 'python');
  if (existsSync(python)) return { python };
  const missing = await install(folder, `${name}==${version}`);
  return missing === null ? { python } : { missing };
}

/** With this environment and no other; never throws. */
export function runProgram(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  timeout = COMMAND_TIMEOUT_MS,
): Promise<CommandOutput> {
  return new Promise((resolve) => {
    execFile(program, [...args], { env, timeout, maxBuffer: 32 * 1024 * 1024 }, (error, stdout, stderr) => {
      const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
      resolve({ exitCode, stdout, stderr: error !== null && stderr === '' ? error.message : stderr });
    });
  });
}

/** Builds beside the folder and renames: a run that is killed leaves no half environment, and two runs do not meet. */
async function install(folder: string, requirement: string): Promise<string | null> {
  await mkdir(dirname(folder), { recursive: true });
  const building = await mkdtemp(`${folder}.building-`);
  try {
    const venv = await runProgram('python3', ['-m', 'venv', building], process.env, INSTALL_TIMEOUT_MS);
    if (venv.exitCode !== 0) return `no Python environment could be made: ${lastLine(venv)}`;
    const args = ['-m', 'pip', 'install', '--quiet', requirement];
    const pip = await runProgram(join(building, 'bin', 'python'), args, process.env, INSTALL_TIMEOUT_MS);
    if (pip.exitCode !== 0) return `the official client could not be installed: ${lastLine(pip)}`;
    await rename(building, folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
    return null;
  } finally {
    await rm(building, { recursive: true, force: true });
  }
}

function lastLine({ stdout, stderr }: CommandOutput): string {
  return `${stdout}\n${stderr}`.trim().split('\n').at(-1) ?? '';
}
