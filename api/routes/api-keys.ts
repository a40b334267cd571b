/** Routes of API keys. A key is shown once, when it is made or rotated. */
import { z } from 'zod';
import { parseDuration } from '../../domain/duration.ts';
import { MusterError } from '../../domain/error-table.ts';
import {
  insertApiKey,
  listApiKeys,
  lockApiKey,
  replaceKeyHash,
  revokeApiKey,
  type ApiKeyRow,
} from '../../db/api-keys.ts';
import { auditRow } from '../../db/audit.ts';
import type { Tx } from '../../db/database.ts';
import type { Caller } from '../caller.ts';
import { apiKeyBody, apiKeyPage, madeApiKey } from '../contract/auth.ts';
import { id, pageQuery } from '../contract/values.ts';
import { hashCredential, makeApiKeySecret, shownPrefix } from '../credential.ts';
import { pageByTime } from '../cursor.ts';
import { apiKeyReply } from '../replies/org-reply.ts';
import { route, type Route } from '../route.ts';

const AREA = 'api keys';
const keyParams = z.object({ id: id('apiKey') });

export const apiKeyRoutes: Route[] = [
  route({
    method: 'post',
    path: '/api-keys',
    access: 'own',
    area: AREA,
    summary: 'Make an API key',
    body: apiKeyBody,
    replies: { 201: madeApiKey },
    handle: ({ body, caller, actor, deps }) => {
      if (body.isAdmin && !caller.isAdmin)
        throw new MusterError('forbidden', "only the deployment's admin may give isAdmin");
      const key = makeApiKeySecret();
      return deps.database.kysely.transaction().execute(async (tx) => {
        const row = await insertApiKey(tx, {
          orgId: caller.orgId,
          userId: caller.userId,
          name: body.name,
          role: body.role,
          isAdmin: body.isAdmin,
          keyHash: hashCredential(key),
          prefix: shownPrefix(key),
          expiresAt:
            body.validFor === undefined ? null : new Date(Date.now() + (parseDuration(body.validFor) as number)),
        });
        await auditRow(tx, actor, row, 'api_key.create', { name: row.name, role: row.role, isAdmin: row.is_admin });
        return { status: 201, body: { ...apiKeyReply(row), key } };
      });
    },
  }),
  route({
    method: 'get',
    path: '/api-keys',
    access: 'own',
    area: AREA,
    summary: 'List API keys',
    query: pageQuery,
    replies: { 200: apiKeyPage },
    handle: async ({ query, caller, deps }) => {
      const body = await pageByTime(
        query,
        (page) => listApiKeys(deps.database.kysely, caller.orgId, page),
        (rows) => rows.map(apiKeyReply),
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'delete',
    path: '/api-keys/:id',
    access: 'own',
    area: AREA,
    summary: 'Revoke an API key',
    params: keyParams,
    replies: { 204: null },
    handle: ({ params, caller, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const row = await requireKey(tx, caller, params.id);
        if (row.revoked_at === null) {
          await revokeApiKey(tx, row.id);
          await auditRow(tx, actor, row, 'api_key.revoke');
        }
        return { status: 204 };
      }),
  }),
  route({
    method: 'post',
    path: '/api-keys/:id/rotate',
    access: 'own',
    area: AREA,
    summary: 'Put a new secret behind an API key',
    description: 'The old one stops working at once.',
    params: keyParams,
    body: z.strictObject({}),
    isBodyOptional: true,
    replies: { 200: madeApiKey },
    problems: ['conflict'],
    handle: ({ params, caller, actor, deps }) =>
      deps.database.kysely.transaction().execute(async (tx) => {
        const row = await requireKey(tx, caller, params.id);
        if (row.revoked_at !== null)
          throw new MusterError('conflict', `${row.id} is revoked`, { facts: { state: 'revoked' } });
        const key = makeApiKeySecret();
        const replaced = await replaceKeyHash(tx, row.id, hashCredential(key), shownPrefix(key));
        await auditRow(tx, actor, row, 'api_key.rotate');
        return { status: 200, body: { ...apiKeyReply(replaced), key } };
      }),
  }),
];

/** A key of the caller's org; an admin's key only for an admin, who would otherwise be locked out or impersonated. */
async function requireKey(tx: Tx, caller: Caller, keyId: string): Promise<ApiKeyRow> {
  const row = await lockApiKey(tx, caller.orgId, keyId);
  if (!row) throw new MusterError('not_found', `there is no API key ${keyId}`);
  if (row.is_admin && !caller.isAdmin) throw new MusterError('forbidden', "this key is the deployment's admin's");
  return row;
}
