/**
 * One seeded run of the crash matrix: a real Muster and a sandbox, a kill at a named place, faults in between, and at the end the
 * count that matters: what exists at the vendor against what is recorded.
 */
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { CrashPointName } from '../../domain/crash-points.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import type { RentalMachineReport } from '../../sandbox/rental/report.ts';
import type { MachineReport } from '../../sandbox/vastai/report.ts';
import type { Armed } from './crash-hook.ts';
import { createMusterProcess, findFreePort, waitFor, type MusterProcess } from './muster-process.ts';

export type Victim = Armed['victim'];
export const VICTIMS: readonly Victim[] = ['control', 'child', 'engine', 'postgres'];

export interface CrashCell {
  seed: number;
  point: CrashPointName;
  victim: Victim;
  /** Where everything is bought. */
  provider: ProviderName;
  /** serverless: from a pool of one, made before the kill is armed and deleted in the end. */
  strategy: 'coldstart' | 'race' | 'serverless';
  count: number;
  /** The vendor's answers to purchases that get lost, and offers that are stale, as probabilities. */
  lostResponses: number;
  staleOffers: number;
}

export interface CrashFleet {
  sandbox: Sandbox;
  muster: MusterProcess;
  run(cell: CrashCell): Promise<CrashReport>;
  close(): Promise<void>;
}

export interface CrashReport {
  fired: boolean;
  machinesBought: number;
  problems: string[];
}

const BOUND_MS = 90_000;
/** What a hand-over has to put on the machine. */
const USER_KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbcdefghijklmnopqrstuvwxyz0123456789ABCDEFG user';

interface InstanceReply {
  id: string;
  status: string;
  failureCode: string | null;
  failureDetail: string | null;
  attempts: { id: string; label: string; status: string; providerInstanceId: string | null }[];
}

