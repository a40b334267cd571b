/** Access tokens: JWTs (EdDSA, 24 hours) that name a login. What the user may do is read from the database at each request. */
import { createPrivateKey, createPublicKey } from 'node:crypto';

export const ACCESS_TOKEN_MS = 24 * 3_600_000;
const AUDIENCE = 'muster-api';
const ALGORITHM = 'EdDSA';

export interface Login {
  userId: string;
  orgId: string;
  familyId: string;
}

export interface AccessTokens {
  issue(login: Login): Promise<{ token: string; expiresAt: Date }>;
  /** null for anything but an unexpired token of ours. */
  verify(token: string): Promise<Login | null>;
}

export function createAccessTokens(key: { privatePem: string; publicPem: string }, deploymentId: string): AccessTokens {
  const privateKey = createPrivateKey(key.privatePem);
  const publicKey = createPublicKey(key.publicPem);
  const issuer = `muster:${deploymentId}`;
  return {
    async issue(login) {
      const { SignJWT } = await import('jose/jwt/sign');
      const issuedAt = Math.floor(Date.now() / 1000);
      const expiresAt = issuedAt + ACCESS_TOKEN_MS / 1000;
      const token = await new SignJWT({ org: login.orgId, sid: login.familyId })
        .setProtectedHeader({ alg: ALGORITHM, typ: 'JWT' })
        .setSubject(login.userId)
        .setIssuer(issuer)
        .setAudience(AUDIENCE)
        .setIssuedAt(issuedAt)
        .setExpirationTime(expiresAt)
        .sign(privateKey);
      return { token, expiresAt: new Date(expiresAt * 1000) };
    },
    async verify(token) {
      const { jwtVerify } = await import('jose/jwt/verify');
      try {
        const { payload } = await jwtVerify(token, publicKey, { issuer, audience: AUDIENCE, algorithms: [ALGORITHM] });
        const { sub, org, sid } = payload;
        if (typeof sub !== 'string' || typeof org !== 'string' || typeof sid !== 'string') return null;
        return { userId: sub, orgId: org, familyId: sid };
      } catch {
        return null;
      }
    },
  };
}
