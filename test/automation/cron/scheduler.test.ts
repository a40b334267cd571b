import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createScheduler, type Cron, type Scheduler } from '../../../automation/cron/scheduler.ts';
import { claimTick } from '../../../db/processes.ts';
import { createFleetDatabase, until, type FleetDatabase } from '../../support/fleet-database.ts';

const EVERY_MS = 40;
const log = pino({ level: 'silent' });

let fleet: FleetDatabase;
const running: Scheduler[] = [];
beforeAll(async () => {
  fleet = await createFleetDatabase();
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((scheduler) => scheduler.stop()));
});
afterAll(() => fleet?.close());

describe('two schedulers on one database', () => {
  it('run each tick once, and record who ran it with its counts', async () => {
    const runs: string[] = [];
    for (const owner of ['one', 'two']) {
      start(owner, {
        name: 'shared',
        everyMs: EVERY_MS,
        run: () => Promise.resolve({ by: runs.push(owner) && owner }),
      });
    }
    await until(() => runs.length >= 8, 'eight ticks');
    await Promise.all(running.splice(0).map((scheduler) => scheduler.stop()));
    const ticks = await listTicks('shared');
    expect(ticks).toHaveLength(runs.length);
    expect(new Set(ticks.map((tick) => tick.tick_at.getTime())).size).toBe(runs.length);
    for (const tick of ticks) {
      expect(tick.tick_at.getTime() % EVERY_MS).toBe(0);
      expect(tick).toMatchObject({ counts: { by: tick.claimed_by }, error: null });
      expect(tick.finished_at).not.toBeNull();
    }
  });

  it('give one tick to one of many who claim at once', async () => {
    const at = new Date(0);
    const claims = await Promise.all(
      Array.from({ length: 10 }, (_, index) => claimTick(fleet.db, 'contended', at, `process-${index}`)),
    );
    expect(claims.filter(Boolean)).toHaveLength(1);
  });
});

describe('a cron that is rung', () => {
  it('runs at once, on one of the replicas that heard it, and not before the run under way has ended', async () => {
    const runs: string[] = [];
    let open = (): void => {};
    let gate: Promise<void> | null = null;
    const rare = (owner: string): Cron => ({
      name: 'rung',
      everyMs: 3_600_000,
      async run() {
        runs.push(owner);
        await gate;
        return {};
      },
    });
    const [one, two] = [start('one', rare('one')), start('two', rare('two'))];
    const at = new Date();
    one.ring('rung', at);
    two.ring('rung', at);
    one.ring('unknown', at);
    await until(() => runs.length === 1, 'the first run');
    await until(async () => (await listTicks('rung'))[0]?.finished_at != null, 'its end');
    expect(runs).toHaveLength(1);
    gate = new Promise((resolve) => (open = resolve));
    one.ring('rung', new Date(at.getTime() + 1));
    await until(() => runs.length === 2, 'the second run');
    // Three while it runs are one more, of the last moment.
    for (const ms of [2, 3, 4]) one.ring('rung', new Date(at.getTime() + ms));
    expect(runs).toHaveLength(2);
    open();
    await until(() => runs.length === 3, 'one more run');
    await until(async () => (await listTicks('rung')).every((tick) => tick.finished_at !== null), 'their ends');
    expect((await listTicks('rung')).map((tick) => tick.tick_at.getTime() - at.getTime())).toEqual([0, 1, 4]);
  });
});

describe('a scheduler', () => {
  it('does not overlap a long run with the next tick, and goes on after a run that failed', async () => {
    let atOnce = 0;
    let most = 0;
    let runs = 0;
    let open = (): void => {};
    const gate = new Promise<void>((resolve) => (open = resolve));
    start('one', {
      name: 'long',
      everyMs: EVERY_MS,
      async run() {
        most = Math.max(most, ++atOnce);
        if (++runs === 1) await gate;
        atOnce--;
        if (runs === 2) throw new Error('in the second run');
        return {};
      },
    });
    // Another cron's ticks show that time goes on meanwhile.
    let others = 0;
    start('other', { name: 'clock', everyMs: EVERY_MS, run: () => Promise.resolve({ n: ++others }) });
    await until(() => runs === 1 && others >= 4, 'ticks pass while it runs');
    expect(runs).toBe(1);
    open();
    await until(() => runs >= 3, 'it runs on');
    expect(most).toBe(1);
    const failed = (await listTicks('long')).filter((tick) => tick.error !== null);
    expect(failed).toMatchObject([{ error: 'in the second run' }]);
  });

  it('claims no tick when there is no work', async () => {
    let asked = 0;
    start('one', {
      name: 'idle',
      everyMs: EVERY_MS,
      hasWork: () => Promise.resolve(++asked < 0),
      run: () => Promise.reject(new Error('must not run')),
    });
    await until(() => asked >= 3, 'it is asked');
    expect(await listTicks('idle')).toEqual([]);
  });

  it('runs a cron now when asked, after the run under way, and says what went wrong', async () => {
    const order: string[] = [];
    const scheduler = createScheduler(
      [
        {
          name: 'asked',
          everyMs: 3_600_000,
          async run() {
            order.push('begin');
            await new Promise((resolve) => setImmediate(resolve));
            order.push('end');
            return { n: order.length };
          },
        },
        { name: 'broken', everyMs: 3_600_000, run: () => Promise.reject(new Error('broken as ever')) },
      ],
      { db: fleet.db, owner: 'one', log },
    );
    await Promise.all([scheduler.runNow('asked'), scheduler.runNow('asked')]);
    expect(order).toEqual(['begin', 'end', 'begin', 'end']);
    await expect(scheduler.runNow('broken')).rejects.toThrow('broken as ever');
    await expect(scheduler.runNow('unheard of')).rejects.toThrow(/there is no cron/);
    await scheduler.stop();
  });

  it('that stops tells the run under way and waits for it', async () => {
    let isTold = false;
    let hasBegun = false;
    const scheduler = start('one', {
      name: 'stopped',
      everyMs: EVERY_MS,
      async run(signal) {
        hasBegun = true;
        await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
        isTold = true;
        return {};
      },
    });
    await until(() => hasBegun, 'it runs');
    await scheduler.stop();
    expect(isTold).toBe(true);
  });
});

function start(owner: string, cron: Cron): Scheduler {
  const scheduler = createScheduler([cron], { db: fleet.db, owner, log });
  running.push(scheduler);
  scheduler.start();
  return scheduler;
}

function listTicks(name: string) {
  return fleet.db.selectFrom('cron_ticks').selectAll().where('name', '=', name).orderBy('tick_at').execute();
}
