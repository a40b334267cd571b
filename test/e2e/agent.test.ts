/** The whole way of an agent: real Muster, real engine, a simulated machine with the real agent as a process. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createAgentRunner, type AgentRunner } from '../../sandbox/agent/agent-runner.ts';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import { createMusterProcess, findFreePort, waitFor, type MusterProcess } from '../support/muster-process.ts';

const BOUND_MS = 120_000;

let dir: string;
let agents: AgentRunner;
let sandbox: Sandbox;
let muster: MusterProcess;
beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'muster-agent-e2e-'));
  const sandboxPort = await findFreePort(5);
  agents = createAgentRunner(join(dir, 'agents'));
  sandbox = await startSandbox({ port: sandboxPort, dir: join(dir, 'sandbox'), machineWatch: agents });
  muster = await createMusterProcess({
    dataDir: join(dir, 'data'),
    sandboxPort,
    env: {
      MUSTER_AGENT: 'on',
      MUSTER_AGENT_INTERVAL: '1 seconds',
      MUSTER_READINESS_INTERVAL: '1 seconds',
      MUSTER_PROVIDERS: 'vastai',
    },
  });
  await muster.start();
  await waitFor(async () => (await muster.request('GET', '/ready')).status === 200, BOUND_MS);
}, BOUND_MS);
afterAll(async () => {
  await muster?.kill('SIGTERM');
  agents?.close();
  await sandbox?.close();
  rmSync(dir, { recursive: true, force: true });
});

interface Shown {
  status: string;
  statusReason: string | null;
  health: string;
  phaseAt: Record<string, string>;
}

describe('a rented machine with an agent', () => {
  it(
    'is ready once its agent has registered; a killed agent makes its node stale',
    async () => {
      const order = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.95', strategy: 'coldstart' };
      const accepted = await muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', order);
      const id = accepted.body.instances[0]?.id as string;
      const look = async () => (await muster.request<Shown>('GET', `/api/v1/instances/${id}`)).body;
      await waitFor(async () => (await look()).status === 'ready', BOUND_MS, 'ready');
      expect(Object.keys((await look()).phaseAt)).toEqual(expect.arrayContaining(['verifying', 'active']));
      const node = async () =>
        (await muster.request<{ items: Shown[] }>('GET', `/api/v1/nodes?instanceId=${id}`)).body.items[0];
      await waitFor(async () => (await node())?.health === 'healthy', BOUND_MS, 'a healthy node');
      const [key] = agents.running();
      expect(agents.kill(key as string)).toBe(true);
      await waitFor(async () => (await node())?.status === 'stale', BOUND_MS, 'a stale node');
      expect((await node())?.statusReason).toMatch(/^no heartbeat for \d+ s/);
      await muster.request('DELETE', `/api/v1/instances/${id}`);
      await waitFor(async () => (await look()).status === 'destroyed', BOUND_MS, 'destroyed');
      expect((await node())?.status).toBe('gone');
      expect(agents.running()).toEqual([]);
    },
    BOUND_MS,
  );
});
