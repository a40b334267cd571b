/**
 * TensorDock's two listings as offers. `/hostnodes` shows what each host has left; `/locations` only which types a place sells,
 * and is known to be stale, so it adds just what no host there shows. One host gives an offer for each number of GPUs that fits.
 */
import { microUsdFromVendorFloat, type MicroUsd } from '../../domain/money.ts';
import type { Offer } from '../../domain/offer.ts';
import { countryCode } from './countries.ts';
import { readGpuModel } from './gpu-names.ts';
import { chooseSize, MIN_STORAGE_GB, type MachineSize, type SizeLimits } from './machine-size.ts';
import { formatOfferId, isOfferable } from './offer-id.ts';
import { unbelievable } from './errors.ts';
import { isObject, type Json } from '../http.ts';
import { number, text } from './wire-value.ts';

/** Hosts report what is free, with some delay. */
const HOST_CONFIDENCE = 0.7;
/** A client that ran against the live service found about half of what locations list. */
const LOCATION_CONFIDENCE = 0.5;
const GPU_COUNTS = [1, 2, 4, 8];
/** Tier 0 are hosts in homes; 1 to 4 are data centres. */
const MIN_VERIFIED_TIER = 1;

/** @param diskGib the disk to price; the vendor sells at least 100 GB */
export function readOffers(hostnodes: unknown, locations: unknown, diskGib: number): Offer[] {
  const hosts = rowsOf(hostnodes, 'hostnodes');
  const places = rowsOf(locations, 'locations');
  const storageGb = Math.max(MIN_STORAGE_GB, Math.ceil(diskGib));
  const shown = new Set<string>();
  const fromHosts = collect(hosts, 'hosts', (row) => readHost(row, storageGb, shown));
  const fromLocations = collect(places, 'locations', (row) => readLocation(row, storageGb, shown));
  return [...fromHosts, ...fromLocations];
}

function rowsOf(body: unknown, name: 'hostnodes' | 'locations'): unknown[] {
  const data = isObject(body) ? body.data : undefined;
  const rows = isObject(data) ? data[name] : undefined;
  if (!Array.isArray(rows)) throw unbelievable(`the answer has no list of ${name}`);
  return rows;
}

/** A few odd rows are the vendor's; a listing that is mostly unreadable is not its listing. */
function collect(rows: unknown[], what: string, read: (row: unknown) => Offer[] | null): Offer[] {
  const readable = rows.map(read).filter((offers) => offers !== null);
  if (readable.length * 2 < rows.length)
    throw unbelievable(`${rows.length - readable.length} of ${rows.length} ${what} are unreadable`);
  return readable.flat();
}

/** What one offer needs to know of where it is. */
interface Place {
  kind: 'host' | 'location';
  id: string;
  facts: Pick<Offer, 'machineId' | 'hostId' | 'reliability' | 'verified' | 'region' | 'location'> &
    Pick<Offer, 'inetDownMbps' | 'inetUpMbps' | 'directPorts' | 'confidence'>;
  hasDedicatedIp: boolean;
  storageGb: number;
  pricing: Pricing;
}

interface Pricing {
  vcpu: number;
  ramGb: number;
  storageGb: number;
}

function readHost(row: unknown, storageGb: number, shown: Set<string>): Offer[] | null {
  if (!isObject(row) || !isObject(row.available_resources)) return null;
  const free = row.available_resources;
  const at = isObject(row.location) ? row.location : {};
  const id = text(row.id);
  const pricing = readPricing(row.pricing);
  if (id === null || pricing === null || !Array.isArray(free.gpus)) return null;
  const locationId = text(row.location_id) ?? text(at.uuid);
  const ports = Array.isArray(free.available_ports) ? free.available_ports.length : null;
  const hasDedicatedIp = free.has_public_ip_available === true;
  const uptime = number(row.uptime_percentage);
  const place: Place = {
    kind: 'host',
    id,
    facts: {
      machineId: id,
      hostId: text(at.organization),
      reliability: uptime === null ? null : Math.min(1, Math.max(0, uptime / 100)),
      ...readPlace(at),
      inetDownMbps: mbps(at.network_speed_gbps),
      inetUpMbps: mbps(at.network_speed_upload_gbps) ?? mbps(at.network_speed_gbps),
      directPorts: ports,
      confidence: HOST_CONFIDENCE,
    },
    hasDedicatedIp,
    storageGb,
    pricing,
  };
  return free.gpus.filter(isObject).flatMap((gpu) => {
    const v0Name = text(gpu.v0Name);
    if (v0Name === null) return [];
    if (locationId !== null) shown.add(`${locationId}/${v0Name}`);
    const available = number(gpu.availableCount) ?? 0;
    // Neither an address nor a port left: such a machine starts, bills, and can never be reached.
    if (!hasDedicatedIp && ports === 0) return [];
    return GPU_COUNTS.filter((count) => count <= available).flatMap((count) => {
      const limits = hostLimits(free, count);
      const offer = makeOffer(place, v0Name, number(gpu.price_per_hr), count, limits);
      if (offer === null) return [];
      const stock = hostStock(available, free, offer, storageGb);
      return stock < 1 ? [] : [{ ...offer, stock }];
    });
  });
}

