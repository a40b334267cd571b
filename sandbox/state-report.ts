/** What the sandbox knows and a test wants to know: `GET /__sandbox/state`. */
import type { VastaiMarket } from './vastai/market.ts';
import type { Machine } from './vastai/machine.ts';
import type { PurchaseCount } from './vastai/purchase.ts';

export interface MachineReport {
  id: number;
  label: string;
  origin: Machine['origin'];
  machineId: number;
  gpuName: string;
  numGpus: number;
  isBid: boolean;
  actualStatus: Machine['actual'];
  intendedStatus: Machine['intended'];
  curState: Machine['cur'];
  nextState: Machine['next'];
  isHostLost: boolean;
  sshPort: number | null;
  gpuMicroUsdPerHour: number;
  storageMicroUsdPerHour: number;
  chargedMicroUsd: number;
  createdAtMs: number;
  destroyedAtMs: number | null;
}

export interface VastaiReport {
  /** Every machine that ever was, the destroyed ones too. */
  machines: MachineReport[];
  offersListed: number;
  /** Purchase calls per label. */
  purchases: Record<string, PurchaseCount>;
  /** Calls per endpoint since this process started. */
  calls: Record<string, number>;
  totalChargedMicroUsd: number;
  burnMicroUsdPerHour: number;
}

export interface SandboxState {
  nowMs: number;
  timeMode: 'auto' | 'real' | 'explicit';
  vastai: VastaiReport;
}

export function describeState(market: VastaiMarket, calls: Record<string, number>): SandboxState {
  return {
    nowMs: market.clock.now(),
    timeMode: market.clock.mode,
    vastai: {
      machines: [...market.fleet.all()].map((machine) => describeMachine(market, machine)),
      offersListed: market.offers.list().length,
      purchases: market.desk.counts(),
      calls,
      totalChargedMicroUsd: market.totalChargedMicroUsd(),
      burnMicroUsdPerHour: market.burnMicroUsdPerHour(),
    },
  };
}

function describeMachine(market: VastaiMarket, machine: Machine): MachineReport {
  const slot = market.offers.slot(machine.slotId);
  return {
    id: machine.id,
    label: machine.label,
    origin: machine.origin,
    machineId: slot.machineId,
    gpuName: slot.gpu.name,
    numGpus: slot.numGpus,
    isBid: machine.isBid,
    actualStatus: machine.actual,
    intendedStatus: machine.intended,
    curState: machine.cur,
    nextState: machine.next,
    isHostLost: machine.isHostLost,
    sshPort: machine.sshPort,
    gpuMicroUsdPerHour: machine.gpuMicroUsdPerHour,
    storageMicroUsdPerHour: machine.storageMicroUsdPerHour,
    chargedMicroUsd: market.chargedMicroUsd(machine),
    createdAtMs: machine.createdAtMs,
    destroyedAtMs: machine.destroyedAtMs,
  };
}
