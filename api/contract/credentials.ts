/** Credentials on the wire: what opens machines of an org's own. A value goes in and never comes out again. */
import { z } from 'zod';
import { id, pageOf, time } from './values.ts';

export const CREDENTIAL_KINDS = ['ssh_private_key'] as const;

const MAX_VALUE_CHARS = 32_768;

export const createCredentialBody = z
  .strictObject({
    name: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'must be 1 to 63 letters, digits, ".", "_" or "-"')
      .meta({ description: 'By which it is referred to; unique in the org' }),
    kind: z.enum(CREDENTIAL_KINDS),
    value: z.string().min(1).max(MAX_VALUE_CHARS).meta({
      description: 'Of `ssh_private_key`: an OpenSSH or PEM private key without a passphrase. Kept sealed, never shown',
    }),
  })
  .meta({ id: 'CreateCredential' });

export const credential = z
  .object({
    id: id('credential'),
    name: z.string(),
    kind: z.enum(CREDENTIAL_KINDS),
    publicPart: z
      .string()
      .nullable()
      .meta({ description: 'Of a private key: its public key, to be let in on the hosts' }),
    createdBy: z.string(),
    createdAt: time,
  })
  .meta({ id: 'Credential' });
export type Credential = z.infer<typeof credential>;

export const credentialPage = pageOf(credential).meta({ id: 'CredentialPage' });
