/** How TensorDock says no. Texts were observed where the contract has them; the others are inferred. */
import type { HttpReply } from '../http-listener.ts';
import { VendorRefusal } from '../rental/api.ts';
import type { TensordockSwitches } from './switches.ts';

export const NO_NODES = 'No available nodes found';
export const NO_PUBLIC_IPS = 'No available public IPs on hostnode';
export const HOST_UNAVAILABLE = 'Hostnode unavailable';

export function toError(status: number, error: string, headers?: Record<string, string>): HttpReply {
  return { status, body: { error }, ...(headers === undefined ? {} : { headers }) };
}

export function refusal(status: number, error: string): VendorRefusal {
  return new VendorRefusal(toError(status, error));
}

/** A purchase that the vendor would not make: often with status 200. */
export function toRefusedPurchase(error: string, { refusalStatus }: TensordockSwitches): HttpReply {
  return { status: refusalStatus, body: { error, status: 400 } };
}

export function instanceNotFound(): VendorRefusal {
  return refusal(404, 'Instance not found');
}
