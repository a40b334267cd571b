/**
 * The host runtime of plain `pulumi up`: no control plane, so hosts are looked at and carry no agent. The private key comes from a file
 * that the environment names, never from stack configuration.
 */
import { readFile } from 'node:fs/promises';
import { ProviderError } from '../domain/provider-error.ts';
import type { HostRuntime } from './host-runtime.ts';

const KEY_FILE = 'MUSTER_SSH_PRIVATE_KEY_FILE';
/** Names of hosts that are dead for ever, with commas. */
const FORGET = 'MUSTER_FORGET_HOSTS';

export function createStandaloneHostRuntime(env: Readonly<Record<string, string | undefined>>): HostRuntime {
  const never = new AbortController();
  return {
    async sshPrivateKey() {
      const file = env[KEY_FILE];
      if (!file)
        throw new ProviderError('auth', `set ${KEY_FILE} in the environment of pulumi: the SSH private key's file`);
      return readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
        throw new ProviderError(
          'auth',
          `${KEY_FILE} names "${file}", which cannot be read (${error.code ?? 'unknown'})`,
        );
      });
    },
    join: () => Promise.resolve(null),
    joinStandby: () => Promise.resolve(null),
    installScript: () =>
      Promise.reject(new ProviderError('invalid', 'there is no control plane to install an agent of')),
    mayForget: (host) =>
      Promise.resolve(host !== '' && (env[FORGET] ?? '').split(',').some((each) => each.trim() === host)),
    removed: () => Promise.resolve(),
    // The stock plugin process is not told of a cancel; the engine waits for what is under way.
    signal: () => never.signal,
    progress: (host, message) => void process.stderr.write(`${host}: ${message}\n`),
  };
}
