import { describe, expect, it } from 'vitest';
import { isSameGpuModel } from '../../../domain/gpu-model.ts';
import { ProviderError } from '../../../domain/provider-error.ts';
import { countryCode } from '../../../providers-dynamic/tensordock/countries.ts';
import { readGpuModel } from '../../../providers-dynamic/tensordock/gpu-names.ts';
import { chooseSize, RAM_SIZES_GB } from '../../../providers-dynamic/tensordock/machine-size.ts';
import { formatOfferId, readOfferId } from '../../../providers-dynamic/tensordock/offer-id.ts';
import { readOffers } from '../../../providers-dynamic/tensordock/offers.ts';
import type { Json } from '../../../providers-dynamic/http.ts';
import { SOLD_GPUS } from '../../../sandbox/tensordock/hardware.ts';
import { HOST, LOCATION, recorded } from './fixture.ts';

const NO_HOSTS = { data: { hostnodes: [] } };
const NO_LOCATIONS = { data: { locations: [] } };
const [HOST_ROW] = (recorded('hostnodes').body.data as { hostnodes: Json[] }).hostnodes as [Json];
const [LOCATION_ROW] = (recorded('locations').body.data as { locations: Json[] }).locations as [Json];

function offersOfHost(changes: Json = {}, resources: Json = {}, diskGib = 40) {
  const available = { ...(HOST_ROW.available_resources as Json), ...resources };
  const row = { ...HOST_ROW, available_resources: available, ...changes };
  return readOffers({ data: { hostnodes: [row] } }, NO_LOCATIONS, diskGib);
}

function offersOfLocation(changes: Json, gpu: Json = {}) {
  const [listed] = LOCATION_ROW.gpus as Json[];
  const row = { ...LOCATION_ROW, gpus: [{ ...listed, ...gpu }], ...changes };
  return readOffers(NO_HOSTS, { data: { locations: [row] } }, 40);
}

