import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inTransaction } from '../../db/database.ts';
import { setWriter } from '../../db/workspaces.ts';
import { startStandbyFleet, type StandbyFleet } from '../support/standby-fleet.ts';

let fleet: StandbyFleet;
beforeAll(async () => {
  fleet = await startStandbyFleet();
}, 60_000);
afterAll(() => fleet?.stop());

const db = () => fleet.server.database.kysely;
/** Of /metrics, by their names with labels. */
async function scrape(): Promise<Map<string, number>> {
  const { body } = await fleet.server.call<string>('GET', '/metrics');
  const lines = body.split('\n').filter((line) => /^muster_(standby|failover)/.test(line));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]));
}

describe('metrics of standbys and failovers', () => {
  it('tell how old what each standby could serve is, beside what was declared, and nothing while nobody writes', async () => {
    const made = await fleet.make('warm');
    const never = await fleet.make('stopped');
    const ago = (ms: number) => new Date(Date.now() - ms);
    await db()
      .updateTable('standbys')
      .set({ recovery_point_at: ago(90_000), behind_since: ago(1_000), behind_reason: 'x', rpo_ms: 60_000 })
      .where('id', '=', made.id)
      .execute();
    await db()
      .updateTable('standbys')
      .set({ created_at: ago(30_000), rpo_ms: 300_000 })
      .where('id', '=', never.id)
      .execute();
    const first = await scrape();
    const of = (name: string, id: string) => first.get(`muster_standby_${name}{standby="${id}"}`) ?? NaN;
    expect(of('lag_seconds', made.id)).toBeGreaterThanOrEqual(90);
    expect(of('lag_seconds', made.id)).toBeLessThan(120);
    expect([of('rpo_seconds', made.id), of('behind', made.id)]).toEqual([60, 1]);
    // No snapshot yet: as old as the standby.
    expect(of('lag_seconds', never.id)).toBeGreaterThanOrEqual(30);
    expect([of('rpo_seconds', never.id), of('behind', never.id)]).toEqual([300, 0]);
    await inTransaction(db(), (tx) => setWriter(tx, made.instanceId, null));
    await db().updateTable('standbys').set({ removed_at: new Date() }).where('id', '=', never.id).execute();
    const second = await scrape();
    expect(second.has(`muster_standby_lag_seconds{standby="${made.id}"}`)).toBe(false);
    expect(second.get(`muster_standby_rpo_seconds{standby="${made.id}"}`)).toBe(60);
    expect([...second.keys()].join()).not.toContain(never.id);
  });

  it('count failovers by how they ended, and how long nobody served', async () => {
    const made = await fleet.make('warm');
    await fleet.verified(made.instanceId, new Date());
    const path = `/api/v1/instances/${made.instanceId}/failover`;
    const { body } = await fleet.server.call('POST', path, { body: { reason: 'the host is noisy' } });
    expect((await scrape()).get('muster_failovers{outcome="under_way",cause="requested"}')).toBe(1);
    const lostAt = new Date(Date.now() - 60_000);
    await db()
      .updateTable('failovers')
      .set({
        phase: 'complete',
        lost_at: lostAt,
        serving_at: new Date(lostAt.getTime() + 12_000),
        finished_at: new Date(),
      })
      .where('id', '=', body.failover.id)
      .execute();
    const ended = await scrape();
    expect(ended.get('muster_failovers{outcome="complete",cause="requested"}')).toBe(1);
    expect([...ended.keys()].join()).not.toContain('under_way');
    expect(ended.get('muster_failover_seconds{quantile="0.95"}')).toBeCloseTo(12, 1);
  });
});
