import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, linkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { countTar } from '../../../automation/snapshots/count-tar.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'muster-tar-'));
  const tree = join(folder, 'tree');
  mkdirSync(join(tree, 'x'.repeat(120), 'empty'), { recursive: true });
  writeFileSync(join(tree, 'x'.repeat(120), `${'ü'.repeat(90)}`), 'twelve bytes');
  writeFileSync(join(tree, 'block'), Buffer.alloc(512));
  writeFileSync(join(tree, 'empty'), '');
  truncateSync(join(tree, 'empty'), 0);
  symlinkSync('block', join(tree, 'symlink'));
  linkSync(join(tree, 'block'), join(tree, 'second name'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function* inPieces(bytes: Buffer, size: number) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

describe('counting a tar stream', () => {
  it.each(['gnu', 'pax', 'posix'])(
    'counts regular files and bytes of the format %s, however it is cut',
    async (format) => {
      const args = ['--format', format, '--hard-dereference', '-C', join(folder, 'tree'), '-cf', '-', '.'];
      const bytes = execFileSync('tar', args, { maxBuffer: 1 << 24 });
      for (const size of [1, 511, 512, 513, 65_536]) {
        expect(await countTar(inPieces(bytes, size))).toEqual({ files: 4, bytes: 1_036n });
      }
    },
  );

  it('takes the size of a large file from its pax header', async () => {
    const sparse = join(folder, 'sparse');
    writeFileSync(sparse, '');
    truncateSync(sparse, 9 * 1024 ** 3);
    const head = execFileSync('bash', ['-c', 'tar --format=pax -C "$1" -cf - sparse | head -c 2048', 'bash', folder]);
    await expect(countTar(inPieces(head, 100))).rejects.toThrow('ended in the middle');
  });

  it('says so where the stream is cut or is something else', async () => {
    const bytes = execFileSync('tar', ['-C', join(folder, 'tree'), '-cf', '-', '.'], { maxBuffer: 1 << 24 });
    await expect(countTar(inPieces(bytes.subarray(0, 1_500), 100))).rejects.toThrow('ended in the middle');
    await expect(countTar(inPieces(Buffer.alloc(1_024, 'x'), 100))).rejects.toThrow('broken');
    await expect(countTar(inPieces(Buffer.alloc(0), 100))).rejects.toThrow('ended in the middle');
  });
});
