/** A host of our own through the whole of it: real Muster, real engine, Debian's sshd, the real agent. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createMusterProcess, findFreePort, waitFor, type MusterProcess } from '../support/muster-process.ts';
import { listStates, readStateText } from '../support/state-client.ts';
import { sshdMissing, startSshd, type SshdHost } from '../support/sshd.ts';

const BOUND_MS = 120_000;

/** As far as a host shows it, a server of k3s. */
const FAKE_K3S = `#!/bin/sh
if [ "$1" = kubectl ]; then [ -s "$KUBECONFIG" ]; exit $?; fi
value() { sed -n "s/^$1: \\"\\(.*\\)\\"$/\\1/p" "$2"; }
data=$(value data-dir "$3")
mkdir -p "$data/server"
echo "K10abc::server:secret-of-the-cluster" >"$data/server/node-token"
printf 'server: https://127.0.0.1:6443 # secret-of-the-cluster\\n' >"$(value write-kubeconfig "$3")"
while :; do sleep 0.2; done
`;

let dir: string;
let muster: MusterProcess;
let host: SshdHost;
beforeAll(async () => {
  if (sshdMissing !== null) return void process.stderr.write(`hosts over SSH are not tested: ${sshdMissing}\n`);
  dir = mkdtempSync(join(tmpdir(), 'muster-onprem-e2e-'));
  host = await startSshd();
  muster = await createMusterProcess({
    dataDir: join(dir, 'data'),
    sandboxPort: await findFreePort(10),
    env: { MUSTER_AGENT: 'on', MUSTER_AGENT_INTERVAL: '1 seconds', MUSTER_PROVIDERS: 'vastai' },
  });
  await muster.start();
  await waitFor(async () => (await muster.request('GET', '/ready')).status === 200, BOUND_MS);
}, BOUND_MS);
afterAll(async () => {
  await muster?.kill('SIGTERM');
  await host?.close();
  if (dir) rmSync(dir, { recursive: true, force: true });
});

interface Shown {
  id: string;
  status: string;
  host: { stackId: string };
}
interface Operation {
  id: string;
  status: string;
  error: { code: string; detail: string } | null;
}

async function ended(id: string): Promise<Operation> {
  const look = async () => (await muster.request<Operation>('GET', `/api/v1/operations/${id}`)).body;
  await waitFor(
    async () => ['succeeded', 'failed', 'canceled'].includes((await look()).status),
    BOUND_MS,
    `${id} ended`,
  );
  return look();
}

const post = async <T>(path: string, body: object = {}) =>
  (await muster.request<T>('POST', `/api/v1${path}`, body)).body;

