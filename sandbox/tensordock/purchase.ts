/** A purchase: what is checked, in which order, and the machine that comes of it. */
import type { HttpReply } from '../http-listener.ts';
import { isPublicKey } from '../public-keys.ts';
import { VendorRefusal } from '../rental/api.ts';
import { runCloudInit } from '../rental/cloud-init.ts';
import type { NewRentalMachine } from '../rental/fleet.ts';
import type { PlacedMachine } from '../vendor.ts';
import { PRICING, type Host } from './hardware.ts';
import type { TensordockDetails } from './machine.ts';
import { statusOf, writeStatus } from './machine.ts';
import { HOST_UNAVAILABLE, NO_NODES, NO_PUBLIC_IPS, toRefusedPurchase } from './refusals.ts';
import { readCreate, type CreateOrder } from './requests.ts';
import type { Free } from './stock.ts';
import type { TensordockWorld } from './world.ts';

const MIN_BALANCE_MICRO_USD = 1_000_000;
const DRIVER_IMAGES = /_ml_/;

export function buyMachine(world: TensordockWorld, body: unknown): HttpReply {
  const switches = world.switches();
  const refuse = (error: string): VendorRefusal => new VendorRefusal(toRefusedPurchase(error, switches));
  const order = readCreate(body);
  if (balanceMicroUsd(world) < MIN_BALANCE_MICRO_USD)
    throw refuse('You need at least $1.00 in your account to deploy a virtual machine');
  const [v0Name, gpu] = Object.entries(order.resources.gpus ?? {})[0] ?? [];
  // Without a GPU: the sandbox has no such machines.
  if (v0Name === undefined || gpu === undefined) throw refuse(NO_NODES);
  const wanted = wantedOf(order, gpu.count);
  const host = pickHost(world, order, v0Name, wanted);
  if (typeof host === 'string') throw refuse(host);
  const machine = world.fleet.create(describeOrder(world, order, host, wanted), 'bought', 'boot', (id) =>
    world.purchases.count(order.name, 'accepted', id),
  );
  if (!DRIVER_IMAGES.test(order.image)) {
    // The plain images have no driver: nvidia-smi shows nothing.
    const wrongGpu = { gpuName: machine.gpuName, numGpus: 0 };
    world.fleet.update(machine, { faults: { ...machine.faults, wrongGpu } });
  }
  const status = writeStatus(statusOf(machine, switches), switches);
  const bought = { type: 'virtualmachine', id: machine.id, name: machine.label, status };
  return { status: 201, body: switches.isCreateWrapped ? { data: bought } : bought };
}

/** What the host that a purchase names loses to somebody else; nothing where it names a place. */
export function loseHost(world: TensordockWorld, body: unknown): HttpReply {
  const order = readCreate(body);
  const host = order.hostnode_id === undefined ? undefined : world.stock.findHost(order.hostnode_id);
  if (host !== undefined) world.stock.empty(host.id);
  return toRefusedPurchase(NO_NODES, world.switches());
}

/** A machine that nobody bought through the API, on any host with room. */
export function describePlaced(world: TensordockWorld, input: PlacedMachine): NewRentalMachine<TensordockDetails> {
  const wanted: Free = { gpus: 1, vcpus: 8, ramGb: 32, storageGb: 100 };
  const hosts = world.stock.hosts();
  const host = hosts.find((each) => world.stock.canServe(each, wanted)) ?? hosts[0]!;
  const details = detailsOf(host, wanted, 'ubuntu2404_ml_pytorch', true, []);
  return {
    ...machineOf(world, host, wanted, details),
    label: input.label,
    publicKeys: [],
    startupScript: null,
    env: {},
  };
}

export function balanceMicroUsd(world: TensordockWorld): number {
  return world.switches().creditUsd * 1e6 - world.fleet.totalChargedMicroUsd();
}

/** The host, or why there is none. */
function pickHost(world: TensordockWorld, order: CreateOrder, v0Name: string, wanted: Free): Host | string {
  const { stock } = world;
  const needsIp = order.useDedicatedIp === true;
  const serves = (host: Host): boolean => host.gpu.v0Name === v0Name && stock.canServe(host, wanted);
  const hasIp = (host: Host): boolean => host.hasPublicIps && !world.switches().hasNoPublicIps;
  if (order.hostnode_id !== undefined) {
    const host = stock.findHost(order.hostnode_id);
    if (host === undefined) return HOST_UNAVAILABLE;
    if (!serves(host)) return NO_NODES;
    return needsIp && !hasIp(host) ? NO_PUBLIC_IPS : host;
  }
  const serving = stock.hostsAt(order.location_id ?? '').filter(serves);
  if (serving.length === 0) return NO_NODES;
  return (needsIp ? serving.find(hasIp) : serving[0]) ?? NO_PUBLIC_IPS;
}

function describeOrder(
  world: TensordockWorld,
  order: CreateOrder,
  host: Host,
  wanted: Free,
): NewRentalMachine<TensordockDetails> {
  const boot = runCloudInit(order.cloud_init?.runcmd ?? [], order.cloud_init?.write_files);
  const ordered = order.ssh_key ?? world.secrets.find(order.ssh_key_id ?? '')?.value;
  const installed = world.switches().isSshKeyInstalled && isPublicKey(ordered) ? [ordered.trim()] : [];
  const ports = (order.port_forwards ?? []).map((forward) => forward.internal_port);
  const details = detailsOf(host, wanted, order.image, order.useDedicatedIp === true, ports);
  return {
    ...machineOf(world, host, wanted, details),
    label: order.name,
    publicKeys: [...new Set([...boot.keysOf('/root'), ...installed])],
    startupScript: boot.startupScript,
    env: boot.env,
  };
}

function machineOf(world: TensordockWorld, host: Host, wanted: Free, details: TensordockDetails) {
  const whileStopped = world.switches().stopKeepsGpu ? ('all' as const) : ('storage' as const);
  return {
    offerKey: host.id,
    gpuName: host.gpu.model.name,
    gpuCount: wanted.gpus,
    ...priceOf(world.stock.gpuPrice(host), wanted),
    billing: { whileBooting: true, whileStopped },
    details,
  };
}

/** The vendor's sum: GPUs, processors and memory; the disk apart. */
export function priceOf(gpuPriceUsd: number, wanted: Free) {
  const { per_vcpu_hr: vcpu, per_gb_ram_hr: ram, per_gb_storage_hr: storage } = PRICING;
  return {
    computeMicroUsdPerHour: Math.round((gpuPriceUsd * wanted.gpus + vcpu * wanted.vcpus + ram * wanted.ramGb) * 1e6),
    storageMicroUsdPerHour: Math.round(storage * wanted.storageGb * 1e6),
  };
}

function wantedOf({ resources }: CreateOrder, gpus: number): Free {
  return { gpus, vcpus: resources.vcpu_count, ramGb: resources.ram_gb, storageGb: resources.storage_gb };
}

function detailsOf(
  host: Host,
  wanted: Free,
  image: string,
  hasDedicatedIp: boolean,
  internalPorts: number[],
): TensordockDetails {
  const { vcpus, ramGb, storageGb } = wanted;
  const locationId = host.place.id;
  return { v0Name: host.gpu.v0Name, image, vcpus, ramGb, storageGb, locationId, hasDedicatedIp, internalPorts };
}
