import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newId } from '../../db/new-id.ts';
import { createQueue } from '../../db/queue.ts';
import { createFleetDatabase, type FleetDatabase } from '../support/fleet-database.ts';

let fleet: FleetDatabase;
beforeAll(async () => {
  fleet = await createFleetDatabase();
});
afterAll(() => fleet?.close());

describe('a dispatch', () => {
  it('of a transaction that is rolled back never was', async () => {
    const id = newId('operation');
    const undone = fleet.db.transaction().execute(async (tx) => {
      await fleet.queue.dispatch(tx, id);
      throw new Error('undone');
    });
    await expect(undone).rejects.toThrow('undone');
    expect(await fleet.queue.take(fleet.db, 10)).toEqual([]);
  });

  it('is not seen before its transaction commits', async () => {
    const id = newId('operation');
    await fleet.db.transaction().execute(async (tx) => {
      await fleet.queue.dispatch(tx, id);
      expect(await fleet.queue.take(fleet.db, 10)).toEqual([]);
    });
    expect(await fleet.queue.take(fleet.db, 10)).toEqual([id]);
  });

  it('is taken once by two takers that take at once', async () => {
    const other = createQueue(fleet.db);
    await other.start();
    const ids = Array.from({ length: 40 }, () => newId('operation'));
    for (const id of ids) await fleet.queue.dispatch(fleet.db, id);
    const taken: string[] = [];
    for (let round = 0; round < 40 && taken.length < ids.length; round++) {
      const parts = await Promise.all([fleet.queue.take(fleet.db, 3), other.take(fleet.db, 3)]);
      taken.push(...parts.flat());
    }
    await other.stop();
    expect(taken.sort()).toEqual([...ids].sort());
    expect(await fleet.queue.take(fleet.db, 10)).toEqual([]);
  });

  it('for later comes when it is due', async () => {
    const id = newId('operation');
    await fleet.queue.dispatch(fleet.db, id, { afterMs: 30_000 });
    expect(await fleet.queue.take(fleet.db, 10)).toEqual([]);
    await fleet.passTime(30_001);
    expect(await fleet.queue.take(fleet.db, 10)).toEqual([id]);
  });

  it('rings for the workers when its transaction commits, and not when it is for later', async () => {
    const listener = await fleet.database.connectListener();
    const rung: string[] = [];
    listener.on('notification', ({ channel }) => rung.push(channel));
    await listener.query('listen operation_dispatch');
    await fleet.queue.dispatch(fleet.db, newId('operation'), { afterMs: 60_000 });
    await listener.query('select 1');
    expect(rung).toEqual([]);
    await fleet.db.transaction().execute((tx) => fleet.queue.dispatch(tx, newId('operation')));
    await listener.query('select 1');
    expect(rung).toEqual(['operation_dispatch']);
    await listener.end();
    await fleet.queue.take(fleet.db, 10);
  });
});
