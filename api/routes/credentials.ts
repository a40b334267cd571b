/** Routes of credentials: what opens machines of an org's own, and what fetches images. No reply, log or audit entry holds a value. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { auditRow } from '../../db/audit.ts';
import {
  deleteCredential,
  findCredential,
  insertCredential,
  listCredentials,
  listUsesOfCredential,
  type CredentialRow,
} from '../../db/credentials.ts';
import { inTransaction } from '../../db/database.ts';
import { readSshPrivateKey } from '../../secrets/ssh-private-key.ts';
import { createCredentialBody, credential, credentialPage, type Credential } from '../contract/credentials.ts';
import { id, pageQuery } from '../contract/values.ts';
import { pageByTime, type PageOfTime } from '../cursor.ts';
import { iso } from '../reply-values.ts';
import { route, type Route } from '../route.ts';

const AREA = 'credentials';
const params = z.object({ id: id('credential') });

export const credentialRoutes: Route[] = [
  route({
    method: 'post',
    path: '/credentials',
    access: 'change',
    area: AREA,
    summary: 'Keep a credential',
    description: 'Sealed, and never shown again. Hosts and pods refer to it by name or id.',
    body: createCredentialBody,
    replies: { 201: credential },
    problems: ['conflict'],
    handle: async ({ body, caller, actor, deps }) => {
      const publicPart = body.registry ?? (await publicKeyOf(body.value));
      return inTransaction(deps.database.kysely, async (tx) => {
        const { name, kind, value } = body;
        const row = await insertCredential(tx, deps.envelope, {
          name,
          kind,
          value,
          orgId: caller.orgId,
          publicPart,
          createdBy: caller.id,
        });
        if (row === null) {
          throw new MusterError('conflict', `a credential named "${name}" exists already`, {
            errors: [{ path: 'name', message: 'is taken by a credential of this org' }],
          });
        }
        await auditRow(tx, actor, row, 'credential.create', { name: row.name, kind: row.kind });
        return { status: 201, body: credentialReply(row) };
      });
    },
  }),
  route({
    method: 'get',
    path: '/credentials',
    access: 'read',
    area: AREA,
    summary: 'List credentials, newest first',
    query: pageQuery,
    replies: { 200: credentialPage },
    handle: async ({ query, caller, deps }) => {
      const list = (page: PageOfTime) => listCredentials(deps.database.kysely, caller.orgId, page);
      return { status: 200, body: await pageByTime(query, list, (rows) => rows.map(credentialReply)) };
    },
  }),
  route({
    method: 'get',
    path: '/credentials/:id',
    access: 'read',
    area: AREA,
    summary: 'Get a credential, without its value',
    params,
    replies: { 200: credential },
    handle: async ({ params: { id: credentialId }, caller, deps }) => {
      const row = await findCredential(deps.database.kysely, caller.orgId, credentialId);
      return { status: 200, body: credentialReply(requireCredential(row, credentialId)) };
    },
  }),
  route({
    method: 'delete',
    path: '/credentials/:id',
    access: 'change',
    area: AREA,
    summary: 'Forget a credential',
    description: 'Refused while a host is reached by it, a pod has it, or a stack names it.',
    params,
    replies: { 204: null },
    problems: ['conflict'],
    handle: ({ params: { id: credentialId }, caller, actor, deps }) =>
      inTransaction(deps.database.kysely, async (tx) => {
        const row = requireCredential(await findCredential(tx, caller.orgId, credentialId), credentialId);
        const uses = await listUsesOfCredential(tx, row);
        if (uses.length > 0) {
          const detail = `${row.name} is needed by ${uses.slice(0, 5).join(', ')}${uses.length > 5 ? ', …' : ''}`;
          throw new MusterError('conflict', detail, { facts: { state: 'in_use' } });
        }
        await deleteCredential(tx, row.id);
        await auditRow(tx, actor, row, 'credential.delete', { name: row.name, kind: row.kind });
        return { status: 204 };
      }),
  }),
];

/** Throws MusterError `invalid_request` for what is no key. */
async function publicKeyOf(value: string): Promise<string> {
  const read = await readSshPrivateKey(value);
  if ('publicKey' in read) return read.publicKey;
  const errors = [{ path: 'value', message: read.problem }];
  throw new MusterError('invalid_request', `value ${read.problem}`, { errors });
}

function requireCredential(row: CredentialRow | undefined, credentialId: string): CredentialRow {
  if (!row) throw new MusterError('not_found', `there is no credential ${credentialId}`);
  return row;
}

function credentialReply(row: CredentialRow): Credential {
  return {
    id: row.id,
    name: row.name,
    kind: row.kind,
    publicPart: row.public_part,
    createdBy: row.created_by,
    createdAt: iso(row.created_at),
  };
}
