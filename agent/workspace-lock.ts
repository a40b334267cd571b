/**
 * Makes the workspace read-only, by a command of the shell: whoever is on the machine finds its files as they are and can change none. The
 * machine's own command does it where there is one (`MUSTER_AGENT_LOCK`).
 */
import { spawn } from 'node:child_process';

export interface WorkspaceLock {
  /** @returns false: it was read-only already, or is not there. Throws where this machine does not let us. */
  putOn(): Promise<boolean>;
  /** Only what we put on. Throws where it cannot be taken off. */
  takeOff(): Promise<void>;
}

/**
 * `$1` is `lock` or `unlock`, `$2` the workspace. It is mounted upon itself, read-only: another mount, because one that somebody writes in
 * cannot be made read-only, and so that taking it off leaves everything as it was. Needs the right to mount, which a container of Vast.ai or
 * RunPod does not have. Ends with 3 where there is nothing to lock.
 */
export const DEFAULT_LOCK = `[ -d "$2" ] || exit 3
place=$(readlink -f "$2") || exit 1
shown=$(printf '%s' "$place" | sed 's/ /\\\\040/g')
is_read_only() {
  options=
  while read -r _ _ _ _ point found _; do
    if [ "$point" = "$shown" ]; then options=$found; fi
  done </proc/self/mountinfo
  case ,$options, in *,ro,*) return 0 ;; esac
  return 1
}
case $1 in
  lock)
    is_read_only && exit 3
    mount --bind "$place" "$place" || exit 1
    mount -o remount,ro,bind "$place" && exit 0
    umount "$place"
    exit 1
    ;;
  unlock)
    is_read_only || exit 0
    umount "$place" || umount -l "$place"
    ;;
esac`;

const NOTHING_TO_LOCK = 3;
const LIMIT_MS = 10_000;
const MAX_SAID = 300;

/** @param command null: this machine's owner wants no lock */
export function createWorkspaceLock(
  command: string | null,
  workspace: string,
  env: Readonly<Record<string, string>>,
): WorkspaceLock {
  if (command === null) return { putOn: () => Promise.resolve(false), takeOff: () => Promise.resolve() };
  return {
    putOn: async () => (await run(command, ['lock', workspace], env)) === 0,
    takeOff: async () => void (await run(command, ['unlock', workspace], env)),
  };
}

/** @returns 0 or 3. Throws for every other end. */
function run(command: string, words: readonly string[], env: Readonly<Record<string, string>>): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn('sh', ['-c', command, 'sh', ...words], {
      env: { ...env, PATH: `${env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin` },
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: LIMIT_MS,
      killSignal: 'SIGKILL',
    });
    let said = '';
    child.stderr.on('data', (part: Buffer) => (said = `${said}${part.toString()}`.slice(-MAX_SAID)));
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0 || code === NOTHING_TO_LOCK) resolve(code);
      else reject(new Error(said.trim() || `it ended with ${code ?? 'a signal'}`));
    });
  });
}
