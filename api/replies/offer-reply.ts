/** An offer's face: prices as asked for, and how far it may still be believed. */
import { fadeConfidence, isStale } from '../../domain/offer-freshness.ts';
import { priceWithDisk } from '../../domain/offer.ts';
import type { InventoryRow } from '../../db/inventory.ts';
import { offerFromRow } from '../../db/offers.ts';
import type { ProviderRow } from '../../db/providers.ts';
import type { InventorySource, Offer } from '../contract/inventory.ts';
import { iso, isoOrNull, micro, microOrNull } from '../reply-values.ts';

/** @param diskGib what prices are to include; undefined: the disk that each is listed with */
export function offerReply(row: InventoryRow, now: number, diskGib?: number): Offer {
  const listed = offerFromRow(row);
  const pricedDiskGib = diskGib ?? row.priced_disk_gib;
  const price = priceWithDisk({ ...listed, interruptible: false }, pricedDiskGib);
  const hasFloor = row.floor_micro_usd_per_hour !== null;
  const ageMs = Math.max(0, now - row.seen_at.getTime());
  return {
    id: row.id,
    provider: row.provider,
    providerOfferId: row.provider_offer_id,
    machineId: row.machine_id,
    gpu: row.gpu,
    gpuCount: row.gpu_count,
    gpuMemoryGib: row.gpu_memory_gib,
    priceMicroUsdPerHour: micro(price),
    pricePerGpuMicroUsdPerHour: Math.ceil(micro(price) / row.gpu_count),
    pricedDiskGib,
    diskMicroUsdPerGibHour: micro(row.disk_micro_usd_per_gib_hour),
    floorMicroUsdPerHour: microOrNull(row.floor_micro_usd_per_hour),
    interruptiblePriceMicroUsdPerHour: hasFloor
      ? micro(priceWithDisk({ ...listed, interruptible: true }, pricedDiskGib))
      : null,
    interruptible: hasFloor,
    inetDownMicroUsdPerGb: microOrNull(row.inet_down_micro_usd_per_gb),
    inetUpMicroUsdPerGb: microOrNull(row.inet_up_micro_usd_per_gb),
    stock: row.stock,
    region: row.region,
    location: row.location,
    reliability: row.reliability,
    verified: row.verified,
    diskGib: row.disk_gib,
    cpuCores: row.cpu_cores,
    memoryGib: row.memory_gib,
    inetDownMbps: row.inet_down_mbps,
    inetUpMbps: row.inet_up_mbps,
    cudaVersion: row.cuda_version,
    driverVersion: row.driver_version,
    seenAt: iso(row.seen_at),
    ageSeconds: Math.floor(ageMs / 1000),
    stale: isStale(ageMs),
    confidence: fadeConfidence(row.confidence, ageMs),
    denylistedUntil: isoOrNull(row.denylisted_until),
  };
}

export function sourceReply(row: ProviderRow, now: number): InventorySource {
  const ageMs = row.offers_seen_at === null ? null : Math.max(0, now - row.offers_seen_at.getTime());
  return {
    name: row.name,
    mode: row.mode,
    enabled: row.enabled,
    status: row.status,
    reason: row.reason,
    offersCount: row.offers_count,
    lastGoodAt: isoOrNull(row.offers_seen_at),
    ageSeconds: ageMs === null ? null : Math.floor(ageMs / 1000),
    stale: ageMs === null || isStale(ageMs),
  };
}
