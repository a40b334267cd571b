import { pino } from 'pino';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createSyncOffersCron } from '../../../automation/cron/sync-offers.ts';
import { findProvider, registerProvider } from '../../../db/providers.ts';
import type { Offer } from '../../../domain/offer.ts';
import { ProviderError } from '../../../domain/provider-error.ts';
import type { ProviderName } from '../../../domain/provider.ts';
import type { ProviderClient } from '../../../providers-dynamic/provider-client.ts';
import { createFleetDatabase, makeOffer, type FleetDatabase } from '../../support/fleet-database.ts';

const PROVIDERS: ProviderName[] = ['vastai', 'tensordock', 'runpod'];
const HOUR_MS = 3_600_000;

let fleet: FleetDatabase;
let now: Date;
const search: Partial<Record<ProviderName, () => Promise<Offer[]>>> = {};
beforeAll(async () => {
  fleet = await createFleetDatabase();
  for (const provider of PROVIDERS) await registerProvider(fleet.db, provider, 'sandbox');
});
beforeEach(async () => {
  now = new Date('2026-05-01T12:10:00Z');
  for (const table of ['offers', 'price_floors', 'price_changes', 'price_hours'] as const)
    await fleet.db.deleteFrom(table).execute();
  await fleet.db
    .updateTable('providers')
    .set({ status: 'unknown', offers_count: null, offers_seen_at: null, offers_problem: null })
    .execute();
  for (const provider of PROVIDERS) search[provider] = async () => market(provider, [300_000n, 400_000n]);
});
afterAll(() => fleet?.close());

const cron = () =>
  createSyncOffersCron({
    db: fleet.db,
    client: (provider) => ({ searchOffers: () => search[provider]?.() }) as unknown as ProviderClient,
    providers: PROVIDERS,
    now: () => now,
    everyMs: 60_000,
    log: pino({ level: 'silent' }),
  });
const tick = () => cron().run(new AbortController().signal);

function market(provider: ProviderName, prices: bigint[], gpu = 'RTX 4090'): Offer[] {
  return prices.map((price, index) => makeOffer(index + 1, { provider, gpu, priceMicroUsdPerHour: price }));
}

describe('a tick of sync-offers', () => {
  it('asks all providers at once: the slow one is the last to be asked no more than the first', async () => {
    const asked: ProviderName[] = [];
    const all = Promise.withResolvers<void>();
    for (const provider of PROVIDERS) {
      search[provider] = async () => {
        asked.push(provider);
        if (asked.length === PROVIDERS.length) all.resolve();
        await all.promise; // one after another would wait here for ever
        return market(provider, [300_000n]);
      };
    }
    expect(await tick()).toEqual({ 'vastai.offers': 1, 'tensordock.offers': 1, 'runpod.offers': 1 });
  });

  it('keeps the last good offers of a provider that fails, with its reason, and lists the others', async () => {
    await tick();
    const lastGoodAt = (await findProvider(fleet.db, 'runpod'))?.offers_seen_at;
    search.runpod = () => Promise.reject(new ProviderError('retryable', 'HTTP 503: down'));
    search.tensordock = () => Promise.reject(new TypeError('a mistake of ours'));
    search.vastai = async () => market('vastai', [200_000n]);
    now = new Date(now.getTime() + 60_000);
    expect(await tick()).toMatchObject({ 'vastai.offers': 1, 'runpod.quarantined': 1, 'tensordock.failed': 1 });
    const offers = await fleet.db.selectFrom('offers').select(['provider']).execute();
    expect(offers.map((offer) => offer.provider).sort()).toEqual([
      'runpod',
      'runpod',
      'tensordock',
      'tensordock',
      'vastai',
    ]);
    expect(await findProvider(fleet.db, 'runpod')).toMatchObject({
      offers_problem: 'HTTP 503: down',
      offers_seen_at: lastGoodAt,
    });
  });
});

describe('the price of a class', () => {
  it('is recorded when its floor changes, and not when the same listing comes again', async () => {
    await tick();
    await tick();
    search.vastai = async () => market('vastai', [250_000n, 400_000n]);
    await tick();
    const changes = await fleet.db
      .selectFrom('price_changes')
      .select(['previous_micro_usd_per_gpu_hour as was', 'floor_micro_usd_per_gpu_hour as is'])
      .where('provider', '=', 'vastai')
      .orderBy('seq')
      .execute();
    expect(changes).toEqual([
      { was: null, is: 300_000n },
      { was: 300_000n, is: 250_000n },
    ]);
  });

  it('does not change by the absence of a provider in quarantine; a class that a believed listing lacks has none', async () => {
    search.vastai = async () => [...market('vastai', [300_000n]), makeOffer(9, { gpu: 'H100 SXM' })];
    await tick();
    search.vastai = async () => [];
    await tick();
    const changes = () => fleet.db.selectFrom('price_changes').select('gpu').where('provider', '=', 'vastai').execute();
    expect(await changes()).toHaveLength(2);
    search.vastai = async () => market('vastai', [300_000n]);
    now = new Date(now.getTime() + 60_000);
    await tick();
    expect(await changes()).toHaveLength(3);
    const gone = await fleet.db
      .selectFrom('price_floors')
      .selectAll()
      .where('provider', '=', 'vastai')
      .where('gpu', '=', 'H100 SXM')
      .executeTakeFirstOrThrow();
    expect(gone).toMatchObject({ floor_micro_usd_per_gpu_hour: null, offers: 0, changed_at: now });
  });

  it('is summed up by the hour', async () => {
    await tick();
    search.vastai = async () => market('vastai', [100_000n]);
    now = new Date(now.getTime() + 60_000);
    await tick();
    now = new Date(now.getTime() + HOUR_MS);
    await tick();
    const hours = await fleet.db
      .selectFrom('price_hours')
      .selectAll()
      .where('provider', '=', 'vastai')
      .orderBy('hour')
      .execute();
    expect(hours).toMatchObject([
      {
        hour: new Date('2026-05-01T12:00:00Z'),
        low_micro_usd_per_gpu_hour: 100_000n,
        high_micro_usd_per_gpu_hour: 300_000n,
        sum_micro_usd_per_gpu_hour: 400_000n,
        samples: 2,
      },
      { hour: new Date('2026-05-01T13:00:00Z'), samples: 1 },
    ]);
  });
});
