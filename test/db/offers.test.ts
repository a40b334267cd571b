import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { insertAttempt } from '../../db/attempts.ts';
import { newId } from '../../db/new-id.ts';
import {
  countPurchase,
  listOffersFor,
  listReservedKeys,
  hideOffer,
  replaceOffers,
  reserveOffer,
} from '../../db/offers.ts';
import type { Offer } from '../../domain/offer.ts';
import { createFleetDatabase, makeOffer, PRICE, type FleetDatabase } from '../support/fleet-database.ts';

const WANTED = { gpu: 'rtx_4090', gpuCount: 1, interruptible: false };

let fleet: FleetDatabase;
let stack: { instanceId: string; stackId: string };
beforeAll(async () => {
  fleet = await createFleetDatabase({ poolSize: 16 });
  const { instances } = await fleet.provision();
  stack = { instanceId: instances[0]?.id as string, stackId: instances[0]?.stack_id as string };
});
beforeEach(async () => {
  for (const table of ['offers', 'offer_reservations'] as const) await fleet.db.deleteFrom(table).execute();
});
afterAll(() => fleet?.close());

describe('a new listing of offers', () => {
  it('keeps the ids of offers that stay, takes their new price, adds the new and drops the rest', async () => {
    await list([makeOffer(1), makeOffer(2)], 0);
    const before = await ids();
    await list([makeOffer(2, { priceMicroUsdPerHour: 1n }), makeOffer(3)], 1_000);
    const after = await ids();
    expect([...after.keys()].sort()).toEqual(['offer-2', 'offer-3']);
    expect(after.get('offer-2')).toBe(before.get('offer-2'));
    const [cheapest] = await listOffersFor(fleet.db, WANTED);
    expect(cheapest).toMatchObject({ providerOfferId: 'offer-2', priceMicroUsdPerHour: 1n });
  });

  it('takes an offer that the vendor lists twice once', async () => {
    await list([makeOffer(1), makeOffer(1, { priceMicroUsdPerHour: 7n })], 0);
    expect(await listOffersFor(fleet.db, WANTED)).toHaveLength(1);
  });

  it('touches no other provider', async () => {
    await list([makeOffer(1)], 0);
    await sql`update offers set provider = 'other'`.execute(fleet.db);
    await list([makeOffer(2)], 1_000);
    expect((await ids()).size).toBe(2);
  });

  it('gives back exactly what it was given', async () => {
    const offer = makeOffer(1, { reliability: 0.987, floorMicroUsdPerHour: 12n, maxDurationSeconds: 86_400 });
    await list([offer], 0);
    expect(await listOffersFor(fleet.db, WANTED)).toEqual([offer]);
  });
});

describe('offers for a request', () => {
  it('match the GPU in any spelling, and its count', async () => {
    await list([makeOffer(1), makeOffer(2, { gpuCount: 2 }), makeOffer(3, { gpu: 'RTX 3090' })], 0);
    for (const gpu of ['RTX 4090', 'rtx-4090', 'NVIDIA GeForce RTX 4090']) {
      const found = await listOffersFor(fleet.db, { ...WANTED, gpu });
      expect(
        found.map((offer) => offer.providerOfferId),
        gpu,
      ).toEqual(['offer-1']);
    }
  });

  it('are interruptible only where the vendor names a floor price', async () => {
    await list([makeOffer(1), makeOffer(2, { floorMicroUsdPerHour: 100n })], 0);
    const found = await listOffersFor(fleet.db, { ...WANTED, interruptible: true });
    expect(found).toMatchObject([{ providerOfferId: 'offer-2', interruptible: true }]);
  });

  it('hide one that was refused for as long as the same offer is listed', async () => {
    await list([makeOffer(1), makeOffer(2)], 0);
    await hideOffer(fleet.db, 'vastai', 'offer-1');
    await list([makeOffer(1), makeOffer(2)], 1_000);
    expect((await listOffersFor(fleet.db, WANTED)).map((offer) => offer.providerOfferId)).toEqual(['offer-2']);
  });
});

describe('a purchase', () => {
  it('takes one from the stock, and the last of it from view', async () => {
    await list([makeOffer(1, { stock: 2 }), makeOffer(2, { stock: null })], 0);
    const shown = async () => (await listOffersFor(fleet.db, WANTED)).map((offer) => offer.stock);
    await countPurchase(fleet.db, 'vastai', 'offer-1');
    await countPurchase(fleet.db, 'vastai', 'offer-2');
    expect(new Set(await shown())).toEqual(new Set([1, null]));
    await countPurchase(fleet.db, 'vastai', 'offer-1');
    expect(await shown()).toEqual([null]);
  });
});

