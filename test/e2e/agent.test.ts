/** The whole way of an agent: real Muster, real engine, a simulated machine with the real agent as a process. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openMusterLab, type MusterLab } from '../support/muster-lab.ts';
import { waitFor } from '../support/muster-process.ts';

const BOUND_MS = 120_000;

let lab: MusterLab;
beforeAll(async () => {
  lab = await openMusterLab({
    env: { MUSTER_AGENT: 'on', MUSTER_AGENT_INTERVAL: '1 seconds', MUSTER_PROVIDERS: 'vastai' },
  });
}, BOUND_MS);
afterAll(() => lab?.close());

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
      const accepted = await lab.muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', order);
      const id = accepted.body.instances[0]?.id as string;
      const look = async () => (await lab.muster.request<Shown>('GET', `/api/v1/instances/${id}`)).body;
      await waitFor(async () => (await look()).status === 'ready', BOUND_MS, 'ready');
      const node = async () =>
        (await lab.muster.request<{ items: Shown[] }>('GET', `/api/v1/nodes?instanceId=${id}`)).body.items[0];
      expect(await node()).toBeDefined();
      const phases = Object.keys((await look()).phaseAt);
      // The first where it registers before its machine is looked into, the second where it does meanwhile.
      expect(phases.includes('verifying') || phases.includes('waiting_registration'), phases.join()).toBe(true);
      expect(phases).toContain('active');
      await waitFor(async () => (await node())?.health === 'healthy', BOUND_MS, 'a healthy node');
      const [key] = lab.agents.running();
      expect(lab.agents.kill(key as string)).toBe(true);
      await waitFor(async () => (await node())?.status === 'stale', BOUND_MS, 'a stale node');
      expect((await node())?.statusReason).toMatch(/^no heartbeat for \d+ s/);
      await lab.muster.request('DELETE', `/api/v1/instances/${id}`);
      await waitFor(async () => (await look()).status === 'destroyed', BOUND_MS, 'destroyed');
      expect((await node())?.status).toBe('gone');
      expect(lab.agents.running()).toEqual([]);
    },
    BOUND_MS,
  );
});
