import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { INSTANCE_STATUSES } from '../../domain/instance.ts';
import {
  countNeeded,
  countPool,
  decidePool,
  isClaimable,
  type PoolView,
  type WarmInstance,
} from '../../domain/pool.ts';

const NOW = 10_000_000;
const ROOM = { instances: 100, burnMicroUsdPerHour: 1_000_000_000n };

function warm(id: number, change: Partial<WarmInstance> = {}): WarmInstance {
  return {
    id: `ins_${id}`,
    status: 'ready',
    isClaimed: false,
    createdAt: NOW - 1_000_000 + id,
    readyAt: NOW - 900_000 + id,
    endedAt: null,
    failure: null,
    priceMicroUsdPerHour: 300_000n,
    ...change,
  };
}

const failed = (id: number, endedAt: number): WarmInstance =>
  warm(id, { status: 'destroyed', readyAt: null, endedAt, failure: 'no offer fits' });

function pool(instances: WarmInstance[], change: Partial<PoolView> = {}): PoolView {
  return {
    targetSize: 3,
    maxSize: 5,
    maxPriceMicroUsdPerHour: 600_000n,
    idleShrinkAfterMs: 600_000,
    idleSize: 1,
    demandedAt: NOW,
    aboveTargetSince: null,
    changedAt: 0,
    instances,
    ...change,
  };
}

describe('a pool', () => {
  it('is filled to its target; what is on its way counts toward it', () => {
    const booting = warm(2, { status: 'booting', readyAt: null });
    expect(decidePool(pool([warm(1), booting]), ROOM, NOW)).toMatchObject({ fill: 1, shrink: [], trouble: null });
  });

  it('refills what was claimed, at once', () => {
    const all = [warm(1, { isClaimed: true }), warm(2), warm(3)];
    expect(decidePool(pool(all), ROOM, NOW)).toMatchObject({ fill: 1 });
  });

  it('counts what is being destroyed against its maximum, not toward its target', () => {
    const dying = [1, 2, 3, 4].map((id) => warm(id, { status: 'destroying', endedAt: NOW }));
    const decision = decidePool(pool(dying), ROOM, NOW);
    expect(decision.fill).toBe(1);
    expect(decision.trouble).toContain('at most 5');
  });

  it('says that the caps keep it from its target', () => {
    expect(decidePool(pool([]), { ...ROOM, burnMicroUsdPerHour: 700_000n }, NOW)).toMatchObject({
      fill: 1,
      trouble: expect.stringContaining('MUSTER_MAX_BURN_USD_PER_HOUR') as string,
    });
  });

  it('backs off after failures with the reason, doubling, and then tries one', () => {
    const one = pool([failed(1, NOW - 10_000)]);
    expect(decidePool(one, ROOM, NOW)).toMatchObject({
      fill: 0,
      retryAt: NOW + 20_000,
      trouble: '1 refill in a row failed: no offer fits',
    });
    expect(decidePool(one, ROOM, NOW + 20_000)).toMatchObject({ fill: 1, retryAt: null });
    const three = pool([failed(3, NOW), failed(2, NOW - 1), failed(1, NOW - 2)]);
    expect(decidePool(three, ROOM, NOW).retryAt).toBe(NOW + 120_000);
  });

  it('forgets failures from before it was changed', () => {
    expect(decidePool(pool([failed(1, NOW)], { changedAt: NOW - 10 }), ROOM, NOW)).toMatchObject({ fill: 3 });
  });

  it('gives the dearest back first, then the oldest, once it has been too large for long enough', () => {
    const all = [warm(4), warm(3, { priceMicroUsdPerHour: 500_000n }), warm(2), warm(1)];
    const view = pool(all, { targetSize: 1 });
    const first = decidePool(view, ROOM, NOW);
    expect(first).toMatchObject({ shrink: [], aboveTargetSince: NOW });
    const since = { ...view, aboveTargetSince: NOW };
    expect(decidePool(since, ROOM, NOW + 599_999).shrink).toEqual([]);
    expect(decidePool(since, ROOM, NOW + 600_000).shrink).toEqual(['ins_3', 'ins_1', 'ins_2']);
  });

  it('keeps the ready ones while what is on its way makes it too large', () => {
    const view = pool([warm(1), warm(2, { status: 'booting', readyAt: null })], {
      targetSize: 1,
      aboveTargetSince: NOW - 10_000_000,
    });
    expect(decidePool(view, ROOM, NOW)).toMatchObject({ fill: 0, shrink: [] });
  });
});

