import { afterEach, beforeEach, expect, it } from 'vitest';
import { pino } from 'pino';
import { createWorker, type Worker } from '../../automation/operations/worker.ts';
import type { StepServices } from '../../automation/operations/step.ts';
import { markAnswered, markAsked } from '../../db/offer-listings.ts';
import { registerProvider, setProviderEnabled } from '../../db/providers.ts';
import type { Offer } from '../../domain/offer.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { ProviderName } from '../../domain/provider.ts';
import { OFFER, ORDER, startApiServer, type ApiServer } from '../support/api-server.ts';

const PROVIDERS: ProviderName[] = ['vastai', 'tensordock', 'runpod'];

let server: ApiServer;
let worker: Worker | undefined;
let asked: ProviderName[];
let search: (provider: ProviderName) => Promise<Offer[]>;
beforeEach(async () => {
  server = await startApiServer({ offerPatienceMs: 20_000 });
  for (const provider of PROVIDERS) await registerProvider(server.database.kysely, provider, 'sandbox');
  asked = [];
  search = async (provider) => [offerOf(provider)];
});
afterEach(async () => {
  await worker?.drain();
  worker = undefined;
  await server.stop();
});

const offerOf = (provider: ProviderName): Offer => ({ ...OFFER, provider, machineId: `machine of ${provider}` });

async function startWorker(): Promise<void> {
  // What a refresh uses; any other operation would fail loudly.
  const services = {
    db: server.database.kysely,
    queue: server.queue,
    enabledProviders: PROVIDERS,
    client: (provider: ProviderName) => ({
      searchOffers: () => {
        asked.push(provider);
        return search(provider);
      },
    }),
    now: () => new Date(),
    log: pino({ level: 'silent' }),
  } as unknown as StepServices;
  worker = createWorker({ services, database: server.database, owner: 'worker-1', concurrency: 2 });
  await worker.start();
}

async function plan(change = {}): Promise<string[]> {
  const { status, body } = await server.call('POST', '/api/v1/instances', {
    body: { ...ORDER, ...change, dryRun: true },
  });
  expect(status).toBe(200);
  return body.candidates.map((candidate: { provider: string }) => candidate.provider).sort();
}

it('a plan without fresh offers asks all providers at once and waits for the slowest, not for the failing', async () => {
  const all = Promise.withResolvers<void>();
  search = async (provider) => {
    if (asked.length === PROVIDERS.length) all.resolve();
    await all.promise; // one after another would wait here until the plan's patience ends
    if (provider === 'tensordock') throw new ProviderError('retryable', 'HTTP 503: down');
    return [offerOf(provider)];
  };
  await startWorker();
  expect(await plan()).toEqual(['runpod', 'vastai']);
  expect([...asked].sort()).toEqual([...PROVIDERS].sort());
});

it('plans made at once share one asking, and those after it ask nobody', async () => {
  await startWorker();
  const plans = await Promise.all(Array.from({ length: 8 }, () => plan()));
  expect(plans).toEqual(Array(8).fill(['runpod', 'tensordock', 'vastai']));
  expect(await plan()).toHaveLength(3);
  expect(asked).toHaveLength(3);
});

it('a plan waits for what the cron is being told already, and asks only who was not asked', async () => {
  const db = server.database.kysely;
  await markAsked(db, 'vastai');
  await startWorker();
  const planned = plan();
  await expect.poll(() => asked.length, { timeout: 5_000 }).toBe(2);
  expect([...asked].sort()).toEqual(['runpod', 'tensordock']);
  await markAnswered(db, 'vastai');
  expect(await planned).toEqual(['runpod', 'tensordock']);
});

it('only the providers of the request are waited for, and none that is switched off', async () => {
  const db = server.database.kysely;
  await setProviderEnabled(db, 'tensordock', false);
  await markAnswered(db, 'runpod');
  await startWorker();
  await plan({ providers: ['runpod'] });
  expect(asked).toEqual([]);
  expect(await plan()).toEqual(['vastai']);
  expect(asked).toEqual(['vastai']);
});

it('a plan answers with what is there when its patience ends, or when no worker takes the asking', async () => {
  await server.stop();
  server = await startApiServer({ offerPatienceMs: 200 });
  expect(await plan()).toEqual([]);
  const operations = await server.database.kysely.selectFrom('operations').select(['kind', 'status']).execute();
  expect(operations).toEqual([{ kind: 'refresh_offers', status: 'queued' }]);
});
