/**
 * TensorDock lists hosts and locations, not offers; an offer is one choice of machine there. Its id spells the whole choice out,
 * so that what is bought is what was priced, with nothing remembered between listing and purchase.
 */
import { ProviderError } from '../../domain/provider-error.ts';

export interface OfferChoice {
  /** A `host` is one machine of the vendor; at a `location` the vendor picks the host. */
  place: 'host' | 'location';
  placeId: string;
  /** The vendor's own GPU name. */
  v0Name: string;
  gpuCount: number;
  vcpus: number;
  ramGb: number;
  /** With a public address of its own; otherwise ports are forwarded. */
  hasDedicatedIp: boolean;
}

const PATTERN =
  /^(host|location):([A-Za-z0-9-]{1,64}):([A-Za-z0-9._-]{1,80}):(\d{1,2})gpu:(\d{1,3})cpu:(\d{1,4})gb:(ip|ports)$/;

export function formatOfferId(choice: OfferChoice): string {
  const { place, placeId, v0Name, gpuCount, vcpus, ramGb, hasDedicatedIp } = choice;
  return `${place}:${placeId}:${v0Name}:${gpuCount}gpu:${vcpus}cpu:${ramGb}gb:${hasDedicatedIp ? 'ip' : 'ports'}`;
}

/** Throws `no_capacity`: an id that is not ours names nothing that is for sale. */
export function readOfferId(id: string): OfferChoice {
  const match = PATTERN.exec(id);
  if (!match) throw new ProviderError('no_capacity', `TensorDock has no offer "${id.slice(0, 200)}"`);
  const [, place, placeId, v0Name, gpuCount, vcpus, ramGb, network] = match as unknown as string[];
  return {
    place: place as OfferChoice['place'],
    placeId: placeId as string,
    v0Name: v0Name as string,
    gpuCount: Number(gpuCount),
    vcpus: Number(vcpus),
    ramGb: Number(ramGb),
    hasDedicatedIp: network === 'ip',
  };
}

/** Whether a host's, location's and GPU's names can stand in an id. */
export function isOfferable(choice: OfferChoice): boolean {
  return PATTERN.test(formatOfferId(choice));
}
