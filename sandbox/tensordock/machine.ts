/** A TensorDock machine as the wire shows it: what its states are called, its address and ports, in every shape of answer. */
import { currentRate, type RentalMachine } from '../rental/machine.ts';
import type { TensordockSwitches } from './switches.ts';

/** What it has besides what every rented machine has. */
export interface TensordockDetails {
  v0Name: string;
  image: string;
  vcpus: number;
  ramGb: number;
  storageGb: number;
  locationId: string;
  hasDedicatedIp: boolean;
  /** Internal ports that were asked to be forwarded. */
  internalPorts: number[];
}

export type TensordockMachine = RentalMachine<TensordockDetails>;
export type Status =
  | 'creating'
  | 'starting'
  | 'running'
  | 'stopping'
  | 'stopped'
  | 'stoppeddisassociated'
  | 'deleting'
  | 'deleted'
  | 'error';

const ADDRESS = '127.0.0.1';
const SSH_PORT = 22;
/** Forwards to ports that nothing listens on here. */
const FIRST_OTHER_PORT = 40_000;

export function statusOf(machine: TensordockMachine, switches: TensordockSwitches): Status {
  if (machine.destroyedAtMs !== null) return 'deleted';
  if (machine.status === 'terminating') return 'deleting';
  if (machine.isHostLost) return switches.hostLossStatus;
  switch (machine.status) {
    case 'creating':
      return switches.saysRunningAtOnce ? 'running' : 'creating';
    case 'booting':
      return switches.saysRunningAtOnce ? 'running' : 'starting';
    case 'running':
      return 'running';
    case 'stopping':
      return 'stopping';
    case 'stopped':
      return machine.billing.whileStopped === 'all' ? 'stopped' : 'stoppeddisassociated';
    case 'reclaimed':
      return 'stoppeddisassociated';
    case 'failed':
      return 'error';
  }
}

export function writeStatus(status: Status, { statusStyle }: TensordockSwitches): string {
  const words = status === 'stoppeddisassociated' ? ['stopped', 'disassociated'] : [status];
  const capital = words.map((word) => word.charAt(0).toUpperCase() + word.slice(1));
  switch (statusStyle) {
    case 'lower':
      return words.join('');
    case 'camel':
      return capital.join('');
    case 'snake':
      return words.join('_');
    case 'dashed':
      return capital.join('-');
  }
}

/** `GET /instances/{id}`. */
export function describeMachine(machine: TensordockMachine, switches: TensordockSwitches, nowMs: number): unknown {
  const { v0Name, vcpus, ramGb, storageGb } = machine.details;
  const isDisassociated = statusOf(machine, switches) === 'stoppeddisassociated';
  const instance = {
    type: 'virtualmachine',
    id: machine.id,
    name: machine.label,
    status: writeStatus(statusOf(machine, switches), switches),
    ...addressOf(machine, switches, nowMs),
    portForwards: portForwardsOf(machine, switches, nowMs),
    resources: {
      vcpu_count: vcpus,
      ram_gb: ramGb,
      storage_gb: storageGb,
      gpus: isDisassociated ? {} : { [v0Name]: { count: machine.gpuCount, v0Name } },
    },
    rateHourly: rateOf(machine),
  };
  return switches.isGetWrapped ? { data: instance } : instance;
}

/** `GET /instances`, in the shape that is switched on. */
export function describeList(
  machines: readonly TensordockMachine[],
  switches: TensordockSwitches,
  nowMs: number,
): unknown {
  if (switches.listShape === 'C') {
    const instances = machines.map((machine) => ({
      type: 'VM',
      id: machine.id,
      attributes: { name: machine.label, status: writeStatus(statusOf(machine, switches), switches) },
    }));
    return { data: { type: 'list', attributes: { instances } } };
  }
  const instances = machines.map((machine) => ({
    id: machine.id,
    name: machine.label,
    status: writeStatus(statusOf(machine, switches), switches),
    ...addressOf(machine, switches, nowMs),
    gpu_model: machine.details.v0Name,
    gpu_count: machine.gpuCount,
    vcpus: machine.details.vcpus,
    ram_gb: machine.details.ramGb,
    storage_gb: machine.details.storageGb,
    price_per_hour: rateOf(machine),
    created_at: new Date(machine.createdAtMs).toISOString(),
    location_id: machine.details.locationId,
    ...(switches.doListsHavePorts ? { portForwards: portForwardsOf(machine, switches, nowMs) } : {}),
  }));
  return { data: switches.listShape === 'A' ? { instances } : instances };
}

function hasAddress(machine: TensordockMachine, { ipDelayMs }: TensordockSwitches, nowMs: number): boolean {
  return machine.status === 'running' && machine.runningSinceMs !== null && nowMs >= machine.runningSinceMs + ipDelayMs;
}

function addressOf(machine: TensordockMachine, switches: TensordockSwitches, nowMs: number) {
  if (hasAddress(machine, switches, nowMs)) return { ipAddress: ADDRESS };
  return switches.missingIp === 'empty' ? { ipAddress: '' } : {};
}

function portForwardsOf(machine: TensordockMachine, switches: TensordockSwitches, nowMs: number) {
  const { hasDedicatedIp, internalPorts } = machine.details;
  if (!hasAddress(machine, switches, nowMs) || machine.sshPort === null) return [];
  if (switches.portForwards === 'ignored' && !hasDedicatedIp) return [];
  const ports = hasDedicatedIp ? [...new Set([SSH_PORT, ...internalPorts])] : internalPorts;
  return ports.map((port, index) => ({
    internal_port: port,
    external_port: port === SSH_PORT ? machine.sshPort : FIRST_OTHER_PORT + index,
  }));
}

function rateOf(machine: TensordockMachine): number {
  return currentRate(machine) / 1e6;
}
