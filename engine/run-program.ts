/** A program of the set-up (pulumi version, the installer, go build), run to its end as a process group, so that stopping it stops what it started. */
import { spawn } from 'node:child_process';

export interface ProgramOptions {
  cwd?: string;
  env: NodeJS.ProcessEnv;
  limitMs: number;
  signal?: AbortSignal;
  onLine?: (line: string) => void;
}

const OUTPUT_KEPT = 4_000;

/** The standard output; throws the reason in one or a few lines (exit code and the end of its output), `AbortError` when aborted. */
export function runProgram(
  program: string,
  args: string[],
  { cwd, env, limitMs, signal, onLine }: ProgramOptions,
): Promise<string> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(abortReason(signal));
    const child = spawn(program, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    const stopGroup = () => {
      if (!child.pid) return;
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    };
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      stopGroup();
    }, limitMs);
    signal?.addEventListener('abort', stopGroup, { once: true });
    let output = '';
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString('utf8')));
    child.stderr.on('data', (chunk: Buffer) => {
      const text = chunk.toString('utf8');
      errors = (errors + text).slice(-OUTPUT_KEPT);
      if (onLine) for (const line of text.split('\n')) if (line.trim()) onLine(line);
    });
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', stopGroup);
    };
    child.once('error', (error) => {
      end();
      reject(error);
    });
    child.once('close', (code, by) => {
      end();
      if (code === 0) return resolve(output);
      if (signal?.aborted) return reject(abortReason(signal));
      const ending = isLate ? `not done within ${limitMs / 1000} s` : `exit ${String(code ?? by)}`;
      reject(new Error(`${ending}${lastLines(errors || output)}`));
    });
  });
}

function abortReason(signal: AbortSignal): Error {
  return signal.reason instanceof Error ? signal.reason : new Error('stopped');
}

function lastLines(text: string): string {
  const lines = text.trim().split('\n').filter(Boolean).slice(-3);
  return lines.length > 0 ? `: ${lines.join(' | ')}` : '';
}
