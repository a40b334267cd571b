import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inTransaction } from '../../db/database.ts';
import { newId } from '../../db/new-id.ts';
import { listEventsAfter } from '../../db/operation-log.ts';
import {
  acceptOperation,
  appendEvents,
  claimOperation,
  expireLeases,
  finishOperation,
  findOperation,
  listAbandoned,
  listLeaseOwners,
  recordWait,
  releaseClaim,
  renewLeases,
  requestCancel,
  saveProgress,
  StaleClaim,
  wakeOperation,
  withClaim,
  type Claim,
  type NewOperation,
  type OperationRow,
} from '../../db/operations.ts';
import { createFleetDatabase, type FleetDatabase } from '../support/fleet-database.ts';

let fleet: FleetDatabase;
beforeAll(async () => {
  fleet = await createFleetDatabase({ poolSize: 16 });
});
afterAll(() => fleet?.close());

describe('claiming an operation', () => {
  it('gives it to one of many who claim at once', async () => {
    const { id } = await accept();
    const results = await Promise.all(
      Array.from({ length: 12 }, (_, i) => claimOperation(fleet.db, id, `worker-${i}`)),
    );
    expect(results.map((result) => result.kind).sort()).toEqual([
      'claimed',
      ...Array.from({ length: 11 }, () => 'held'),
    ]);
  });

  it('numbers each claim, and starts the operation once', async () => {
    const { id } = await accept();
    const first = await claim(id, 'a');
    await expireLeases(fleet.db, 'a');
    const second = await claim(id, 'b');
    expect([first.claim, second.claim]).toEqual([1, 2]);
    const events = await listEventsAfter(fleet.db, id, 0);
    expect(events.map((event) => event.data)).toEqual([{ status: 'queued' }, { status: 'running' }]);
  });

  it('waits for the end of the lease, and no longer', async () => {
    const { id } = await accept();
    await claim(id, 'slow');
    await age(id, 'lease_expires_at', 9_000);
    expect(await claimOperation(fleet.db, id, 'other')).toEqual({ kind: 'held' });
    await age(id, 'lease_expires_at', 1_001);
    expect(await claimOperation(fleet.db, id, 'other')).toMatchObject({ kind: 'claimed', claim: { claim: 2 } });
  });

  it('finds nothing to claim in what is finished or was never there', async () => {
    const { id } = await accept();
    const held = await claim(id);
    await withClaim(fleet.db, held, (tx) => finishOperation(tx, fleet.queue, id, 'succeeded', {}));
    expect(await claimOperation(fleet.db, id, 'w')).toEqual({ kind: 'finished' });
    expect(await claimOperation(fleet.db, newId('operation'), 'w')).toEqual({ kind: 'finished' });
  });
});

describe('a lease', () => {
  it('is renewed for all operations of its owner and for nobody else', async () => {
    const [mine, alsoMine, theirs] = [await accept(), await accept(), await accept()];
    await claim(mine.id, 'renewer');
    await claim(alsoMine.id, 'renewer');
    await claim(theirs.id, 'somebody');
    for (const { id } of [mine, alsoMine, theirs]) await age(id, 'lease_expires_at', 8_000);
    expect((await renewLeases(fleet.db, 'renewer')).sort()).toEqual([mine.id, alsoMine.id].sort());
    await age(mine.id, 'lease_expires_at', 3_000);
    await age(theirs.id, 'lease_expires_at', 3_000);
    expect(await claimOperation(fleet.db, mine.id, 'x')).toEqual({ kind: 'held' });
    expect(await claimOperation(fleet.db, theirs.id, 'x')).toMatchObject({ kind: 'claimed' });
  });

  it('that is over is not renewed: its owner learns that it lost', async () => {
    const { id } = await accept();
    await claim(id, 'late');
    await age(id, 'lease_expires_at', 11_000);
    expect(await renewLeases(fleet.db, 'late')).toEqual([]);
  });

  it('of a dead owner can be ended at once', async () => {
    const { id } = await accept();
    await claim(id, 'dead');
    expect(await listLeaseOwners(fleet.db)).toContain('dead');
    expect(await expireLeases(fleet.db, 'dead')).toEqual([id]);
    expect(await listLeaseOwners(fleet.db)).not.toContain('dead');
    expect(await claimOperation(fleet.db, id, 'heir')).toMatchObject({ kind: 'claimed' });
  });
});

