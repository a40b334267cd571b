/** What was recorded of TensorDock's answers, and orders for its tests. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ProviderError } from '../../../domain/provider-error.ts';
import { DEFAULT_IMAGE } from '../../../domain/provision-request.ts';
import type { HttpReply, Json } from '../../../providers-dynamic/http.ts';
import type { PurchaseOrder } from '../../../providers-dynamic/provider-client.ts';

const FOLDER = join(import.meta.dirname, '../../fixtures/tensordock');

export const LOCATION = '1a779525-4c04-4f2c-aa45-58b47d54bb38';
export const HOST = '7c9e6679-7425-40de-944b-e07fc1f90ae7';
export const INSTANCE = '468b716a-6747-4cbe-9f13-afc153a21c14';
export const OFFER = `host:${HOST}:geforcertx4090-pcie-24gb:1gpu:8cpu:32gb:ip`;
export const SECRET = 'env-value-that-stays-secret';

export interface Recorded {
  status: number;
  body: Json;
}

export function recorded(name: string): Recorded {
  return JSON.parse(readFileSync(join(FOLDER, `${name}.json`), 'utf8')) as Recorded;
}

export function toReply(status: number, body: unknown, headers: Record<string, string> = {}): HttpReply {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return { status, text, json: typeof body === 'string' ? undefined : body, headers: new Headers(headers) };
}

export function orderFor(providerOfferId: string, changes: Partial<PurchaseOrder> = {}): PurchaseOrder {
  return {
    providerOfferId,
    label: 'muster-test-a',
    image: DEFAULT_IMAGE,
    diskGib: 40,
    env: { TOKEN: SECRET },
    onStart: null,
    interruptible: false,
    bidMicroUsdPerHour: null,
    sshPublicKeys: ['ssh-ed25519 AAAA one@place'],
    ...changes,
  };
}

export async function errorOf(work: Promise<unknown>): Promise<ProviderError> {
  const error: unknown = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ProviderError)) throw new Error('it did not fail as a provider does', { cause: error });
  return error;
}
