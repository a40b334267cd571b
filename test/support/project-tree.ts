/** A small project tree with the real scripts in it, to run the bootstrap on without the real packages: its node_modules holds what a test puts there. */
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface ProjectTree {
  root: string;
  bootstrap: string;
  remove(): Promise<void>;
}

const PROJECT = join(import.meta.dirname, '..', '..');

export const LOCK_FILE = JSON.stringify({
  name: 'tree',
  lockfileVersion: 3,
  packages: {
    '': { name: 'tree' },
    'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' },
    'node_modules/b': { version: '2.0.0', integrity: 'sha512-b', optional: true },
  },
});
export const NPM_RECORD = JSON.stringify({
  packages: { 'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' } },
});

/** @param main the text of its main.ts */
export async function createProjectTree(main: string): Promise<ProjectTree> {
  const root = await mkdtemp(join(tmpdir(), 'muster-tree-'));
  await cp(join(PROJECT, 'scripts'), join(root, 'scripts'), { recursive: true });
  await mkdir(join(root, 'node_modules', '.bin'), { recursive: true });
  await symlink(process.execPath, join(root, 'node_modules', '.bin', 'node'));
  const { scripts } = JSON.parse(await readFile(join(PROJECT, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  await writeFile(
    join(root, 'package.json'),
    JSON.stringify({ name: 'tree', version: '0.0.0', type: 'module', scripts }),
  );
  await writeFile(join(root, 'package-lock.json'), LOCK_FILE);
  await writeFile(join(root, 'node_modules', '.package-lock.json'), NPM_RECORD);
  await writeFile(join(root, 'main.ts'), main);
  return {
    root,
    bootstrap: join(root, 'scripts', 'bootstrap.mjs'),
    remove: () => rm(root, { recursive: true, force: true }),
  };
}