describe('a write of a worker whose claim is over', () => {
  it('throws and changes nothing', async () => {
    const { id } = await accept();
    const old = await claim(id, 'old');
    await expireLeases(fleet.db, 'old');
    await claim(id, 'new');
    const before = await read(id);
    const writes: Record<string, () => Promise<unknown>> = {
      finish: () => withClaim(fleet.db, old, (tx) => finishOperation(tx, fleet.queue, id, 'succeeded', { note: 'x' })),
      wait: () => withClaim(fleet.db, old, (tx) => recordWait(tx, fleet.queue, old, new Date(), { note: 'x' })),
      progress: () => withClaim(fleet.db, old, (tx) => saveProgress(tx, old, { state: { x: 1 }, note: 'x' })),
      release: () => releaseClaim(fleet.db, fleet.queue, old),
    };
    for (const [what, write] of Object.entries(writes)) await expect(write(), what).rejects.toThrow(StaleClaim);
    expect(await read(id)).toEqual(before);
  });

  it('throws for the number before, also where the same worker has claimed again', async () => {
    const { id } = await accept();
    const before = await claim(id, 'same');
    await wait(before, 0);
    await claim(id, 'same');
    await expect(withClaim(fleet.db, before, async () => {})).rejects.toThrow(StaleClaim);
  });

  it('throws too when the number is right and the owner is not, and after the operation ended', async () => {
    const { id } = await accept();
    const held = await claim(id, 'owner');
    await expect(withClaim(fleet.db, { ...held, owner: 'impostor' }, async () => {})).rejects.toThrow(StaleClaim);
    await withClaim(fleet.db, held, (tx) => finishOperation(tx, fleet.queue, id, 'failed', {}));
    await expect(withClaim(fleet.db, held, async () => {})).rejects.toThrow(StaleClaim);
  });

  it('undoes what it did before it failed', async () => {
    const { id } = await accept();
    const held = await claim(id);
    const failing = withClaim(fleet.db, held, async (tx) => {
      await saveProgress(tx, held, { note: 'half done' });
      throw new Error('in the middle');
    });
    await expect(failing).rejects.toThrow('in the middle');
    expect((await read(id)).note).toBeNull();
  });
});

describe('operations on one stack', () => {
  it('run one at a time, however many claim at once', async () => {
    const stackId = await makeStack();
    const operations = await Promise.all(Array.from({ length: 8 }, () => accept({ stackId })));
    const left = new Set(operations.map((operation) => operation.id));
    let rounds = 0;
    while (left.size > 0) {
      rounds++;
      const results = await Promise.all(
        [...left].flatMap((id) => ['a', 'b'].map((owner) => claimOperation(fleet.db, id, `${owner}-${id}`))),
      );
      const claimed = results.filter((result) => result.kind === 'claimed');
      expect(claimed).toHaveLength(1);
      expect(results.filter((result) => result.kind === 'stack_busy').length).toBeGreaterThanOrEqual(
        2 * (left.size - 1),
      );
      const { claim: held } = claimed[0] as { claim: Claim };
      await withClaim(fleet.db, held, (tx) => finishOperation(tx, fleet.queue, held.operationId, 'succeeded', {}));
      left.delete(held.operationId);
    }
    expect(rounds).toBe(8);
  });

  it('do not keep those of other stacks, or of none, waiting', async () => {
    const busy = await accept({ stackId: await makeStack() });
    await claim(busy.id);
    for (const other of [await accept({ stackId: await makeStack() }), await accept()]) {
      expect(await claimOperation(fleet.db, other.id, 'w')).toMatchObject({ kind: 'claimed' });
    }
  });

  it('may run while another one waits, because a wait holds no lease', async () => {
    const stackId = await makeStack();
    const waiting = await accept({ stackId });
    const next = await accept({ stackId });
    await wait(await claim(waiting.id), 60_000);
    expect(await read(waiting.id)).toMatchObject({ status: 'running', lease_owner: null, lease_expires_at: null });
    expect(await claimOperation(fleet.db, next.id, 'w')).toMatchObject({ kind: 'claimed' });
  });

  it('are rung for when the one that held the stack ends or waits', async () => {
    const stackId = await makeStack();
    const [first, second] = [await accept({ stackId }), await accept({ stackId })];
    const held = await claim(first.id);
    await takeAll();
    await wait(held, 60_000);
    expect(await takeAll()).toEqual([second.id]);
    const next = await claim(second.id);
    await withClaim(fleet.db, next, (tx) => finishOperation(tx, fleet.queue, second.id, 'succeeded', {}));
    expect(await takeAll()).toEqual([]);
  });
});

