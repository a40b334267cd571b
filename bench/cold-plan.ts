/**
 * A plan with no fresh offers: what it takes beside the slowest provider. The API is a process of its own; a worker in this one lists
 * vendors that answer after a set time. Run: node scripts/bootstrap.mjs bench/cold-plan.ts
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import type { StepServices } from '../automation/operations/step.ts';
import { createWorker } from '../automation/operations/worker.ts';
import { openDatabase } from '../db/database.ts';
import { createQueue } from '../db/queue.ts';
import { PROVIDER_NAMES, type ProviderName } from '../domain/provider.ts';
import { ADMIN_KEY, createMusterProcess, findFreePort } from '../test/support/muster-process.ts';
import { median, percentile, startDatabase } from './lab.ts';
import { makeOffers } from './market.ts';

const LATENCY_MS: Record<ProviderName, number> = { vastai: 1_500, tensordock: 900, runpod: 600, lambda: 300 };
const OFFERS_EACH = 1_250;
const ROUNDS = 15;

const dir = mkdtempSync(join(tmpdir(), 'muster-bench-'));
const postgres = await startDatabase(dir);
const database = openDatabase({ url: postgres.url, applicationName: 'bench' });
const queue = createQueue(database.kysely);
const services = {
  db: database.kysely,
  queue,
  enabledProviders: [...PROVIDER_NAMES],
  client: (provider: ProviderName) => ({
    async searchOffers() {
      await new Promise((resolve) => setTimeout(resolve, LATENCY_MS[provider]));
      return makeOffers(provider, OFFERS_EACH);
    },
  }),
  now: () => new Date(),
  log: pino({ level: 'warn' }),
} as unknown as StepServices; // all that a refresh uses
const worker = createWorker({ services, database, owner: 'bench', concurrency: 4 });
const muster = await createMusterProcess({
  dataDir: join(dir, 'data'),
  sandboxPort: await findFreePort(10),
  env: { MUSTER_ROLES: 'api', DATABASE_URL: postgres.url, MUSTER_LOG_LEVEL: 'warn' },
});
try {
  await muster.start();
  await queue.start();
  await worker.start();
  await askPlan(); // the first connection and the first compilation
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await database.kysely.updateTable('providers').set({ offers_asked_at: null, offers_answered_at: null }).execute();
    times.push(await askPlan());
  }
  const slowest = Math.max(...Object.values(LATENCY_MS));
  const show = (ms: number) => `${Math.round(ms)} ms (${(ms / slowest).toFixed(2)} × the slowest provider)`;
  console.log(`cold plan, ${PROVIDER_NAMES.length} providers, the slowest ${slowest} ms:`);
  console.log(`  median ${show(median(times))}, p95 ${show(percentile(times, 0.95))}`);
  console.log(`  and the plan alone: ${Math.round(await askPlan())} ms`);
} finally {
  await worker.drain();
  await muster.kill('SIGTERM');
  await queue.stop();
  await database.close();
  await postgres.stop();
  rmSync(dir, { recursive: true, force: true });
}

async function askPlan(): Promise<number> {
  const startedAt = performance.now();
  const reply = await fetch(`${muster.url}/api/v1/instances`, {
    method: 'POST',
    headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ gpu: 'RTX 4090', maxPriceUsdPerHour: '3.00', dryRun: true }),
  });
  const plan = (await reply.json()) as { candidates?: unknown[] };
  if (!reply.ok || !plan.candidates?.length) throw new Error(`no plan: ${reply.status} ${JSON.stringify(plan)}`);
  return performance.now() - startedAt;
}
