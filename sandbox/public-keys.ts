/** OpenSSH public keys as text: what the simulated vendors accept, and what a script would let in. */

const KEY_PATTERN =
  /^(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521)|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]{40,}={0,3}(?: .*)?$/;
const KEY_IN_SCRIPT = /(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]{40,}={0,3}/g;

export function isPublicKey(text: unknown): text is string {
  return typeof text === 'string' && KEY_PATTERN.test(text.trim());
}

/** Keys that a start-up script would write into authorized_keys. */
export function findKeysInScript(script: string | null): string[] {
  return script === null ? [] : [...new Set(script.match(KEY_IN_SCRIPT) ?? [])];
}
