/** restic for tests: the machine's own, else Debian's package; where it cannot be had, `resticMissing` says why. */
import { execFileSync } from 'node:child_process';
import { findProgram } from '../../agent/snapshots/obtain-restic.ts';

const SEARCH_PATH = process.env['PATH'] ?? '/usr/bin';

/** null: it is there. */
export const resticMissing: string | null = obtainRestic();

export const RESTIC = findProgram('restic', SEARCH_PATH) ?? '/usr/bin/restic';

function obtainRestic(): string | null {
  if (findProgram('restic', SEARCH_PATH) !== null) return null;
  if (process.getuid?.() !== 0) return 'there is no restic, and installing it needs root';
  try {
    execFileSync('apt-get', ['install', '-y', '--no-install-recommends', 'restic'], {
      stdio: 'ignore',
      timeout: 120_000,
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
    return findProgram('restic', SEARCH_PATH) === null ? 'the package restic brought no restic' : null;
  } catch (error) {
    return `restic cannot be installed: ${(error as Error).message.split('\n')[0]}`;
  }
}
