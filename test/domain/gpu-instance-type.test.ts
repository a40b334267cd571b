import { describe, expect, it } from 'vitest';
import { describeGpuTypeProblem, findGpuInstanceType, listGpuInstanceTypes } from '../../domain/gpu-instance-type.ts';

describe('GPU instance types', () => {
  it.each([
    ['aws', /^[a-z]{2}(-[a-z]+)+-\d$/],
    ['azure', /^[a-z]+\d?$/],
  ] as const)('of %s are named once, have GPUs, and are somewhere', (cloud, region) => {
    const types = listGpuInstanceTypes(cloud);
    expect(new Set(types.map(({ name }) => name)).size).toBe(types.length);
    for (const type of types) {
      expect(type.gpuCount).toBeGreaterThan(0);
      expect(type.gpuMemoryGib).toBeGreaterThanOrEqual(16);
      expect(new Set(type.regions).size).toBe(type.regions.length);
      for (const each of type.regions) expect(each).toMatch(region);
    }
  });

  it('are refused where they are not offered, with where they are, and by near names when unknown', () => {
    expect(findGpuInstanceType('aws', 'g5.xlarge')).toMatchObject({ gpuModel: 'A10G', gpuCount: 1 });
    expect(describeGpuTypeProblem('aws', 'g5.xlarge', 'us-east-1')).toBeNull();
    expect(describeGpuTypeProblem('aws', 'p4de.24xlarge', 'eu-west-1')).toMatch(
      /not offered in eu-west-1; it is in us-east-1, us-west-2/,
    );
    expect(describeGpuTypeProblem('azure', 'Standard_NC24ads_A100', 'eastus')).toMatch(
      /near it: Standard_NC24ads_A100_v4/,
    );
  });
});
