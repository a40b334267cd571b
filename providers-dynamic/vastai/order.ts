/** The body of a Vast.ai purchase, and the vendor's limits on it, checked before anything is sent. */
import { ProviderError } from '../../domain/provider-error.ts';
import type { PurchaseOrder } from '../provider-client.ts';

const MAX_IMAGE_LENGTH = 1_024;
const MAX_LABEL_LENGTH = 256;
const MAX_ENV_ENTRY_LENGTH = 256;
const MAX_ENV_LENGTH = 32_768;
const MAX_ON_START_LENGTH = 4_096;
const MIN_DISK_GIB = 8;
/** Dollars an hour, 0.001 to 128, in micro-dollars. */
const BID_RANGE = [1_000n, 128_000_000n] as const;

/** Throws `invalid` naming the field. Values of `env` are not shown. */
export function checkOrder(order: PurchaseOrder): void {
  if (order.interruptible !== (order.bidMicroUsdPerHour !== null)) {
    throw invalid(
      'bid',
      order.interruptible ? 'is missing: without it Vast.ai rents on demand' : 'is only for an interruptible rental',
    );
  }
  const bid = order.bidMicroUsdPerHour;
  if (bid !== null && (bid < BID_RANGE[0] || bid > BID_RANGE[1]))
    throw invalid('bid', 'must be 0.001 to 128 dollars an hour');
  if (order.image === '' || order.image.length > MAX_IMAGE_LENGTH)
    throw invalid('image', `must have 1 to ${MAX_IMAGE_LENGTH} characters`);
  if (order.label === '' || order.label.length > MAX_LABEL_LENGTH)
    throw invalid('label', `must have 1 to ${MAX_LABEL_LENGTH} characters`);
  if (!(order.diskGib >= MIN_DISK_GIB))
    throw invalid('diskGib', `is ${order.diskGib}, must be at least ${MIN_DISK_GIB}`);
  if ((order.onStart?.length ?? 0) > MAX_ON_START_LENGTH)
    throw invalid('onStart', `has more than ${MAX_ON_START_LENGTH} characters`);
  const entries = Object.entries(order.env);
  const long = entries.find(([key, value]) => key.length + value.length > MAX_ENV_ENTRY_LENGTH);
  if (long) throw invalid(`env.${long[0].slice(0, 40)}`, `is longer than ${MAX_ENV_ENTRY_LENGTH} characters`);
  const total = entries.reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (total > MAX_ENV_LENGTH) throw invalid('env', `has more than ${MAX_ENV_LENGTH} characters in all`);
}

export function purchaseBody(order: PurchaseOrder): Record<string, unknown> {
  return {
    client_id: 'me',
    image: withTag(order.image),
    disk: order.diskGib,
    label: order.label,
    runtype: 'ssh_direct',
    env: order.env,
    ...(order.onStart === null ? {} : { onstart: order.onStart }),
    target_state: 'running',
    // On demand, refuse rather than leave a stopped instance that waits for the GPU and bills its disk.
    ...(order.bidMicroUsdPerHour === null
      ? { cancel_unavail: true }
      : { price: Number(order.bidMicroUsdPerHour) / 1e6 }),
  };
}

/** Without a tag the vendor was seen to answer a bare server error, which says nothing about the purchase. */
function withTag(image: string): string {
  const name = image.slice(image.lastIndexOf('/') + 1);
  return /[:@]/.test(name) ? image : `${image}:latest`;
}

function invalid(field: string, message: string): ProviderError {
  return new ProviderError('invalid', `Vast.ai: ${field} ${message}`);
}
