/** Rows as the contract has them, for the tests of the command line. */
import type { Instance, ProvisionPlan } from '../../api/contract/instances.ts';
import type { InventorySource, Offer } from '../../api/contract/inventory.ts';
import type { InstanceMetrics } from '../../api/contract/metrics.ts';
import type { Operation, OperationEvent } from '../../api/contract/operations.ts';
import type { Provider } from '../../api/contract/providers.ts';

const NOW = '2026-11-21T09:00:00.000Z';

export function makeOffer(number: number): Offer {
  return {
    id: `off_${'a'.repeat(15)}${'abcdefgh'[number]}`,
    provider: 'vastai',
    providerOfferId: String(1000 + number),
    machineId: String(77 + number),
    gpu: 'RTX 4090',
    gpuCount: 1,
    gpuMemoryGib: 24,
    priceMicroUsdPerHour: 345_000 * number,
    pricePerGpuMicroUsdPerHour: 345_000 * number,
    pricedDiskGib: 40,
    diskMicroUsdPerGibHour: 200,
    floorMicroUsdPerHour: 120_000,
    interruptiblePriceMicroUsdPerHour: 128_000,
    interruptible: true,
    inetDownMicroUsdPerGb: 2_000,
    inetUpMicroUsdPerGb: 3_000,
    stock: 1,
    region: 'SE',
    location: 'Stockholm, SE',
    reliability: 0.987,
    verified: true,
    diskGib: 512.5,
    cpuCores: 16,
    memoryGib: 64,
    inetDownMbps: 900,
    inetUpMbps: 800,
    cudaVersion: '12.8',
    driverVersion: '570.1',
    seenAt: NOW,
    ageSeconds: 12,
    stale: false,
    confidence: 0.9,
    denylistedUntil: null,
  };
}

export function makePlan(candidates: number): ProvisionPlan {
  return {
    candidates: Array.from({ length: candidates }, (_, index) => ({
      offerId: makeOffer(index + 1).id,
      provider: 'vastai',
      providerOfferId: String(1000 + index),
      machineId: String(77 + index),
      gpu: 'RTX 4090',
      gpuCount: 1,
      gpuMemoryGib: 24,
      region: 'SE',
      reliability: 0.987,
      priceMicroUsdPerHour: 345_000,
      priceMicroUsdPer30Days: 248_400_000,
      isFirstChoice: index < 5,
      quote: {
        id: `quo_${'a'.repeat(14)}${String(index + 22)}`,
        priceMicroUsdPerHour: 345_000,
        expiresAt: '2026-01-15T12:10:00.000Z',
      },
      chanceOfSuccess: 0.8,
      expectedReadyMs: 95_000,
      p50ReadyMs: 95_000,
      p95ReadyMs: 180_000,
      evidence: { machineAttempts: 3, providerAttempts: 40 },
    })),
    fittingOffers: candidates,
    fittingMachines: candidates,
    count: 1,
    raceWidth: 5,
    advisedRaceWidth: 3,
    priceMicroUsdPerHour: 345_000,
    priceMicroUsdPer30Days: 248_400_000,
    maxPriceMicroUsdPerHour: 600_000,
    worstCaseRaceCostMicroUsd: 250_000,
    chanceOfSuccess: 0.99,
    expectedReadyMs: 60_000,
    p50ReadyMs: 60_000,
    p95ReadyMs: 120_000,
    warm: [],
    shortage: candidates === 0 ? 'no RTX 4090 below $0.10 an hour is offered now' : null,
    closedProviders: [],
    notes: [],
    planHash: 'ab'.repeat(32),
    expiresAt: '2026-01-15T12:10:00.000Z',
  };
}

export function makeOperation(id: string, kind: Operation['kind'], targetId: string): Operation {
  return {
    id,
    kind,
    status: 'queued',
    targetKind: 'instance',
    targetId,
    claim: 0,
    note: null,
    error: null,
    allowedActions: ['cancel'],
    cancelRequestedAt: null,
    createdAt: NOW,
    startedAt: null,
    finishedAt: null,
    updates: [],
  };
}

export function makeEvent(
  operationId: string,
  seq: number,
  type: string,
  data: Record<string, unknown>,
): OperationEvent {
  return { operationId, seq, at: NOW, type, data };
}

export function makeInstance(id: string, name: string, status: Instance['status']): Instance {
  const isReady = status === 'ready';
  return {
    id,
    name,
    status,
    phase: isReady ? 'active' : 'queued',
    phaseAt: { queued: NOW },
    note: null,
    allowedActions: ['destroy', ...(isReady ? (['ssh'] as const) : [])],
    provider: isReady ? 'vastai' : null,
    providerInstanceId: isReady ? '70001' : null,
    machineId: isReady ? '77' : null,
    gpu: 'RTX 4090',
    gpuCount: 1,
    gpuMemoryGib: 24,
    diskGib: 40,
    image: 'nvidia/cuda:12.8.1-cudnn-runtime-ubuntu24.04',
    interruptible: false,
    priceMicroUsdPerHour: isReady ? 345_000 : null,
    maxPriceMicroUsdPerHour: 600_000,
    accruedMicroUsd: 12_345,
    ssh: isReady ? { host: '203.0.113.7', port: 41022, user: 'root' } : null,
    region: 'SE',
    strategy: 'race',
    attempts: [],
    createdAt: NOW,
    readyAt: isReady ? NOW : null,
    expiresAt: null,
    unbounded: false,
    poolId: null,
    claimedBy: null,
    destroyRequestedAt: null,
    destroyedAt: null,
    failureCode: null,
    failureDetail: null,
    operationId: 'op_createcreatecrea',
    stackId: 'stk_aaaaaaaaaaaaaaaa',
    hibernateWhenIdle: null,
    hibernateSchedule: null,
    hibernation: null,
    savings: null,
    consumer: null,
  };
}

/** One sample of a sick reading: only the temperature is known. */
export function makeMetrics(instanceId: string): InstanceMetrics {
  return {
    instanceId,
    phase: 'active',
    phaseAt: { queued: NOW },
    nodeId: 'nod_aaaaaaaaaaaaaaaa',
    nodeStatus: 'online',
    health: 'failed',
    note: 'a GPU fell off the bus',
    lastHeartbeatAt: NOW,
    samples: [
      {
        at: NOW,
        verdict: 'failed',
        gpuPercent: null,
        gpuMemoryUsedMib: null,
        gpuMemoryTotalMib: null,
        gpuTemperatureC: 41.4,
        gpuPowerW: null,
        load1: 0.5,
        memoryAvailableMib: 30_000,
        gpuPeakPercent: null,
        cpuPercent: 12.5,
        memoryUsedMib: 2_000,
        diskFreeMib: null,
        networkReceivedBytesPerSecond: null,
        networkSentBytesPerSecond: null,
        isActivityDeclared: false,
      },
    ],
  };
}

export function makeProvider(): Provider {
  return {
    name: 'vastai',
    mode: 'sandbox',
    enabled: true,
    status: 'ok',
    reason: null,
    offersCount: 240,
    offersSeenAt: NOW,
    instancesCount: 3,
    instancesSeenAt: NOW,
    foreignCount: 2,
    quarantinedAt: null,
    circuits: [],
    updatedAt: NOW,
  };
}

export function makeSource(): InventorySource {
  return {
    name: 'vastai',
    mode: 'sandbox',
    enabled: true,
    status: 'ok',
    reason: null,
    offersCount: 240,
    lastGoodAt: NOW,
    ageSeconds: 12,
    stale: false,
  };
}
