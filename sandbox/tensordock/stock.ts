/**
 * Which hosts there are and what is left on them. The vendor lists hosts with what is free, and places with what they sell at all;
 * a listed host may have nothing all the same (`staleHostShare`, `drought`).
 */
import { createRandom } from '../random.ts';
import { holdsGpus } from '../rental/machine.ts';
import type { RentalMarket } from '../rental/vendor.ts';
import { makeHost, makePlaces, PRICING, type Host, type Place } from './hardware.ts';
import type { TensordockDetails } from './machine.ts';
import type { TensordockSwitches } from './switches.ts';

export interface Free {
  gpus: number;
  vcpus: number;
  ramGb: number;
  storageGb: number;
}

export interface Stock {
  /** Shown or not. */
  findHost(id: string): Host | undefined;
  /** Shown or not. */
  hosts(): readonly Host[];
  hostsAt(placeId: string): Host[];
  /** As listed now. */
  free(host: Host): Free;
  /** Whether a purchase of this would be served now, whatever is listed. */
  canServe(host: Host, wanted: Free): boolean;
  /** Dollars per GPU and hour now. */
  gpuPrice(host: Host): number;
  /** From now on nothing is left on this host. */
  empty(hostId: string): void;
  describeHosts(gpuModel: string | null, isAvailableOnly: boolean): unknown[];
  describeHost(host: Host): unknown;
  describePlaces(): unknown[];
  /** Hosts that are shown times the counts 1, 2, 4 and 8 that they have room for. */
  countOffers(): number;
}

const COUNTS = [1, 2, 4, 8];
const EMPTIED = 'tensordock/emptied';
/** The least of everything that goes with one GPU. */
const LEAST_PER_GPU: Free = { gpus: 1, vcpus: 2, ramGb: 8, storageGb: 0 };
const MIN_STORAGE_GB = 100;

