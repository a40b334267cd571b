import { describe, expect, it } from 'vitest';
import {
  describeSkew,
  describeUpgradeProblem,
  describeVersionProblem,
  KUBERNETES_RELEASES,
  newestKubernetes,
} from '../../domain/kubernetes-version.ts';

describe('Kubernetes versions', () => {
  it('are newest first in the table, each without a gap, with dates in order', () => {
    for (const { releases } of Object.values(KUBERNETES_RELEASES)) {
      const minors = releases.map(({ minor }) => Number(minor.slice(2)));
      expect(minors).toEqual(minors.map((_, index) => (minors[0] as number) - index));
      for (const { standardUntil, extendedUntil } of releases) expect(standardUntil < extendedUntil).toBe(true);
    }
  });

  it('are refused when the cloud does not offer them or they are none', () => {
    expect(describeVersionProblem('eks', newestKubernetes('eks'))).toBeNull();
    expect(describeVersionProblem('eks', '1.12')).toMatch(/did not offer/);
    expect(describeVersionProblem('aks', '1.35.1')).toMatch(/no Kubernetes version/);
  });

  it('of nodes may be three minors behind, never ahead', () => {
    expect(describeSkew('1.35', '1.35')).toBeNull();
    expect(describeSkew('1.35', '1.32')).toBeNull();
    expect(describeSkew('1.35', '1.31')).toMatch(/behind/);
    expect(describeSkew('1.34', '1.35')).toMatch(/newer/);
  });

  it('go up one at a time and never back', () => {
    expect(describeUpgradeProblem('1.33', '1.34')).toBeNull();
    expect(describeUpgradeProblem('1.33', '1.33')).toBeNull();
    expect(describeUpgradeProblem('1.33', '1.35')).toMatch(/to 1\.34 first/);
    expect(describeUpgradeProblem('1.34', '1.33')).toMatch(/cannot go back/);
  });
});
