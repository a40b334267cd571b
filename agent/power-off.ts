/** Switches the machine off by a command of the shell, without any credential of a vendor. */
import { spawn } from 'node:child_process';

/**
 * Of a machine with systemd or an init, that; of a container its first process, and where that does not listen, all others. Whatever it
 * is, nothing that costs money goes on working.
 */
export const DEFAULT_POWER_OFF = `if [ -d /run/systemd/system ] && systemctl poweroff; then exit 0; fi
case $(cat /proc/1/comm 2>/dev/null) in
  systemd | init) poweroff || shutdown -h now; exit ;;
esac
poweroff 2>/dev/null && exit 0
kill -TERM 1
sleep 10
kill -KILL -1`;

const LIMIT_MS = 60_000;

/** Resolves when the command has ended. Throws where it failed or took longer than a minute; it goes on then. */
export function createPowerOff(command: string, env: Record<string, string>): () => Promise<void> {
  return () =>
    new Promise((resolve, reject) => {
      // A session of its own: it outlives us where it kills us first.
      const child = spawn('sh', ['-c', command], { env, stdio: 'ignore', detached: true });
      const timer = setTimeout(() => reject(new Error(`it did not end within ${LIMIT_MS / 1000} s`)), LIMIT_MS);
      child.once('error', (error) => {
        clearTimeout(timer);
        reject(error);
      });
      child.once('exit', (code) => {
        clearTimeout(timer);
        if (code === 0) resolve();
        else reject(new Error(`it ended with ${code ?? 'a signal'}`));
      });
    });
}