describe('a reservation', () => {
  it('is for one of many attempts that want the same machine at once', async () => {
    await list([makeOffer(1), makeOffer(2), makeOffer(3, { machineId: 'machine-1', gpuCount: 2 })], 0);
    const outcomes = await Promise.all(Array.from({ length: 16 }, () => reserve(makeOffer(1))));
    expect(outcomes.filter(Boolean)).toHaveLength(1);
    expect(await listReservedKeys(fleet.db)).toEqual(new Set(['vastai/offer-1', 'vastai/offer-3']));
  });

  it('of a host with four free GPUs is for two machines of two, or for four of one', async () => {
    const pair = makeOffer(1, { machineId: 'host', gpuCount: 2, stock: 2 });
    const single = makeOffer(2, { machineId: 'host', gpuCount: 1, stock: 4 });
    await list([pair, single], 0);
    expect([await reserve(pair), await reserve(single), await reserve(pair)]).toEqual([true, true, false]);
    expect(await listReservedKeys(fleet.db)).toEqual(new Set(['vastai/offer-1']));
    expect([await reserve(single), await reserve(single)]).toEqual([true, false]);
    expect(await listReservedKeys(fleet.db)).toEqual(new Set(['vastai/offer-1', 'vastai/offer-2']));
  });

  it('is never refused where the vendor says no stock', async () => {
    const offer = makeOffer(1, { machineId: null, stock: null });
    await list([offer], 0);
    const outcomes = await Promise.all(Array.from({ length: 8 }, () => reserve(offer)));
    expect(outcomes.every(Boolean)).toBe(true);
    expect(await listReservedKeys(fleet.db)).toEqual(new Set());
  });

  it('covers the machine under every offer of it', async () => {
    const offers = Array.from({ length: 12 }, (_, index) => makeOffer(index + 1, { machineId: 'same' }));
    const outcomes = await Promise.all(offers.map((offer) => reserve(offer)));
    expect(outcomes.filter(Boolean)).toHaveLength(1);
  });

  it('of different machines at once all succeed', async () => {
    const outcomes = await Promise.all(Array.from({ length: 12 }, (_, index) => reserve(makeOffer(index + 1))));
    expect(outcomes.every(Boolean)).toBe(true);
  });

  it('covers the offer where the vendor tells no machine', async () => {
    const offer = makeOffer(1, { machineId: null });
    expect(await reserve(offer)).toBe(true);
    expect(await reserve(offer)).toBe(false);
  });

  it('that expired is taken over; one that did not is not', async () => {
    expect(await reserve(makeOffer(1))).toBe(true);
    await fleet.passTime(29 * 60_000);
    expect(await reserve(makeOffer(1))).toBe(false);
    await fleet.passTime(2 * 60_000);
    expect(await listReservedKeys(fleet.db)).toEqual(new Set());
    expect(await reserve(makeOffer(1))).toBe(true);
    expect(await reserve(makeOffer(1))).toBe(false);
  });

  it('of a transaction that is rolled back holds nothing', async () => {
    const undone = fleet.db.transaction().execute(async (tx) => {
      const attemptId = newId('attempt');
      expect(await reserveOffer(tx, makeOffer(1), attemptId)).toBe(true);
      throw new Error('undone');
    });
    await expect(undone).rejects.toThrow('undone');
    expect(await reserve(makeOffer(1))).toBe(true);
  });
});

function list(offers: Offer[], afterMs: number): Promise<void> {
  return replaceOffers(fleet.db, 'vastai', offers, new Date(1_700_000_000_000 + afterMs));
}

async function ids(): Promise<Map<string, string>> {
  const rows = await fleet.db.selectFrom('offers').select(['id', 'provider_offer_id']).execute();
  return new Map(rows.map((row) => [row.provider_offer_id, row.id]));
}

function reserve(offer: Offer): Promise<boolean> {
  return fleet.db.transaction().execute(async (tx) => {
    const id = newId('attempt');
    if (!(await reserveOffer(tx, offer, id))) return false;
    await insertAttempt(tx, {
      id,
      orgId: fleet.orgId,
      ...stack,
      label: `label-${id}`,
      offer,
      priceMicroUsdPerHour: PRICE,
    });
    return true;
  });
}
