/** The body of a TensorDock purchase, and the limits on it, checked before anything is sent. */
import { ProviderError } from '../../domain/provider-error.ts';
import { DEFAULT_IMAGE } from '../../domain/provision-request.ts';
import type { PurchaseOrder } from '../provider-client.ts';
import { cloudInitFor } from './cloud-init.ts';
import { MIN_STORAGE_GB } from './machine-size.ts';
import { readOfferId } from './offer-id.ts';

/** The vendor's image with NVIDIA's driver; its plain Ubuntu has none. */
const DRIVER_IMAGE = 'ubuntu2404_ml_pytorch';
const VENDOR_IMAGES = [
  'ubuntu2404_ml_pytorch',
  'ubuntu2404_ml_tensorflow',
  'ubuntu2404_ml_everything',
  'ubuntu2404',
  'ubuntu2204',
];
const MAX_NAME_LENGTH = 63;
/** User data above this is refused by common hypervisors; the vendor does not say where its own limit is. */
const MAX_ON_START_LENGTH = 16_384;
const MAX_ENV_LENGTH = 16_384;

/** Throws `invalid` naming the field. Values of `env` are not shown. */
export function checkOrder(order: PurchaseOrder): void {
  if (order.interruptible || order.bidMicroUsdPerHour !== null)
    throw invalid('interruptible', 'must be false: the vendor has no interruptible machines');
  if (order.label === '' || order.label.length > MAX_NAME_LENGTH)
    throw invalid('label', `must have 1 to ${MAX_NAME_LENGTH} characters`);
  if (!(order.diskGib > 0)) throw invalid('diskGib', `is ${order.diskGib}, must be above 0`);
  if (order.sshPublicKeys.length === 0)
    throw invalid('sshPublicKeys', 'is empty: keys can be let in at the purchase only');
  const odd = order.sshPublicKeys.find((key) => /[\r\n]/.test(key.trim()) || key.trim() === '');
  if (odd !== undefined) throw invalid('sshPublicKeys', 'has a key that is not one line');
  if ((order.onStart?.length ?? 0) > MAX_ON_START_LENGTH)
    throw invalid('onStart', `has more than ${MAX_ON_START_LENGTH} characters`);
  const entries = Object.entries(order.env);
  const badName = entries.find(([name]) => !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name));
  if (badName) throw invalid(`env.${badName[0].slice(0, 40)}`, 'is no name of an environment variable');
  if (entries.reduce((sum, [name, value]) => sum + name.length + value.length, 0) > MAX_ENV_LENGTH)
    throw invalid('env', `has more than ${MAX_ENV_LENGTH} characters in all`);
}

export function purchaseBody(order: PurchaseOrder): Record<string, unknown> {
  const choice = readOfferId(order.providerOfferId);
  return {
    data: {
      type: 'virtualmachine',
      attributes: {
        name: order.label,
        type: 'virtualmachine',
        image: vendorImage(order.image),
        resources: {
          vcpu_count: choice.vcpus,
          ram_gb: choice.ramGb,
          storage_gb: Math.max(MIN_STORAGE_GB, Math.ceil(order.diskGib)),
          gpus: { [choice.v0Name]: { count: choice.gpuCount } },
        },
        // Exactly one of the two.
        ...(choice.place === 'host' ? { hostnode_id: choice.placeId } : { location_id: choice.placeId }),
        ...(choice.hasDedicatedIp ? { useDedicatedIp: true } : {}),
        // Asked for with a dedicated address too: the vendor refuses Ubuntu without it at times.
        port_forwards: [{ internal_port: 22, external_port: 22, protocol: 'tcp' }],
        // Required and not installed: cloud-init does that.
        ssh_key: order.sshPublicKeys[0]?.trim(),
        cloud_init: cloudInitFor(order),
      },
    },
  };
}

/** Everything of the order that must not stand in an error, as it is and as it is sent. */
export function secretsOf(order: PurchaseOrder): string[] {
  const encoded = cloudInitFor(order).runcmd.flatMap((command) => /echo (\S+) \| base64/.exec(command)?.[1] ?? []);
  return [...Object.values(order.env), ...(order.onStart === null ? [] : [order.onStart]), ...encoded];
}

/** A request's default is a container image; a machine here boots the vendor's own. */
function vendorImage(image: string): string {
  if (image === DEFAULT_IMAGE) return DRIVER_IMAGE;
  if (VENDOR_IMAGES.includes(image)) return image;
  throw invalid(
    'image',
    `"${image.slice(0, 100)}" is no image of the vendor; allowed: ${VENDOR_IMAGES.join(', ')} (a whole machine is rented, which runs no container image)`,
  );
}

function invalid(field: string, message: string): ProviderError {
  return new ProviderError('invalid', `TensorDock: ${field} ${message}`);
}
