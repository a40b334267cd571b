import { describe, expect, it } from 'vitest';
import { aksConfigSchema } from '../../../stacks/aks/config.ts';
import { problemsOf } from '../../support/config-problems.ts';

const GPU = { vmSize: 'Standard_NC24ads_A100_v4', maxCount: 2 };
const problems = (config: object) => problemsOf(aksConfigSchema, { location: 'swedencentral', ...config });

describe('the configuration of the aks stack', () => {
  it('is a private cluster without GPU nodes when only the location is given', () => {
    expect(aksConfigSchema.parse({ location: 'swedencentral' })).toMatchObject({
      kubernetesVersion: '1.35',
      tier: 'standard',
      publicAccessCidrs: [],
      gpuNodePools: [],
    });
  });

  it('describes each field with its default or that there is none', () => {
    for (const [name, field] of Object.entries(aksConfigSchema.shape))
      expect(`${name}: ${(field as { description?: string }).description}`).toMatch(/default/i);
  });

  it('refuses networks that overlap, each with each', () => {
    expect(problems({ podCidr: '10.61.128.0/17' })).toEqual([expect.stringMatching(/^podCidr: .* overlaps vnetCidr/)]);
    expect(problems({ serviceCidr: '10.244.8.0/24' })).toEqual([
      expect.stringMatching(/^serviceCidr: .* overlaps podCidr/),
    ]);
    expect(problems({ connectedCidrs: ['10.0.0.0/8', '10.1.0.0/16'] })).toHaveLength(2);
  });

  it('refuses sizes, versions, names and spot prices that cannot be', () => {
    expect(
      problems({ gpuNodePools: [{ ...GPU, vmSize: 'Standard_ND96isr_H200_v5' }], location: 'brazilsouth' }),
    ).toEqual([expect.stringMatching(/H200\) is not offered in brazilsouth/)]);
    expect(problems({ kubernetesVersion: '1.99' })).toEqual([
      expect.stringMatching(/aks did not offer Kubernetes 1\.99/),
    ]);
    expect(problems({ gpuNodePools: [{ ...GPU, kubernetesVersion: '1.30' }] })).toEqual([
      expect.stringMatching(/minors behind/),
    ]);
    expect(problems({ gpuNodePools: [{ ...GPU, name: 'Big-Pool' }] })).toEqual([
      expect.stringMatching(/1 to 12 lower-case letters/),
    ]);
    expect(problems({ gpuNodePools: [{ ...GPU, name: 'gpu2' }, GPU] })).toEqual([
      expect.stringMatching(/gpu2 is taken/),
    ]);
    expect(problems({ gpuNodePools: [{ ...GPU, count: 5 }] })).toEqual([
      expect.stringMatching(/not between minCount 0 and maxCount 2/),
    ]);
    expect(problems({ gpuNodePools: [{ ...GPU, maxSpotPriceUsdPerHour: '1.00' }] })).toEqual([
      expect.stringMatching(/only with capacityType: spot/),
    ]);
    expect(problems({ logRetentionDays: 7 })).toEqual([expect.stringMatching(/must be 0 or 30 to 730/)]);
    const identity = { name: 'a', namespace: 'n', serviceAccount: 's' };
    expect(problems({ workloadIdentities: [identity, identity] })).toEqual([
      expect.stringMatching(/the name a is taken/),
    ]);
  });
});
