import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createStandaloneHostRuntime } from '../../providers-dynamic/standalone-host-runtime.ts';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'muster-standalone-'));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const HOST = { host: 'box', address: 'a', port: 22, user: 'root', hostKeySha256: '', credentialRef: 'k', labels: {} };

describe('hosts under plain pulumi up', () => {
  it('are opened by the key in the file that the environment names, and by no other', async () => {
    const file = join(dir, 'key');
    writeFileSync(file, 'the key');
    const runtime = createStandaloneHostRuntime({ MUSTER_SSH_PRIVATE_KEY_FILE: file });
    expect(await runtime.sshPrivateKey('anything')).toBe('the key');
    await expect(createStandaloneHostRuntime({}).sshPrivateKey('x')).rejects.toMatchObject({
      kind: 'auth',
      message: expect.stringContaining('MUSTER_SSH_PRIVATE_KEY_FILE'),
    });
    const missing = createStandaloneHostRuntime({ MUSTER_SSH_PRIVATE_KEY_FILE: join(dir, 'none') });
    await expect(missing.sshPrivateKey('x')).rejects.toMatchObject({
      kind: 'auth',
      message: expect.stringContaining('ENOENT'),
    });
  });

  it('carry no agent, because there is no control plane to report to', async () => {
    const runtime = createStandaloneHostRuntime({});
    expect(await runtime.join(HOST, { wantsToken: true, carries: null })).toBeNull();
    await expect(runtime.installScript('http://x')).rejects.toMatchObject({ kind: 'invalid' });
  });

  it('are forgotten only by name', async () => {
    const runtime = createStandaloneHostRuntime({ MUSTER_FORGET_HOSTS: 'old-box, box' });
    expect([await runtime.mayForget('box'), await runtime.mayForget('bo')]).toEqual([true, false]);
    expect(await createStandaloneHostRuntime({}).mayForget('')).toBe(false);
  });
});
