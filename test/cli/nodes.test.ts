import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApiServer, type ApiServer } from '../support/api-server.ts';
import { SSH_KEY } from '../support/ssh-machine.ts';
import { makeHome, runMuster } from './run-muster.ts';

let server: ApiServer;
const home = makeHome();
beforeAll(async () => {
  server = await startApiServer();
});
afterAll(async () => {
  await server?.stop();
  home.remove();
});

const muster = (...args: string[]) =>
  runMuster(home, args, { env: { MUSTER_URL: server.url, MUSTER_API_KEY: server.adminKey } });

describe('muster nodes and credentials', () => {
  it('keeps a key, adds a host by it, cordons, lets loose and removes it', async () => {
    const file = join(home.path, 'id');
    writeFileSync(file, SSH_KEY.private, { mode: 0o600 });
    const kept = await muster('credentials', 'add', '--name', 'dc-key', '--file', file);
    expect(kept).toMatchObject({ code: 0, stdout: expect.stringContaining('ssh-ed25519 ') });
    expect(kept.stdout).not.toContain('PRIVATE');
    expect((await muster('credentials', 'list')).stdout).toContain('dc-key');

    const hostKey = `SHA256:${'A'.repeat(43)}`;
    const add = ['nodes', 'add', '--address', '10.0.0.5', '--host-key', hostKey, '--credential', 'dc-key'];
    expect(await muster(...add, '--label', 'rack')).toMatchObject({ code: 2 });
    const added = await muster(...add, '--label', 'rack=b4', '--json');
    expect(added.code).toBe(0);
    const { node, operation } = JSON.parse(added.stdout) as {
      node: { id: string; host: object };
      operation: { id: string };
    };
    expect(node.host).toMatchObject({ labels: { rack: 'b4' }, port: 22, user: 'root' });
    const listed = (await muster('nodes', 'list', '--status', 'installing')).stdout;
    expect(listed).toContain('10.0.0.5:22');
    expect((await muster('nodes', 'get', node.id)).stdout).toContain('its agent has not registered yet');
    expect((await muster('nodes', 'cordon', node.id)).stdout).toContain('cordoned      yes');
    expect((await muster('nodes', 'uncordon', node.id)).stdout).toContain('cordoned      no');
    expect((await muster('nodes', 'drain', node.id)).stdout).toContain('cordoned      yes');

    await server.database.kysely
      .updateTable('operations')
      .set({ status: 'succeeded' })
      .where('id', '=', operation.id)
      .execute();
    expect(await muster('nodes', 'delete', node.id)).toMatchObject({ code: 2 });
    expect((await muster('nodes', 'delete', node.id, '--yes', '--forget')).stdout).toContain('is being removed');
    await server.database.kysely.updateTable('hosts').set({ removed_at: new Date() }).execute();
    expect(await muster('nodes', 'delete', node.id, '--yes')).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('is forgotten'),
    });
    expect(await muster('nodes', 'get', node.id)).toMatchObject({ code: 4 });
  });
});
