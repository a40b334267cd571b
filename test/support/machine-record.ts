/** The record of a machine of which nothing is known yet. */
import type { MachineRecord } from '../../domain/machine-history.ts';
import type { ProviderName } from '../../domain/provider.ts';

export function newMachineRecord(provider: ProviderName, machineId: string): MachineRecord {
  return { provider, machineId, attempts: 0, successes: 0, losses: 0, meanReadyMs: null, denylistedUntil: null };
}
