/** A machine that dies, and a control plane that does: real Muster, engine, agents and restic, simulated machines. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openMusterLab, type MusterLab } from '../support/muster-lab.ts';
import { waitFor } from '../support/muster-process.ts';
import { resticMissing } from '../support/restic.ts';

const BOUND_MS = 180_000;
const INTERVAL_MS = 1_000;

let lab: MusterLab;
beforeAll(async () => {
  lab = await openMusterLab({
    env: { MUSTER_AGENT: 'on', MUSTER_AGENT_INTERVAL: `${INTERVAL_MS} ms`, MUSTER_PROVIDERS: 'vastai' },
  });
}, BOUND_MS);
afterAll(() => lab?.close());

interface Shown {
  status: string;
  providerInstanceId: string;
  machineId: string;
  ssh: { port: number };
}

describe.skipIf(resticMissing !== null)('an instance with a policy', () => {
  it(
    'has its workspace on another machine after its own died, and stays where it is when the control plane died',
    async () => {
      const order = {
        gpu: 'RTX 4090',
        maxPriceUsdPerHour: '0.95',
        strategy: 'coldstart',
        failover: { mode: 'replace', rpo: '30 seconds', cooldown: '0 seconds' },
      };
      const accepted = await lab.muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', order);
      const id = accepted.body.instances[0]?.id as string;
      const look = async () => (await lab.muster.request<Shown>('GET', `/api/v1/instances/${id}`)).body;
      const episodes = async () =>
        (
          await lab.muster.request<{ items: Record<string, unknown>[] }>(
            'GET',
            `/api/v1/standby/failovers?instanceId=${id}`,
          )
        ).body.items;
      const endpoint = async () =>
        (await lab.muster.request<{ kind: string; port: number }>('GET', `/api/v1/instances/${id}/endpoint`)).body;
      const fileOn = (shown: Shown) =>
        join(lab.dir, 'agents', `vastai-${shown.providerInstanceId}`, 'workspace', 'work');
      await waitFor(async () => (await look()).status === 'ready', BOUND_MS, 'ready');
      const first = await look();
      expect(await endpoint()).toMatchObject({ kind: 'instance', port: first.ssh.port });
      mkdirSync(join(fileOn(first), '..'), { recursive: true });
      writeFileSync(fileOn(first), 'what was done so far');
      const asked = Date.now();
      await lab.muster.request('POST', `/api/v1/instances/${id}/snapshots`, {});
      const snapshots = async () =>
        (
          await lab.muster.request<{ items: { status: string; dataAt: string }[] }>(
            'GET',
            `/api/v1/snapshots?instanceId=${id}`,
          )
        ).body.items;
      const isSaved = async () =>
        (await snapshots()).some(({ status, dataAt }) => status === 'verified' && Date.parse(dataAt) >= asked);
      await waitFor(isSaved, BOUND_MS, 'a verified snapshot');

      const lostAt = Date.now();
      const match = { instanceId: first.providerInstanceId };
      await lab.sandbox.addFault({ provider: 'vastai', endpoint: 'machine', kind: 'host_loss', match });
      await waitFor(async () => (await episodes())[0]?.['phase'] === 'complete', BOUND_MS, 'it has failed over');
      const [episode] = await episodes();
      expect(episode).toMatchObject({ cause: 'detected', mode: 'replace', isWithinRpo: true, failure: null });
      expect(Date.parse(episode?.['detectedAt'] as string) - lostAt).toBeLessThan(20_000);
      const second = await look();
      expect(second.status).toBe('ready');
      expect(second.machineId).not.toBe(first.machineId);
      expect(readFileSync(fileOn(second), 'utf8')).toBe('what was done so far');
      expect(await endpoint()).toMatchObject({ kind: 'instance', port: second.ssh.port });

      await lab.muster.kill('SIGKILL');
      const downUntil = Date.now() + 8 * INTERVAL_MS;
      await waitFor(() => Date.now() > downUntil, BOUND_MS);
      await lab.muster.start();
      const node = async () =>
        (
          await lab.muster.request<{ items: { status: string; suspicion: unknown; instanceId: string }[] }>(
            'GET',
            `/api/v1/nodes?instanceId=${id}&status=online`,
          )
        ).body.items;
      await waitFor(async () => (await node()).some((one) => one.suspicion === null), BOUND_MS, 'its agent is back');
      expect(await episodes()).toHaveLength(1);
      expect(await look()).toMatchObject({ status: 'ready', providerInstanceId: second.providerInstanceId });
    },
    2 * BOUND_MS,
  );
});
