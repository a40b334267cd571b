/** The whole program: real processes, real engine, real Postgres, the sandbox's vendor. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import {
  ADMIN_KEY,
  createMusterProcess,
  findFreePort,
  waitFor,
  type MusterProcess,
} from '../support/muster-process.ts';
import { listStates, readStateText } from '../support/state-client.ts';

const PROJECT = join(import.meta.dirname, '..', '..');
const REQUEST = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.95', strategy: 'coldstart' };
const BOUND_MS = 120_000;

interface Instance {
  id: string;
  status: string;
  note: string | null;
  failureCode: string | null;
  ssh: { host: string; port: number } | null;
  attempts: { status: string; providerInstanceId: string | null }[];
}

interface Accepted {
  operation: { id: string };
  instances: { id: string }[];
}

describe('the control plane as a process', () => {
  let dir: string;
  let sandbox: Sandbox;
  let sandboxPort: number;
  let muster: MusterProcess;

  beforeAll(async () => {
    dir = mkdtempSync(join(tmpdir(), 'muster-e2e-'));
    sandboxPort = await findFreePort(5);
    sandbox = await startSandbox({ port: sandboxPort, dir: join(dir, 'sandbox'), time: 'explicit' });
    muster = await createMusterProcess({
      dataDir: join(dir, 'data'),
      sandboxPort,
      env: {
        MUSTER_READINESS_INTERVAL: '1 seconds',
        MUSTER_RECONCILE_INTERVAL: '5 seconds',
        MUSTER_ORPHAN_GRACE: '1 seconds',
      },
    });
    await muster.start();
    await until(muster, '/ready', (status) => status === 200);
  }, BOUND_MS);

  afterAll(async () => {
    await muster.kill('SIGTERM');
    await sandbox.close();
    rmSync(dir, { recursive: true, force: true });
  });

  /** Lets the vendor's time pass while it asks. */
  async function until(
    process: MusterProcess,
    path: string,
    check: (status: number, body: never) => boolean,
  ): Promise<void> {
    await waitFor(
      async () => {
        await sandbox.advance(1_000);
        const reply = await process.request('GET', path);
        return check(reply.status, reply.body as never);
      },
      BOUND_MS,
      path,
    );
  }

  async function readOperationEvents(operationId: string): Promise<string> {
    const headers = { authorization: `Bearer ${ADMIN_KEY}` };
    return (await fetch(`${muster.url}/api/v1/operations/${operationId}/events`, { headers })).text();
  }

  const alive = () =>
    sandbox.state().vastai.machines.filter((machine) => machine.origin !== 'foreign' && machine.destroyedAtMs === null);

  it(
    'rents a machine by a durable operation and destroys it, verified',
    async () => {
      const accepted = await muster.request<Accepted>('POST', '/api/v1/instances', {
        ...REQUEST,
        env: { TOKEN: 'swordfish-1' },
      });
      expect(accepted.status).toBe(202);
      const path = `/api/v1/instances/${accepted.body.instances[0]?.id}`;
      await until(muster, path, (_status, body: Instance) => body.status === 'ready');
      expect(alive()).toHaveLength(1);
      const destroyed = await muster.request('DELETE', path);
      expect(destroyed.status).toBe(202);
      await until(muster, path, (_status, body: Instance) => body.status === 'destroyed');
      expect(alive()).toHaveLength(0);
      await waitFor(async () => (await listStates(muster.url)).length === 0, BOUND_MS, 'the empty stack removed');
      // What its engine told outlives the stack, and is told of the instance that it rented.
      const told = await readOperationEvents(accepted.body.operation.id);
      expect(told).toMatch(
        /event: resource\ndata: .*"status":"done".*"instanceId":"ins_\w+","providerInstanceId":"\d+"/,
      );
      expect(told).not.toContain('swordfish-1');
    },
    BOUND_MS,
  );

  it(
    'keeps secrets out of the engine state, the logs and the arguments',
    async () => {
      const accepted = await muster.request<Accepted>('POST', '/api/v1/instances', {
        ...REQUEST,
        env: { TOKEN: 'swordfish-2' },
      });
      const path = `/api/v1/instances/${accepted.body.instances[0]?.id}`;
      await until(muster, path, (_status, body: Instance) => body.status === 'booting' || body.status === 'ready');
      const [stack = ''] = await listStates(muster.url);
      const state = await readStateText(muster.url, stack);
      expect(state).toContain('vastai:Instance');
      expect(state).not.toContain('swordfish-2');
      expect(muster.output()).not.toContain('swordfish-2');
      await muster.request('DELETE', path);
      await until(muster, path, (_status, body: Instance) => body.status === 'destroyed');
    },
    BOUND_MS,
  );

  it(
    'cancels a provision that boots: the operation ends canceled and its machine is proven gone',
    async () => {
      const accepted = await muster.request<Accepted>('POST', '/api/v1/instances', REQUEST);
      const operation = `/api/v1/operations/${accepted.body.operation.id}`;
      const instance = `/api/v1/instances/${accepted.body.instances[0]?.id}`;
      // In the last moments of its update the engine does not hear of a cancel: it would be killed after a minute.
      const isBooting = async () => (await muster.request<Instance>('GET', instance)).body.status === 'booting';
      await waitFor(isBooting, BOUND_MS, 'a machine that boots');
      expect(alive()).toHaveLength(1);
      const canceled = await muster.request('POST', `${operation}/cancel`, {});
      expect(canceled.status).toBe(202);
      await until(muster, operation, (_status, body: { status: string }) => body.status === 'canceled');
      await until(muster, instance, (_status, body: Instance) => body.status === 'destroyed');
      expect(alive()).toHaveLength(0);
    },
    BOUND_MS,
  );

  it(
    'destroys an orphan that carries our signed label and leaves foreign machines alone',
    async () => {
      const foreignBefore = sandbox.state().vastai.machines.filter((machine) => machine.origin === 'foreign');
      const accepted = await muster.request<Accepted>('POST', '/api/v1/instances', REQUEST);
      const path = `/api/v1/instances/${accepted.body.instances[0]?.id}`;
      await until(muster, path, (_status, body: Instance) => body.status === 'ready');
      const label = alive()[0]?.label as string;
      await muster.request('DELETE', path);
      await until(muster, path, (_status, body: Instance) => body.status === 'destroyed');
      await sandbox.placeMachine('vastai', { label, origin: 'orphan', isStopped: false });
      await waitFor(() => alive().length === 0, BOUND_MS, 'the orphan gone');
      const foreign = sandbox.state().vastai.machines.filter((machine) => machine.origin === 'foreign');
      expect(foreign.map((machine) => machine.id)).toEqual(foreignBefore.map((machine) => machine.id));
      expect(foreign.every((machine) => machine.destroyedAtMs === null && machine.changeCalls === 0)).toBe(true);
    },
    BOUND_MS,
  );

  it(
    'shares its database with a second replica: 12 requests at both give 12 machines, also when one is killed',
    async () => {
      const second = await createMusterProcess({
        dataDir: join(dir, 'data'),
        sandboxPort,
        env: { MUSTER_READINESS_INTERVAL: '1 seconds' },
      });
      await second.start();
      const paths: string[] = [];
      for (let request = 0; request < 12; request++) {
        const target = request % 2 === 0 ? muster : second;
        const reply = await target.request<Accepted>('POST', '/api/v1/instances', REQUEST);
        expect(reply.status).toBe(202);
        paths.push(`/api/v1/instances/${reply.body.instances[0]?.id}`);
      }
      await waitFor(() => alive().length >= 3, BOUND_MS, 'some purchases');
      await second.kill('SIGKILL');
      for (const path of paths) await until(muster, path, (_status, body: Instance) => body.status === 'ready');
      expect(alive()).toHaveLength(12);
      expect(new Set(alive().map((machine) => machine.label)).size).toBe(12);
      for (const path of paths) await muster.request('DELETE', path);
      for (const path of paths) await until(muster, path, (_status, body: Instance) => body.status === 'destroyed');
      expect(alive()).toHaveLength(0);
    },
    2 * BOUND_MS,
  );

  it(
    'stops within 10 s at SIGTERM in the middle of work, leaves no process, and goes on where it was',
    async () => {
      const accepted = await muster.request<Accepted>('POST', '/api/v1/instances', REQUEST);
      const path = `/api/v1/instances/${accepted.body.instances[0]?.id}`;
      const startedAt = performance.now();
      expect(await muster.kill('SIGTERM')).toBe(0);
      expect(performance.now() - startedAt).toBeLessThan(10_000);
      expect(existsSync(join(dir, 'data', 'postgres', 'cluster', 'postmaster.pid'))).toBe(false);
      expect(processesNaming(join(dir, 'data'))).toEqual([]);
      await muster.start();
      await until(muster, path, (_status, body: Instance) => body.status === 'ready');
      expect(alive()).toHaveLength(1);
      await muster.request('DELETE', path);
      await until(muster, path, (_status, body: Instance) => body.status === 'destroyed');
    },
    BOUND_MS,
  );

  it('refuses a data directory of the other mode', () => {
    const run = runMain({
      MUSTER_SANDBOX: 'off',
      MUSTER_DEPLOYMENT_ID: 'acme',
      MUSTER_VASTAI_API_KEY: 'k'.repeat(40),
      MUSTER_DATA_DIR: join(dir, 'data'),
    });
    expect(run.status).toBe(1);
    expect(run.stderr).toMatch(/belongs to the sandbox mode and the configuration says live/);
  });
});

