/**
 * The body of a RunPod purchase, and the vendor's limits on it, checked before anything is sent. RunPod has no field for a
 * script and lets keys in only through the environment, so what starts in the container is ours to say.
 */
import { ProviderError } from '../../domain/provider-error.ts';
import type { PurchaseOrder } from '../provider-client.ts';
import type { OfferPlace } from './catalogue.ts';
import type { Json } from '../http.ts';

/** From the older API's file; REST v2 names no limit. */
const MAX_NAME_LENGTH = 191;
/** The vendor documents no limit; Linux lets one variable have 128 KiB. */
const MAX_ENV_ENTRY_LENGTH = 100_000;
/** Written before the script would be lost in a variable: base64 makes four characters of three. */
const MAX_ON_START_LENGTH = 64_000;
const ON_START_VARIABLE = 'MUSTER_ON_START';

/**
 * Lets the keys in, runs the start script beside, then becomes what keeps the container up: RunPod's own images bring
 * `/start.sh`, which starts sshd; in any other image sshd is installed where it lacks, as the vendor's guide does.
 * No single quotes within: the vendor takes the whole as one line of shell words.
 */
const BOOT_COMMAND = [
  'mkdir -p ~/.ssh && chmod 700 ~/.ssh',
  '[ -z "$PUBLIC_KEY" ] || echo "$PUBLIC_KEY" >> ~/.ssh/authorized_keys',
  'chmod 600 ~/.ssh/authorized_keys 2>/dev/null',
  `if [ -n "$${ON_START_VARIABLE}" ]; then (printf %s "$${ON_START_VARIABLE}" | base64 -d > /root/onstart.sh; bash /root/onstart.sh > /var/log/onstart.log 2>&1) & fi`,
  'if [ -x /start.sh ]; then exec /start.sh; fi',
  'command -v sshd >/dev/null || [ -x /usr/sbin/sshd ] || (apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y openssh-server)',
  'mkdir -p /run/sshd; ssh-keygen -A; /usr/sbin/sshd || service ssh start',
  'sleep infinity',
].join('; ');

/** Throws `invalid` naming the field. Values of `env` are not shown. */
export function checkOrder(order: PurchaseOrder): void {
  if (order.interruptible) throw invalid('interruptible', 'is not to be had: REST v2 rents on demand only');
  if (order.bidMicroUsdPerHour !== null)
    throw invalid('bid', 'is only for an interruptible rental, which RunPod lacks');
  if (order.image === '') throw invalid('image', 'is empty');
  if (order.label === '' || order.label.length > MAX_NAME_LENGTH)
    throw invalid('label', `must have 1 to ${MAX_NAME_LENGTH} characters`);
  if (!(order.diskGib >= 1)) throw invalid('diskGib', `is ${order.diskGib}, must be at least 1`);
  if ((order.onStart?.length ?? 0) > MAX_ON_START_LENGTH)
    throw invalid('onStart', `has more than ${MAX_ON_START_LENGTH} characters`);
  const long = Object.entries(order.env).find(([key, value]) => key.length + value.length > MAX_ENV_ENTRY_LENGTH);
  if (long) throw invalid(`env.${long[0].slice(0, 40)}`, `is longer than ${MAX_ENV_ENTRY_LENGTH} characters`);
}

export function purchaseBody(order: PurchaseOrder, place: OfferPlace): { env: Record<string, string> } & Json {
  return {
    name: order.label,
    image: order.image,
    cloud: 'SECURE',
    gpu: { id: place.gpuTypeId, count: place.gpuCount },
    ...(place.dataCenterId === null ? {} : { dataCenterIds: [place.dataCenterId] }),
    disk: Math.ceil(order.diskGib),
    // Without it there is no public port for sshd, and the pod would never be reached.
    ports: ['22/tcp'],
    env: environmentOf(order),
    args: `bash -c '${BOOT_COMMAND}'`,
    // With keys of our own in the environment it adds none of the account's.
    startSsh: true,
  };
}

/** All keys go into one variable, a line each; keys that the request put there itself stay. */
function environmentOf(order: PurchaseOrder): Record<string, string> {
  const keys = [
    ...new Set([...(order.env.PUBLIC_KEY ?? '').split('\n'), ...order.sshPublicKeys].map((key) => key.trim())),
  ];
  const lines = keys.filter((key) => key !== '');
  return {
    ...order.env,
    ...(lines.length === 0 ? {} : { PUBLIC_KEY: lines.join('\n') }),
    ...(order.onStart === null ? {} : { [ON_START_VARIABLE]: Buffer.from(order.onStart).toString('base64') }),
  };
}

function invalid(field: string, message: string): ProviderError {
  return new ProviderError('invalid', `RunPod: ${field} ${message}`);
}
