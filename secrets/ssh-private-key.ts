/** SSH private keys that people bring: whether they can be used, and what their public part is. */

/** `problem` never holds any of the key. */
export async function readSshPrivateKey(text: string): Promise<{ publicKey: string } | { problem: string }> {
  const { default: ssh2 } = await import('ssh2'); // 19 MB, wanted a few times in a deployment's life
  const key = ssh2.utils.parseKey(text);
  if (key instanceof Error) {
    return /passphrase|encrypted/i.test(key.message)
      ? { problem: 'is locked by a passphrase: bring one without, it is kept sealed' }
      : { problem: 'is no SSH private key (OpenSSH or PEM)' };
  }
  const [one] = Array.isArray(key) ? key : [key];
  if (!one?.isPrivateKey()) return { problem: 'is a public key, not a private one' };
  const comment = one.comment ? ` ${one.comment.replace(/\s+/g, ' ').slice(0, 100)}` : '';
  return { publicKey: `${one.type} ${one.getPublicSSH().toString('base64')}${comment}` };
}