describe('wrong configuration', () => {
  it('is reported whole, with exit code 2, and nothing is started', () => {
    const dataDir = join(tmpdir(), `muster-never-${process.pid}`);
    const run = runMain({
      MUSTER_PORT: 'eighty',
      MUSTER_SANDBOX: 'maybe',
      MUSTER_MAX_INSTANCES: '-1',
      MUSTER_DATA_DIR: dataDir,
    });
    expect(run.status).toBe(2);
    for (const name of ['MUSTER_PORT', 'MUSTER_SANDBOX', 'MUSTER_MAX_INSTANCES']) expect(run.stderr).toContain(name);
    expect(run.stderr).toContain('eighty');
    expect(existsSync(dataDir)).toBe(false);
  });
});

function runMain(env: Record<string, string>) {
  return spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', 'main.ts'], {
    cwd: PROJECT,
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...env },
    encoding: 'utf8',
    timeout: 30_000,
  });
}

/** Processes whose command line or environment-free arguments name the folder. */
function processesNaming(folder: string): string[] {
  return readdirSync('/proc').flatMap((entry) => {
    if (!/^\d+$/.test(entry)) return [];
    try {
      const command = readFileSync(`/proc/${entry}/cmdline`, 'utf8').replaceAll('\0', ' ');
      return command.includes(folder) ? [command] : [];
    } catch {
      return [];
    }
  });
}