describe('a wait', () => {
  it('is not claimed before its end, unless woken', async () => {
    const { id } = await accept();
    await wait(await claim(id), 60_000);
    expect(await claimOperation(fleet.db, id, 'w')).toEqual({ kind: 'not_due' });
    await takeAll();
    await wakeOperation(fleet.db, fleet.queue, id);
    expect(await takeAll()).toEqual([id]);
    expect(await claimOperation(fleet.db, id, 'w')).toMatchObject({ kind: 'claimed' });
  });

  it('ends at once when the wake came while the step still ran', async () => {
    const { id } = await accept();
    const held = await claim(id);
    await takeAll();
    await wakeOperation(fleet.db, fleet.queue, id);
    expect(await claimOperation(fleet.db, id, 'other'), 'a wake takes no lease away').toEqual({ kind: 'held' });
    await takeAll();
    await wait(held, 60_000);
    expect(await takeAll()).toEqual([id]);
    expect(await claimOperation(fleet.db, id, 'w')).toMatchObject({ kind: 'claimed' });
  });

  it('is not ended by a wake from before the step', async () => {
    const { id } = await accept();
    await wakeOperation(fleet.db, fleet.queue, id);
    await wait(await claim(id), 60_000);
    expect(await claimOperation(fleet.db, id, 'w')).toEqual({ kind: 'not_due' });
  });

  it('is rung for when it is due, not before', async () => {
    const { id } = await accept();
    const held = await claim(id);
    await takeAll();
    await wait(held, 60_000);
    expect(await takeAll()).toEqual([]);
    await fleet.passTime(60_001);
    expect(await takeAll()).toContain(id);
  });
});

describe('a cancel', () => {
  it('of a queued operation ends it at once', async () => {
    const { id } = await accept();
    expect(await cancel(id)).toBe('canceled');
    expect(await read(id)).toMatchObject({ status: 'canceled', error_code: 'canceled', cancel_reason: 'because' });
    expect(await claimOperation(fleet.db, id, 'w')).toEqual({ kind: 'finished' });
  });

  it('of a running one tells its worker and leaves the lease', async () => {
    const { id } = await accept();
    const held = await claim(id);
    const told = new Promise<string | undefined>((resolve, reject) => {
      fleet.database.connectListener().then(async (client) => {
        client.on('notification', ({ payload }) => void client.end().then(() => resolve(payload)));
        await client.query('listen operation_cancel');
        expect(await cancel(id)).toBe('requested');
      }, reject);
    });
    expect(await told).toBe(id);
    expect(await read(id)).toMatchObject({ status: 'running', lease_owner: held.owner });
  });

  it('of a waiting one ends the wait, so that a worker cleans up', async () => {
    const { id } = await accept();
    await wait(await claim(id), 60_000);
    await takeAll();
    expect(await cancel(id)).toBe('requested');
    expect(await takeAll()).toEqual([id]);
    const claimed = await claimOperation(fleet.db, id, 'w');
    expect(claimed).toMatchObject({ kind: 'claimed', operation: { cancel_reason: 'because' } });
  });

  it('of a finished one does nothing, and asking twice keeps the first moment', async () => {
    const { id } = await accept();
    await claim(id);
    await cancel(id);
    const first = (await read(id)).cancel_requested_at;
    await cancel(id);
    expect((await read(id)).cancel_requested_at).toEqual(first);
    await fleet.db.transaction().execute((tx) => finishOperation(tx, fleet.queue, id, 'canceled', {}));
    expect(await cancel(id)).toBe('finished');
  });
});

describe('a deterministic key', () => {
  it('has one unfinished operation, however many are accepted at once, and a new one after its end', async () => {
    const deterministicKey = `destroy:${newId('instance')}`;
    const all = await Promise.all(Array.from({ length: 8 }, () => accept({ deterministicKey })));
    expect(new Set(all.map((one) => one.id)).size).toBe(1);
    const [{ id }] = all as [OperationRow];
    expect(
      (await takeAll()).filter((taken) => taken === id),
      'rung for once',
    ).toHaveLength(1);
    await cancel(id);
    expect((await accept({ deterministicKey })).id).not.toBe(id);
  });
});