describe.skipIf(sshdMissing !== null)('a host of our own', () => {
  it(
    'is added, left alone, drifts, is healed and removed without a rest',
    async () => {
      const body = { name: 'dc-key', kind: 'ssh_private_key', value: host.privateKey };
      expect((await muster.request('POST', '/api/v1/credentials', body)).status).toBe(201);
      const { address, port, user, hostKeySha256 } = host;
      const agentDir = join(host.dir, 'agent');
      const order = {
        address,
        port,
        user,
        hostKeySha256,
        credentialRef: 'dc-key',
        agentDir,
        nodePath: process.execPath,
      };
      const added = await post<{ node: Shown; operation: Operation }>('/nodes', order);
      expect(await ended(added.operation.id)).toMatchObject({ status: 'succeeded', error: null });
      const look = async () => (await muster.request<Shown>('GET', `/api/v1/nodes/${added.node.id}`)).body;
      await waitFor(async () => (await look()).status === 'online', BOUND_MS, 'the node is online');

      const stack = `/stacks/${added.node.host.stackId}`;
      const plan = await post<{ changes: unknown[]; unchangedCount: number }>(`${stack}/preview`);
      expect(plan).toMatchObject({ changes: [] });

      execFileSync('sh', ['-c', `kill -9 $(cat ${agentDir}/keeper.pid) $(cat ${agentDir}/agent.pid)`]);
      const refresh = await ended((await post<{ operation: Operation }>(`${stack}/refresh`)).operation.id);
      expect(refresh).toMatchObject({ status: 'succeeded', note: '1 resource had changed' });
      expect(await ended((await post<{ operation: Operation }>(`${stack}/up`)).operation.id)).toMatchObject({
        status: 'succeeded',
      });
      await waitFor(async () => (await look()).status === 'online', BOUND_MS, 'the node is online again');

      // What the engine keeps, what the database logs and what was printed: none of them has the key.
      const line = host.privateKey.split('\n')[2] as string;
      const found = execFileSync('sh', ['-c', `grep -rlF -e "$0" ${join(dir, 'data', 'engine')} || true`, line], {
        encoding: 'utf8',
      });
      expect(found).toBe('');
      expect(muster.output()).not.toContain(line);

      writeFileSync(join(agentDir, 'notes.txt'), "a user's own");
      const { body: removal } = await muster.request<{ operation: Operation }>(
        'DELETE',
        `/api/v1/nodes/${added.node.id}`,
      );
      expect(await ended(removal.operation.id)).toMatchObject({ status: 'succeeded' });
      expect(execFileSync('ls', ['-A', agentDir], { encoding: 'utf8' })).toBe('notes.txt\n');
      expect(execFileSync('ps', ['-eo', 'args='], { encoding: 'utf8' })).not.toContain(`${agentDir}/`);
      expect(await look()).toMatchObject({ status: 'gone' });
      expect((await muster.request('DELETE', `/api/v1/nodes/${added.node.id}`)).status).toBe(204);
    },
    BOUND_MS,
  );

  it(
    'that is dead keeps its node until a person says that it is for ever',
    async () => {
      const other = await startSshd({ user: 'root' });
      try {
        await muster.request('POST', '/api/v1/credentials', {
          name: 'other',
          kind: 'ssh_private_key',
          value: other.privateKey,
        });
        const { address, port, user, hostKeySha256 } = other;
        const agentDir = join(other.dir, 'agent');
        const order = {
          address,
          port,
          user,
          hostKeySha256,
          credentialRef: 'other',
          agentDir,
          nodePath: process.execPath,
        };
        const added = await post<{ node: Shown; operation: Operation }>('/nodes', order);
        expect(await ended(added.operation.id)).toMatchObject({ status: 'succeeded' });
        execFileSync('sh', ['-c', `kill -9 $(cat ${agentDir}/keeper.pid) $(cat ${agentDir}/agent.pid)`]);
        await other.kill();
        const remove = async (query: string) =>
          (await muster.request<{ operation: Operation }>('DELETE', `/api/v1/nodes/${added.node.id}${query}`)).body;
        const failed = await ended((await remove('')).operation.id);
        expect(failed).toMatchObject({
          status: 'failed',
          error: { detail: expect.stringContaining('cannot be reached') },
        });
        expect(await ended((await remove('?forget=true')).operation.id)).toMatchObject({ status: 'succeeded' });
        expect((await muster.request<Shown>('GET', `/api/v1/nodes/${added.node.id}`)).body).toMatchObject({
          status: 'gone',
        });
        expect(existsSync(agentDir)).toBe(true);
      } finally {
        await other.close();
      }
    },
    BOUND_MS,
  );

  it(
    'is made once, though Muster is killed in the middle of its installation',
    async () => {
      const other = await startSshd();
      try {
        const { address, port, user, hostKeySha256, privateKey } = other;
        await muster.request('POST', '/api/v1/credentials', {
          name: 'third',
          kind: 'ssh_private_key',
          value: privateKey,
        });
        const agentDir = join(other.dir, 'agent');
        const place = { address, port, user, hostKeySha256 };
        const order = { ...place, credentialRef: 'third', agentDir, nodePath: process.execPath };
        const added = await post<{ node: Shown; operation: Operation }>('/nodes', order);
        await waitFor(() => existsSync(agentDir), BOUND_MS, 'the installation has begun', 5);
        await muster.kill('SIGKILL');
        await muster.start();
        expect(await ended(added.operation.id)).toMatchObject({ status: 'succeeded', error: null });
        const look = async () => (await muster.request<Shown>('GET', `/api/v1/nodes/${added.node.id}`)).body;
        await waitFor(async () => (await look()).status === 'online', BOUND_MS, 'the node is online');
        const resources = `/api/v1/stacks/${added.node.host.stackId}/resources`;
        const { items } = (await muster.request<{ items: { type: string }[] }>('GET', resources)).body;
        expect(items.filter(({ type }) => type.includes('ssh-host'))).toHaveLength(1);
        const { body } = await muster.request<{ operation: Operation }>('DELETE', `/api/v1/nodes/${added.node.id}`);
        expect(await ended(body.operation.id)).toMatchObject({ status: 'succeeded' });
        expect(existsSync(agentDir)).toBe(false);
      } finally {
        await other.close();
      }
    },
    BOUND_MS,
  );

  it(
    'is removed in the middle of its installation: that is canceled, and nothing of it stays',
    async () => {
      const other = await startSshd();
      try {
        const { address, port, user, hostKeySha256, privateKey } = other;
        const name = 'half';
        await muster.request('POST', '/api/v1/credentials', { name, kind: 'ssh_private_key', value: privateKey });
        const agentDir = join(other.dir, 'agent');
        const place = { address, port, user, hostKeySha256 };
        const order = { ...place, credentialRef: name, agentDir, nodePath: process.execPath };
        const added = await post<{ node: Shown; operation: Operation }>('/nodes', order);
        await waitFor(() => existsSync(agentDir), BOUND_MS, 'the installation has begun', 5);
        const removal = await muster.request<{ operation: Operation }>('DELETE', `/api/v1/nodes/${added.node.id}`);
        expect(removal.status).toBe(202);
        expect(await ended(removal.body.operation.id)).toMatchObject({ status: 'succeeded', error: null });
        expect(['canceled', 'succeeded']).toContain((await ended(added.operation.id)).status);
        expect(existsSync(agentDir)).toBe(false);
        expect(execFileSync('ps', ['-eo', 'args='], { encoding: 'utf8' })).not.toContain(`${agentDir}/`);
        expect((await muster.request<Shown>('GET', `/api/v1/nodes/${added.node.id}`)).body.status).toBe('gone');
      } finally {
        await other.close();
      }
    },
    BOUND_MS,
  );
});

