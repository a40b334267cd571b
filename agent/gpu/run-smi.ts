/** Runs nvidia-smi with a time limit. A driver that hangs keeps it from ending even when killed: then no second one is started beside it. */
import { spawn } from 'node:child_process';
import type { SmiResult } from './smi-failure.ts';

/** Never throws. */
export type RunSmi = (args: readonly string[]) => Promise<SmiResult>;

/** Normally well under 1 s, 2 to 8 s without persistence mode. */
export const SMI_TIMEOUT_MS = 10_000;
const MAX_OUTPUT = 8_000_000;

export function createSmiRunner(options: {
  program?: string;
  env: Record<string, string>;
  timeoutMs?: number;
}): RunSmi {
  const { program = 'nvidia-smi', env, timeoutMs = SMI_TIMEOUT_MS } = options;
  let isStuck = false;
  return (args) => {
    if (isStuck) return Promise.resolve({ code: null, stdout: '', stderr: '', end: 'busy' });
    return new Promise((resolve) => {
      // A process group of its own: where nvidia-smi is a wrapper, what it started is killed with it.
      const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
      let stdout = '';
      let stderr = '';
      const timer = setTimeout(() => {
        isStuck = true;
        killGroup(child.pid);
        // Its pipes must not keep us waiting.
        child.stdout.destroy();
        child.stderr.destroy();
        resolve({ code: null, stdout, stderr, end: 'timeout' });
      }, timeoutMs);
      child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout = (stdout + text).slice(0, MAX_OUTPUT)));
      child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr = (stderr + text).slice(0, 10_000)));
      child.once('exit', () => (isStuck = false));
      child.once('error', (error: NodeJS.ErrnoException) => {
        clearTimeout(timer);
        const isMissing = error.code === 'ENOENT' || error.code === 'EACCES';
        resolve({ code: null, stdout, stderr: error.message, end: isMissing ? 'missing' : 'exited' });
      });
      child.once('close', (code) => {
        clearTimeout(timer);
        resolve({ code, stdout, stderr, end: 'exited' });
      });
    });
  };
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It ended in this very moment.
  }
}
