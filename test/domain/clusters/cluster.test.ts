import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  allowedClusterActions,
  BETTER_AFTER,
  CLUSTER_HEALTHS,
  judgeNodes,
  nextHealth,
  WORSE_AFTER,
  type ClusterHealth,
  type HealthState,
} from '../../../domain/clusters/cluster.ts';

const health = fc.constantFrom(...CLUSTER_HEALTHS);
const looks = fc.array(health, { maxLength: 40 });
const fold = (state: HealthState, seen: readonly ClusterHealth[]) => seen.reduce(nextHealth, state);
const settled = (at: ClusterHealth): HealthState => ({ health: at, streak: null });
const severity = (at: ClusterHealth) => CLUSTER_HEALTHS.indexOf(at);

describe('the health of a cluster', () => {
  it('stays for any look that is not one of enough in a row', () => {
    expect(fold(settled('available'), ['unavailable', 'unavailable']).health).toBe('available');
    expect(fold(settled('available'), ['unavailable', 'unavailable', 'unavailable']).health).toBe('unavailable');
    expect(fold(settled('unavailable'), ['available']).health).toBe('unavailable');
    expect(fold(settled('unavailable'), ['available', 'available']).health).toBe('available');
    expect(fold(settled('available'), ['unavailable', 'unavailable', 'available', 'unavailable']).health).toBe(
      'available',
    );
  });

  it('moves only as far as every look of the row supports', () => {
    expect(fold(settled('available'), ['unavailable', 'degraded', 'unavailable']).health).toBe('degraded');
    expect(fold(settled('unavailable'), ['available', 'degraded']).health).toBe('degraded');
  });

  it('is what the first answer says, but a first silence must repeat itself', () => {
    expect(fold({ health: null, streak: null }, ['degraded']).health).toBe('degraded');
    expect(fold({ health: null, streak: null }, ['unavailable', 'unavailable']).health).toBeNull();
    expect(fold({ health: null, streak: null }, ['unavailable', 'unavailable', 'unavailable']).health).toBe(
      'unavailable',
    );
  });

  it('never changes without enough looks in a row on that side of it', () => {
    fc.assert(
      fc.property(health, looks, (start, seen) => {
        let state = settled(start);
        const since: ClusterHealth[] = [];
        for (const look of seen) {
          const next = nextHealth(state, look);
          since.push(look);
          const from = state.health as ClusterHealth;
          if (next.health !== from) {
            const to = next.health as ClusterHealth;
            const isWorse = severity(to) > severity(from);
            const row = since.slice(isWorse ? -WORSE_AFTER : -BETTER_AFTER);
            expect(row).toHaveLength(isWorse ? WORSE_AFTER : BETTER_AFTER);
            for (const each of row)
              expect(isWorse ? severity(each) >= severity(to) : severity(each) <= severity(to)).toBe(true);
            since.length = 0;
          }
          state = next;
        }
      }),
    );
  });

  it('is what looks say once they agree for long enough, whatever was before', () => {
    fc.assert(
      fc.property(health, looks, health, (start, before, steady) => {
        const after = fold(fold(settled(start), before), Array<ClusterHealth>(2 * WORSE_AFTER).fill(steady));
        expect(after).toEqual(settled(steady));
      }),
    );
  });

  it('does not follow looks that alternate', () => {
    fc.assert(
      fc.property(health, health, (start, other) => {
        const flapping = Array.from({ length: 30 }, (_, index) => (index % 2 === 0 ? other : start));
        expect(fold(settled(start), flapping).health).toBe(start);
      }),
    );
  });
});

describe('judging nodes', () => {
  const node = (name: string, isReady = true, pressures: string[] = []) => ({ name, isReady, pressures });
  it.each([
    ['all fit', [node('a'), node('b')], 'available', null],
    ['one not ready', [node('a'), node('b', false)], 'degraded', '1 of 2 nodes not ready (b)'],
    ['one under pressure', [node('a', true, ['DiskPressure'])], 'degraded', 'under pressure: a DiskPressure'],
    ['none ready', [node('a', false), node('b', false)], 'unavailable', 'none of its 2 nodes is ready'],
    ['no nodes', [], 'degraded', 'it has no nodes'],
  ])('%s', (_name, nodes, expected, reason) => {
    expect(judgeNodes(nodes)).toEqual({ health: expected, reason });
  });
});

describe('what may be asked of a cluster', () => {
  it('is what its kind can do, and nothing once it is gone', () => {
    const facts = { hasAccess: true, isUpdating: false };
    expect(allowedClusterActions('registered', 'available', facts)).toEqual([
      'kubeconfig',
      'replace_kubeconfig',
      'delete',
    ]);
    expect(allowedClusterActions('eks', 'available', facts)).toEqual(['scale', 'upgrade', 'kubeconfig', 'delete']);
    expect(allowedClusterActions('aks', 'available', facts)).toContain('stop');
    expect(allowedClusterActions('aks', 'creating', facts)).not.toContain('stop');
    expect(allowedClusterActions('aks', 'stopped', facts)).toEqual(['start', 'delete']);
    expect(allowedClusterActions('aks', 'stopped', { ...facts, isUpdating: true })).toEqual([]);
    expect(allowedClusterActions('eks', 'available', { ...facts, isUpdating: true })).toEqual(['kubeconfig']);
    expect(allowedClusterActions('eks', 'destroyed', facts)).toEqual([]);
  });
});
