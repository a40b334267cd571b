/** What the sandbox knows and a test wants to know: `GET /__sandbox/state`. */
import type { VastaiMarket } from './vastai/market.ts';
import type { Machine } from './vastai/machine.ts';
import type { CallCounts } from './vastai/server.ts';
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
  /** API calls that would change it since this process started: 0 for a machine that nobody touched. */
  changeCalls: number;
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

export function describeState(market: VastaiMarket, counts: CallCounts): SandboxState {
  return {
    nowMs: market.clock.now(),
    timeMode: market.clock.mode,
    vastai: {
      machines: [...market.fleet.all()].map((machine) => describeMachine(market, machine, counts)),
      offersListed: market.offers.list().length,
      purchases: market.desk.counts(),
      calls: counts.perEndpoint,
      totalChargedMicroUsd: market.totalChargedMicroUsd(),
      burnMicroUsdPerHour: market.burnMicroUsdPerHour(),
    },
  };
}

function describeMachine(market: VastaiMarket, machine: Machine, counts: CallCounts): MachineReport {
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
    changeCalls: counts.changesPerInstance[machine.id] ?? 0,
  };
}
