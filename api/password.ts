/** Passwords: Argon2id. The library (8 MB) is loaded when the first password arrives. */

/** OWASP's first recommendation; about 30 ms. */
const OPTIONS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 } as const;

let decoy: Promise<string> | null = null;

export async function hashPassword(password: string): Promise<string> {
  const { hash } = await import('@node-rs/argon2');
  return hash(password, OPTIONS);
}

/** @param kept null where there is no such user: as much work is done, so that the time does not tell. */
export async function isPassword(kept: string | null, password: string): Promise<boolean> {
  const { verify } = await import('@node-rs/argon2');
  decoy ??= hashPassword('nobody has this password');
  const isRight = await verify(kept ?? (await decoy), password);
  return kept !== null && isRight;
}
