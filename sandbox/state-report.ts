/** What the sandbox knows and a test wants to know: `GET /__sandbox/state`. */
import type { ProviderName } from '../domain/provider.ts';
import type { TimeMode } from './clock.ts';
import type { RentalMachineReport } from './rental/report.ts';
import type { VastaiReport } from './vastai/report.ts';
import type { VendorReport } from './vendor.ts';

export interface RentalReport extends VendorReport {
  machines: RentalMachineReport[];
}

/** One report per vendor, under its name. */
export type VendorReports = { vastai: VastaiReport } & Record<Exclude<ProviderName, 'vastai'>, RentalReport>;

export type SandboxState = { nowMs: number; timeMode: TimeMode } & VendorReports;