describe('events', () => {
  it('are numbered without gaps by many writers at once, each batch in its order', async () => {
    const { id } = await accept();
    await Promise.all(
      Array.from({ length: 20 }, (_, writer) =>
        appendEvents(
          fleet.db,
          id,
          [0, 1, 2].map((part) => ({ type: 'note', data: { writer, part } })),
        ),
      ),
    );
    const events = await listEventsAfter(fleet.db, id, 0);
    expect(events.map((event) => event.seq)).toEqual(Array.from({ length: 61 }, (_, index) => index + 1));
    for (let writer = 0; writer < 20; writer++) {
      const own = events.filter((event) => (event.data as { writer?: number }).writer === writer);
      expect(own.map((event) => (event.data as { part: number }).part)).toEqual([0, 1, 2]);
      expect((own[2]?.seq ?? 0) - (own[0]?.seq ?? 0)).toBe(2);
    }
  });

  it('of a rolled-back transaction leave no gap', async () => {
    const { id } = await accept();
    const undone = inTransaction(fleet.db, async (tx) => {
      await appendEvents(tx, id, [{ type: 'note', data: {} }]);
      throw new Error('undone');
    });
    await expect(undone).rejects.toThrow('undone');
    await appendEvents(fleet.db, id, [{ type: 'note', data: { kept: true } }]);
    expect((await listEventsAfter(fleet.db, id, 0)).map((event) => event.seq)).toEqual([1, 2]);
  });

  it('after a number are what a reader that saw up to it misses', async () => {
    const { id } = await accept();
    await appendEvents(
      fleet.db,
      id,
      [1, 2, 3].map((n) => ({ type: 'note', data: { n } })),
    );
    expect((await listEventsAfter(fleet.db, id, 2)).map((event) => event.data)).toEqual([{ n: 2 }, { n: 3 }]);
    expect(await listEventsAfter(fleet.db, id, 0, 1)).toHaveLength(1);
  });
});

describe('the sweep', () => {
  it('finds what nobody holds and is overdue, and nothing else', async () => {
    const [lost, expired, overdue] = [await accept(), await accept(), await accept()];
    const [waiting, held, finished] = [await accept(), await accept(), await accept()];
    await claim(expired.id);
    await age(expired.id, 'lease_expires_at', 11_000);
    await wait(await claim(overdue.id), 0);
    await wait(await claim(waiting.id), 60_000);
    await cancel(finished.id);
    for (const { id } of [lost, expired, overdue, waiting, held]) await age(id, 'created_at', 5_000);
    await age(overdue.id, 'wait_until', 5_000);
    await claim(held.id);
    const young = await accept();
    const found = await listAbandoned(fleet.db, 1_000);
    for (const one of [lost, expired, overdue]) expect(found).toContain(one.id);
    for (const one of [waiting, held, finished, young]) expect(found).not.toContain(one.id);
  });
});

describe('an operation of another org', () => {
  it('is not found', async () => {
    const { id } = await accept();
    expect(await findOperation(fleet.db, await fleet.makeOrg(), id)).toBeUndefined();
    expect(await findOperation(fleet.db, fleet.orgId, id)).toMatchObject({ id });
    expect(await findOperation(fleet.db, null, id)).toMatchObject({ id });
  });
});

function accept(change: Partial<NewOperation> = {}): Promise<OperationRow> {
  return fleet.db.transaction().execute((tx) =>
    acceptOperation(tx, fleet.queue, {
      orgId: fleet.orgId,
      kind: 'provision_instance',
      targetKind: 'stack',
      targetId: 'none',
      stackId: null,
      createdBy: 'test',
      ...change,
    }),
  );
}

async function makeStack(): Promise<string> {
  const id = newId('stack');
  await fleet.db.insertInto('stacks').values({ id, org_id: fleet.orgId, kind: 'instance', name: id }).execute();
  return id;
}

async function claim(id: string, owner = 'worker'): Promise<Claim> {
  const result = await claimOperation(fleet.db, id, owner);
  if (result.kind !== 'claimed') throw new Error(`${id} is ${result.kind}`);
  return result.claim;
}

function wait(held: Claim, ms: number): Promise<void> {
  const until = new Date(Date.now() + ms);
  return withClaim(fleet.db, held, (tx) => recordWait(tx, fleet.queue, held, until, {}));
}

function cancel(id: string): Promise<string> {
  return fleet.db.transaction().execute((tx) => requestCancel(tx, fleet.queue, id, 'because'));
}

function read(id: string): Promise<OperationRow> {
  return fleet.db.selectFrom('operations').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
}

/** Everything that is due on the queue. */
async function takeAll(): Promise<string[]> {
  const taken: string[] = [];
  for (let batch = await fleet.queue.take(fleet.db, 50); batch.length > 0; batch = await fleet.queue.take(fleet.db, 50))
    taken.push(...batch);
  return taken;
}

async function age(id: string, column: 'lease_expires_at' | 'created_at' | 'wait_until', ms: number): Promise<void> {
  await sql`update operations set ${sql.ref(column)} = ${sql.ref(column)} - ${ms} * interval '1 millisecond' where id = ${id}`.execute(
    fleet.db,
  );
}
