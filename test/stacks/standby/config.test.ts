import { describe, expect, it } from 'vitest';
import { standbyConfigSchema } from '../../../stacks/standby/config.ts';
import { problemsOf } from '../../support/config-problems.ts';

const MINIMAL = { project: 'a-project', zone: 'europe-west4-a' };
const problems = (config: object) => problemsOf(standbyConfigSchema, { ...MINIMAL, ...config });

describe('the configuration of the standby stack', () => {
  it('is a stopped machine that nobody reaches when only project and zone are given', () => {
    expect(standbyConfigSchema.parse(MINIMAL)).toMatchObject({
      state: 'stopped',
      spot: false,
      sshCidrs: [],
      runIn: 'zone',
    });
  });

  it('describes each field with its default or that there is none', () => {
    for (const [name, field] of Object.entries(standbyConfigSchema.shape))
      expect(`${name}: ${(field as { description?: string }).description}`).toMatch(/default/i);
  });

  it('wants a fallback zone in the same region, and one to run in it', () => {
    expect(problems({ fallbackZone: 'europe-west4-a' })).toEqual(['fallbackZone: must be another zone than zone']);
    expect(problems({ fallbackZone: 'europe-west1-b' })).toEqual([
      expect.stringMatching(/must be in the region europe-west4/),
    ]);
    expect(problems({ runIn: 'fallback_zone' })).toEqual(['runIn: fallback_zone needs fallbackZone']);
  });

  it('is a CPU machine', () => {
    for (const machineType of ['g2-standard-4', 'a2-highgpu-1g', 'a3-megagpu-8g'])
      expect(problems({ machineType })).toEqual([expect.stringMatching(/a standby is a CPU machine/)]);
    for (const machineType of ['e2-medium', 'n2d-standard-8', 'c3-highmem-22', 't2d-standard-1'])
      expect(problems({ machineType })).toEqual([]);
  });

  it('is stopped after hours or at a time, not both', () => {
    expect(problems({ stopAt: '2027-01-01T00:00:00Z', maxRunHours: 5 })).toEqual([
      expect.stringMatching(/cannot be used together/),
    ]);
    expect(problems({ stopAt: 'tomorrow' })).toHaveLength(1);
    expect(problems({ maxRunHours: null })).toEqual([]);
  });
});
