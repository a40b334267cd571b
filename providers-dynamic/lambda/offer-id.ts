/** The id of an offer at Lambda, which has none of its own: an instance type in a region. */
import { ProviderError } from '../../domain/provider-error.ts';

const OFFER_ID = /^([a-z0-9_.-]+)@([a-z0-9-]+)$/;

export function toOfferId(typeName: string, regionName: string): string {
  return `${typeName}@${regionName}`;
}

/** Throws `invalid`. */
export function readOfferId(offerId: string): { typeName: string; regionName: string } {
  const match = OFFER_ID.exec(offerId);
  if (match === null) {
    throw new ProviderError('invalid', `"${offerId}" is no offer of Lambda (<instance type>@<region>)`);
  }
  return { typeName: match[1] as string, regionName: match[2] as string };
}