describe('offers', () => {
  it('are made of hosts, one for each number of GPUs that is free, priced as the vendor adds it up', () => {
    const offers = readOffers(recorded('hostnodes').body, recorded('locations').body, 200);
    expect(offers.map((offer) => offer.gpuCount)).toEqual([1, 2]);
    expect(offers[0]).toEqual({
      provider: 'tensordock',
      providerOfferId: `host:${HOST}:geforcertx4090-pcie-24gb:1gpu:8cpu:32gb:ip`,
      machineId: HOST,
      hostId: 'org-1',
      gpu: 'RTX 4090',
      gpuCount: 1,
      gpuMemoryGib: 24,
      // 0.37 + 8 × 0.003 + 32 × 0.002 + 200 × 0.00005: what the recorded instance of this size bills.
      priceMicroUsdPerHour: 468_000n,
      pricedDiskGib: 200,
      diskMicroUsdPerGibHour: 50n,
      floorMicroUsdPerHour: null,
      interruptible: false,
      region: 'US',
      location: 'Chicago, Illinois, United States',
      reliability: 0.997,
      verified: true,
      diskGib: 1500,
      cpuCores: 8,
      memoryGib: 32,
      inetDownMbps: 10_000,
      inetUpMbps: 5_000,
      cudaVersion: null,
      driverVersion: null,
      directPorts: 3,
      maxDurationSeconds: null,
      stock: 2,
      confidence: 0.7,
    });
    expect(offers[1]).toMatchObject({ stock: 1, cpuCores: 16, memoryGib: 64 });
  });

  it('include at least 100 GB of disk, the least that is sold', () => {
    const [offer] = readOffers(recorded('hostnodes').body, NO_LOCATIONS, 40);
    expect(offer).toMatchObject({ pricedDiskGib: 100, priceMicroUsdPerHour: 463_000n });
  });

  it('are completed by locations only where no host shows the type, and trusted less', () => {
    const [first] = offersOfLocation({});
    expect(first).toMatchObject({
      providerOfferId: `location:${LOCATION}:geforcertx4090-pcie-24gb:1gpu:8cpu:32gb:ip`,
      machineId: null,
      stock: null,
      confidence: 0.5,
    });
    const soldOut = {
      ...HOST_ROW,
      available_resources: { gpus: [{ v0Name: 'geforcertx4090-pcie-24gb', availableCount: 0 }] },
    };
    expect(readOffers({ data: { hostnodes: [soldOut] } }, { data: { locations: [LOCATION_ROW] } }, 40)).toEqual([]);
  });

  it('count no more machines than processors, memory and disk are left for', () => {
    expect(
      offersOfHost(
        {},
        { gpus: [{ v0Name: 'rtxa4000-pcie-16gb', availableCount: 8, price_per_hr: 0.1 }], vcpu_count: 20 },
      )[0]?.stock,
    ).toBe(2);
    expect(offersOfHost({}, { storage_gb: 150 })[0]).toMatchObject({ stock: 1 });
    expect(offersOfHost({}, { storage_gb: 90 })).toEqual([]);
    expect(offersOfHost({}, {}, 1_600)).toEqual([]);
  });

  it('leave out what could never be reached: no address and no port left', () => {
    expect(offersOfHost({}, { has_public_ip_available: false, available_ports: [] })).toEqual([]);
    expect(offersOfHost({}, { has_public_ip_available: false })[0]?.providerOfferId).toMatch(/:ports$/);
    const network_features = { dedicated_ip_available: false, port_forwarding_available: false };
    expect(offersOfLocation({}, { network_features })).toEqual([]);
  });

  it('leave out what has no price, and hosts without GPUs', () => {
    expect(offersOfHost({}, { gpus: [{ v0Name: 'l4-pcie-24gb', availableCount: 1 }] })).toEqual([]);
    expect(offersOfHost({}, { gpus: [] })).toEqual([]);
  });

  it('are not believed from something else, or from a listing that is mostly unreadable', () => {
    const isUnbelievable = (error: unknown) => error instanceof ProviderError && error.kind === 'unbelievable';
    const bad: [unknown, unknown][] = [
      [{}, NO_LOCATIONS],
      [{ data: [] }, NO_LOCATIONS],
      [NO_HOSTS, { data: { locations: null } }],
      [{ data: { hostnodes: [HOST_ROW, {}, null] } }, NO_LOCATIONS],
      [NO_HOSTS, { data: { locations: [{}, 5] } }],
    ];
    for (const [hosts, locations] of bad) {
      expect(() => readOffers(hosts, locations, 40)).toThrow(expect.toSatisfy(isUnbelievable));
    }
    expect(readOffers({ data: { hostnodes: [HOST_ROW, HOST_ROW, {}] } }, NO_LOCATIONS, 40)).not.toEqual([]);
  });

  it('have ids that are the whole choice, and nothing but such ids', () => {
    const [offer] = readOffers(recorded('hostnodes').body, NO_LOCATIONS, 40);
    const choice = readOfferId(offer?.providerOfferId ?? '');
    expect(choice).toEqual({
      place: 'host',
      placeId: HOST,
      v0Name: 'geforcertx4090-pcie-24gb',
      gpuCount: 1,
      vcpus: 8,
      ramGb: 32,
      hasDedicatedIp: true,
    });
    expect(formatOfferId(choice)).toBe(offer?.providerOfferId);
    for (const id of ['', '9', 'host:a/../b:x:1gpu:2cpu:2gb:ip', `${offer?.providerOfferId}:x`])
      expect(() => readOfferId(id)).toThrow(/no offer/);
  });
});

