/** `muster inventory list`: the offers that can be rented now. */
import type { Offer } from '../../api/contract/inventory.ts';
import type { Context } from '../context.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatMicroUsd, formatShare, formatSum, orDash, per30Days } from '../format.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

export interface InventoryOptions extends PageOptions {
  gpu?: string;
  gpuCount?: number;
  minGpuMemoryGib?: number;
  maxPriceUsdPerHour?: string;
  provider?: string;
  region?: string;
  minReliability?: number;
  interruptible?: boolean;
  sort?: string;
}

const HEAD = ['OFFER', 'PROVIDER', 'GPU', 'N', 'GIB', 'USD/HOUR', 'USD/30 DAYS', 'REGION', 'RELIABLE', 'DISK GIB'];

export function listInventory(context: Context, _args: string[], options: InventoryOptions): Promise<ExitCode> {
  const { gpu, gpuCount, minGpuMemoryGib, maxPriceUsdPerHour, provider, region, minReliability, interruptible, sort } =
    options;
  const filters = {
    gpu,
    gpuCount,
    minGpuMemoryGib,
    maxPriceUsdPerHour,
    provider,
    region,
    minReliability,
    interruptible,
    sort,
  };
  return showPage<Offer>(context, '/inventory', filters, options, HEAD, (offer) => {
    const price = options.interruptible === true ? offer.floorMicroUsdPerHour : offer.priceMicroUsdPerHour;
    return [
      offer.id,
      offer.provider,
      offer.gpu,
      String(offer.gpuCount),
      orDash(offer.gpuMemoryGib),
      formatMicroUsd(price),
      formatSum(per30Days(price)),
      orDash(offer.region),
      formatShare(offer.reliability),
      offer.diskGib === null ? '-' : String(Math.floor(offer.diskGib)),
    ];
  });
}