function readLocation(row: unknown, storageGb: number, shown: ReadonlySet<string>): Offer[] | null {
  if (!isObject(row) || !Array.isArray(row.gpus)) return null;
  const id = text(row.id);
  if (id === null) return null;
  const facts: Place['facts'] = {
    machineId: null,
    hostId: null,
    reliability: null,
    ...readPlace(row),
    inetDownMbps: null,
    inetUpMbps: null,
    directPorts: null,
    confidence: LOCATION_CONFIDENCE,
  };
  return row.gpus.filter(isObject).flatMap((gpu) => {
    const v0Name = text(gpu.v0Name);
    const pricing = readPricing(gpu.pricing);
    const network = isObject(gpu.network_features) ? gpu.network_features : {};
    if (v0Name === null || pricing === null || shown.has(`${id}/${v0Name}`)) return [];
    const hasDedicatedIp = network.dedicated_ip_available === true;
    if (!hasDedicatedIp && network.port_forwarding_available === false) return [];
    const limits = locationLimits(gpu.resources);
    const place: Place = { kind: 'location', id, facts, hasDedicatedIp, storageGb, pricing };
    return GPU_COUNTS.filter((count) => count <= (number(gpu.max_count) ?? 0)).flatMap(
      (count) => makeOffer(place, v0Name, number(gpu.price_per_hr), count, limits) ?? [],
    );
  });
}

/** With stock unknown; null: it does not fit, or its price is not known. */
function makeOffer(
  place: Place,
  v0Name: string,
  gpuPrice: number | null,
  gpuCount: number,
  limits: SizeLimits,
): Offer | null {
  const { gpu, memoryGib } = readGpuModel(v0Name);
  const size = chooseSize(gpuCount, memoryGib, place.storageGb, limits);
  if (size === null || gpuPrice === null) return null;
  const choice = {
    place: place.kind,
    placeId: place.id,
    v0Name,
    gpuCount,
    ...size,
    hasDedicatedIp: place.hasDedicatedIp,
  };
  const price = priceOf(gpuPrice * gpuCount, size, place);
  const diskPrice = microUsdFromVendorFloat(place.pricing.storageGb);
  if (price === null || price === 0n || diskPrice === null || !isOfferable(choice)) return null;
  return {
    provider: 'tensordock',
    providerOfferId: formatOfferId(choice),
    ...place.facts,
    gpu,
    gpuCount,
    gpuMemoryGib: memoryGib,
    priceMicroUsdPerHour: price,
    pricedDiskGib: place.storageGb,
    diskMicroUsdPerGibHour: diskPrice,
    floorMicroUsdPerHour: null,
    interruptible: false,
    diskGib: limits.storageGb,
    cpuCores: size.vcpus,
    memoryGib: size.ramGb,
    cudaVersion: null,
    driverVersion: null,
    maxDurationSeconds: null,
    stock: null,
  };
}

/** The vendor's own sum; the instance's `rateHourly` is what is billed. */
function priceOf(gpus: number, size: MachineSize, { pricing, storageGb }: Place): MicroUsd | null {
  return microUsdFromVendorFloat(
    gpus + size.vcpus * pricing.vcpu + size.ramGb * pricing.ramGb + storageGb * pricing.storageGb,
  );
}

/** How many such machines the host has room for. */
function hostStock(available: number, free: Json, offer: Offer, storageGb: number): number {
  const bounds: [number | null, number | null][] = [
    [available, offer.gpuCount],
    [number(free.vcpu_count), offer.cpuCores],
    [number(free.ram_gb), offer.memoryGib],
    [number(free.storage_gb), storageGb],
  ];
  return Math.min(...bounds.map(([left, each]) => (left === null ? Infinity : Math.floor(left / (each ?? 1)))));
}

function hostLimits(free: Json, gpuCount: number): SizeLimits {
  const perGpu = (value: unknown): number | null => {
    const each = number(value);
    return each === null ? null : each * gpuCount;
  };
  return {
    vcpus: least(number(free.vcpu_count), number(free.max_vcpus), perGpu(free.max_vcpus_per_gpu)),
    ramGb: least(number(free.ram_gb), number(free.max_ram_gb), perGpu(free.max_ram_per_gpu)),
    storageGb: least(number(free.storage_gb), number(free.max_storage_gb)),
  };
}

function locationLimits(resources: unknown): SizeLimits {
  const limits = isObject(resources) ? resources : {};
  return {
    vcpus: number(limits.max_vcpus),
    ramGb: number(limits.max_ram_gb),
    storageGb: number(limits.max_storage_gb),
  };
}

function readPlace(at: Json): Pick<Offer, 'region' | 'location' | 'verified'> {
  const country = text(at.country);
  const parts = [text(at.city), text(at.stateprovince), country].filter((part) => part !== null);
  return {
    region: countryCode(country),
    location: parts.length === 0 ? null : parts.join(', '),
    verified: (number(at.tier) ?? 0) >= MIN_VERIFIED_TIER,
  };
}

function readPricing(pricing: unknown): Pricing | null {
  if (!isObject(pricing)) return null;
  const vcpu = number(pricing.per_vcpu_hr);
  const ramGb = number(pricing.per_gb_ram_hr);
  const storageGb = number(pricing.per_gb_storage_hr);
  return vcpu === null || ramGb === null || storageGb === null ? null : { vcpu, ramGb, storageGb };
}

function mbps(gbps: unknown): number | null {
  const value = number(gbps);
  return value === null ? null : value * 1_000;
}

function least(...values: (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : Math.min(...known);
}
