/** The real agent on simulated machines that are cut off, busy, switched off and updated. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createBundleCache, type AgentBundle } from '../../agent/bundle-cache.ts';
import { bundleAgent } from '../../agent/bundle.ts';
import { inTransaction } from '../../db/database.ts';
import { createOrder, findOrder } from '../../db/orders.ts';
import { createAgentRunner, type AgentRunner } from '../../sandbox/agent/agent-runner.ts';
import type { RunningMachine } from '../../sandbox/vendor.ts';
import { listOffers, NO_PROGRAMS, startApiServer, type ApiServer } from '../support/api-server.ts';
import { until } from '../support/fleet-database.ts';
import { recordMachine } from '../support/node-token.ts';

const BOUND_MS = 40_000;
const GPUS: RunningMachine['gpus'] = {
  smiName: 'NVIDIA GeForce RTX 4090',
  memoryMib: 24_564,
  count: 1,
  powerWatts: 450,
  computeCap: 890,
  driverVersion: '570.86.10',
  cudaVersion: '12.8',
  uuidSeed: 'test',
};

let root: string;
let server: ApiServer;
let runner: AgentRunner;
let served: Promise<AgentBundle>;
const dead: { ms: number | null } = { ms: null };
const poweredOff: string[] = [];
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'muster-agent-life-'));
  served = createBundleCache(join(root, 'cache'))();
  server = await startApiServer({
    agents: {
      bundle: () => served,
      nodePrograms: NO_PROGRAMS,
      intervalMs: 500,
      rotateKeyAfterMs: 86_400_000,
      get deadManMs() {
        return dead.ms;
      },
    },
  });
  await listOffers(
    server,
    Array.from({ length: 10 }, () => ({})),
  );
  runner = createAgentRunner(join(root, 'machines'));
  runner.onPowerOff(({ instanceId }) => poweredOff.push(String(instanceId)));
}, 60_000);
afterAll(async () => {
  runner?.close();
  await server?.stop();
  rmSync(root, { recursive: true, force: true });
});

let machines = 0;
async function bootMachine() {
  const { token, attemptId } = await recordMachine(server);
  const instanceId = `life-${++machines}`;
  const machine: RunningMachine = {
    provider: 'vastai',
    instanceId,
    label: 'x',
    origin: 'bought',
    boot: 1,
    startupScript: 'sh $MUSTER_AGENT_URL/api/v1/nodes/install.sh',
    env: { MUSTER_AGENT_URL: server.url, MUSTER_AGENT_TOKEN: token },
    gpus: GPUS,
    sshPort: 0,
  };
  runner.onRunning(machine);
  const row = () =>
    server.database.kysely.selectFrom('nodes').selectAll().where('attempt_id', '=', attemptId).executeTakeFirst();
  const key = `vastai/${instanceId}`;
  /** Waits for a row of its node that fits. */
  const says = (fits: (node: NonNullable<Awaited<ReturnType<typeof row>>>) => boolean, what: string) =>
    until(
      async () => {
        const node = await row();
        return node !== undefined && fits(node) && node;
      },
      what,
      BOUND_MS,
    );
  return { key, instanceId, home: join(root, 'machines', `vastai-${instanceId}`), says, row };
}

describe('the agent of a simulated machine', () => {
  it('shows how busy its GPUs are, and that a workload declared activity', async () => {
    const { key, says, home } = await bootMachine();
    const utilization = (system: unknown) =>
      (system as { gpus: { utilizationPercent: number }[] } | null)?.gpus[0]?.utilizationPercent;
    await says((node) => utilization(node.gpu) === 0 && node.is_activity_known, 'idle');
    expect(runner.changeAgent(key, { gpuPercent: 87, declareActivity: true })).toMatchObject({ gpuPercent: 87, home });
    await says((node) => utilization(node.gpu) === 87, 'busy');
    await says((node) => node.activity_declared_at !== null, 'declared');
    runner.changeAgent(key, { gpuPercent: null });
    await says((node) => utilization(node.gpu) === 0, 'idle again');
    expect(runner.changeAgent('vastai/nothing', {})).toBeNull();
  });

  it('is told of an order at once, and tells at once how it ended', async () => {
    const { says } = await bootMachine();
    const node = await says((one) => one.is_activity_known, 'a heartbeat');
    const askedAt = performance.now();
    const { id } = await inTransaction(server.database.kysely, (tx) =>
      createOrder(tx, {
        orgId: node.org_id,
        nodeId: node.id,
        kind: 'take_snapshot',
        input: { nothing: 'of what it needs' },
        deadlineMs: 60_000,
        createdBy: 'system',
      }),
    );
    const ended = await until(
      async () => {
        const order = await findOrder(server.database.kysely, id);
        return order?.finished_at != null && order;
      },
      'the end of the order',
      BOUND_MS,
    );
    expect(ended).toMatchObject({ status: 'failed', error_code: expect.any(String) });
    expect(performance.now() - askedAt).toBeLessThan(5_000);
  });

  it('that is cut off is silent while its machine lives, and comes back with what it saw', async () => {
    const { key, says, row } = await bootMachine();
    await says((node) => node.is_activity_known, 'a heartbeat');
    runner.changeAgent(key, { isPartitioned: true });
    // What was under way may arrive.
    await new Promise((resolve) => setTimeout(resolve, 300));
    const before = await row();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect((await row())?.sequence).toBe(before?.sequence);
    expect(runner.running()).toContain(key);
    runner.changeAgent(key, { isPartitioned: false });
    const after = await says((node) => node.sequence > (before?.sequence ?? 0n) + 1n, 'heartbeats again');
    expect(after.reboots).toBe(0);
  });

  it('switches its machine off when the control plane was silent for the declared time, and not before', async () => {
    dead.ms = 5_000;
    const { key, instanceId, says, home } = await bootMachine();
    await says((node) => node.is_activity_known, 'a heartbeat');
    const cutAt = performance.now();
    runner.changeAgent(key, { isPartitioned: true });
    await until(() => poweredOff.includes(instanceId), 'the power off', BOUND_MS);
    expect(performance.now() - cutAt).toBeGreaterThan(4_000);
    expect(runner.running()).not.toContain(key);
    expect(readFileSync(join(home, 'state', 'dead-man.json'), 'utf8')).toContain('5000');
    dead.ms = null;
  }, 60_000);

  it('takes the place of itself when another one is handed out, after its trial, and goes on as the same node', async () => {
    const { says, home } = await bootMachine();
    const first = await says((node) => node.is_activity_known, 'a heartbeat');
    const text = await bundleAgent('9.9.9');
    served = Promise.resolve({
      text,
      sha256: createHash('sha256').update(text).digest('hex'),
      version: '9.9.9',
    });
    const next = await says((node) => node.agent_version === '9.9.9', 'the other agent');
    expect(next.id).toBe(first.id);
    expect(next.reboots).toBe(0);
    expect(existsSync(join(home, 'agent.mjs.previous'))).toBe(true);
  }, 60_000);
});
