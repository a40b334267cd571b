/** What is done with k3s on a host of ours. Decides nothing. */
import { ProviderError } from '../../domain/provider-error.ts';
import { lastLine, type HostClient } from '../ssh-host/client.ts';
import { parseLeft } from '../ssh-host/wire.ts';
import {
  installK3sScript,
  lookScript,
  parseLook,
  removeK3sScript,
  type K3sInstallation,
  type K3sOnHost,
  type K3sPlace,
} from './wire.ts';

export async function lookAtK3s({ connection }: HostClient, place: K3sPlace): Promise<K3sOnHost> {
  const { stdout } = await connection.run(lookScript(place), { asRoot: true, isLook: true });
  return parseLook(stdout);
}

/** Idempotent; one that was cut off is finished. Throws ProviderError `retryable` where it runs and is not ready in time. */
export async function installK3s({ connection }: HostClient, installation: K3sInstallation): Promise<void> {
  const { code, stderr } = await connection.run(installK3sScript(installation), { asRoot: true, isLook: false });
  if (code === 0) return;
  throw new ProviderError(
    code === 75 ? 'retryable' : 'invalid',
    `k3s could not be installed: ${lastLine(stderr, code)}`,
  );
}

/** Idempotent. Returns only when nothing of ours is left. */
export async function removeK3s({ connection }: HostClient, place: K3sPlace): Promise<void> {
  const { code, stdout, stderr } = await connection.run(removeK3sScript(place), { asRoot: true, isLook: false });
  const left = parseLeft(stdout);
  if (code === 0 && left?.length === 0) return;
  const why = left?.length ? `still there: ${left.join(', ')}` : lastLine(stderr, code);
  throw new ProviderError('unknown', `k3s could not be removed: ${why}`);
}
