/** What the sandbox tells of the machines rented at one vendor: its part of `GET /__sandbox/state`. */
import type { VendorMachineReport } from '../vendor.ts';
import type { RentalFleet } from './fleet.ts';
import type { RentalMachine, RentalStatus } from './machine.ts';
import type { RentalCallCounts } from './server.ts';

export interface RentalMachineReport extends VendorMachineReport {
  id: string;
  status: RentalStatus;
  /** What the machine is one of, in the vendor's listing. */
  offerKey: string;
}

export function describeRentals<Details>(
  fleet: RentalFleet<Details>,
  counts: RentalCallCounts,
  statusText: (machine: RentalMachine<Details>) => string,
): RentalMachineReport[] {
  return [...fleet.all()].map((machine) => ({
    id: machine.id,
    label: machine.label,
    origin: machine.origin,
    status: machine.status,
    statusText: statusText(machine),
    offerKey: machine.offerKey,
    gpuName: machine.gpuName,
    numGpus: machine.gpuCount,
    isInterruptible: false,
    isHostLost: machine.isHostLost,
    sshPort: machine.sshPort,
    priceMicroUsdPerHour: machine.computeMicroUsdPerHour + machine.storageMicroUsdPerHour,
    chargedMicroUsd: fleet.chargedMicroUsd(machine),
    createdAtMs: machine.createdAtMs,
    destroyedAtMs: machine.destroyedAtMs,
    changeCalls: counts.changesPerInstance[machine.id] ?? 0,
  }));
}
