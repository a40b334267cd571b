/** A machine as the vendor sends it: an "instance". */
import { storageRate } from '../billing.ts';
import { toDriverNumber, type Slot } from './hardware.ts';
import type { Machine } from './machine.ts';
import { priceBlock, round6, type WireObject } from './offer-wire.ts';

const MICRO = 1_000_000;
/** Where nothing listens: a machine without SSH still has a port on the wire. */
const NO_SSH_PORT = 9;

export interface InstanceContext {
  slot: Slot;
  bidFloorMicroUsdPerHour: number;
  nowMs: number;
  hasIpSpace: boolean;
}

export function toWireInstance(machine: Machine, context: InstanceContext): WireObject {
  const { slot, nowMs } = context;
  const storageTotal = machine.storageMicroUsdPerHour / MICRO;
  const dphBase = machine.gpuMicroUsdPerHour / MICRO;
  const isRunning = machine.actual === 'running';
  const uptimeMinutes = machine.runningSinceMs === null ? null : round6((nowMs - machine.runningSinceMs) / 60_000);
  return {
    id: machine.id,
    machine_id: slot.machineId,
    bundle_id: slot.bundleId,
    host_id: slot.hostId,
    actual_status: machine.actual,
    intended_status: machine.intended,
    cur_state: machine.cur,
    next_state: machine.next,
    label: machine.label,
    template_id: null,
    template_hash_id: machine.templateHashId,
    template_name: null,
    image_uuid: machine.image,
    image_args: machine.imageArgs,
    image_runtype: machine.runtype,
    extra_env: machine.env,
    onstart: machine.onstart,
    jupyter_token: `token-${machine.id}`,
    status_msg: machine.statusMessage,
    public_ipaddr: context.hasIpSpace ? '127.0.0.1 ' : '127.0.0.1',
    local_ipaddrs: '10.0.0.5 172.17.0.2',
    ssh_host: '127.0.0.1',
    ssh_idx: '4',
    ssh_port: toProxyPort(machine),
    machine_dir_ssh_port: machine.sshPort ?? NO_SSH_PORT,
    start_date: machine.createdAtMs / 1000,
    end_date: machine.endAtMs / 1000,
    duration: Math.max(0, (machine.endAtMs - nowMs) / 1000),
    uptime_mins: uptimeMinutes,
    is_bid: machine.isBid,
    min_bid: context.bidFloorMicroUsdPerHour / MICRO,
    dph_base: dphBase,
    dph_total: round6(dphBase + storageTotal),
    search: priceBlock(dphBase, storageTotal),
    instance: priceBlock(isRunning ? dphBase : 0, storageTotal),
    storage_cost: slot.storageMicroUsdPerGbMonth / MICRO,
    storage_total_cost: storageRate(machine.diskGb, slot.storageMicroUsdPerGbMonth) / MICRO,
    ...hardwareFields(machine, slot, isRunning),
    credit_balance: null,
    credit_discount: null,
    time_remaining: '',
    time_remaining_isbid: '',
    volume_info: [],
    client_run_time: 1.1,
    host_run_time: 2_592_000,
    ...(isRunning && machine.sshPort !== null ? { ports: toPorts(machine, machine.sshPort) } : {}),
  };
}

function hardwareFields(machine: Machine, slot: Slot, isRunning: boolean): WireObject {
  return {
    inet_up: slot.inetUpMbps,
    inet_down: slot.inetDownMbps,
    inet_up_cost: 0.003,
    inet_down_cost: 0.002,
    num_gpus: slot.numGpus,
    gpu_name: slot.gpu.name,
    gpu_arch: 'nvidia',
    gpu_ram: slot.gpu.memoryMib,
    gpu_totalram: slot.gpu.memoryMib * slot.numGpus,
    gpu_util: isRunning ? 0 : null,
    gpu_temp: isRunning ? 39 : null,
    gpu_frac: slot.gpuFrac,
    compute_cap: slot.gpu.computeCap,
    cuda_max_good: slot.cudaMax,
    driver_version: slot.driverVersion,
    driver_vers: toDriverNumber(slot.driverVersion),
    cpu_arch: 'amd64',
    cpu_name: slot.cpuName,
    cpu_cores: slot.cpuCores,
    cpu_cores_effective: slot.cpuCoresEffective,
    cpu_ram: slot.cpuRamMb,
    cpu_util: 0,
    mem_limit: Math.floor(slot.cpuRamMb / 2000),
    mem_usage: 0.1,
    disk_name: 'nvme',
    disk_space: machine.diskGb,
    disk_bw: 2400,
    disk_util: isRunning ? 0.05 : -1,
    disk_usage: isRunning ? 0.05 : -1,
    direct_port_count: 120,
    direct_port_start: 40_000,
    direct_port_end: 40_119,
    static_ip: slot.staticIp,
    geolocation: slot.geolocation,
    country_code: null,
    hosting_type: slot.hostingType,
    verification: slot.verification,
    reliability2: slot.reliability,
    rentable: true,
    external: false,
    score: null,
    dlperf: slot.gpu.dlperf * slot.numGpus,
    total_flops: slot.gpu.teraflops * slot.numGpus,
    os_version: '22.04',
    pci_gen: 4,
    pcie_bw: 24.6,
    mobo_name: 'ROMED8-2T',
    webpage: null,
  };
}

/** Clients add 1 for images that run jupyter. */
function toProxyPort(machine: Machine): number {
  const port = machine.sshPort ?? NO_SSH_PORT;
  return machine.runtype.includes('jupyter') ? port - 1 : port;
}

/** The SSH port, and one for every `-p host:container` that was asked for (nothing listens behind those). */
function toPorts(machine: Machine, sshPort: number): WireObject {
  const ports: WireObject = { '22/tcp': [{ HostIp: '0.0.0.0', HostPort: String(sshPort) }] };
  let hostPort = 40_001;
  for (const [name] of machine.env) {
    const match = /^-p \d+:(\d+)(\/(?:tcp|udp))?$/.exec(name);
    if (match) ports[`${match[1]}${match[2] ?? '/tcp'}`] = [{ HostIp: '0.0.0.0', HostPort: String(hostPort++) }];
  }
  return ports;
}
