/** An offer as the vendor sends it. Money leaves as dollars per hour for the whole offer, disk included in `*_total`. */
import { toDriverNumber } from './hardware.ts';
import type { Offer } from './offers.ts';

export type WireObject = Record<string, unknown>;

const MICRO = 1_000_000;
const HOURS_PER_MONTH = 720;

export interface OfferPricing {
  allocatedStorageGb: number;
  isBid: boolean;
  nowMs: number;
}

export function toWireOffer(offer: Offer, pricing: OfferPricing): WireObject {
  const { slot } = offer;
  const dphBase = (pricing.isBid ? offer.minBidMicroUsdPerHour : offer.priceMicroUsdPerHour) / MICRO;
  const storageCost = slot.storageMicroUsdPerGbMonth / MICRO;
  const storageTotal = round6((pricing.allocatedStorageGb * storageCost) / HOURS_PER_MONTH);
  const dphTotal = round6(dphBase + storageTotal);
  return {
    id: offer.id,
    ask_contract_id: offer.id,
    bundle_id: slot.bundleId,
    machine_id: slot.machineId,
    host_id: slot.hostId,
    gpu_name: slot.gpu.name,
    num_gpus: slot.numGpus,
    gpu_ram: slot.gpu.memoryMib,
    gpu_total_ram: slot.gpu.memoryMib * slot.numGpus,
    gpu_frac: slot.gpuFrac,
    gpu_arch: 'nvidia',
    gpu_mem_bw: 930,
    gpu_max_power: slot.gpu.powerWatts,
    gpu_max_temp: 90,
    gpu_display_active: false,
    compute_cap: slot.gpu.computeCap,
    cuda_max_good: slot.cudaMax,
    driver_version: slot.driverVersion,
    driver_vers: toDriverNumber(slot.driverVersion),
    cpu_arch: 'amd64',
    cpu_name: slot.cpuName,
    cpu_cores: slot.cpuCores,
    cpu_cores_effective: slot.cpuCoresEffective,
    cpu_ghz: 2.8,
    cpu_ram: slot.cpuRamMb,
    has_avx: 1,
    disk_name: 'nvme',
    disk_space: slot.diskGb,
    disk_bw: 2400,
    inet_up: slot.inetUpMbps,
    inet_down: slot.inetDownMbps,
    inet_up_cost: 0.003,
    inet_down_cost: 0.002,
    internet_up_cost_per_tb: 3,
    internet_down_cost_per_tb: 2,
    dph_base: dphBase,
    dph_total: dphTotal,
    dph_total_adj: dphTotal,
    discounted_dph_total: dphTotal,
    min_bid: offer.minBidMicroUsdPerHour / MICRO,
    is_bid: pricing.isBid,
    storage_cost: storageCost,
    storage_total_cost: storageTotal,
    search: priceBlock(dphBase, storageTotal),
    instance: priceBlock(0, storageTotal),
    reliability: slot.reliability,
    reliability2: slot.reliability,
    expected_reliability: round6(slot.reliability * 0.993),
    score: round6((slot.gpu.dlperf * slot.numGpus * slot.reliability) / Math.max(dphTotal, 0.01)),
    dlperf: slot.gpu.dlperf * slot.numGpus,
    dlperf_per_dphtotal: round6((slot.gpu.dlperf * slot.numGpus) / dphTotal),
    flops_per_dphtotal: round6((slot.gpu.teraflops * slot.numGpus) / dphTotal),
    total_flops: round6(slot.gpu.teraflops * slot.numGpus),
    duration: slot.durationSeconds,
    start_date: pricing.nowMs / 1000,
    end_date: pricing.nowMs / 1000 + slot.durationSeconds,
    time_remaining: '',
    time_remaining_isbid: '',
    static_ip: slot.staticIp,
    public_ipaddr: '127.0.0.1',
    direct_port_count: 120,
    verification: slot.verification,
    vericode: slot.verification === 'verified' ? 1 : 0,
    hosting_type: slot.hostingType,
    external: null,
    geolocation: slot.geolocation,
    geolocode: slot.geolocode,
    rentable: true,
    rented: false,
    vms_enabled: false,
    resource_type: 'gpu',
    cluster_id: null,
    pci_gen: 4,
    pcie_bw: 24.6,
    bw_nvlink: 0,
    mobo_name: 'ROMED8-2T',
    os_version: '22.04',
    webpage: null,
    logo: '/static/logos/vastai_small2.png',
  };
}

export function priceBlock(gpuPerHour: number, diskPerHour: number): WireObject {
  const total = round6(gpuPerHour + diskPerHour);
  return {
    gpuCostPerHour: gpuPerHour,
    diskHour: diskPerHour,
    totalHour: total,
    discountTotalHour: 0,
    discountedTotalPerHour: total,
  };
}

export function round6(value: number): number {
  return Math.round(value * MICRO) / MICRO;
}
