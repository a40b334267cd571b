import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createResticPrograms } from '../../agent/node-programs.ts';
import { startApiServer, type ApiServer } from '../support/api-server.ts';

/** A Linux program as far as its header goes. */
function elf(machine: number): Buffer {
  const bytes = Buffer.alloc(64, 'restic');
  bytes.write('\x7fELF', 0, 'latin1');
  bytes.writeUInt16LE(machine, 18);
  return bytes;
}

let dir: string;
let server: ApiServer;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'muster-restic-'));
  writeFileSync(join(dir, 'x64'), elf(0x3e));
  writeFileSync(join(dir, 'arm64'), elf(0xb7));
  writeFileSync(join(dir, 'script'), '#!/bin/sh\n');
  server = await startApiServer({
    agents: {
      bundle: () => Promise.resolve({ text: '', sha256: 'f'.repeat(64), version: '0' }),
      nodePrograms: { digests: () => Promise.resolve({}), compressed: () => Promise.resolve(null) },
      resticPrograms: createResticPrograms({ cacheDir: join(dir, '.cache'), own: join(dir, 'x64'), arm64: null }),
      intervalMs: 10_000,
      rotateKeyAfterMs: 86_400_000,
    },
  });
});
afterAll(async () => {
  await server?.stop();
  rmSync(dir, { recursive: true, force: true });
});

describe('restic for nodes', () => {
  it('is the control plane’s own, compressed, and what its digest says', async () => {
    const reply = await fetch(`${server.url}/api/v1/nodes/restic/linux-x64`);
    expect(reply.status).toBe(200);
    expect(gunzipSync(Buffer.from(await reply.arrayBuffer())).equals(readFileSync(join(dir, 'x64')))).toBe(true);
    const digest = createHash('sha256')
      .update(readFileSync(join(dir, 'x64')))
      .digest('hex');
    expect(await server.deps.agents.resticPrograms?.digests()).toEqual({ 'linux-x64': digest });
    expect((await fetch(`${server.url}/api/v1/nodes/restic/linux-arm64`)).status).toBe(404);
  });

  it('is the one that is named for arm64, and never a script', async () => {
    const both = createResticPrograms({ cacheDir: dir, own: join(dir, 'x64'), arm64: join(dir, 'arm64') });
    expect(Object.keys(await both.digests()).sort()).toEqual(['linux-arm64', 'linux-x64']);
    expect(await createResticPrograms({ cacheDir: dir, own: join(dir, 'script'), arm64: null }).digests()).toEqual({});
    expect(() => createResticPrograms({ cacheDir: dir, own: null, arm64: join(dir, 'x64') })).toThrow(
      'not a Linux program for arm64',
    );
  });
});
