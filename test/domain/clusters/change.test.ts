import { describe, expect, it } from 'vitest';
import { countNodesOf, scaleGroup, type Scale } from '../../../domain/clusters/change.ts';

const eks = (change: object = {}) => ({
  gpuNodeGroups: [{ instanceType: 'g5.xlarge', minSize: 1, maxSize: 4, desiredSize: 2, ...change }, { maxSize: 9 }],
});
const aks = (change: object = {}) => ({
  gpuNodePools: [{ vmSize: 'x', minCount: 1, maxCount: 4, count: 2, ...change }],
});
const scaleEks = (scale: Omit<Scale, 'nodeGroup'>, change: object = {}, nodesNow: number | null = null) =>
  scaleGroup('eks', eks(change), { nodeGroup: 'gpu-1', ...scale }, nodesNow);

function groupOf(change: ReturnType<typeof scaleGroup>): unknown {
  if ('errors' in change) throw new Error(JSON.stringify(change.errors));
  return (change.config['gpuNodeGroups'] as unknown[])[0];
}

describe('scaling a fixed group', () => {
  it.each<[string, Omit<Scale, 'nodeGroup'>, object]>([
    ['sets the number, which stays', { desiredSize: 3 }, { minSize: 1, maxSize: 4, desiredSize: 3 }],
    ['moves it to a bound that it is outside of', { minSize: 3 }, { minSize: 3, maxSize: 4, desiredSize: 3 }],
    ['leaves it where it fits', { minSize: 0, maxSize: 9 }, { minSize: 0, maxSize: 9, desiredSize: 2 }],
    ['sets all at once', { minSize: 5, maxSize: 8, desiredSize: 6 }, { minSize: 5, maxSize: 8, desiredSize: 6 }],
  ])('%s', (_name, scale, expected) => {
    const change = scaleEks(scale, {}, 4);
    expect(groupOf(change)).toMatchObject({ name: 'gpu-1', ...expected });
    expect(change).not.toHaveProperty('resize');
  });

  it.each<[Omit<Scale, 'nodeGroup'>, string, RegExp]>([
    [{ desiredSize: 5 }, 'desiredSize', /5 is not between minSize 1 and maxSize 4: say a higher maxSize too/],
    [{ desiredSize: 0 }, 'desiredSize', /say a lower minSize too/],
    [{ minSize: 6 }, 'minSize', /minSize 6 is above maxSize 4/],
    [{ maxSize: 0 }, 'maxSize', /above maxSize 0/],
  ])('refuses %j, and says what to say too', (scale, path, message) => {
    expect(scaleEks(scale)).toEqual({ errors: [{ path, message: expect.stringMatching(message) }] });
  });

  it('names the groups that there are', () => {
    expect(scaleGroup('eks', eks(), { nodeGroup: 'gpu-9' })).toMatchObject({
      errors: [{ path: 'nodeGroup', message: expect.stringContaining('gpu-1, gpu-2') }],
    });
  });
});

describe('scaling an autoscaled group', () => {
  const autoscaled = { autoscaled: true };

  it.each<[string, Omit<Scale, 'nodeGroup'>, number | null, object]>([
    ['with bounds keeps the number that its autoscaler came to', { maxSize: 9 }, 4, { maxSize: 9, desiredSize: 4 }],
    ['moves that number to a bound that it is outside of', { maxSize: 3 }, 4, { maxSize: 3, desiredSize: 3 }],
    ['likewise from below', { minSize: 3 }, 1, { minSize: 3, desiredSize: 3 }],
    ['sets a number, once', { desiredSize: 3 }, 1, { minSize: 1, maxSize: 4, desiredSize: 3 }],
    ['sets it without having seen its nodes', { desiredSize: 3 }, null, { desiredSize: 3 }],
  ])('%s', (_name, scale, nodesNow, expected) => {
    const change = scaleEks(scale, autoscaled, nodesNow);
    expect(groupOf(change)).toMatchObject({ autoscaled: true, ...expected });
    expect(change).toMatchObject({ resize: ['gpu-1'] });
  });

  it('never sends a number of long ago: where nobody has seen its nodes it must be said', () => {
    expect(scaleEks({ maxSize: 9 }, autoscaled)).toEqual({
      errors: [{ path: 'desiredSize', message: expect.stringMatching(/nobody has seen its nodes lately/) }],
    });
  });

  it('is the same in the words of AKS', () => {
    const change = scaleGroup('aks', aks(autoscaled), { nodeGroup: 'gpu1', minSize: 3 }, 2);
    expect(change).toMatchObject({
      resize: ['gpu1'],
      config: { gpuNodePools: [{ name: 'gpu1', minCount: 3, maxCount: 4, count: 3 }] },
    });
  });
});

describe('the nodes of a group', () => {
  it('are found by its name here, at EKS with the mark of what replaces it', () => {
    const nodes = ['gpu-1-beeba8', 'gpu-1-beeba8', 'gpu-12-beeba8', 'gpu1', 'system-0a1b2c', null];
    const count = (group: string) =>
      countNodesOf(
        nodes.map((nodeGroup) => ({ nodeGroup })),
        group,
      );
    expect([count('gpu-1'), count('gpu-12'), count('gpu1'), count('gpu-2')]).toEqual([2, 1, 1, 0]);
  });
});
