/**
 * The deployment's SSH key in the Lambda account, where a launch names it. Its name comes from the key itself, so that it is added
 * once whoever asks, and two deployments in one account do not meet.
 */
import { createHash } from 'node:crypto';
import { ProviderError } from '../../domain/provider-error.ts';
import type { LambdaSend } from './sender.ts';
import { type AccountKey, readAccountKeys } from './wire.ts';

export interface AccountKeys {
  list(signal?: AbortSignal): Promise<AccountKey[]>;
  /** The name under which the account has the key; adds it when it is not there. */
  ensure(publicKey: string, signal?: AbortSignal): Promise<string>;
  /** The vendor said that a key is not there after all. */
  forget(): void;
}

const PATH = '/api/v1/ssh-keys';

export function createAccountKeys(send: LambdaSend): AccountKeys {
  // Known names by key: a launch in a burst must not cost three calls at one a second.
  const known = new Map<string, string>();

  const list = async (signal?: AbortSignal): Promise<AccountKey[]> =>
    readAccountKeys(await send({ kind: 'read', method: 'GET', path: PATH, signal }));

  async function find(material: string, signal?: AbortSignal): Promise<string | null> {
    const found = (await list(signal)).find((key) => materialOf(key.publicKey) === material);
    return found?.name ?? null;
  }

  async function add(publicKey: string, signal?: AbortSignal): Promise<string> {
    const material = materialOf(publicKey);
    const name = nameOf(material);
    try {
      const body = { name, public_key: publicKey.trim() };
      await send({ kind: 'write', method: 'POST', path: PATH, body, signal });
      return name;
    } catch (error) {
      if (!(error instanceof ProviderError) || !['invalid', 'unknown'].includes(error.kind)) throw error;
      // Somebody else was faster, or the answer was lost: what counts is whether it is there.
      const found = await find(material, signal);
      if (found !== null) return found;
      // Nothing was bought: a launch that needs the key must not be taken for one that may have happened.
      throw error.kind === 'invalid' ? error : new ProviderError('retryable', error.message, { cause: error });
    }
  }

  return {
    list,
    async ensure(publicKey, signal) {
      const material = materialOf(publicKey);
      const name = known.get(material) ?? (await find(material, signal)) ?? (await add(publicKey, signal));
      known.set(material, name);
      return name;
    },
    forget: () => known.clear(),
  };
}

/** Type and key without the comment, which says nothing. */
function materialOf(publicKey: string): string {
  return publicKey.trim().split(/\s+/).slice(0, 2).join(' ');
}

function nameOf(material: string): string {
  return `muster-${createHash('sha256').update(material).digest('hex').slice(0, 20)}`;
}
