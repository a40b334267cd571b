import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { findProvider, recordBelievable, recordQuarantine, registerProvider } from '../../db/providers.ts';
import { createFleetDatabase, type FleetDatabase } from '../support/fleet-database.ts';

let fleet: FleetDatabase;
beforeAll(async () => {
  fleet = await createFleetDatabase();
});
beforeEach(async () => {
  await fleet.db.deleteFrom('providers').execute();
  await registerProvider(fleet.db, 'vastai', 'sandbox');
});
afterAll(() => fleet?.close());

describe('belief in a provider', () => {
  it('is kept per kind of listing: quarantine ends only when both are believed again', async () => {
    await believe('offers');
    expect(await read()).toMatchObject({ status: 'ok', reason: null });
    await recordQuarantine(fleet.db, 'vastai', 'instances', 'quarantined', 'the list is empty');
    expect(await read()).toMatchObject({ status: 'quarantined', reason: 'the list is empty', believable_listings: 0 });
    await believe('offers');
    expect(await read()).toMatchObject({
      status: 'quarantined',
      reason: 'the list is empty',
      instances_problem: 'the list is empty',
      offers_problem: null,
    });
    await believe('instances');
    expect(await read()).toMatchObject({ status: 'ok', reason: null, quarantined_at: null, instances_problem: null });
  });

  it('lost for both kinds shows the reason that is left', async () => {
    await recordQuarantine(fleet.db, 'vastai', 'offers', 'quarantined', 'no offers');
    await recordQuarantine(fleet.db, 'vastai', 'instances', 'auth_failed', 'bad key');
    expect(await read()).toMatchObject({ status: 'auth_failed', reason: 'bad key' });
    await believe('instances');
    expect(await read()).toMatchObject({ reason: 'no offers' });
    await believe('offers');
    expect(await read()).toMatchObject({ status: 'ok', reason: null });
  });

  it('remembers since when it is lost, and the last error after it is back', async () => {
    await recordQuarantine(fleet.db, 'vastai', 'offers', 'quarantined', 'first');
    const since = (await read())?.quarantined_at;
    await fleet.passTime(5_000);
    await recordQuarantine(fleet.db, 'vastai', 'offers', 'quarantined', 'second');
    expect((await read())?.quarantined_at).toEqual(new Date((since?.getTime() ?? 0) - 5_000));
    await believe('offers');
    expect(await read()).toMatchObject({ quarantined_at: null, last_error: 'second' });
  });

  it('counts apart what is listed of each kind, and leaves the count of foreign machines where none is told', async () => {
    await recordBelievable(fleet.db, 'vastai', { listing: 'instances', count: 5, foreignCount: 3 });
    await recordBelievable(fleet.db, 'vastai', { listing: 'instances', count: 4 });
    await recordBelievable(fleet.db, 'vastai', { listing: 'offers', count: 200 });
    expect(await read()).toMatchObject({ instances_count: 4, foreign_count: 3, offers_count: 200 });
  });

  it('survives a restart, and is asked for anew when the provider comes back from being off', async () => {
    await recordQuarantine(fleet.db, 'vastai', 'offers', 'quarantined', 'no offers');
    await registerProvider(fleet.db, 'vastai', 'sandbox');
    expect(await read()).toMatchObject({ status: 'quarantined' });
    await registerProvider(fleet.db, 'vastai', 'off');
    expect(await read()).toMatchObject({ status: 'off' });
    await registerProvider(fleet.db, 'vastai', 'sandbox');
    expect(await read()).toMatchObject({ status: 'unknown' });
  });
});

function believe(listing: 'offers' | 'instances'): Promise<void> {
  return recordBelievable(fleet.db, 'vastai', { listing, count: 10 });
}

function read() {
  return findProvider(fleet.db, 'vastai');
}
