/**
 * The vendor's own client for Vast.ai, in a Python environment outside the project that all test runs share.
 * Made on first use; a run without Python or without a package index gets the reason instead.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

const VERSION = '1.9.1';
const INSTALL_TIMEOUT_MS = 240_000;
const COMMAND_TIMEOUT_MS = 60_000;

export interface CommandOutput {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export interface OfficialClient {
  /** Runs `vastai …` as a person would, against `url`. */
  cli(url: string, home: string, args: readonly string[]): Promise<CommandOutput>;
  /** Runs a Python program that may import vastai. */
  python(home: string, program: string, args: readonly string[]): Promise<CommandOutput>;
}

/** Resolves with the client, or with the reason why there is none. */
export async function installOfficialClient(): Promise<OfficialClient | { missing: string }> {
  const folder = join(
    process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'),
    'muster',
    'test-tools',
    `vastai-${VERSION}`,
  );
  const python = join(folder, 'bin', 'python');
  if (!existsSync(python)) {
    const missing = await install(folder);
    if (missing !== null) return { missing };
  }
  return {
    cli: (url, home, args) =>
      // The console script in bin/ has the folder's first name in it, so the module is started directly.
      run(python, ['-c', 'from vastai.cli.main import main; main()', ...args, '--url', url], COMMAND_TIMEOUT_MS, home),
    python: (home, program, args) => run(python, ['-c', program, ...args], COMMAND_TIMEOUT_MS, home),
  };
}

/** Builds beside the folder and renames: a run that is killed leaves no half environment, and two runs do not meet. */
async function install(folder: string): Promise<string | null> {
  await mkdir(dirname(folder), { recursive: true });
  const building = await mkdtemp(`${folder}.building-`);
  try {
    const venv = await run('python3', ['-m', 'venv', building], INSTALL_TIMEOUT_MS);
    if (venv.exitCode !== 0) return `no Python environment could be made: ${lastLine(venv)}`;
    const pip = await run(
      join(building, 'bin', 'python'),
      ['-m', 'pip', 'install', '--quiet', `vastai==${VERSION}`],
      INSTALL_TIMEOUT_MS,
    );
    if (pip.exitCode !== 0) return `the official client could not be installed: ${lastLine(pip)}`;
    await rename(building, folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
    return null;
  } finally {
    await rm(building, { recursive: true, force: true });
  }
}

function run(program: string, args: readonly string[], timeout: number, home?: string): Promise<CommandOutput> {
  const own = {
    VAST_API_KEY: 'sandbox',
    VASTAI_NO_UPDATE_CHECK: '1',
    HOME: home,
    XDG_CONFIG_HOME: home,
    XDG_CACHE_HOME: home,
  };
  const env = home === undefined ? process.env : { PATH: process.env['PATH'], LANG: 'C.UTF-8', ...own };
  return new Promise((resolve) => {
    execFile(program, [...args], { env, timeout, maxBuffer: 32 * 1024 * 1024 }, (error, stdout, stderr) => {
      const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
      resolve({ exitCode, stdout, stderr: error !== null && stderr === '' ? error.message : stderr });
    });
  });
}

function lastLine({ stdout, stderr }: CommandOutput): string {
  return `${stdout}\n${stderr}`.trim().split('\n').at(-1) ?? '';
}
