/**
 * The `instance` stack: rented machines. The same program under the control plane, whose arguments are committed attempts, and
 * under plain `pulumi up`, whose arguments come from the stack's configuration.
 */
import { output, type Input, type Output } from '@pulumi/pulumi/output.js';
import { parseUsd } from '../../domain/money.ts';
import type { OfferRequirements } from '../../domain/offer.ts';
import type { ProviderName } from '../../domain/provider.ts';
import type { RentedMachine } from '../../providers-dynamic/machine-resource.ts';
import { LambdaInstance } from '../../providers-dynamic/lambda/resource.ts';
import { RunpodInstance } from '../../providers-dynamic/runpod/resource.ts';
import { TensordockInstance } from '../../providers-dynamic/tensordock/resource.ts';
import { VastaiInstance } from '../../providers-dynamic/vastai/resource.ts';
import { parseStackConfig } from '../config-values.ts';
import { instanceConfigSchema, type InstanceConfig } from './config.ts';

/** One machine to have. Amounts are numbers, because arguments travel as JSON; all are far below 2^53. */
export interface InstanceAttempt {
  /** Names the resource and its output. */
  attemptId: string;
  /** Absent: one is made from the resource's place in project and stack. */
  label?: string;
  provider: ProviderName;
  requirements: Omit<OfferRequirements, 'maxPriceMicroUsdPerHour' | 'providers'> & { maxPriceMicroUsdPerHour: number };
  image: string;
  /** Secret. */
  env: Input<Record<string, string>>;
  onStart: string | null;
  sshPublicKeys: string[];
  /** Whole machine without disk, per hour; null: on demand, or the highest price for an interruptible one. */
  bidMicroUsdPerHour: number | null;
}

export interface InstanceArgs {
  attempts: InstanceAttempt[];
}

export interface InstanceOutput {
  provider: ProviderName;
  providerInstanceId: string;
  label: string;
  status: string;
  machineId: string | null;
  priceMicroUsdPerHour: number | null;
  ssh: { host: string; port: number; user: string } | null;
}

const MACHINES: Record<ProviderName, new (...args: ConstructorParameters<typeof VastaiInstance>) => RentedMachine> = {
  vastai: VastaiInstance,
  tensordock: TensordockInstance,
  runpod: RunpodInstance,
  lambda: LambdaInstance,
};

/** Outputs by attempt id. */
export function instanceProgram(args: InstanceArgs): Record<string, Output<InstanceOutput>> {
  return Object.fromEntries(args.attempts.map((attempt) => [attempt.attemptId, rentMachine(attempt)]));
}

/** Arguments of plain `pulumi up`; resources are named instance-1 … instance-n. */
export function instanceArgsFromConfig(values: Record<string, string>): InstanceArgs {
  const config = parseStackConfig('instance', instanceConfigSchema, values);
  return {
    attempts: Array.from({ length: config.count }, (_, index) => attemptFromConfig(`instance-${index + 1}`, config)),
  };
}

function rentMachine(attempt: InstanceAttempt): Output<InstanceOutput> {
  const { requirements } = attempt;
  const Machine = MACHINES[attempt.provider];
  const machine = new Machine(attempt.attemptId, {
    gpu: requirements.gpu,
    gpuCount: requirements.gpuCount,
    minGpuMemoryGib: requirements.minGpuMemoryGib,
    diskGib: requirements.diskGib,
    maxPriceMicroUsdPerHour: requirements.maxPriceMicroUsdPerHour,
    regions: requirements.regions,
    minReliability: requirements.minReliability,
    interruptible: requirements.interruptible,
    bidMicroUsdPerHour: attempt.bidMicroUsdPerHour,
    image: attempt.image,
    env: attempt.env,
    onStart: attempt.onStart,
    sshPublicKeys: attempt.sshPublicKeys,
    ...(attempt.label === undefined ? {} : { label: attempt.label }),
  });
  return describeMachine(attempt.provider, machine);
}

function describeMachine(provider: ProviderName, machine: RentedMachine): Output<InstanceOutput> {
  const { id, label, status, machineId, priceMicroUsdPerHour, sshHost, sshPort, sshUser } = machine;
  return output({ id, label, status, machineId, priceMicroUsdPerHour, sshHost, sshPort, sshUser }).apply((seen) => ({
    provider,
    providerInstanceId: seen.id,
    label: seen.label,
    status: seen.status,
    machineId: seen.machineId,
    priceMicroUsdPerHour: seen.priceMicroUsdPerHour,
    ssh: seen.sshHost && seen.sshPort ? { host: seen.sshHost, port: seen.sshPort, user: seen.sshUser ?? 'root' } : null,
  }));
}

function attemptFromConfig(attemptId: string, config: InstanceConfig): InstanceAttempt {
  return {
    attemptId,
    provider: config.provider,
    requirements: {
      gpu: config.gpu,
      gpuCount: config.gpuCount,
      minGpuMemoryGib: config.minGpuMemoryGib ?? null,
      diskGib: config.diskGib,
      maxPriceMicroUsdPerHour: microUsd(config.maxPriceUsdPerHour),
      regions: config.regions,
      minReliability: config.minReliability ?? null,
      interruptible: config.interruptible,
    },
    image: config.image,
    env: config.env,
    onStart: config.onStart ?? null,
    sshPublicKeys: config.sshPublicKeys,
    bidMicroUsdPerHour: config.bidUsdPerHour === undefined ? null : microUsd(config.bidUsdPerHour),
  };
}

/** The schema has checked the text. */
function microUsd(text: string): number {
  return Number(parseUsd(text));
}
