import { describe, expect, it } from 'vitest';
import { describeDifferences, isSameImage, type BoughtMachine } from '../../domain/mismatch.ts';
import type { ObservedInstance } from '../../domain/observed-instance.ts';

const BOUGHT: BoughtMachine = {
  label: 'muster-x-a-b',
  machineId: 'host-1',
  gpu: 'RTX 4090',
  gpuCount: 2,
  priceMicroUsdPerHour: 600_000n,
  image: 'pytorch/pytorch:2.7',
};

const OBSERVED: ObservedInstance = {
  provider: 'vastai',
  providerInstanceId: '1',
  label: 'muster-x-a-b',
  status: 'running',
  statusDetail: null,
  machineId: 'host-1',
  gpu: 'RTX 4090',
  gpuCount: 2,
  gpuMemoryGib: 24,
  priceMicroUsdPerHour: 600_000n,
  interruptible: false,
  interrupted: false,
  ssh: null,
  image: 'pytorch/pytorch:2.7',
  region: null,
  startedAt: null,
};

const differences = (observed: Partial<ObservedInstance>, bought: Partial<BoughtMachine> = {}) =>
  describeDifferences({ ...BOUGHT, ...bought }, { ...OBSERVED, ...observed });

describe('a machine', () => {
  it('as it was bought has no differences, nor one of which the vendor tells nothing', () => {
    expect(differences({})).toEqual([]);
    expect(
      differences({ machineId: null, gpu: null, gpuCount: null, priceMicroUsdPerHour: null, image: null }),
    ).toEqual([]);
  });

  it.each<[string, Partial<ObservedInstance>, RegExp]>([
    ['another label', { label: 'mine' }, /label "mine"/],
    ['no label', { label: null }, /label none/],
    ['another host', { machineId: 'host-2' }, /host host-2 instead of host-1/],
    ['another GPU', { gpu: 'RTX 3090' }, /RTX 3090 instead of RTX 4090/],
    ['fewer GPUs', { gpuCount: 1 }, /1 GPUs instead of 2/],
    ['another image', { image: 'pytorch/pytorch:2.6' }, /image pytorch\/pytorch:2.6 instead of/],
    ['another price', { priceMicroUsdPerHour: 660_000n }, /\$0\.66 an hour instead of \$0\.60/],
  ])('with %s differs in that', (_what, observed, said) => {
    expect(differences(observed)).toEqual([expect.stringMatching(said)]);
  });

  it('that is stopped costs less, which is no other price; nor is one within a percent', () => {
    expect(differences({ status: 'stopped', priceMicroUsdPerHour: 20_000n })).toEqual([]);
    expect(differences({ priceMicroUsdPerHour: 605_000n })).toEqual([]);
  });

  it('of a vendor that boots its own image is not compared by image', () => {
    expect(differences({ image: 'ubuntu-22' }, { image: null })).toEqual([]);
  });
});

describe('an image', () => {
  it('is the same with what Docker would add', () => {
    expect(isSameImage('ubuntu', 'docker.io/library/ubuntu:latest')).toBe(true);
    expect(isSameImage('nvidia/cuda:12', 'index.docker.io/nvidia/cuda:12')).toBe(true);
  });

  it('is another with another tag, folder, registry or digest', () => {
    expect(isSameImage('ubuntu:22.04', 'ubuntu:24.04')).toBe(false);
    expect(isSameImage('me/ubuntu', 'ubuntu')).toBe(false);
    expect(isSameImage('registry.example:5000/a', 'a')).toBe(false);
    expect(isSameImage('a@sha256:1', 'a')).toBe(false);
  });
});
