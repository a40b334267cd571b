/** Runs the command line as a real process, with a home of its own. */
import { spawn } from 'node:child_process';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PROGRAM = fileURLToPath(new URL('../../cli/muster.ts', import.meta.url));

export interface Home {
  readonly path: string;
  readonly env: Record<string, string>;
  remove(): void;
}

export function makeHome(): Home {
  const path = mkdtempSync(join(tmpdir(), 'muster-cli-'));
  const { PATH = '', NODE_COMPILE_CACHE } = process.env;
  const env = {
    PATH,
    HOME: path,
    XDG_CONFIG_HOME: join(path, 'config'),
    // Else the program keeps what it compiled in this home, which is new for each file.
    ...(NODE_COMPILE_CACHE ? { NODE_COMPILE_CACHE } : {}),
  };
  return { path, env, remove: () => rmSync(path, { recursive: true, force: true }) };
}

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface Started {
  readonly process: ChildProcessWithoutNullStreams;
  readonly ended: Promise<Ended>;
  /** Resolves when both outputs together contain `text`; fails when the process ends before. */
  shows(text: string): Promise<void>;
}

export function startMuster(
  home: Home,
  args: string[],
  options: { env?: Record<string, string>; stdin?: string } = {},
): Started {
  const env = { ...home.env, ...options.env };
  const child = spawn(process.execPath, [PROGRAM, ...args], { env, cwd: home.path });
  let stdout = '';
  let stderr = '';
  const onOutput = new Set<() => void>();
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    for (const check of onOutput) check();
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    for (const check of onOutput) check();
  });
  child.stdin.on('error', () => {});
  child.stdin.end(options.stdin ?? '');
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
  function shows(text: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const check = () => {
        if (!`${stdout}${stderr}`.includes(text)) return;
        onOutput.delete(check);
        resolve();
      };
      onOutput.add(check);
      check();
      void ended.then((end) => reject(new Error(`ended without "${text}": ${JSON.stringify(end)}`)));
    });
  }
  return { process: child, ended, shows };
}

export function runMuster(
  home: Home,
  args: string[],
  options: { env?: Record<string, string>; stdin?: string } = {},
): Promise<Ended> {
  return startMuster(home, args, options).ended;
}
