/** Credentials on the wire: what opens machines of an org's own, and what fetches images. A value goes in and never comes out again. */
import { z } from 'zod';
import { CREDENTIAL_KINDS, readRegistryLogin } from '../../domain/credential.ts';
import { id, pageOf, time } from './values.ts';

const MAX_VALUE_CHARS = 32_768;

export const createCredentialBody = z
  .strictObject({
    name: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'must be 1 to 63 letters, digits, ".", "_" or "-"')
      .meta({ description: 'By which it is referred to; unique in the org' }),
    kind: z.enum(CREDENTIAL_KINDS),
    value: z.string().min(1).max(MAX_VALUE_CHARS).meta({
      description:
        'Of `ssh_private_key`: an OpenSSH or PEM private key without a passphrase; of `registry`: `user:password`. Kept sealed, never shown',
    }),
    registry: z
      .string()
      .regex(
        /^[a-z0-9](?:[a-z0-9.-]{0,200}[a-z0-9])?(?::\d{1,5})?$/,
        'must be the host of a registry, such as "ghcr.io"',
      )
      .optional()
      .meta({ description: 'Of `registry`: the only host that it is shown to, such as `ghcr.io` or `docker.io`' }),
  })
  .superRefine(({ kind, value, registry }, context) => {
    const say = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message });
    if (kind === 'registry' && registry === undefined) say('registry', 'is needed for the kind registry');
    if (kind !== 'registry' && registry !== undefined) say('registry', 'is for the kind registry only');
    if (kind === 'registry' && readRegistryLogin(value) === null) say('value', 'must be user:password');
  })
  .meta({ id: 'CreateCredential' });

export const credential = z
  .object({
    id: id('credential'),
    name: z.string(),
    kind: z.enum(CREDENTIAL_KINDS),
    publicPart: z.string().nullable().meta({
      description: 'Of a private key: its public key, to be let in on the hosts; of a registry login: the registry',
    }),
    createdBy: z.string(),
    createdAt: time,
  })
  .meta({ id: 'Credential' });
export type Credential = z.infer<typeof credential>;

export const credentialPage = pageOf(credential).meta({ id: 'CredentialPage' });
