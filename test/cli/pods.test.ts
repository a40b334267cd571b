import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApiServer, type ApiServer } from '../support/api-server.ts';
import { addPodNode, type PodNode } from '../support/pod-node.ts';
import { makeHome, runMuster, startMuster } from './run-muster.ts';

let server: ApiServer;
let node: PodNode;
const home = makeHome();
beforeAll(async () => {
  server = await startApiServer();
  node = await addPodNode(server, server.adminKey, { gpus: 1 });
});
afterAll(async () => {
  await server?.stop();
  home.remove();
});

const env = (more: object = {}) => ({ env: { MUSTER_URL: server.url, MUSTER_API_KEY: server.adminKey, ...more } });
const muster = (...args: string[]) => runMuster(home, args, env({ TOKEN: 'hush' }));

describe('muster pods', () => {
  it('creates, shows, stops, starts and deletes', async () => {
    const options = [
      '--name',
      'web',
      '--image',
      'acme/server',
      '--gpu-count',
      '1',
      '--port',
      '8080:80',
      '--memory-mib',
      '64',
    ];
    const more = [
      '--mount',
      'workspace/set:/data:ro',
      '--mount',
      'volume/cache:/cache',
      '--secret-env',
      'TOKEN',
      '--env',
      'A=1',
    ];
    const made = await muster('pods', 'create', ...options, ...more, '--json', '--', 'serve', '--fast');
    expect(made.code).toBe(0);
    const pod = JSON.parse(made.stdout) as { id: string };
    expect(pod).toMatchObject({
      status: 'scheduled',
      nodeId: node.id,
      secretEnvNames: ['TOKEN'],
      spec: {
        args: ['serve', '--fast'],
        env: { A: '1' },
        ports: [{ containerPort: 80, hostPort: 8080, protocol: 'tcp' }],
        mounts: [
          { kind: 'workspace', path: 'set', target: '/data', isReadOnly: true },
          { kind: 'volume', name: 'cache', target: '/cache', isReadOnly: false },
        ],
      },
    });
    expect(made.stdout).not.toContain('hush');
    expect((await node.desired()).pods[0]?.spec.env).toEqual({ A: '1', TOKEN: 'hush' });
    await node.obey();
    expect((await muster('pods', 'list', '--status', 'running')).stdout).toContain('acme/server');
    expect((await muster('pods', 'get', pod.id)).stdout).toContain('status        running');
    expect((await muster('pods', 'stop', pod.id)).stdout).toContain('stopping');
    expect(await muster('pods', 'start', pod.id)).toMatchObject({ code: 1 });
    await node.obey();
    expect((await muster('pods', 'start', pod.id)).stdout).toContain('run           2');
    expect(await muster('pods', 'delete', pod.id)).toMatchObject({ code: 2 });
    expect(await muster('pods', 'delete', pod.id, '--yes')).toMatchObject({
      code: 0,
      stderr: expect.stringContaining('is being removed'),
    });
    expect(await muster('pods', 'get', 'pod_aaaaaaaaaaaaaaaa')).toMatchObject({ code: 4 });
  });

  it('takes a request from a file, and says what is wrong with an option', async () => {
    const file = join(home.path, 'pod.json');
    writeFileSync(file, JSON.stringify({ image: 'acme/one', stopGraceSeconds: 3 }));
    const made = await muster('pods', 'create', '--file', file, '--name', 'filed', '--json');
    expect(JSON.parse(made.stdout)).toMatchObject({ name: 'filed', spec: { image: 'acme/one', stopGraceSeconds: 3 } });
    for (const wrong of [
      ['--port', 'http'],
      ['--mount', '/etc:/etc'],
      ['--secret-env', 'A=b'],
      ['--label', 'x'],
    ]) {
      const refused = await muster('pods', 'create', '--image', 'acme/one', ...wrong);
      expect({ wrong, code: refused.code }).toEqual({ wrong, code: 2 });
      expect(refused.stderr).not.toContain('A=b');
    }
  });

  it('prints what a container writes', async () => {
    const made = await muster('pods', 'create', '--image', 'acme/server', '--json');
    const { id } = JSON.parse(made.stdout) as { id: string };
    const reading = startMuster(home, ['pods', 'logs', id, '--follow'], env());
    const orderId = await nextLogOrder();
    const at = '2026-11-21T12:00:00.000000001Z';
    await node.say('pod-logs', {
      orderId,
      seq: 0,
      lines: [{ at, stream: 'stdout', text: 'hello' }],
      isEnd: false,
      error: null,
    });
    await reading.shows('hello');
    await node.say('pod-logs', { orderId, seq: 1, lines: [], isEnd: true, error: null });
    expect((await reading.ended).code).toBe(0);
  });

  it('keeps the login of a registry', async () => {
    const file = join(home.path, 'login');
    writeFileSync(file, 'robot:secret\n', { mode: 0o600 });
    const kept = await muster('credentials', 'add', '--name', 'ghcr', '--registry', 'ghcr.io', '--file', file);
    expect(kept).toMatchObject({ code: 0, stdout: expect.stringContaining('for ghcr.io') });
    expect(kept.stdout).not.toContain('secret');
    const made = await muster('pods', 'create', '--image', 'ghcr.io/a/b', '--registry-credential', 'ghcr', '--json');
    expect(made.code).toBe(0);
  });
});

async function nextLogOrder(): Promise<string> {
  for (let tries = 0; tries < 400; tries++) {
    const found = (await node.desired()).orders?.find(({ kind }) => kind === 'stream_pod_logs');
    if (found) return found.id;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error('no order came');
}
