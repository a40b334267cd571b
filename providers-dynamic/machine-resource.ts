/** One rented machine as a Pulumi resource: what all marketplaces have in common. Each provider's resource.ts is its face to programs. */
import { createHash } from 'node:crypto';
import { getOrganization, getProject, getStack } from '@pulumi/pulumi/metadata.js';
import { secret, type Input, type Output } from '@pulumi/pulumi/output.js';
import { CustomResource, mergeOptions, type CustomResourceOptions } from '@pulumi/pulumi/resource.js';
import { toBase32 } from '../domain/ids.ts';
import type { ProviderName } from '../domain/provider.ts';
import { SECRET_OUTPUTS, type MachineInputs, type MachineOutputs } from './machine-properties.ts';
import { shimText } from './shim.ts';

export interface RentedMachineArgs {
  /** GPU model, in any spelling: "RTX 4090", "rtx_4090". Another model replaces the machine. */
  gpu: Input<string>;
  /** Highest price of the whole machine with its disk, micro-dollars per hour. Steers the purchase only. */
  maxPriceMicroUsdPerHour: Input<number>;
  /** Container image. Another image replaces the machine. */
  image: Input<string>;
  /** Another count replaces the machine. @default 1 */
  gpuCount?: Input<number>;
  /** Memory of one GPU. Steers the purchase only. @default any */
  minGpuMemoryGib?: Input<number | null>;
  /** Fixed at the purchase; another size replaces the machine. @default 40 */
  diskGib?: Input<number>;
  /** Two-letter country codes. Steers the purchase only. @default any */
  regions?: Input<string[]>;
  /** 0 to 1. Steers the purchase only. @default any */
  minReliability?: Input<number | null>;
  /** Cheaper, but may be stopped when outbid. Changing it replaces the machine. @default false */
  interruptible?: Input<boolean>;
  /** Bid for the whole machine without its disk, micro-dollars per hour; changed in place. @default maxPriceMicroUsdPerHour when interruptible */
  bidMicroUsdPerHour?: Input<number | null>;
  /** Environment of the container; kept secret. Changing it replaces the machine. @default {} */
  env?: Input<Record<string, Input<string>>>;
  /** Shell script run at start; kept secret. Changing it replaces the machine. @default none */
  onStart?: Input<string | null>;
  /** OpenSSH public keys to let in; adding one changes the machine in place, removing one does not lock it out. @default [] */
  sshPublicKeys?: Input<string[]>;
  /** At most one machine per label: an existing one is adopted. @default muster-ext-<project>-<hash of the resource's place> */
  label?: Input<string>;
}

export class RentedMachine extends CustomResource {
  declare readonly label: Output<string>;
  declare readonly status: Output<MachineOutputs['status']>;
  declare readonly statusDetail: Output<string | null>;
  declare readonly machineId: Output<string | null>;
  declare readonly observedGpu: Output<string | null>;
  declare readonly observedGpuCount: Output<number | null>;
  declare readonly gpuMemoryGib: Output<number | null>;
  declare readonly priceMicroUsdPerHour: Output<number | null>;
  declare readonly sshHost: Output<string | null>;
  declare readonly sshPort: Output<number | null>;
  declare readonly sshUser: Output<string | null>;
  declare readonly region: Output<string | null>;
  declare readonly startedAt: Output<string | null>;

  constructor(provider: ProviderName, name: string, args: RentedMachineArgs, options: CustomResourceOptions = {}) {
    const properties = {
      ...OUTPUT_PLACES,
      ...args,
      env: secret(args.env ?? {}),
      ...(args.onStart === undefined ? {} : { onStart: secret(args.onStart) }),
      resourceKey: resourceKey(machineType(provider), name),
      __provider: shimText(provider),
    };
    super(
      machineType(provider),
      name,
      properties,
      mergeOptions(options, { additionalSecretOutputs: [...SECRET_OUTPUTS] }),
    );
  }
}

/** As the engine's state names it. */
export function machineType(provider: ProviderName): string {
  return `pulumi-nodejs:dynamic/${provider}:Instance`;
}

/** Outputs have to be named for the SDK to fill them in. */
const OUTPUT_PLACES = {
  label: undefined,
  status: undefined,
  statusDetail: undefined,
  machineId: undefined,
  observedGpu: undefined,
  observedGpuCount: undefined,
  gpuMemoryGib: undefined,
  priceMicroUsdPerHour: undefined,
  sshHost: undefined,
  sshPort: undefined,
  sshUser: undefined,
  region: undefined,
  startedAt: undefined,
} satisfies Partial<Record<keyof MachineOutputs | keyof MachineInputs, undefined>>;

const MAX_PROJECT_LENGTH = 35;

/** The resource's place (organisation, project, stack, name) as text for a label: create is not told the URN. */
function resourceKey(type: string, name: string): string {
  const place = [getOrganization(), getProject(), getStack(), type, name].join('::');
  const hash = toBase32(createHash('sha256').update(place).digest().subarray(0, 10));
  const project = getProject()
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-/, '')
    .slice(0, MAX_PROJECT_LENGTH);
  return `${project.replace(/-$/, '')}-${hash}`;
}