export function createStock(market: RentalMarket<TensordockDetails, TensordockSwitches>): Stock {
  const { fleet, journal, seed } = market;
  const places = makePlaces(seed);
  const hosts = makeHosts(seed, places, market.offerCount);
  const byId = new Map(hosts.map((host) => [host.id, host]));
  const emptied = new Set((journal.restored.get(EMPTIED) as string[] | undefined) ?? []);

  /** What this account's machines hold of each host. */
  function usage(): Map<string, Free> {
    const used = new Map<string, Free>();
    for (const machine of fleet.all()) {
      if (!holdsGpus(machine)) continue;
      const sum = used.get(machine.offerKey) ?? { gpus: 0, vcpus: 0, ramGb: 0, storageGb: 0 };
      const { vcpus, ramGb, storageGb } = machine.details;
      used.set(machine.offerKey, {
        gpus: sum.gpus + machine.gpuCount,
        vcpus: sum.vcpus + vcpus,
        ramGb: sum.ramGb + ramGb,
        storageGb: sum.storageGb + storageGb,
      });
    }
    return used;
  }

  function freeOf(host: Host, used: Free | undefined): Free {
    const others = emptied.has(host.id) ? host.totalGpus : host.takenByOthers;
    const share = host.totalGpus - others;
    return {
      gpus: Math.max(0, share - (used?.gpus ?? 0)),
      vcpus: Math.max(0, share * host.vcpusPerGpu - (used?.vcpus ?? 0)),
      ramGb: Math.max(0, share * host.gpu.ramGbPerGpu - (used?.ramGb ?? 0)),
      storageGb: Math.max(0, share * host.storageGbPerGpu - (used?.storageGb ?? 0)),
    };
  }

  function isGone(host: Host): boolean {
    const { drought, staleHostShare } = market.switches();
    if (drought.includes('*') || drought.includes(host.gpu.model.name)) return true;
    return createRandom(seed, `tensordock stale ${host.id}`).next() < staleHostShare;
  }

  const gpuPrice = (host: Host): number => round(host.priceUsd * market.switches().priceFactor);

  function describeHost(host: Host, used: Map<string, Free> = usage()): unknown {
    const free = freeOf(host, used.get(host.id));
    const { place, gpu } = host;
    return {
      id: host.id,
      location_id: place.id,
      engine: 'kvm',
      uptime_percentage: host.uptimePercentage,
      available_resources: {
        gpus: [{ v0Name: gpu.v0Name, availableCount: free.gpus, price_per_hr: gpuPrice(host) }],
        vcpu_count: free.vcpus,
        ram_gb: free.ramGb,
        storage_gb: free.storageGb,
        max_vcpus_per_gpu: host.vcpusPerGpu,
        max_ram_per_gpu: gpu.ramGbPerGpu,
        max_vcpus: free.vcpus,
        max_ram_gb: free.ramGb,
        max_storage_gb: free.storageGb,
        available_ports: host.freePorts,
        has_public_ip_available: host.hasPublicIps,
      },
      pricing: PRICING,
      location: {
        uuid: place.id,
        city: place.city,
        stateprovince: place.stateprovince,
        country: place.country,
        has_network_storage: false,
        network_speed_gbps: place.gbps,
        network_speed_upload_gbps: place.gbps / 2,
        organization: `org-${host.organization}`,
        organizationName: `Example DC ${host.organization}`,
        tier: place.tier,
      },
    };
  }

  function describePlace(place: Place): unknown {
    const types = new Map<string, Host[]>();
    for (const host of hosts.filter((each) => each.place === place)) {
      types.set(host.gpu.v0Name, [...(types.get(host.gpu.v0Name) ?? []), host]);
    }
    const gpus = [...types.values()].map((same) => {
      const largest = same.reduce((a, b) => (b.totalGpus > a.totalGpus ? b : a));
      return {
        v0Name: largest.gpu.v0Name,
        displayName: largest.gpu.displayName,
        // What it has in all, sold or not: the listing of places is stale by nature.
        max_count: largest.totalGpus,
        price_per_hr: Math.min(...same.map(gpuPrice)),
        resources: {
          max_vcpus: largest.totalGpus * largest.vcpusPerGpu,
          max_ram_gb: largest.totalGpus * largest.gpu.ramGbPerGpu,
          max_storage_gb: largest.totalGpus * largest.storageGbPerGpu,
        },
        pricing: PRICING,
        network_features: {
          dedicated_ip_available: same.some((host) => host.hasPublicIps),
          port_forwarding_available: true,
          network_storage_available: false,
        },
      };
    });
    const { id, city, stateprovince, country, tier } = place;
    return { id, city, stateprovince, country, tier, gpus };
  }

  return {
    findHost: (id) => byId.get(id),
    hosts: () => hosts,
    hostsAt: (placeId) => hosts.filter((host) => host.place.id === placeId),
    free: (host) => freeOf(host, usage().get(host.id)),
    canServe(host, wanted) {
      const free = freeOf(host, usage().get(host.id));
      return !isGone(host) && (Object.keys(free) as (keyof Free)[]).every((what) => wanted[what] <= free[what]);
    },
    gpuPrice,
    empty(hostId) {
      emptied.add(hostId);
      journal.put([[EMPTIED, [...emptied]]]);
    },
    describeHosts(gpuModel, isAvailableOnly) {
      const used = usage();
      return hosts
        .filter((host) => host.isShown && (gpuModel === null || host.gpu.v0Name === gpuModel))
        .filter((host) => !isAvailableOnly || freeOf(host, used.get(host.id)).gpus > 0)
        .map((host) => describeHost(host, used));
    },
    describeHost,
    describePlaces: () => places.map(describePlace),
    countOffers() {
      const used = usage();
      return hosts.reduce((sum, host) => sum + countsOf(host, freeOf(host, used.get(host.id))), 0);
    },
  };
}

/** Hosts until so many offers are listed: at least one at each place, however small the market is. */
function makeHosts(seed: number, places: readonly Place[], offerCount: number): Host[] {
  const hosts: Host[] = [];
  for (let listed = 0; hosts.length < places.length || listed < offerCount;) {
    const host = makeHost(seed, places, hosts.length);
    hosts.push(host);
    const free = host.totalGpus - host.takenByOthers;
    if (host.isShown) listed += COUNTS.filter((count) => count <= free).length;
  }
  return hosts;
}

function countsOf(host: Host, free: Free): number {
  if (!host.isShown) return 0;
  return COUNTS.filter(
    (count) =>
      free.storageGb >= MIN_STORAGE_GB &&
      count <= free.gpus &&
      count * LEAST_PER_GPU.vcpus <= free.vcpus &&
      count * LEAST_PER_GPU.ramGb <= free.ramGb,
  ).length;
}

function round(dollars: number): number {
  return Math.round(dollars * 1e6) / 1e6;
}
