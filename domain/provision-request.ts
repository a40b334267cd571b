/** What a provision was asked for, as it is kept: validated, defaults filled in, secrets sealed. */
import type { IdleRule } from './idle.ts';
import type { InterruptionPolicy } from './interruption.ts';
import type { MicroUsd } from './money.ts';
import type { OfferRequirements } from './offer.ts';
import type { ProviderName } from './provider.ts';
import type { SleepSchedule } from './sleep-schedule.ts';
import type { ProvisionSpec, StrategyName } from './provisioning/planner.ts';
import type { WorkspaceWish } from './snapshots/snapshot.ts';

/** Amounts are numbers here because the value is stored as JSON; all are far below 2^53. */
export interface ProvisionRequest {
  gpu: string;
  gpuCount: number;
  minGpuMemoryGib: number | null;
  diskGib: number;
  image: string;
  maxPriceMicroUsdPerHour: number;
  providers: ProviderName[];
  regions: string[];
  minReliability: number | null;
  interruptible: boolean;
  /** Only with `interruptible`; null or absent: a little above each offer's floor. */
  bidMicroUsdPerHour?: number | null;
  /** @default replace */
  onInterruption?: InterruptionPolicy;
  strategy: StrategyName;
  raceWidth: number;
  maxRaceCostMicroUsd: number;
  sshPublicKeys: string[];
  /** Names of the environment variables; their values are in `envSealed`. */
  envNames: string[];
  /** The environment as sealed JSON, bound to the instance's stack; null: none. */
  envSealed: string | null;
  onStart: string | null;
  /** null: unbounded (allowed by an operator with a reason). */
  maxLifetimeMs: number | null;
  bootTimeoutMs: number;
  /** Put to sleep when it does nothing. Absent or null: never by itself. */
  hibernateWhenIdle?: IdleRule | null;
  /** Absent or null: none. */
  hibernateSchedule?: SleepSchedule | null;
  /** The stack that `envSealed` is sealed to, where the instance has come to another. @default its own */
  sealedToStack?: string;
  /** Nothing else may be bought. Absent: whatever fits. */
  onlyOffer?: { provider: ProviderName; providerOfferId: string };
  /** Absent: it keeps one only where something else needs it. */
  workspace?: WorkspaceWish;
  /** Of the plan that the request is held to (its price ceiling is in maxPriceMicroUsdPerHour). Absent: it is held to none. */
  planSeed?: string;
}

export function specOf(request: ProvisionRequest): ProvisionSpec {
  return {
    strategy: request.strategy,
    raceWidth: request.raceWidth,
    maxRaceCostMicroUsd: BigInt(request.maxRaceCostMicroUsd),
    requirements: requirementsOf(request),
    bootTimeoutMs: request.bootTimeoutMs,
    maxAttemptsPerInstance: MAX_ATTEMPTS_PER_INSTANCE,
  };
}

export function requirementsOf(request: ProvisionRequest): OfferRequirements {
  return {
    gpu: request.gpu,
    gpuCount: request.gpuCount,
    minGpuMemoryGib: request.minGpuMemoryGib,
    diskGib: request.diskGib,
    maxPriceMicroUsdPerHour: BigInt(request.maxPriceMicroUsdPerHour) satisfies MicroUsd,
    providers: request.providers,
    regions: request.regions,
    minReliability: request.minReliability,
    interruptible: request.interruptible,
    bidMicroUsdPerHour: request.bidMicroUsdPerHour == null ? null : BigInt(request.bidMicroUsdPerHour),
    needsContainer: request.image !== DEFAULT_IMAGE,
  };
}

/** Attempts of one instance before it fails; bounds what a run of bad luck can cost. */
export const MAX_ATTEMPTS_PER_INSTANCE = 8;

/** The image of a request that names none: CUDA 12.8 with PyTorch, pinned. */
export const DEFAULT_IMAGE = 'pytorch/pytorch:2.7.0-cuda12.8-cudnn9-runtime';