describe('the size of a machine', () => {
  it('feeds its GPUs in sizes that the vendor takes', () => {
    const none = { vcpus: null, ramGb: null, storageGb: null };
    expect(chooseSize(1, 24, 100, none)).toEqual({ vcpus: 8, ramGb: 32 });
    expect(chooseSize(1, 80, 100, none)).toEqual({ vcpus: 8, ramGb: 96 });
    expect(chooseSize(8, 80, 100, none)).toEqual({ vcpus: 64, ramGb: 512 });
    expect(chooseSize(1, null, 100, none)).toEqual({ vcpus: 8, ramGb: 32 });
  });

  it('takes what is left, with an even number of processors, down to a least', () => {
    expect(chooseSize(1, 24, 100, { vcpus: 7, ramGb: 20, storageGb: 100 })).toEqual({ vcpus: 6, ramGb: 16 });
    expect(chooseSize(1, 24, 100, { vcpus: 1, ramGb: 64, storageGb: 100 })).toBeNull();
    expect(chooseSize(2, 24, 100, { vcpus: 16, ramGb: 10, storageGb: 100 })).toBeNull();
    expect(chooseSize(1, 24, 101, { vcpus: 16, ramGb: 64, storageGb: 100 })).toBeNull();
    for (let ramGb = 8; ramGb < 600; ramGb += 7) {
      const size = chooseSize(1, 24, 100, { vcpus: 9, ramGb, storageGb: 100 });
      expect(RAM_SIZES_GB).toContain(size?.ramGb);
      expect(size?.ramGb).toBeLessThanOrEqual(ramGb);
    }
  });
});

describe('GPU names', () => {
  it.each([
    ['geforcertx4090-pcie-24gb', 'RTX 4090', 24],
    ['NVIDIA GeForce RTX 4090 PCIe 24GB', 'RTX 4090', 24],
    ['geforcertx3060ti-pcie-8gb', 'RTX 3060 Ti', 8],
    ['geforcertx4070tisuper-pcie-16gb', 'RTX 4070S Ti', 16],
    ['geforcertx4080super-pcie-16gb', 'RTX 4080S', 16],
    ['geforcegtx1070-pcie-8gb', 'GTX 1070', 8],
    ['rtxa6000-pcie-48gb', 'RTX A6000', 48],
    ['rtx6000ada-pcie-48gb', 'RTX 6000Ada', 48],
    ['quadrortx6000-pcie-24gb', 'Q RTX 6000', 24],
    ['rtxpro6000-pcie-96gb', 'RTX PRO 6000', 96],
    ['l40s-pcie-48gb', 'L40S', 48],
    ['v100-sxm2-16gb', 'Tesla V100', 16],
    ['a100-pcie-80gb', 'A100 PCIE', 80],
    ['a100-sxm4-80gb', 'A100 SXM4', 80],
    ['h100-sxm5-80gb', 'H100 SXM', 80],
    ['h200-sxm5-141gb', 'H200', 141],
    ['mi300x-oam-192gb', 'MI300X OAM', 192],
    ['something-new', 'SOMETHING NEW', null],
  ])('%s is the %s', (name, gpu, memoryGib) => {
    expect(readGpuModel(name)).toEqual({ gpu, memoryGib });
  });

  it('are the models that the drivers report', () => {
    for (const { v0Name, model } of SOLD_GPUS) {
      expect(readGpuModel(v0Name).gpu).toBe(model.name);
      expect(isSameGpuModel(readGpuModel(v0Name).gpu, model.smiName), v0Name).toBe(true);
    }
  });
});

describe('countries', () => {
  it.each([
    ['United States', 'US'],
    ['USA', 'US'],
    ['The Netherlands', 'NL'],
    ['South Korea', 'KR'],
    ['Czech Republic', 'CZ'],
    ['united kingdom', 'GB'],
    ['Türkiye', 'TR'],
    ['Hong Kong', 'HK'],
    ["Côte d'Ivoire", 'CI'],
    ['se', 'SE'],
    ['Atlantis', null],
    ['World', null],
    ['ZZ', null],
    ['', null],
    [null, null],
  ])('%s is %s', (name, code) => {
    expect(countryCode(name)).toBe(code);
  });
});
