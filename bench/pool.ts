/**
 * Requests of strategy serverless, one after another, against a warm pool: how long is the claim (the request's answer, which names the warm
 * instance), and how long from the request to `ready`, verified over SSH on a simulated machine with the user's key. Run: npm run bench:pool
 */
import { waitFor } from '../test/support/muster-process.ts';
import { openLab, percentile, waitUntilReady } from './lab.ts';

const CLAIMS = 10;
const TARGET = 3;
const POLL_MS = 20;
const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGqL4l1cGmVgVZ2yQ9kkuKcUJhLxSmDdZf3Sz1T0b1cW bench';

interface Pool {
  id: string;
  counts: { ready: number; filling: number };
  trouble: string | null;
}
interface Instance {
  id: string;
  status: string;
  note: string | null;
  createdAt: string;
  readyAt: string | null;
}

const lab = await openLab({
  sandbox: { offers: 800, latencyMs: 50 },
  env: { MUSTER_READINESS_INTERVAL: '2 seconds', MUSTER_AGENT: 'off' },
});
const { muster } = lab;
await muster.start();
await waitUntilReady(muster);
await waitFor(
  async () => (await muster.request<{ items: [] }>('GET', '/api/v1/inventory')).body.items.length > 0,
  60_000,
);
const wanted = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.99' };
const made = await muster.request<Pool>('POST', '/api/v1/pools', {
  name: 'bench',
  ...wanted,
  targetSize: TARGET,
  maxSize: 20,
});
const filledAt = performance.now();
await untilWarm(TARGET);
const fillMs = performance.now() - filledAt;
const claimMs: number[] = [];
const readyMs: number[] = [];
const seenMs: number[] = [];
for (let claim = 0; claim < CLAIMS; claim++) await measureClaim();
console.log(
  [
    `${CLAIMS} serverless requests, a pool of ${TARGET} (filled in ${(fillMs / 1000).toFixed(1)} s)`,
    `claim (request answered): ${show(claimMs)}`,
    `accepted to ready, by the records: ${show(readyMs)}`,
    `request sent to ready seen: ${show(seenMs)}`,
  ].join('\n  '),
);
await lab.close();

/** Each finds something warm: how fast that comes back is the vendor's boot. */
async function measureClaim(): Promise<void> {
  await untilWarm(1);
  const startedAt = performance.now();
  const accepted = await muster.request<{ instances: Instance[] }>('POST', '/api/v1/instances', {
    ...wanted,
    strategy: 'serverless',
    sshPublicKeys: [KEY],
  });
  claimMs.push(performance.now() - startedAt);
  const [first] = accepted.body.instances;
  if (!first?.note?.startsWith('claims ')) throw new Error(`nothing was claimed: ${JSON.stringify(accepted.body)}`);
  let instance = first;
  await waitFor(
    async () => {
      instance = (await muster.request<Instance>('GET', `/api/v1/instances/${first.id}`)).body;
      return instance.status === 'ready';
    },
    60_000,
    'ready',
    POLL_MS,
  );
  seenMs.push(performance.now() - startedAt);
  readyMs.push(Date.parse(instance.readyAt ?? '') - Date.parse(instance.createdAt));
  await muster.request('DELETE', `/api/v1/instances/${first.id}`);
}

async function untilWarm(count: number): Promise<void> {
  let pool = made.body;
  await waitFor(
    async () => {
      pool = (await muster.request<Pool>('GET', `/api/v1/pools/${made.body.id}`)).body;
      return pool.counts.ready >= count;
    },
    180_000,
    `${count} are warm`,
    200,
  );
}

function show(values: number[]): string {
  const [half, most, worst] = [0.5, 0.95, 1].map((share) => `${percentile(values, share).toFixed(0)} ms`);
  return `median ${half}, p95 ${most}, worst ${worst}`;
}
