/** The whole way of a pod: real Muster, real agents on simulated machines with simulated engines, and the loss of a machine. */
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

interface Pod {
  id: string;
  status: string;
  reason: string | null;
  nodeId: string | null;
  gpus: { uuid: string }[];
  run: number;
  moves: number;
}
interface Node {
  id: string;
  instanceId: string;
}

describe('a pod on rented machines', () => {
  it(
    'runs with a GPU of its own, tells its log, is placed elsewhere when its machine is lost, and leaves nothing when it is deleted',
    async () => {
      const order = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.95', strategy: 'coldstart', count: 2 };
      const accepted = await lab.muster.request<{ instances: { id: string }[] }>('POST', '/api/v1/instances', order);
      const made = await lab.muster.request<Pod>('POST', '/api/v1/pods', {
        name: 'server',
        image: 'acme/server:1',
        gpuCount: 1,
      });
      expect(made.body).toMatchObject({ status: 'pending', reason: 'there is no node' });
      const { id } = made.body;
      const look = async () => (await lab.muster.request<Pod>('GET', `/api/v1/pods/${id}`)).body;
      const nodes = async () => (await lab.muster.request<{ items: Node[] }>('GET', '/api/v1/nodes')).body.items;
      const statuses = async () =>
        (await lab.muster.request<{ items: { status: string }[] }>('GET', '/api/v1/instances')).body.items.map(
          (one) => one.status,
        );
      await waitFor(async () => (await statuses()).every((status) => status === 'ready'), BOUND_MS, 'two machines');
      await waitFor(async () => (await look()).status === 'running', BOUND_MS, 'a running pod');
      const first = await look();
      expect(first.gpus).toHaveLength(1);

      const logs = await lab.muster.request<{ lines: { text: string }[] }>('GET', `/api/v1/pods/${id}/logs?tail=50`);
      expect(logs.body.lines[0]?.text).toBe('server begins');

      const lost = (await nodes()).find((node) => node.id === first.nodeId) as Node;
      expect(accepted.body.instances.map((one) => one.id)).toContain(lost.instanceId);
      const shown = await lab.muster.request<{ providerInstanceId: string }>(
        'GET',
        `/api/v1/instances/${lost.instanceId}`,
      );
      const match = { instanceId: shown.body.providerInstanceId };
      await lab.sandbox.addFault({ provider: 'vastai', endpoint: 'machine', kind: 'host_loss', match });
      await waitFor(
        async () => (await look()).run === 2 && (await look()).status === 'running',
        BOUND_MS,
        'the pod elsewhere',
      );
      expect(await look()).toMatchObject({ moves: 1, reason: null });
      expect((await look()).nodeId).not.toBe(lost.id);

      await lab.muster.request('DELETE', `/api/v1/pods/${id}`);
      await waitFor(async () => (await look()).status === 'removed', BOUND_MS, 'a removed pod');
    },
    2 * BOUND_MS,
  );
});
