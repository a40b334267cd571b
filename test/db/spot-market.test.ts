import { afterAll, beforeAll, expect, it } from 'vitest';
import { insertAttempt } from '../../db/attempts.ts';
import { newId } from '../../db/new-id.ts';
import { recordFloors } from '../../db/prices.ts';
import { listSpotMarket } from '../../db/spot-market.ts';
import { createFleetDatabase, makeOffer, PRICE, type FleetDatabase } from '../support/fleet-database.ts';

const HOUR_MS = 3_600_000;

let fleet: FleetDatabase;
beforeAll(async () => {
  fleet = await createFleetDatabase();
});
afterAll(() => fleet?.close());

async function attempt(interruptible: boolean, change: { interruptions: number; ranMs: number }): Promise<void> {
  const { instances } = await fleet.provision({ interruptible });
  const [instance] = instances;
  const offer = makeOffer(1, { interruptible });
  const id = newId('attempt');
  await fleet.db.transaction().execute((tx) =>
    insertAttempt(tx, {
      id,
      orgId: fleet.orgId,
      instanceId: instance?.id as string,
      stackId: instance?.stack_id as string,
      label: `label-${id}`,
      offer,
      priceMicroUsdPerHour: PRICE,
    }),
  );
  const end = Date.now();
  await fleet.db
    .updateTable('attempts')
    .set({
      status: 'gone',
      purchased_at: new Date(end - change.ranMs - 60_000),
      running_at: new Date(end - change.ranMs),
      gone_at: new Date(end),
      interruptions: change.interruptions,
    })
    .where('id', '=', id)
    .execute();
}

it('a class shows its floors, its hours, and how often machines of it were taken away from us', async () => {
  const now = Date.now();
  const offers = [
    makeOffer(1, { priceMicroUsdPerHour: 400_000n, floorMicroUsdPerHour: 200_000n, diskMicroUsdPerGibHour: 0n }),
    makeOffer(2, { priceMicroUsdPerHour: 300_000n, floorMicroUsdPerHour: 100_000n, diskMicroUsdPerGibHour: 0n }),
    makeOffer(3, { gpu: 'H100 SXM' }),
  ];
  await recordFloors(fleet.db, 'vastai', offers, new Date(now - HOUR_MS));
  await recordFloors(fleet.db, 'vastai', offers, new Date(now));
  await attempt(true, { interruptions: 3, ranMs: 2 * HOUR_MS });
  await attempt(true, { interruptions: 0, ranMs: 6 * HOUR_MS });
  await attempt(false, { interruptions: 0, ranMs: 9 * HOUR_MS });
  const market = await listSpotMarket(fleet.db, { limit: 10 });
  expect(market).toMatchObject([
    {
      provider: 'vastai',
      gpu: 'RTX 4090',
      floor: 100_000n,
      median: 100_000n,
      onDemandFloor: 300_000n,
      offers: 2,
      hourlyFloors: ['100000', '100000'],
      attempts: 2,
      interruptions: 3,
    },
  ]);
  expect(market[0]?.machineHours).toBeCloseTo(8, 3);
  expect(await listSpotMarket(fleet.db, { limit: 10, gpu: 'h100_sxm' })).toEqual([]);
  expect(await listSpotMarket(fleet.db, { limit: 10, after: { gpuKey: 'rtx 4090', provider: 'vastai' } })).toEqual([]);
});
