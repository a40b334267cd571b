/** An instance and an instance type as the vendor sends them. */
import type { RentalMachine } from '../rental/machine.ts';
import { INSTANCE_TYPES, type InstanceType, REGIONS } from './catalog.ts';

/** What the vendor remembers of an instance besides what every rented machine has. */
export interface LambdaDetails {
  typeName: string;
  region: string;
  /** Cents at its launch. */
  centsPerHour: number;
  /** Null where none was given: the wire leaves the field out. */
  name: string | null;
  hostname: string | null;
  sshKeyNames: string[];
  fileSystemNames: string[];
  fileSystemMounts: { mount_point: string; file_system_id: string }[];
  tags: { key: string; value: string }[];
  firewallRulesets: { id: string }[];
}

export type LambdaMachine = RentalMachine<LambdaDetails>;
export type LambdaStatus = 'booting' | 'active' | 'unhealthy' | 'terminating' | 'terminated' | 'preempted';

const ACTIONS = ['migrate', 'rebuild', 'restart', 'cold_reboot', 'terminate'] as const;
const REASONS = {
  'vm-has-not-launched': 'The instance has not launched yet.',
  'vm-is-terminating': 'The instance is terminating.',
} as const;
/** The wire has no port. A tag may say it: the simulated machines cannot all have port 22 of one address. */
const SSH_PORT_TAG = 'ssh-port';

export function statusOf(machine: LambdaMachine): LambdaStatus {
  if (machine.destroyedAtMs !== null) return 'terminated';
  if (machine.isHostLost) return 'unhealthy';
  switch (machine.status) {
    case 'creating':
    case 'booting':
      return 'booting';
    case 'running':
      return 'active';
    case 'terminating':
      return 'terminating';
    case 'reclaimed':
      return 'preempted';
    // A guest that was powered off is in an alert state and is billed on.
    case 'failed':
    case 'stopping':
    case 'stopped':
      return 'unhealthy';
  }
}

/** Whether a terminate is taken: not before the machine is launched. */
export function canTerminate(machine: LambdaMachine): boolean {
  return machine.status !== 'creating';
}

export function toWireInstance(machine: LambdaMachine): Record<string, unknown> {
  const { details } = machine;
  const type = INSTANCE_TYPES.get(details.typeName)!;
  const status = statusOf(machine);
  const isUp = machine.boots > 0;
  const address = { ip: '127.0.0.1', private_ip: '10.0.2.100' };
  const token = machine.id.slice(0, 24);
  return {
    id: machine.id,
    ...(details.name === null ? {} : { name: details.name }),
    ...(isUp ? address : {}),
    status,
    ssh_key_names: details.sshKeyNames,
    file_system_names: details.fileSystemNames,
    ...(details.fileSystemMounts.length === 0 ? {} : { file_system_mounts: details.fileSystemMounts }),
    region: toWireRegion(details.region),
    instance_type: toWireType(type, details.centsPerHour),
    ...(isUp ? { hostname: details.hostname ?? `${machine.id.slice(0, 8)}.cloud.lambda.ai` } : {}),
    ...(isUp ? { jupyter_token: token, jupyter_url: `https://jupyter.lambda.ai/?token=${token}` } : {}),
    actions: describeActions(machine, status),
    tags: isUp ? [...details.tags, { key: SSH_PORT_TAG, value: String(machine.sshPort) }] : details.tags,
    firewall_rulesets: details.firewallRulesets,
  };
}

export function toWireType(type: InstanceType, centsPerHour: number): Record<string, unknown> {
  return {
    name: type.name,
    description: type.gpus === 0 ? '4x CPU General' : `${type.gpus}x ${type.gpuDescription}`,
    gpu_description: type.gpuDescription,
    price_cents_per_hour: centsPerHour,
    specs: { vcpus: type.vcpus, memory_gib: type.memoryGib, storage_gib: type.storageGib, gpus: type.gpus },
  };
}

export function toWireRegion(name: string): { name: string; description: string } {
  return { name, description: REGIONS[name] ?? name };
}

function describeActions(machine: LambdaMachine, status: LambdaStatus): Record<string, unknown> {
  const reason = reasonOf(machine, status);
  const details =
    reason === null
      ? { available: true }
      : { available: false, reason_code: reason, reason_description: REASONS[reason] };
  return Object.fromEntries(ACTIONS.map((action) => [action, details]));
}

function reasonOf(machine: LambdaMachine, status: LambdaStatus): keyof typeof REASONS | null {
  if (!canTerminate(machine)) return 'vm-has-not-launched';
  return status === 'terminating' || status === 'terminated' ? 'vm-is-terminating' : null;
}