export async function startCrashFleet(): Promise<CrashFleet> {
  const dir = mkdtempSync(join(tmpdir(), 'muster-crash-'));
  const hookDir = join(dir, 'hook');
  mkdirSync(hookDir);
  const sandboxPort = await findFreePort(5);
  const sandbox = await startSandbox({ port: sandboxPort, dir: join(dir, 'sandbox'), time: 'explicit', offers: 400 });
  const dataDir = join(dir, 'data');
  const hook = pathToFileURL(join(import.meta.dirname, 'crash-hook.ts'));
  hook.searchParams.set('dir', hookDir);
  const muster = await createMusterProcess({
    dataDir,
    sandboxPort,
    preload: hook.href,
    env: { MUSTER_READINESS_INTERVAL: '1 seconds', MUSTER_OFFER_SYNC_INTERVAL: '5 seconds', MUSTER_LOG_LEVEL: 'info' },
  });
  await muster.start();
  await waitFor(async () => (await muster.request('GET', '/ready')).status === 200, BOUND_MS, '/ready');
  const machinesOf = (provider: ProviderName): (MachineReport | RentalMachineReport)[] =>
    sandbox.state()[provider].machines;

  /** Restarts what was killed, lets the vendor's time pass, and asks. */
  async function until(check: () => Promise<boolean>, what: string): Promise<void> {
    const deadline = performance.now() + BOUND_MS;
    for (;;) {
      if (!muster.isRunning()) await muster.start();
      await sandbox.advance(2_000);
      try {
        if (await check()) return;
      } catch {
        // killed, starting, or its database is: asked again
      }
      if (performance.now() > deadline)
        throw new Error(`${what} took more than ${BOUND_MS / 1000} s\n${muster.output().slice(-4000)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  async function readInstances(ids: string[]): Promise<InstanceReply[]> {
    return Promise.all(
      ids.map(async (id) => {
        const reply = await muster.request<InstanceReply>('GET', `/api/v1/instances/${id}`);
        if (reply.status !== 200) throw new Error(`${reply.status}`);
        return reply.body;
      }),
    );
  }

  function arm(cell: CrashCell): void {
    const armed: Armed = {
      point: cell.point,
      victim: cell.victim,
      controlPid: muster.pid,
      postmasterPidFile: join(dataDir, 'postgres', 'cluster', 'postmaster.pid'),
    };
    rmSync(join(hookDir, 'fired.json'), { force: true });
    writeFileSync(join(hookDir, 'armed.json'), JSON.stringify(armed));
  }

  async function accept(cell: CrashCell): Promise<string[]> {
    let ids: string[] = [];
    const key = `cell-${cell.seed}-${Date.now()}`;
    await until(async () => {
      const reply = await muster.request<{ instances: { id: string }[] }>(
        'POST',
        '/api/v1/instances',
        {
          name: `cell-${cell.seed}-${Math.random().toString(36).slice(2, 8)}`,
          ...wantedOf(cell),
          count: cell.count,
          strategy: cell.strategy,
          raceWidth: 2,
          maxRaceCostUsd: '2',
          sshPublicKeys: [USER_KEY],
        },
        { 'idempotency-key': key },
      );
      if (reply.status !== 202) throw new Error(JSON.stringify(reply.body));
      ids = reply.body.instances.map((instance) => instance.id);
      return true;
    }, 'acceptance');
    return ids;
  }

  /** A pool with one warm instance; returns its id. */
  async function warmUp(cell: CrashCell): Promise<string> {
    const reply = await muster.request<{ id: string }>('POST', '/api/v1/pools', {
      name: `pool-${cell.seed}-${Math.random().toString(36).slice(2, 8)}`,
      ...wantedOf(cell),
      targetSize: 1,
      maxSize: 5,
    });
    if (reply.status !== 201) throw new Error(JSON.stringify(reply.body));
    await untilWarm(reply.body.id);
    return reply.body.id;
  }

  const untilWarm = (poolId: string) =>
    until(async () => {
      const { body } = await muster.request<{ counts: { ready: number } }>('GET', `/api/v1/pools/${poolId}`);
      return body.counts.ready === 1;
    }, 'the pool is warm');

  /** All that are not destroyed; each cell starts with none. */
  async function listInstances(): Promise<InstanceReply[]> {
    const path = '/api/v1/instances?limit=500&status=requested,creating,booting,ready,lost,destroying';
    const reply = await muster.request<{ items: InstanceReply[] }>('GET', path);
    if (reply.status !== 200) throw new Error(`${reply.status}`);
    return reply.body.items;
  }

  return {
    sandbox,
    muster,
    async run(cell) {
      const problems: string[] = [];
      const { provider } = cell;
      const foreign = () => machinesOf(provider).filter((machine) => machine.origin === 'foreign');
      const foreignBefore = foreign().length;
      const before = new Set(machinesOf(provider).map((machine) => machine.id));
      const poolId = cell.strategy === 'serverless' ? await warmUp(cell) : null;
      if (cell.lostResponses > 0) {
        await sandbox.addFault({
          provider,
          endpoint: 'create',
          kind: 'lose_response',
          probability: cell.lostResponses,
        });
      }
      if (cell.staleOffers > 0) {
        await sandbox.addFault({
          provider,
          endpoint: 'create',
          kind: 'stale_offer',
          probability: cell.staleOffers,
        });
      }
      arm(cell);
      const ids = await accept(cell);
      await until(
        async () => (await readInstances(ids)).every((one) => one.status === 'ready' || one.status === 'destroyed'),
        'ready',
      );
      await until(async () => (await readInstances(ids)).every((one) => one.attempts.every(isSettled)), 'losers gone');
      for (const one of await readInstances(ids)) {
        if (one.status !== 'ready') problems.push(`${one.id} was not rented: ${one.failureCode} ${one.failureDetail}`);
      }
      if (poolId !== null) await untilWarm(poolId);
      let kept: InstanceReply[] = [];
      await until(async () => {
        kept = await listInstances();
        return kept.every((one) => one.status === 'ready');
      }, 'nothing is on its way');
      const attempts = (await readInstances(kept.map(({ id }) => id))).flatMap((one) => one.attempts);
      const mine = () =>
        machinesOf(provider).filter((machine) => !before.has(machine.id) && machine.origin !== 'foreign');
      const alive = mine().filter((machine) => machine.destroyedAtMs === null);
      for (const machine of alive) {
        const recorded = attempts.filter(
          (attempt) => attempt.providerInstanceId === String(machine.id) && attempt.status === 'ready',
        );
        if (recorded.length !== 1)
          problems.push(`machine ${machine.id} (${machine.label}) is alive and recorded ${recorded.length} times`);
      }
      for (const [label, made] of countBy(mine().map((machine) => machine.label))) {
        if (made > 1) problems.push(`label ${label} was bought ${made} times`);
      }
      await until(async () => {
        for (const id of ids) {
          const reply = await muster.request('DELETE', `/api/v1/instances/${id}`);
          if (reply.status !== 202 && reply.status !== 409) throw new Error(`${reply.status}`);
        }
        return true;
      }, 'destroy accepted');
      if (poolId !== null) {
        await until(async () => {
          const reply = await muster.request('DELETE', `/api/v1/pools/${poolId}`);
          return reply.status === 202 || reply.status === 404;
        }, 'the pool is deleted');
      }
      await until(async () => (await listInstances()).length === 0, 'destroyed');
      for (const machine of mine().filter((one) => one.destroyedAtMs === null)) {
        problems.push(`orphan: machine ${machine.id} (${machine.label}) is alive though everything is destroyed`);
      }
      if (
        foreign().length !== foreignBefore ||
        foreign().some((machine) => machine.destroyedAtMs !== null || machine.changeCalls > 0)
      ) {
        problems.push('a foreign machine was touched');
      }
      const fired = existsSync(join(hookDir, 'fired.json'));
      rmSync(join(hookDir, 'armed.json'), { force: true });
      sandbox.clearFaults();
      return { fired, machinesBought: mine().length, problems };
    },
    async close() {
      await muster.kill('SIGTERM');
      await sandbox.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

function wantedOf({ provider }: CrashCell): Record<string, unknown> {
  return { gpu: 'RTX 4090', providers: [provider], maxPriceUsdPerHour: '0.95' };
}

function isSettled(attempt: { status: string }): boolean {
  return attempt.status === 'ready' || attempt.status === 'gone';
}

function countBy(values: string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}
