/** Routes of logging in and out, registering and inviting. */
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { parseDuration } from '../../domain/duration.ts';
import { MusterError } from '../../domain/error-table.ts';
import { appendAudit } from '../../db/audit.ts';
import type { Tx } from '../../db/database.ts';
import { insertInvite, lockInvite, markInviteUsed } from '../../db/invites.ts';
import { findOrg, insertOrg, listOrgsOfUser, setMember } from '../../db/orgs.ts';
import { insertRefreshToken, revokeFamily, useRefreshToken } from '../../db/refresh-tokens.ts';
import { findUserByEmail, insertUser } from '../../db/users.ts';
import type { AccessTokens, Login } from '../access-token.ts';
import { invite, inviteBody, loginBody, refreshBody, registerBody, registered, tokens } from '../contract/auth.ts';
import { hashCredential, makeToken } from '../credential.ts';
import { tooManyRequests } from '../mount.ts';
import { hashPassword, isPassword } from '../password.ts';
import { orgReply, userReply } from '../replies/org-reply.ts';
import { iso } from '../reply-values.ts';
import { route, type Call, type Route } from '../route.ts';

const REFRESH_TOKEN_MS = 30 * 86_400_000;
const AREA = 'auth';

export const authRoutes: Route[] = [
  route({
    method: 'post',
    path: '/auth/register',
    access: 'public',
    area: AREA,
    summary: 'Register a user',
    description: 'By invite, or (when registration is open) into an org of their own.',
    body: registerBody,
    replies: { 201: registered },
    problems: ['registration_closed', 'conflict', 'rate_limited'],
    handle: async ({ body, deps, request, requestId }) => {
      const { registration } = deps;
      if (registration === 'closed' || (registration === 'invite' && body.invite === undefined)) {
        const detail =
          registration === 'closed' ? 'nobody can register here' : 'registering needs the token of an invite';
        throw new MusterError('registration_closed', detail);
      }
      await limitGuesses(deps, request, body.email);
      const passwordHash = await hashPassword(body.password);
      return deps.database.kysely.transaction().execute(async (tx) => {
        const user = await insertUser(tx, { email: body.email, passwordHash });
        const { org, role } =
          body.invite === undefined
            ? {
                org: await insertOrg(
                  tx,
                  body.orgName ?? `org of ${body.email}`.replace(/[^A-Za-z0-9 ._-]/g, '-').slice(0, 64),
                ),
                role: 'owner' as const,
              }
            : await takeInvite(tx, body.invite, body.email, user.id);
        await setMember(tx, org.id, user.id, role);
        await appendAudit(tx, {
          orgId: org.id,
          actor: { kind: 'user', id: user.id, requestId },
          action: 'user.register',
          targetKind: 'user',
          targetId: user.id,
          detail: { role },
        });
        return { status: 201, body: { user: userReply(user), org: orgReply(org, role) } };
      });
    },
  }),
  route({
    method: 'post',
    path: '/auth/invites',
    access: 'own',
    area: AREA,
    summary: 'Invite somebody into the org',
    body: inviteBody,
    replies: { 201: invite },
    handle: ({ body, caller, actor, deps }) => {
      const token = makeToken('mi_');
      const expiresAt = new Date(Date.now() + (parseDuration(body.validFor) as number));
      return deps.database.kysely.transaction().execute(async (tx) => {
        const row = await insertInvite(tx, {
          orgId: caller.orgId,
          tokenHash: hashCredential(token),
          email: body.email ?? null,
          role: body.role,
          createdBy: caller.id,
          expiresAt,
        });
        await appendAudit(tx, {
          orgId: caller.orgId,
          actor,
          action: 'invite.create',
          targetKind: 'invite',
          targetId: row.id,
          detail: { role: body.role, email: body.email ?? null },
        });
        return {
          status: 201,
          body: { id: row.id, token, role: row.role, email: row.email, expiresAt: iso(row.expires_at) },
        };
      });
    },
  }),
  route({
    method: 'post',
    path: '/auth/login',
    access: 'public',
    area: AREA,
    summary: 'Log in',
    body: loginBody,
    replies: { 200: tokens },
    problems: ['unauthenticated', 'rate_limited'],
    handle: async ({ body, deps, request, requestId }) => {
      await limitGuesses(deps, request, body.email);
      const db = deps.database.kysely;
      const user = await findUserByEmail(db, body.email);
      const isRight = await isPassword(user?.password_hash ?? null, body.password);
      const orgs = user && isRight && user.disabled_at === null ? await listOrgsOfUser(db, user.id) : [];
      const org = body.orgId === undefined ? orgs[0] : orgs.find((candidate) => candidate.id === body.orgId);
      if (!user || !org) throw new MusterError('unauthenticated', 'email, password or org is wrong');
      const login = { userId: user.id, orgId: org.id, familyId: randomUUID() };
      const reply = await db.transaction().execute(async (tx) => {
        await appendAudit(tx, {
          orgId: org.id,
          actor: { kind: 'user', id: user.id, requestId },
          action: 'user.login',
          targetKind: 'user',
          targetId: user.id,
        });
        return issueTokens(tx, deps.accessTokens, login);
      });
      return { status: 200, body: reply };
    },
  }),
  route({
    method: 'post',
    path: '/auth/refresh',
    access: 'public',
    area: AREA,
    summary: 'Exchange a refresh token',
    description: 'Each token works once. One that is used again was copied: every token of its login is revoked.',
    body: refreshBody,
    replies: { 200: tokens },
    problems: ['unauthenticated'],
    handle: async ({ body, deps }) => {
      const { accessTokens } = deps;
      const outcome = await deps.database.kysely.transaction().execute(async (tx) => {
        const use = await useRefreshToken(tx, hashCredential(body.refreshToken));
        if (use.kind !== 'used') return use;
        const { user_id: userId, org_id: orgId, family_id: familyId } = use.token;
        return { kind: 'used' as const, tokens: await issueTokens(tx, accessTokens, { userId, orgId, familyId }) };
      });
      if (outcome.kind === 'used') return { status: 200, body: outcome.tokens };
      const why = outcome.kind === 'reused' ? 'was used before: this login is ended' : 'is unknown, expired or revoked';
      throw new MusterError('unauthenticated', `the refresh token ${why}`);
    },
  }),
  route({
    method: 'post',
    path: '/auth/logout',
    access: 'member',
    area: AREA,
    summary: 'End this login',
    description: 'Its access and refresh tokens stop working at once. An API key is not ended by this.',
    body: z.strictObject({}),
    isBodyOptional: true,
    replies: { 204: null },
    handle: async ({ caller, deps }) => {
      if (caller.familyId !== null) await revokeFamily(deps.database.kysely, caller.familyId);
      return { status: 204 };
    },
  }),
];

async function takeInvite(tx: Tx, token: string, email: string, userId: string) {
  const row = await lockInvite(tx, hashCredential(token), email);
  const org = row ? await findOrg(tx, row.org_id) : undefined;
  if (!row || !org) {
    throw new MusterError('registration_closed', 'the invite is unknown, used, expired or for another address', {
      errors: [{ path: 'invite', message: 'is unknown, used, expired or for another address' }],
    });
  }
  await markInviteUsed(tx, row.id, userId);
  return { org, role: row.role };
}

async function issueTokens(tx: Tx, accessTokens: AccessTokens, login: Login) {
  const refreshToken = makeToken('mr_');
  await insertRefreshToken(tx, {
    ...login,
    tokenHash: hashCredential(refreshToken),
    expiresAt: new Date(Date.now() + REFRESH_TOKEN_MS),
  });
  const { token, expiresAt } = await accessTokens.issue(login);
  return { accessToken: token, refreshToken, expiresAt: iso(expiresAt) };
}

async function limitGuesses(deps: Call['deps'], request: Call['request'], email: string): Promise<void> {
  const waitMs = await deps.guessLimit.take(`${request.ip ?? ''}/${email}`);
  if (waitMs !== null) throw tooManyRequests(request, waitMs);
}
