/** Credentials of an org: what kinds there are, and how those are written that are more than one text. */

/**
 *   ssh_private_key   opens hosts of the org's own
 *   registry          fetches images: `user:password`, for one registry, which is its public part
 */
export const CREDENTIAL_KINDS = ['ssh_private_key', 'registry'] as const;
export type CredentialKind = (typeof CREDENTIAL_KINDS)[number];

/** null: not of that form. A user has no colon; a password may. */
export function readRegistryLogin(value: string): { username: string; password: string } | null {
  const colon = value.indexOf(':');
  if (colon < 1 || colon === value.length - 1 || /[\r\n]/.test(value)) return null;
  return { username: value.slice(0, colon), password: value.slice(colon + 1) };
}
