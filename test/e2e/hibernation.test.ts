/** Asleep and back: real Muster, engine, agent and restic, simulated machines. Every file comes back byte for byte. */
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Instance } from '../../api/contract/instances.ts';
import { openMusterLab, type MusterLab } from '../support/muster-lab.ts';
import { waitFor } from '../support/muster-process.ts';
import { resticMissing } from '../support/restic.ts';

const BOUND_MS = 240_000;

let lab: MusterLab;
beforeAll(async () => {
  lab = await openMusterLab({
    env: { MUSTER_AGENT: 'on', MUSTER_AGENT_INTERVAL: '1 seconds', MUSTER_PROVIDERS: 'vastai' },
  });
}, BOUND_MS);
afterAll(() => lab?.close());

const aliveMachines = () => {
  const { machines } = lab.sandbox.state().vastai;
  return machines.filter((machine) => machine.origin !== 'foreign' && machine.destroyedAtMs === null);
};
const workspaceOf = (shown: Instance) => join(lab.dir, 'agents', `vastai-${shown.providerInstanceId}`, 'workspace');

/** Of all paths, modes and contents. */
function digestOf(root: string): string {
  const hash = createHash('sha256');
  for (const path of (readdirSync(root, { recursive: true }) as string[]).sort()) {
    const stat = statSync(join(root, path));
    hash.update(`${path} ${stat.mode} ${stat.isDirectory() ? '' : Math.floor(stat.mtimeMs)}\n`);
    if (stat.isFile()) hash.update(readFileSync(join(root, path)));
  }
  return hash.digest('hex');
}

function fill(root: string): void {
  mkdirSync(join(root, 'empty'), { recursive: true });
  mkdirSync(join(root, 'small'));
  for (let index = 0; index < 200; index++) writeFileSync(join(root, 'small', `${index}`), 'x'.repeat(index));
  writeFileSync(join(root, 'ünïcode – "quoted" $HOME'), 'ü');
  writeFileSync(join(root, 'run.sh'), '#!/bin/sh\n');
  chmodSync(join(root, 'run.sh'), 0o755);
  writeFileSync(join(root, 'model.bin'), Buffer.alloc(8_000_000, 'weights'));
}

describe.skipIf(resticMissing !== null)('an instance', () => {
  it(
    'that sleeps has no machine anywhere, and wakes on another one with the same files',
    async () => {
      const accepted = await lab.muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', {
        gpu: 'RTX 4090',
        maxPriceUsdPerHour: '0.95',
        strategy: 'coldstart',
        hibernateWhenIdle: { for: '24 hours' },
      });
      const id = accepted.body.instances[0]?.id as string;
      const look = async () => (await lab.muster.request<Instance>('GET', `/api/v1/instances/${id}`)).body;
      const until = async (status: string) => {
        await waitFor(async () => (await look()).status === status, BOUND_MS, status);
        return look();
      };
      const first = await until('ready');
      fill(workspaceOf(first));
      const digest = digestOf(workspaceOf(first));
      expect(await lab.muster.request('POST', `/api/v1/instances/${id}/hibernate`, {})).toMatchObject({ status: 202 });
      const asleep = await until('hibernated');
      expect(asleep).toMatchObject({ ssh: null, provider: null, allowedActions: ['destroy', 'wake'] });
      expect(aliveMachines()).toEqual([]);
      expect((await lab.muster.request('GET', `/api/v1/instances/${id}/endpoint`)).body).toMatchObject({
        kind: 'none',
      });
      rmSync(workspaceOf(first), { recursive: true });

      const plan = await lab.muster.request<{ planHash: string }>('POST', `/api/v1/instances/${id}/wake`, {
        dryRun: true,
      });
      expect(plan.status).toBe(200);
      const { planHash } = plan.body;
      expect(await lab.muster.request('POST', `/api/v1/instances/${id}/wake`, { planHash })).toMatchObject({
        status: 202,
      });
      // Killed and started again on the way.
      await waitFor(async () => (await look()).phase !== 'queued', BOUND_MS, 'it is on its way');
      await lab.muster.kill('SIGKILL');
      await lab.muster.start();
      const awake = await until('ready');
      expect(digestOf(workspaceOf(awake))).toBe(digest);
      expect(aliveMachines()).toHaveLength(1);
      expect((await lab.muster.request('GET', `/api/v1/instances/${id}/endpoint`)).body).toMatchObject({
        kind: 'instance',
        port: awake.ssh?.port,
      });
      expect(awake.savings?.asleepMs).toBeGreaterThan(0);
      await lab.muster.request('DELETE', `/api/v1/instances/${id}`);
      await until('destroyed');
      expect(aliveMachines()).toEqual([]);
    },
    BOUND_MS,
  );
});
