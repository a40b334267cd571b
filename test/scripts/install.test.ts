import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execFile } from 'node:child_process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LOCK_FILE, NPM_RECORD, createProjectTree, type ProjectTree } from '../support/project-tree.ts';

let tree: ProjectTree;
let npmLog: string;

beforeEach(async () => {
  tree = await createProjectTree(`console.log('main ran with', process.argv.slice(2).join(' '));`);
  npmLog = join(tree.root, 'npm.log');
});
afterEach(() => tree.remove());

describe('installing the packages', () => {
  it('takes what npm itself installed from the same lock file, and stamps it', async () => {
    await giveNpm('exit 1');
    const { code, stdout } = await bootstrap('start', 'one', 'two');
    expect(stdout).toBe('main ran with one two\n');
    expect(code).toBe(0);
    expect(await readFile(join(tree.root, 'node_modules', '.muster-lock'), 'utf8')).toMatch(/^[0-9a-f]{64}$/);
  });

  it.each([
    ['another version', NPM_RECORD.replace('1.0.0', '1.0.1')],
    ['a missing package', JSON.stringify({ packages: {} })],
    [
      'a package too many',
      JSON.stringify({ packages: { ...JSON.parse(NPM_RECORD).packages, 'node_modules/c': { version: '1.0.0' } } }),
    ],
  ])('runs npm ci when node_modules has %s', async (_, record) => {
    await writeFile(join(tree.root, 'node_modules', '.package-lock.json'), record);
    await giveNpm('exit 0');
    const { code, stderr } = await bootstrap('start');
    expect(code).toBe(0);
    expect(stderr).toContain('Installing the packages');
    expect(await readFile(npmLog, 'utf8')).toMatch(/^ci --include=dev/);
  });

  it('runs npm ci once for a changed lock file, not again at the next start', async () => {
    await giveNpm('exit 0');
    await bootstrap('start');
    await writeFile(join(tree.root, 'package-lock.json'), LOCK_FILE.replace('1.0.0', '1.1.0'));
    await bootstrap('start');
    await bootstrap('start');
    expect((await readFile(npmLog, 'utf8')).trim().split('\n')).toHaveLength(1);
  });

  it('lets one of two concurrent starts install while the other waits', async () => {
    await rm(join(tree.root, 'node_modules', '.package-lock.json'));
    await giveNpm('sleep 0.5; exit 0');
    const ended = await Promise.all([bootstrap('start'), bootstrap('start')]);
    expect(ended.map(({ code }) => code)).toEqual([0, 0]);
    expect((await readFile(npmLog, 'utf8')).trim().split('\n')).toHaveLength(1);
  });

  it('says what it tried, with the end of npm’s output, when npm fails', async () => {
    await rm(join(tree.root, 'node_modules', '.package-lock.json'));
    await giveNpm('echo "npm error network request to the registry failed" >&2; exit 7');
    const { code, stderr, stdout } = await bootstrap('start');
    expect(code).toBe(1);
    expect(stdout).toBe('');
    expect(stderr).toContain('Tried 2 times: npm ci');
    expect(stderr).toContain('exit 7');
    expect(stderr).toContain('network request to the registry failed');
  });
});

describe('the bootstrap', () => {
  it('refuses an unknown command with exit 2 and its usage', async () => {
    const { code, stderr } = await bootstrap('launch');
    expect(code).toBe(2);
    expect(stderr).toContain('start | test');
  });

  it('passes the exit code of main on', async () => {
    await writeFile(join(tree.root, 'main.ts'), 'process.exitCode = 42;');
    expect((await bootstrap('start')).code).toBe(42);
  });

  it('says which Node programs it looked at when none is new enough', async () => {
    await rm(join(tree.root, 'node_modules', '.bin', 'node'));
    const { findNode } = (await import(join(tree.root, 'scripts', 'node-program.mjs'))) as {
      findNode(root: string, own?: { path: string; version: string }): string;
    };
    const own = { path: '/usr/bin/node', version: '20.1.0' };
    expect(() => findNode(tree.root, own)).toThrow(
      /24 or newer\. Tried: .*node_modules\/\.bin\/node \(not there\), \/usr\/bin\/node \(20\.1\.0\)/,
    );
  });
});

/** An npm on PATH that records its arguments and then does what the test says. */
async function giveNpm(then: string): Promise<void> {
  const bin = join(tree.root, 'bin');
  await mkdir(bin, { recursive: true });
  await writeFile(join(bin, 'npm'), `#!/bin/sh\necho "$@" >> ${npmLog}\n${then}\n`);
  await chmod(join(bin, 'npm'), 0o755);
}

function bootstrap(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = { PATH: `${join(tree.root, 'bin')}:${process.env.PATH}`, HOME: tree.root };
  return new Promise((resolve) => {
    execFile(process.execPath, [tree.bootstrap, ...args], { env }, (error, stdout, stderr) => {
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}
