import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { isProcessAlive } from '../../db/embedded-processes.ts';
import { createProjectTree, type ProjectTree } from '../support/project-tree.ts';

/** Writes down each thing that happens to it, and drains for a moment before it ends with 3. */
const MAIN = `
import { appendFileSync } from 'node:fs';
const note = (text: string) => appendFileSync('events.log', text + '\\n');
const drain = () => setTimeout(() => { note('drained'); process.exit(3); }, 200);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => { note(signal); drain(); });
process.on('disconnect', () => { note('disconnect'); drain(); });
setInterval(() => {}, 1000);
note('pid ' + process.pid);
`;
const WAIT_MS = 15_000;

let tree: ProjectTree;
let started: ChildProcess[];

beforeEach(async () => {
  tree = await createProjectTree(MAIN);
  started = [];
});
afterEach(async () => {
  for (const child of started) child.kill('SIGKILL');
  const pid = Number(/pid (\d+)/.exec(await events())?.[1]);
  if (pid) await until(() => !isProcessAlive(pid));
  await tree.remove();
});

describe('the bootstrap and its child', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
    'forwards %s, waits for the drain and takes over the exit code',
    async (signal) => {
      const bootstrap = launch(process.execPath, [tree.bootstrap, 'start']);
      await childPid();
      bootstrap.kill(signal);
      expect(await once(bootstrap, 'exit')).toEqual([3, null]);
      expect(await happened()).toEqual([signal, 'drained']);
    },
  );

  it('does not forward the repeat of a signal that a terminal and npm both send', async () => {
    const bootstrap = launch(process.execPath, [tree.bootstrap, 'start']);
    await childPid();
    bootstrap.kill('SIGINT');
    await until(async () => (await events()).includes('SIGINT'));
    bootstrap.kill('SIGINT');
    await once(bootstrap, 'exit');
    expect(await happened()).toEqual(['SIGINT', 'drained']);
  });

  it('ends with 128 + n when the child is killed by signal n', async () => {
    const bootstrap = launch(process.execPath, [tree.bootstrap, 'start']);
    process.kill(await childPid(), 'SIGKILL');
    expect(await once(bootstrap, 'exit')).toEqual([137, null]);
  });

  it('lets the child notice that the bootstrap was killed', async () => {
    const bootstrap = launch(process.execPath, [tree.bootstrap, 'start']);
    const pid = await childPid();
    bootstrap.kill('SIGKILL');
    await until(() => !isProcessAlive(pid));
    expect(await happened()).toEqual(['disconnect', 'drained']);
  });

  it.each(['SIGINT', 'SIGTERM'] as const)(
    'stops by %s to npm when a script started it in the background',
    async (signal) => {
      const npm = await launchNpmInBackground();
      const pid = await childPid();
      process.kill(npm, signal);
      await until(() => !isProcessAlive(pid));
      expect(await happened()).toEqual([signal, 'drained']);
      await until(() => !isProcessAlive(npm));
    },
  );

  it('stops the child when npm is killed, for nobody could stop it any more', async () => {
    const npm = await launchNpmInBackground();
    const pid = await childPid();
    process.kill(npm, 'SIGKILL');
    await until(() => !isProcessAlive(pid));
    expect(await happened()).toEqual(['SIGTERM', 'drained']);
  });

  it('stops an installation with itself', async () => {
    await rm(join(tree.root, 'node_modules', '.package-lock.json'));
    await mkdir(join(tree.root, 'bin'));
    await writeFile(
      join(tree.root, 'bin', 'npm'),
      `#!/bin/sh\necho "pid $$" > ${tree.root}/events.log\nexec sleep 60\n`,
    );
    await chmod(join(tree.root, 'bin', 'npm'), 0o755);
    const bootstrap = launch(process.execPath, [tree.bootstrap, 'start']);
    const pid = await childPid();
    bootstrap.kill('SIGTERM');
    expect(await once(bootstrap, 'exit')).toEqual([143, null]);
    expect(isProcessAlive(pid)).toBe(false);
  });
});

function launch(program: string, args: string[]): ChildProcess {
  const env = { PATH: `${join(tree.root, 'bin')}:${process.env.PATH}`, HOME: tree.root };
  const child = spawn(program, args, { cwd: tree.root, env, stdio: ['ignore', 'ignore', 'pipe'] });
  child.stderr?.on('data', (chunk: Buffer) => void appendFile(join(tree.root, 'errors.log'), chunk));
  started.push(child);
  return child;
}

/** As a script does: a shell without job control makes its background processes ignore SIGINT. */
async function launchNpmInBackground(): Promise<number> {
  launch('sh', ['-c', 'npm start & echo $! > npm.pid; wait']);
  await until(async () => (await readFile(join(tree.root, 'npm.pid'), 'utf8').catch(() => '')).endsWith('\n'));
  return Number(await readFile(join(tree.root, 'npm.pid'), 'utf8'));
}

async function childPid(): Promise<number> {
  await until(async () => /pid \d+\n/.test(await events()));
  return Number(/pid (\d+)/.exec(await events())?.[1]);
}

async function happened(): Promise<string[]> {
  return (await events()).trim().split('\n').slice(1);
}

function events(): Promise<string> {
  return readFile(join(tree.root, 'events.log'), 'utf8').catch(() => '');
}

async function until(isTrue: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!(await isTrue())) {
    if (performance.now() > deadline) throw new Error(`not within ${WAIT_MS} ms: ${isTrue.toString()}`);
    await delay(10);
  }
}
