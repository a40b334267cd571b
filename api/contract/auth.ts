/** People, orgs, keys and tokens on the wire. */
import { z } from 'zod';
import { ROLES } from '../../domain/access.ts';
import { duration, id, pageOf, time } from './values.ts';

const DAY_MS = 86_400_000;

const email = z.email().max(254).toLowerCase();
const password = z.string().min(12, 'must have at least 12 characters').max(256);
const role = z.enum(ROLES);
const orgName = z
  .string()
  .trim()
  .regex(
    /^[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9])?$/,
    'must be 1 to 64 letters, digits, blanks, ".", "_" or "-"',
  );

export const loginBody = z.strictObject({
  email,
  password: z.string().min(1).max(256),
  orgId: id('org').optional().meta({ description: 'Of several orgs the one to act in. Default: the first joined' }),
});
export const tokens = z
  .object({
    accessToken: z.string(),
    refreshToken: z.string(),
    expiresAt: time.meta({ description: 'Of the access token' }),
  })
  .meta({ id: 'Tokens' });
export type Tokens = z.infer<typeof tokens>;

export const refreshBody = z.strictObject({ refreshToken: z.string().min(1).max(200) });

export const registerBody = z.strictObject({
  email,
  password,
  invite: z
    .string()
    .max(200)
    .optional()
    .meta({ description: 'Token of an invite; needed unless registration is open' }),
  orgName: orgName.optional().meta({ description: 'Of the new org, when registration is open and there is no invite' }),
});

export const org = z
  .object({ id: id('org'), name: z.string(), role: role.nullable(), createdAt: time })
  .meta({ id: 'Org' });
export type Org = z.infer<typeof org>;
export const orgPage = pageOf(org);
export const orgBody = z.strictObject({ name: orgName });

export const user = z
  .object({ id: id('user'), email: z.string(), isAdmin: z.boolean(), createdAt: time })
  .meta({ id: 'User' });
export type User = z.infer<typeof user>;
export const registered = z.object({ user, org }).meta({ id: 'Registered' });

export const me = z
  .object({
    principal: z.object({ kind: z.enum(['user', 'api_key']), id: z.string() }),
    user: user.nullable().meta({ description: 'null for an API key that belongs to nobody' }),
    org: org,
    role,
    isAdmin: z.boolean(),
  })
  .meta({ id: 'Me' });
export type Me = z.infer<typeof me>;

export const userBody = z.strictObject({ email, password, role: role.default('viewer') });
export const passwordBody = z.strictObject({ currentPassword: z.string().min(1).max(256), newPassword: password });

export const inviteBody = z.strictObject({
  role: role.default('operator'),
  email: email.optional().meta({ description: 'Only this address may use it' }),
  validFor: duration(60_000, 30 * DAY_MS, 'from 1 minute to 30 days').default('7 days'),
});
export const invite = z
  .object({
    id: id('invite'),
    token: z.string().meta({ description: 'Shown once' }),
    role,
    email: z.string().nullable(),
    expiresAt: time,
  })
  .meta({ id: 'Invite' });

export const member = z.object({ userId: id('user'), email: z.string(), role, createdAt: time }).meta({ id: 'Member' });
export type Member = z.infer<typeof member>;
export const memberPage = pageOf(member);
export const memberBody = z
  .strictObject({ email, role })
  .meta({ description: 'Adds a user, or changes the role of a member' });

export const apiKeyBody = z.strictObject({
  name: z.string().trim().min(1).max(64),
  role: role.default('operator'),
  isAdmin: z.boolean().default(false).meta({ description: "Also the deployment's admin; only an admin may give this" }),
  validFor: duration(60_000, 3650 * DAY_MS, 'from 1 minute to 3650 days')
    .optional()
    .meta({ description: 'Default: for ever' }),
});
export const apiKey = z
  .object({
    id: id('apiKey'),
    name: z.string(),
    role,
    isAdmin: z.boolean(),
    prefix: z.string(),
    createdAt: time,
    expiresAt: time.nullable(),
    lastUsedAt: time.nullable(),
    revokedAt: time.nullable(),
  })
  .meta({ id: 'ApiKey' });
export type ApiKey = z.infer<typeof apiKey>;
export const apiKeyPage = pageOf(apiKey);
export const madeApiKey = apiKey
  .extend({ key: z.string().meta({ description: 'Shown once' }) })
  .meta({ id: 'MadeApiKey' });
