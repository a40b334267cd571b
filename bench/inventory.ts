/** GET /inventory over 5,000 offers of four providers: one client, then 8. Run: node scripts/bootstrap.mjs bench/inventory.ts */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { openDatabase } from '../db/database.ts';
import { denylistMachine } from '../db/machines.ts';
import { replaceOffers } from '../db/offers.ts';
import { recordFloors } from '../db/prices.ts';
import { recordBelievable, registerProvider } from '../db/providers.ts';
import { PROVIDER_NAMES } from '../domain/provider.ts';
import { ADMIN_KEY, createMusterProcess, findFreePort } from '../test/support/muster-process.ts';
import { median, percentile, startDatabase } from './lab.ts';
import { makeOffers } from './market.ts';

const OFFERS_EACH = 1_250;
const DENYLISTED = 100;
const WARM_UP = 100;
const REQUESTS = 500;
const CLIENTS = 8;
const PATHS: [string, string][] = [
  ['for comparison: the four providers', '/providers'],
  ['cheapest first, page of 50', '/inventory'],
  ['of one GPU below a price', '/inventory?gpu=RTX%204090&gpuCount=1&maxPriceUsdPerHour=1.50&minReliability=0.9'],
  ['by price of one GPU, interruptible', '/inventory?sort=price_per_gpu&interruptible=true'],
  ['by reliability, with 200 GiB of disk', '/inventory?sort=reliability&diskGib=200'],
  ['page of 500', '/inventory?limit=500'],
];

const dir = mkdtempSync(join(tmpdir(), 'muster-bench-'));
const postgres = await startDatabase(dir);
const database = openDatabase({ url: postgres.url, applicationName: 'bench' });
for (const provider of PROVIDER_NAMES) {
  await registerProvider(database.kysely, provider, 'sandbox');
  const offers = makeOffers(provider, OFFERS_EACH);
  const startedAt = performance.now();
  await replaceOffers(database.kysely, provider, offers, new Date());
  await recordFloors(database.kysely, provider, offers, new Date());
  await recordBelievable(database.kysely, provider, { listing: 'offers', count: offers.length });
  console.log(`${provider}: ${offers.length} offers recorded in ${Math.round(performance.now() - startedAt)} ms`);
}
for (let number = 0; number < DENYLISTED; number++)
  await database.kysely
    .transaction()
    .execute((tx) =>
      denylistMachine(
        tx,
        { provider: 'vastai', machineId: `m${number}` },
        { until: new Date(Date.now() + 3_600_000), reason: 'bench' },
        new Date(),
      ),
    );
await database.close();
await analyze();

const muster = await createMusterProcess({
  dataDir: join(dir, 'data'),
  sandboxPort: await findFreePort(10),
  env: {
    MUSTER_ROLES: 'api',
    DATABASE_URL: postgres.url,
    MUSTER_LOG_LEVEL: 'warn',
    MUSTER_API_RATE_LIMIT: '100000',
  },
});
try {
  await muster.start();
  for (const [name, path] of PATHS) {
    await measure(path, WARM_UP, 1);
    for (const clients of [1, CLIENTS]) report(`${name}, ${clients} at once`, await measure(path, REQUESTS, clients));
  }
} finally {
  await muster.kill('SIGTERM');
  await postgres.stop();
  rmSync(dir, { recursive: true, force: true });
}

/** As the server itself does within a minute of the first listing. */
async function analyze(): Promise<void> {
  const owner = new pg.Client({ connectionString: postgres.url });
  await owner.connect();
  await owner.query('analyze');
  await owner.end();
}

async function measure(path: string, requests: number, clients: number): Promise<number[]> {
  const latencies: number[] = [];
  let left = requests;
  const client = async () => {
    while (left-- > 0) {
      const startedAt = performance.now();
      const reply = await fetch(`${muster.url}/api/v1${path}`, { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
      await reply.arrayBuffer();
      if (!reply.ok) throw new Error(`${path} answered ${reply.status}`);
      latencies.push(performance.now() - startedAt);
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
  return latencies;
}

function report(name: string, latencies: number[]): void {
  const show = (value: number) => value.toFixed(1).padStart(5);
  console.log(
    `${name.padEnd(52)} p50 ${show(median(latencies))} ms  p95 ${show(percentile(latencies, 0.95))} ms  p99 ${show(percentile(latencies, 0.99))} ms`,
  );
}
