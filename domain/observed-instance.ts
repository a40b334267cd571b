/** An observed instance: what a provider's listing says of one rented machine, normalised, whoever rented it. */
import type { MicroUsd } from './money.ts';
import type { ProviderName } from './provider.ts';

/**
 * `starting` on its way up · `running` the vendor says so (SSH may not answer yet) · `stopped` not running, may still bill ·
 * `failed` will not come up by itself · `unknown` the vendor gave nothing usable; never read as an absence.
 */
export type ObservedStatus = 'starting' | 'running' | 'stopped' | 'failed' | 'unknown';

export interface ObservedInstance {
  provider: ProviderName;
  providerInstanceId: string;
  label: string | null;
  status: ObservedStatus;
  /** The vendor's own words, for people. */
  statusDetail: string | null;
  machineId: string | null;
  gpu: string | null;
  gpuCount: number | null;
  gpuMemoryGib: number | null;
  priceMicroUsdPerHour: MicroUsd | null;
  interruptible: boolean | null;
  /** Interrupted by the vendor (outbid), not by us. */
  interrupted: boolean;
  /** null until the vendor tells an address that can be dialled. */
  ssh: { host: string; port: number; user: string } | null;
  image: string | null;
  region: string | null;
  /** RFC 3339; null where unknown. */
  startedAt: string | null;
}
