/** The body of a launch at Lambda, and the vendor's limits on it, checked before anything is sent. */
import { ProviderError } from '../../domain/provider-error.ts';
import type { PurchaseOrder } from '../provider-client.ts';
import { readOfferId } from './offer-id.ts';
import { userDataFor } from './user-data.ts';
import { LABEL_TAG } from './wire.ts';

/** Of the name; a tag's value may have 128. */
const MAX_LABEL_LENGTH = 64;
/** "Up to 1 MB". */
const MAX_USER_DATA_BYTES = 1_000_000;

/** Throws `invalid` naming the field. Values of `env` are not shown. */
export function checkOrder(order: PurchaseOrder): void {
  if (order.interruptible || order.bidMicroUsdPerHour !== null)
    throw invalid('interruptible', 'is not for rent: on demand only');
  if (order.label === '' || order.label.length > MAX_LABEL_LENGTH) {
    throw invalid('label', `must have 1 to ${MAX_LABEL_LENGTH} characters`);
  }
  if (order.sshPublicKeys.length === 0) throw invalid('sshPublicKeys', 'is empty: a launch needs one key');
  const badName = Object.keys(order.env).find((name) => !/^[A-Za-z_][A-Za-z0-9_]*$/.test(name));
  if (badName !== undefined) throw invalid(`env.${badName.slice(0, 40)}`, 'is no name of a variable');
  if (Buffer.byteLength(userDataFor(order)) > MAX_USER_DATA_BYTES) {
    throw invalid('onStart', `makes, with env and keys, more than ${MAX_USER_DATA_BYTES} bytes of user data`);
  }
}

/** @param keyName under which the account has the first key: the vendor takes exactly one; the others come with the user data */
export function launchBody(order: PurchaseOrder, keyName: string): Record<string, unknown> {
  const { typeName, regionName } = readOfferId(order.providerOfferId);
  const userData = userDataFor(order);
  return {
    region_name: regionName,
    instance_type_name: typeName,
    ssh_key_names: [keyName],
    name: order.label,
    tags: [{ key: LABEL_TAG, value: order.label }],
    ...(userData === '' ? {} : { user_data: userData }),
  };
}

function invalid(field: string, message: string): ProviderError {
  return new ProviderError('invalid', `Lambda: ${field} ${message}`);
}
