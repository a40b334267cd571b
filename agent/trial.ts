/** The trial of another agent before it takes our place: beside us, with our key and settings, it must be answered by the control plane. */
import { execFile } from 'node:child_process';
import type { ControlPlane } from './control-plane.ts';
import type { KeyStore } from './key-store.ts';

const LIMIT_MS = 60_000;

/** Throws with what the program said where it did not end well. @param env that tells it to try */
export function tryOut(program: string, env: Record<string, string>): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      [...process.execArgv, program],
      { env, timeout: LIMIT_MS, killSignal: 'SIGKILL', maxBuffer: 1_000_000 },
      (error, _stdout, stderr) => {
        if (error === null) resolve();
        else reject(new Error(`its trial failed: ${stderr.trim().split('\n').at(-1)?.slice(0, 300) || error.message}`));
      },
    );
  });
}

/** What the other agent does in its trial. Throws where it has no key or is not answered. */
export async function runTrial(controlPlane: ControlPlane, keys: KeyStore): Promise<void> {
  const key = keys.read();
  if (key === null) throw new Error('there is no key');
  await controlPlane.desired(key.key, { after: -1, waitMs: 0, signal: new AbortController().signal });
}
