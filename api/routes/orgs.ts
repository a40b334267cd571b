/** Routes of orgs, users and members. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { appendAudit } from '../../db/audit.ts';
import { findOrg, insertOrg, listMembers, listOrgsOfUser, renameOrg, setMember } from '../../db/orgs.ts';
import { findUser, findUserByEmail, insertUser, setPassword } from '../../db/users.ts';
import type { Caller } from '../caller.ts';
import {
  me,
  member,
  memberBody,
  memberPage,
  org,
  orgBody,
  orgPage,
  passwordBody,
  user,
  userBody,
} from '../contract/auth.ts';
import { id, pageQuery } from '../contract/values.ts';
import { cutPage, readCursor } from '../cursor.ts';
import { hashPassword, isPassword } from '../password.ts';
import { memberReply, orgReply, userReply } from '../replies/org-reply.ts';
import { route, type Route } from '../route.ts';

const AREA = 'orgs';
const orgParams = z.object({ id: id('org') });

export const orgRoutes: Route[] = [
  route({
    method: 'get',
    path: '/users/me',
    access: 'member',
    area: AREA,
    summary: 'Who am I',
    replies: { 200: me },
    handle: async ({ caller, deps }) => {
      const db = deps.database.kysely;
      const [row, own] = [
        caller.userId === null ? null : await findUser(db, caller.userId),
        await findOrg(db, caller.orgId),
      ];
      if (!own) throw new Error(`org ${caller.orgId} of a caller is missing`);
      return {
        status: 200,
        body: {
          principal: { kind: caller.kind, id: caller.id },
          user: row ? userReply(row) : null,
          org: orgReply(own, caller.role),
          role: caller.role,
          isAdmin: caller.isAdmin,
        },
      };
    },
  }),
  route({
    method: 'post',
    path: '/users/me/password',
    access: 'member',
    area: AREA,
    summary: 'Change my password',
    description: 'Ends every login of the user, this one too.',
    body: passwordBody,
    replies: { 204: null },
    problems: ['conflict'],
    handle: async ({ body, caller, actor, deps }) => {
      const db = deps.database.kysely;
      const row = caller.kind === 'user' ? await findUser(db, caller.id) : undefined;
      if (!row) throw new MusterError('conflict', 'an API key has no password: log in as the user');
      if (!(await isPassword(row.password_hash, body.currentPassword))) {
        throw new MusterError('invalid_request', 'currentPassword is wrong', {
          errors: [{ path: 'currentPassword', message: 'is wrong' }],
        });
      }
      const passwordHash = await hashPassword(body.newPassword);
      await db.transaction().execute(async (tx) => {
        await setPassword(tx, row.id, passwordHash);
        await appendAudit(tx, {
          orgId: caller.orgId,
          actor,
          action: 'user.change_password',
          targetKind: 'user',
          targetId: row.id,
        });
      });
      return { status: 204 };
    },
  }),
  route({
    method: 'get',
    path: '/orgs',
    access: 'member',
    area: AREA,
    summary: 'List my orgs',
    query: pageQuery,
    replies: { 200: orgPage },
    handle: async ({ query, caller, deps }) => {
      const all = await listOwnOrgs(deps.database.kysely, caller);
      const after = readCursor(z.tuple([z.string()]), query.cursor);
      const start = after ? all.findIndex((row) => row.id === after[0]) + 1 : 0;
      return {
        status: 200,
        body: cutPage(
          all.slice(start),
          query.limit,
          (row) => [row.id],
          (row) => orgReply(row, row.role),
        ),
      };
    },
  }),
  route({
    method: 'post',
    path: '/orgs',
    access: 'admin',
    area: AREA,
    summary: 'Make an org',
    description: 'A user becomes its owner; an API key makes it without one: add members next.',
    body: orgBody,
    replies: { 201: org },
    problems: ['conflict'],
    handle: ({ body, caller, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const row = await insertOrg(tx, body.name);
        if (caller.userId !== null) await setMember(tx, row.id, caller.userId, 'owner');
        await appendAudit(tx, { orgId: row.id, actor, action: 'org.create', targetKind: 'org', targetId: row.id });
        return { status: 201, body: orgReply(row, caller.userId === null ? null : 'owner') };
      }),
  }),
  route({
    method: 'patch',
    path: '/orgs',
    access: 'own',
    area: AREA,
    summary: 'Rename my org',
    body: orgBody,
    replies: { 200: org },
    problems: ['conflict'],
    handle: ({ body, caller, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const row = await renameOrg(tx, caller.orgId, body.name);
        await appendAudit(tx, {
          orgId: row.id,
          actor,
          action: 'org.rename',
          targetKind: 'org',
          targetId: row.id,
          detail: { name: body.name },
        });
        return { status: 200, body: orgReply(row, caller.role) };
      }),
  }),
  route({
    method: 'post',
    path: '/users',
    access: 'own',
    area: AREA,
    summary: 'Make a user in my org',
    body: userBody,
    replies: { 201: user },
    problems: ['conflict'],
    handle: async ({ body, caller, actor, deps }) => {
      const passwordHash = await hashPassword(body.password);
      return deps.database.kysely.transaction().execute(async (tx) => {
        const row = await insertUser(tx, { email: body.email, passwordHash });
        await setMember(tx, caller.orgId, row.id, body.role);
        await appendAudit(tx, {
          orgId: caller.orgId,
          actor,
          action: 'user.create',
          targetKind: 'user',
          targetId: row.id,
          detail: { role: body.role },
        });
        return { status: 201, body: userReply(row) };
      });
    },
  }),
  route({
    method: 'get',
    path: '/orgs/:id/members',
    access: 'read',
    area: AREA,
    summary: 'List members',
    params: orgParams,
    query: pageQuery,
    replies: { 200: memberPage },
    handle: async ({ params, query, caller, deps }) => {
      const db = deps.database.kysely;
      await requireOrg(caller, params.id, () => findOrg(db, params.id));
      const after = readCursor(z.tuple([z.string()]), query.cursor);
      const rows = await listMembers(db, params.id, {
        limit: query.limit + 1,
        ...(after ? { after: { email: after[0] } } : {}),
      });
      return { status: 200, body: cutPage(rows, query.limit, (row) => [row.email], memberReply) };
    },
  }),
  route({
    method: 'post',
    path: '/orgs/:id/members',
    access: 'own',
    area: AREA,
    summary: 'Add a member or change a role',
    params: orgParams,
    body: memberBody,
    replies: { 200: member },
    problems: ['conflict'],
    handle: async ({ params, body, caller, actor, deps }) => {
      await requireOrg(caller, params.id, () => findOrg(deps.database.kysely, params.id));
      return deps.database.kysely.transaction().execute(async (tx) => {
        const row = await findUserByEmail(tx, body.email);
        if (!row) {
          throw new MusterError('invalid_request', 'email is of no user: invite them, or make the user first', {
            errors: [{ path: 'email', message: 'is of no user' }],
          });
        }
        await setMember(tx, params.id, row.id, body.role);
        await appendAudit(tx, {
          orgId: params.id,
          actor,
          action: 'member.set',
          targetKind: 'user',
          targetId: row.id,
          detail: { role: body.role },
        });
        return {
          status: 200,
          body: memberReply({ user_id: row.id, email: row.email, role: body.role, created_at: row.created_at }),
        };
      });
    },
  }),
];

/** The caller's own org, or any that exists for the deployment's admin; to anybody else it does not exist. */
async function requireOrg(caller: Caller, orgId: string, find: () => Promise<unknown>): Promise<void> {
  if (caller.orgId === orgId) return;
  if (caller.isAdmin && (await find()) !== undefined) return;
  throw new MusterError('not_found', `there is no org ${orgId}`);
}

async function listOwnOrgs(db: Parameters<typeof findOrg>[0], caller: Caller) {
  if (caller.kind === 'user') return listOrgsOfUser(db, caller.id);
  const row = await findOrg(db, caller.orgId);
  return row ? [{ ...row, role: caller.role }] : [];
}
