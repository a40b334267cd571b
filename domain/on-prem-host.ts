/** A host of our own as people name it: where it is, who logs in, and the key by which it is known. The rules that its names must meet. */

export const HOST_ADDRESS_PATTERN = /^[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$/;
export const HOST_ADDRESS_RULE = 'must be a host name or an address';

export const HOST_USER_PATTERN = /^[a-z_][a-z0-9_.-]{0,31}$/;
export const HOST_USER_RULE = 'must be a user name of the host';

/** The whole SHA-256 in base64, without padding. */
export const HOST_KEY_PATTERN = /^SHA256:[A-Za-z0-9+/]{43}$/;
export const HOST_KEY_RULE =
  'must be the fingerprint of the host\'s key, "SHA256:" and 43 characters, as `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints it on the host';

/** A directory of its own, at least two levels deep, in plain characters. */
export const HOST_DIRECTORY_PATTERN = /^(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+){2,12}$/;
export const HOST_DIRECTORY_RULE = 'must be an absolute path at least two levels deep, such as "/var/lib/muster-agent"';

export const HOST_PATH_PATTERN = /^(?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9._-]+){1,12}$/;
export const HOST_PATH_RULE = 'must be an absolute path, such as "/usr/local/bin/node"';

/** Of a credential: its id or its name. */
export const CREDENTIAL_REF_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
export const CREDENTIAL_REF_RULE = 'must be the id or the name of a credential';

export const DEFAULT_AGENT_DIRECTORY = '/var/lib/muster-agent';
export const DEFAULT_SSH_PORT = 22;

/** By which the engine knows a host; another address or port is another host. */
export function hostId({ address, port }: { address: string; port: number }): string {
  return `${address}:${port}`;
}
