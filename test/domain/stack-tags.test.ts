import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatLabels, formatTags, REQUIRED_TAGS } from '../../domain/stack-tags.ts';

const TAGS = { owner: 'Platform Team (EU)', deployment: 'prod-1', costCentre: 'Forschung/42' };

describe('tags', () => {
  it('say owner, deployment, cost centre and stack, in a fixed order', () => {
    const tags = formatTags(TAGS, 'train');
    expect(Object.entries(tags)).toEqual([
      ['muster-cost-centre', 'Forschung/42'],
      ['muster-deployment', 'prod-1'],
      ['muster-owner', 'Platform Team (EU)'],
      ['muster-stack', 'train'],
    ]);
    for (const key of REQUIRED_TAGS) expect(tags).toHaveProperty(key);
  });

  it('become labels that Google and Kubernetes take, whatever they say', () => {
    expect(formatLabels(TAGS, 'train')).toMatchObject({
      'muster-owner': 'platform-team-eu',
      'muster-cost-centre': 'forschung-42',
    });
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (owner) => {
        expect(formatLabels({ ...TAGS, owner }, 's')['muster-owner']).toMatch(
          /^[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?$/,
        );
      }),
    );
  });
});
