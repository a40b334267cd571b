/**
 * RunPod's catalogue as offers. It is a price list with a word for the stock, not a list of machines: one offer stands for one
 * GPU type and count in one data center, may be bought any number of times, and is advisory until bought. Secure cloud only: a
 * community host belongs to no data center and may have no public address, without which a pod has no full SSH.
 */
import { microUsdFromVendorFloat } from '../../domain/money.ts';
import { canonicalGpuKey, type Offer } from '../../domain/offer.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { OfferQuery } from '../provider-client.ts';
import { countryOfDataCenter } from './data-centers.ts';
import { canonicalGpuName } from './gpu-names.ts';
import { isObject, type Json } from '../http.ts';
import { DISK_MICRO_USD_PER_GIB_HOUR, number, text, unbelievable } from './wire.ts';

/** What an offer's id says: all that its purchase needs. */
export interface OfferPlace {
  gpuTypeId: string;
  gpuCount: number;
  /** null: the scheduler chooses. */
  dataCenterId: string | null;
}

const DEFAULT_DISK_GIB = 40;
/** The counts offered where the query names none. */
const GPU_COUNTS = [1, 2, 4, 8];
/** How far the catalogue is believed when the stock is high; it says yes where a purchase is refused (many reports). */
const CONFIDENCE = 0.8;
const STOCK_SHARES: Record<string, number> = { HIGH: 1, MEDIUM: 0.75, LOW: 0.4 };
/** The stock was asked for another number of GPUs: several on one machine are rarer than one. */
const OTHER_COUNT_SHARE = 0.75;
const ANYWHERE = '*';

/** The stock is the one for the count asked for; without one, for single GPUs. */
export function catalogueQuery(query: OfferQuery): string {
  const count = String(query.gpuCount ?? 1);
  return new URLSearchParams({ include: 'AVAILABILITY', product: 'POD', cloud: 'SECURE', count }).toString();
}

/** @returns the offers that satisfy the query, cheapest first. None for interruptible ones: REST v2 has no such rental. */
export function readCatalogue(body: unknown, query: OfferQuery): Offer[] {
  const rows = isObject(body) ? body.gpus : undefined;
  if (!Array.isArray(rows)) throw unbelievable('the catalogue has no list of GPU types');
  const types = rows.map((row) => readGpuType(row)).filter((type) => type !== null);
  // A few odd rows are the vendor's; a page that is mostly unreadable is not its catalogue.
  if (types.length * 2 < rows.length)
    throw unbelievable(`${rows.length - types.length} of ${rows.length} GPU types are unreadable`);
  if (query.interruptible === true) return [];
  const wantedGpu = query.gpu === undefined ? null : canonicalGpuKey(query.gpu);
  const max = query.maxPriceMicroUsdPerHour;
  const offers = types
    .filter((type) => wantedGpu === null || canonicalGpuKey(type.gpu) === wantedGpu)
    .flatMap((type) => offersOfType(type, query))
    .filter((offer) => max === undefined || offer.priceMicroUsdPerHour <= max)
    .sort((a, b) => Number(a.priceMicroUsdPerHour - b.priceMicroUsdPerHour));
  return query.limit === undefined ? offers : offers.slice(0, query.limit);
}

/** Throws `invalid` for what is no offer of ours. */
export function readOfferId(providerOfferId: string): OfferPlace {
  const match = /^([A-Za-z0-9-]{1,40}|\*)\/(\d{1,2})\/(\S.{0,119})$/.exec(providerOfferId);
  if (!match)
    throw new ProviderError('invalid', `"${providerOfferId}" is no offer of RunPod (data center/count/GPU type)`);
  const [, place, count, gpuTypeId] = match as unknown as [string, string, string, string];
  return { gpuTypeId, gpuCount: Number(count), dataCenterId: place === ANYWHERE ? null : place };
}

interface GpuType {
  id: string;
  gpu: string;
  memoryGib: number | null;
  usdPerGpuHour: number;
  isSecure: boolean;
  hasNvidiaSmi: boolean;
  maxCount: number;
  cudaVersion: string | null;
  places: { id: string | null; name: string | null; stock: string }[];
}