describe.skipIf(sshdMissing !== null)('a cluster of our own', () => {
  it(
    'is made on its hosts, changes nothing the second time, and is destroyed without a rest; its secrets are in no output and no state',
    async () => {
      const server = await startSshd();
      try {
        const { address, port, user, hostKeySha256, privateKey: value } = server;
        await muster.request('POST', '/api/v1/credentials', { name: 'lab', kind: 'ssh_private_key', value });
        const artefact = join(server.dir, 'artefact');
        writeFileSync(artefact, FAKE_K3S, { mode: 0o644 });
        const config = {
          credentialRef: 'lab',
          hosts: [
            {
              name: 'cp',
              address,
              port,
              user,
              hostKeySha256,
              agentDir: join(server.dir, 'agent'),
              nodePath: process.execPath,
            },
          ],
          k3s: {
            artefactUrl: `file://${artefact}`,
            artefactSha256: createHash('sha256').update(FAKE_K3S).digest('hex'),
            installDir: join(server.dir, 'k3s'),
            dataDir: join(server.dir, 'data'),
          },
        };
        const body = { name: 'lab', kind: 'onprem', config, costCentre: 'x', protect: false };
        const { id } = await post<{ id: string }>('/stacks', body);
        const run = async (verb: string) =>
          ended((await post<{ operation: Operation }>(`/stacks/${id}/${verb}`)).operation.id);
        expect(await run('up')).toMatchObject({ status: 'succeeded', error: null });
        const { outputs } = (
          await muster.request<{ outputs: Record<string, unknown> }>('GET', `/api/v1/stacks/${id}/outputs`)
        ).body;
        expect(outputs).toMatchObject({ apiUrl: 'https://127.0.0.1:6443' });
        expect(JSON.stringify(outputs['kubeconfig'])).toContain('[secret]');
        expect(JSON.stringify(outputs)).not.toContain('secret-of-the-cluster');
        expect(await post(`/stacks/${id}/preview`)).toMatchObject({ changes: [] });
        for (const name of await listStates(muster.url))
          expect(await readStateText(muster.url, name)).not.toContain('secret-of-the-cluster');
        const leaks = `grep -rlF -e secret-of-the-cluster ${join(dir, 'data', 'engine')} || true`;
        expect(execFileSync('sh', ['-c', leaks], { encoding: 'utf8' })).toBe('');
        expect(await run('destroy')).toMatchObject({ status: 'succeeded' });
        expect(readdirSync(server.dir)).toEqual(['artefact']);
      } finally {
        await server.close();
      }
    },
    BOUND_MS,
  );
});
