/**
 * The vendors' documented rate limits under several replicas: each provider's real client in two processes' place, one shared limiter in
 * Postgres, the simulated vendor at the wire. The documented spacings are kept in their proportion and shortened.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDatabase, type Database } from '../../db/database.ts';
import { createSharedRateLimiter } from '../../db/provider-rate-limiter.ts';
import type { Offer } from '../../domain/offer.ts';
import { PROVIDER_NAMES, type ProviderName } from '../../domain/provider.ts';
import { DEFAULT_IMAGE } from '../../domain/provision-request.ts';
import { createProviderClient, documentedRateLimits } from '../../providers-dynamic/provider-clients.ts';
import { createRateLimiter } from '../../providers-dynamic/rate-limiter.ts';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import { createFleetDatabase, type FleetDatabase } from '../support/fleet-database.ts';
import { SSH_KEY } from '../support/ssh-machine.ts';

/** The documented seconds between two purchases, and the lane that spaces them. */
const PURCHASES: Record<ProviderName, { lane: string; seconds: number }> = {
  vastai: { lane: 'create', seconds: 4.5 },
  tensordock: { lane: 'api', seconds: 0.6 },
  runpod: { lane: 'all', seconds: 1.2 },
  lambda: { lane: 'create', seconds: 12 },
};
/** What becomes of the time between two purchases here. */
const SPACING_MS = 120;
/** A timer may fire a little early by the wall clock. */
const EARLY_MS = 5;
const EACH = 3;

let fleet: FleetDatabase;
let sandbox: Sandbox;
let replicas: Database[];
beforeAll(async () => {
  fleet = await createFleetDatabase();
  replicas = ['replica-1', 'replica-2'].map((applicationName) => openDatabase({ url: fleet.url, applicationName }));
  sandbox = await startSandbox({ port: 0, dir: null });
}, 60_000);
afterAll(async () => {
  await sandbox?.close();
  for (const replica of replicas ?? []) await replica.close();
  await fleet?.close();
});

describe.each(PROVIDER_NAMES)('two replicas at %s', (provider) => {
  it('buy no faster than the vendor documents, all their calls together', async () => {
    const { lane, seconds } = PURCHASES[provider];
    const documented = documentedRateLimits(provider);
    expect(documented[lane]).toBe(seconds);
    const shorter = SPACING_MS / (seconds * 1000);
    const limits = Object.fromEntries(Object.entries(documented).map(([name, value]) => [name, value * shorter]));
    const settings = { apiKey: sandbox.apiKey, baseUrl: sandbox.urls[provider] };
    const offers = await findOffers(provider, EACH * replicas.length);
    const clients = replicas.map(({ kysely }) =>
      createProviderClient(provider, settings, createSharedRateLimiter(kysely, { [provider]: limits })),
    );
    const callsBefore = countCalls(provider);

    const startedAt = Date.now();
    await Promise.all(
      offers.map(async (offer, index) => clients[index % clients.length]?.buy(orderFor(offer, index), undefined)),
    );
    const endedAt = Date.now();

    const bought = sandbox
      .state()
      [provider].machines.filter(({ origin }) => origin === 'bought')
      .map(({ createdAtMs }) => createdAtMs - startedAt)
      .sort((a, b) => a - b);
    expect(bought).toHaveLength(offers.length);
    for (const [index, atMs] of bought.entries()) {
      expect(atMs, `purchase ${index + 1}`).toBeGreaterThanOrEqual(index * SPACING_MS - EARLY_MS);
    }
    // Where one lane is for every call, the calls around a purchase take their turns in it too.
    const ofAllCalls = provider === 'vastai' ? 0 : Math.min(...Object.values(limits)) * 1000;
    const calls = countCalls(provider) - callsBefore;
    expect(calls).toBeGreaterThanOrEqual(offers.length);
    expect(endedAt - startedAt).toBeGreaterThanOrEqual((calls - 1) * ofAllCalls - EARLY_MS);
  });
});

async function findOffers(provider: ProviderName, count: number): Promise<Offer[]> {
  const settings = { apiKey: sandbox.apiKey, baseUrl: sandbox.urls[provider] };
  const listed = await createProviderClient(provider, settings, createRateLimiter({})).searchOffers({ diskGib: 100 });
  const single = listed.filter((offer) => offer.gpuCount === 1 && !offer.interruptible);
  expect(single.length).toBeGreaterThanOrEqual(count);
  return single.slice(0, count);
}

function orderFor(offer: Offer, index: number) {
  return {
    providerOfferId: offer.providerOfferId,
    label: `muster-test-att000000000000000${index}-sig`,
    image: DEFAULT_IMAGE,
    diskGib: 100,
    env: {},
    onStart: null,
    interruptible: false,
    bidMicroUsdPerHour: null,
    sshPublicKeys: [SSH_KEY.public],
  };
}

function countCalls(provider: ProviderName): number {
  return Object.values(sandbox.state()[provider].calls).reduce((sum, count) => sum + count, 0);
}