function readGpuType(row: unknown): GpuType | null {
  if (!isObject(row)) return null;
  const id = text(row.id);
  const price = isObject(row.price) ? number(row.price.secure) : null;
  const maxCount = isObject(row.maxCount) ? number(row.maxCount.secure) : null;
  if (id === null || price === null || maxCount === null) return null;
  return {
    id,
    gpu: canonicalGpuName(id, text(row.name)),
    memoryGib: number(row.memory),
    usdPerGpuHour: price,
    isSecure: row.secure === true,
    hasNvidiaSmi: row.manufacturer !== 'AMD',
    maxCount,
    cudaVersion: readCudaVersion(row.cudaVersions),
    places: readPlaces(row),
  };
}

/** Without data centers, what there is can be placed by the vendor's scheduler only. */
function readPlaces(row: Json): GpuType['places'] {
  const overall = text(row.availability) ?? 'NONE';
  if (overall === 'NONE') return [];
  if (!Array.isArray(row.dataCenters)) return [{ id: null, name: null, stock: overall }];
  return row.dataCenters.filter(isObject).flatMap((place) => {
    const id = text(place.id);
    const stock = text(place.availability) ?? 'NONE';
    return id === null || stock === 'NONE' ? [] : [{ id, name: text(place.name), stock }];
  });
}

/** Hosts differ and one cannot be chosen: the lowest that is free is what any of them has at least. */
function readCudaVersion(value: unknown): string | null {
  if (!Array.isArray(value)) return null;
  const versions = value
    .filter(isObject)
    .filter((each) => each.available === true)
    .map((each) => text(each.version))
    .filter((version) => version !== null && /^\d+\.\d+$/.test(version)) as string[];
  const asNumbers = (version: string): number => {
    const [major = 0, minor = 0] = version.split('.').map(Number);
    return major * 1000 + minor;
  };
  return versions.sort((a, b) => asNumbers(a) - asNumbers(b))[0] ?? null;
}

function offersOfType(type: GpuType, query: OfferQuery): Offer[] {
  // What is not sold on the secure cloud is priced 0 there; a GPU without nvidia-smi would never be verified ready.
  if (!type.isSecure || type.usdPerGpuHour <= 0 || !type.hasNvidiaSmi) return [];
  const counts = query.gpuCount === undefined ? GPU_COUNTS : [query.gpuCount];
  const askedCount = query.gpuCount ?? 1;
  const pricedDiskGib = Math.ceil(query.diskGib ?? DEFAULT_DISK_GIB);
  return counts
    .filter((count) => count <= type.maxCount)
    .flatMap((count) => {
      const gpus = microUsdFromVendorFloat(type.usdPerGpuHour * count);
      if (gpus === null) return [];
      const share = count === askedCount ? 1 : OTHER_COUNT_SHARE;
      return type.places.map((place) => ({
        provider: 'runpod' as const,
        providerOfferId: `${place.id ?? ANYWHERE}/${count}/${type.id}`,
        machineId: null,
        hostId: null,
        gpu: type.gpu,
        gpuCount: count,
        gpuMemoryGib: type.memoryGib,
        priceMicroUsdPerHour: gpus + DISK_MICRO_USD_PER_GIB_HOUR * BigInt(pricedDiskGib),
        pricedDiskGib,
        diskMicroUsdPerGibHour: DISK_MICRO_USD_PER_GIB_HOUR,
        floorMicroUsdPerHour: null,
        interruptible: false,
        region: place.id === null ? null : countryOfDataCenter(place.id),
        location: place.name ?? place.id,
        reliability: null,
        verified: true,
        diskGib: null,
        cpuCores: null,
        memoryGib: null,
        inetDownMbps: null,
        inetUpMbps: null,
        cudaVersion: type.cudaVersion,
        driverVersion: null,
        directPorts: null,
        maxDurationSeconds: null,
        stock: null,
        confidence: round(CONFIDENCE * (STOCK_SHARES[place.stock] ?? STOCK_SHARES.LOW ?? 0) * share),
      }));
    });
}

function round(share: number): number {
  return Math.round(share * 1000) / 1000;
}
