/** What the sandbox tells of Vast.ai: its part of `GET /__sandbox/state`. */
import type { PurchaseCount } from '../purchase-counts.ts';
import type { VendorMachineReport, VendorReport } from '../vendor.ts';
import type { VastaiMarket } from './market.ts';
import type { Machine } from './machine.ts';
import type { CallCounts } from './server.ts';

export interface MachineReport extends VendorMachineReport {
  id: number;
  machineId: number;
  isBid: boolean;
  actualStatus: Machine['actual'];
  intendedStatus: Machine['intended'];
  curState: Machine['cur'];
  nextState: Machine['next'];
  gpuMicroUsdPerHour: number;
  storageMicroUsdPerHour: number;
}

export interface VastaiReport extends VendorReport {
  machines: MachineReport[];
  purchases: Record<string, PurchaseCount<number>>;
}

export function describeVastai(market: VastaiMarket, counts: CallCounts): VastaiReport {
  return {
    machines: [...market.fleet.all()].map((machine) => describeMachine(market, machine, counts)),
    offersListed: market.offers.list().length,
    purchases: market.desk.counts(),
    calls: counts.perEndpoint,
    totalChargedMicroUsd: market.totalChargedMicroUsd(),
    burnMicroUsdPerHour: market.burnMicroUsdPerHour(),
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
    isInterruptible: machine.isBid,
    actualStatus: machine.actual,
    intendedStatus: machine.intended,
    curState: machine.cur,
    nextState: machine.next,
    statusText: `${machine.actual ?? '–'} (${machine.cur} → ${machine.next})`,
    isHostLost: machine.isHostLost,
    sshPort: machine.sshPort,
    gpuMicroUsdPerHour: machine.gpuMicroUsdPerHour,
    storageMicroUsdPerHour: machine.storageMicroUsdPerHour,
    priceMicroUsdPerHour: machine.gpuMicroUsdPerHour + machine.storageMicroUsdPerHour,
    chargedMicroUsd: market.chargedMicroUsd(machine),
    createdAtMs: machine.createdAtMs,
    destroyedAtMs: machine.destroyedAtMs,
    changeCalls: counts.changesPerInstance[machine.id] ?? 0,
  };
}