describe('a pool that nobody asks for', () => {
  const all = [warm(3, { priceMicroUsdPerHour: 500_000n }), warm(2), warm(1)];
  const idle = (change: Partial<PoolView> = {}) => pool(all, { demandedAt: NOW - 600_000, changedAt: 0, ...change });

  it('keeps only its idle size, once as long as that has passed, the dearest given back first', () => {
    expect(decidePool(idle(), ROOM, NOW - 1)).toMatchObject({ fill: 0, shrink: [], aboveTargetSince: null });
    expect(decidePool(idle(), ROOM, NOW).shrink).toEqual(['ins_3', 'ins_1']);
    expect(decidePool(idle({ idleSize: 0 }), ROOM, NOW).shrink).toHaveLength(3);
    expect(decidePool(idle({ idleSize: 9 }), ROOM, NOW).shrink).toEqual([]);
    expect(decidePool(idle({ demandedAt: null }), ROOM, NOW).shrink).toHaveLength(2);
  });

  it('is not refilled above that, and back at its target with the next request', () => {
    const one = pool([warm(1)], { demandedAt: NOW - 600_000 });
    expect(decidePool(one, ROOM, NOW)).toMatchObject({ fill: 0, shrink: [], trouble: null });
    expect(decidePool({ ...one, demandedAt: NOW }, ROOM, NOW)).toMatchObject({ fill: 2 });
  });

  it('counts a change of what is wanted like a request', () => {
    expect(decidePool(idle({ changedAt: NOW - 1_000 }), ROOM, NOW)).toMatchObject({ fill: 0, shrink: [] });
  });
});

describe('whatever a pool looks like', () => {
  const anyWarm = fc.record({
    status: fc.constantFrom(...INSTANCE_STATUSES),
    isClaimed: fc.boolean(),
    age: fc.integer({ min: 0, max: 2_000_000 }),
    wasReady: fc.boolean(),
    price: fc.option(fc.bigInt({ min: 1n, max: 2_000_000n }), { nil: null }),
  });
  const anyPool = fc
    .record({
      all: fc.array(anyWarm, { maxLength: 15 }),
      targetSize: fc.integer({ min: 0, max: 10 }),
      extra: fc.integer({ min: 0, max: 5 }),
      above: fc.option(fc.integer({ min: 0, max: 2_000_000 }), { nil: null }),
      idleSize: fc.integer({ min: 0, max: 10 }),
      demanded: fc.option(fc.integer({ min: 0, max: 2_000_000 }), { nil: null }),
      room: fc.record({
        instances: fc.integer({ min: -3, max: 10 }),
        burnMicroUsdPerHour: fc.bigInt({ min: -1_000_000n, max: 8_000_000n }),
      }),
    })
    .map(({ all, targetSize, extra, above, idleSize, demanded, room }) => ({
      room,
      view: pool(
        all
          .map((one, index) =>
            warm(index, {
              status: one.status,
              isClaimed: one.isClaimed,
              createdAt: NOW - one.age,
              readyAt: one.status === 'ready' || one.wasReady ? NOW - one.age : null,
              endedAt: one.status === 'destroyed' || one.status === 'destroying' ? NOW : null,
              priceMicroUsdPerHour: one.price,
            }),
          )
          .sort((a, b) => b.createdAt - a.createdAt),
        {
          targetSize,
          maxSize: targetSize + extra,
          aboveTargetSince: above === null ? null : NOW - above,
          idleSize,
          demandedAt: demanded === null ? null : NOW - demanded,
        },
      ),
    }));

  it('it never exists more often than its maximum, nor beyond the caps or the target', () => {
    fc.assert(
      fc.property(anyPool, ({ view, room }) => {
        const { fill } = decidePool(view, room, NOW);
        const { existing, ready, filling } = countPool(view.instances);
        if (fill === 0) return;
        expect(existing + fill).toBeLessThanOrEqual(view.maxSize);
        expect(ready + filling + fill).toBeLessThanOrEqual(view.targetSize);
        expect(fill).toBeLessThanOrEqual(room.instances);
        expect(BigInt(fill) * view.maxPriceMicroUsdPerHour <= room.burnMicroUsdPerHour).toBe(true);
      }),
    );
  });

  it('only idle, ready and unclaimed ones are given back, and never below what is needed', () => {
    fc.assert(
      fc.property(anyPool, ({ view, room }) => {
        const { shrink, fill } = decidePool(view, room, NOW);
        const byId = new Map(view.instances.map((one) => [one.id, one]));
        for (const id of shrink) {
          const one = byId.get(id) as WarmInstance;
          expect(isClaimable(one)).toBe(true);
          expect(NOW - (one.readyAt ?? NOW)).toBeGreaterThanOrEqual(view.idleShrinkAfterMs);
        }
        if (shrink.length === 0) return;
        expect(fill).toBe(0);
        expect(countPool(view.instances).ready - shrink.length).toBeGreaterThanOrEqual(countNeeded(view, NOW));
      }),
    );
  });

  it('one that is too small either buys, or says why not', () => {
    fc.assert(
      fc.property(anyPool, ({ view, room }) => {
        const { ready, filling } = countPool(view.instances);
        const decision = decidePool(view, room, NOW);
        if (ready + filling < countNeeded(view, NOW) && decision.fill === 0) expect(decision.trouble).not.toBeNull();
      }),
    );
  });
});
