/**
 * Two replicas, 100 requests at once for 40 offers: exactly 40 must become live, the other 60 operations must fail with `no_capacity`
 * and the reason, and no offer may be bought twice. Run: npm run bench:contention (`-- --documented` under the vendor's rate limits)
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createMusterProcess, waitFor, type MusterProcess } from '../test/support/muster-process.ts';
import { openLab, waitUntilReady } from './lab.ts';

const { values } = parseArgs({ options: { documented: { type: 'boolean', default: false } } });
const REQUESTS = 100;
/** Offers: a machine may have several, each for GPUs of its own. */
const OFFERS = 40;
const POLL_MS = 1_000;
const GPU = 'RTX 4090';

interface Offer {
  priceMicroUsdPerHour: number;
}

const env = {
  MUSTER_PROVIDERS: 'vastai',
  MUSTER_VASTAI_RATE_LIMITS: values.documented ? 'documented' : 'off',
  MUSTER_AGENT: 'off',
};
const lab = await openLab({ sandbox: { offers: 800, latencyMs: 50 }, env });
const second = await createMusterProcess({
  dataDir: join(lab.dir, 'data'),
  sandboxPort: lab.sandbox.ports.control,
  env: { MUSTER_LOG_LEVEL: 'warn', MUSTER_MAX_INSTANCES: '100000', MUSTER_MAX_BURN_USD_PER_HOUR: '100000', ...env },
});
await lab.muster.start();
await waitUntilReady(lab.muster);
await second.start();
await waitUntilReady(second);

const ceiling = await findCeiling(lab.muster);
const startedAt = performance.now();
const replies = await Promise.all(
  Array.from({ length: REQUESTS }, (_, index) =>
    (index % 2 === 0 ? lab.muster : second).request('POST', '/api/v1/instances', {
      gpu: GPU,
      maxPriceUsdPerHour: (ceiling / 1_000_000).toFixed(6),
      strategy: 'coldstart',
      providers: ['vastai'],
    }),
  ),
);
const statuses = countBy(replies.map((reply) => String(reply.status)));
await waitFor(
  async () => (await operations(lab.muster)).every(({ status }) => status !== 'queued' && status !== 'running'),
  values.documented ? 1_800_000 : 600_000,
  'all operations end',
  POLL_MS,
);
const seconds = (performance.now() - startedAt) / 1000;
const ended = await operations(lab.muster);
const live = (await lab.muster.request<{ items: { status: string }[] }>('GET', '/api/v1/instances?limit=500')).body;
const machines = lab.sandbox.state().vastai.machines.filter((machine) => machine.origin === 'bought');
const alive = machines.filter((machine) => machine.destroyedAtMs === null);
const purchases = Object.values(lab.sandbox.state().vastai.purchases);
console.log(
  [
    `${REQUESTS} requests for ${OFFERS} offers over two replicas in ${seconds.toFixed(1)} s`,
    `answers ${JSON.stringify(statuses)}`,
    `operations ${JSON.stringify(countBy(ended.map(({ status, error }) => (error ? `${status}:${error.code}` : status))))}`,
    `live ${live.items.filter(({ status }) => status === 'ready').length}`,
    `machines alive at the vendor ${alive.length}`,
    `labels bought more than once ${purchases.filter(({ accepted }) => accepted > 1).length}`,
    `purchase calls per machine ${(purchases.reduce((sum, { calls }) => sum + calls, 0) / Math.max(1, machines.length)).toFixed(2)}`,
    `a reason: ${ended.find(({ error }) => error)?.error?.detail ?? 'none'}`,
  ].join('\n  '),
);
await second.kill('SIGTERM');
await lab.close();

/** The highest price at which exactly so many offers fit. */
async function findCeiling(muster: MusterProcess): Promise<number> {
  const offers: Offer[] = [];
  await waitFor(
    async () => {
      const path = `/api/v1/inventory?gpu=${encodeURIComponent(GPU)}&gpuCount=1&provider=vastai&limit=500&sort=price`;
      const reply = await muster.request<{ items: Offer[] }>('GET', path);
      offers.splice(0, offers.length, ...reply.body.items);
      return offers.length > OFFERS;
    },
    60_000,
    'enough offers',
  );
  const [last, next] = offers.slice(OFFERS - 1);
  if (!last || !next || last.priceMicroUsdPerHour === next.priceMicroUsdPerHour)
    throw new Error(`no price separates ${OFFERS} offers from the others`);
  return last.priceMicroUsdPerHour;
}

async function operations(
  muster: MusterProcess,
): Promise<{ kind: string; status: string; error: { code: string; detail: string } | null }[]> {
  const reply = await muster.request<{ items: Awaited<ReturnType<typeof operations>> }>(
    'GET',
    '/api/v1/operations?limit=500',
  );
  return reply.body.items.filter(({ kind }) => kind === 'provision_instance');
}

function countBy(texts: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const text of texts) counts[text] = (counts[text] ?? 0) + 1;
  return counts;
}
