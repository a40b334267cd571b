/** The configuration of the `onprem-node` stack: one machine of our own. Schema only. Nothing of it costs money. */
import { z } from 'zod';
import {
  CREDENTIAL_REF_PATTERN,
  CREDENTIAL_REF_RULE,
  DEFAULT_AGENT_DIRECTORY,
  DEFAULT_SSH_PORT,
  HOST_ADDRESS_PATTERN,
  HOST_ADDRESS_RULE,
  HOST_DIRECTORY_PATTERN,
  HOST_DIRECTORY_RULE,
  HOST_KEY_PATTERN,
  HOST_KEY_RULE,
  HOST_PATH_PATTERN,
  HOST_PATH_RULE,
  HOST_USER_PATTERN,
  HOST_USER_RULE,
} from '../../domain/on-prem-host.ts';

/** How a host is reached and what is put on it: the same for a host alone and for one of a cluster. */
export const hostFields = {
  address: z
    .string()
    .regex(HOST_ADDRESS_PATTERN, HOST_ADDRESS_RULE)
    .describe('Name or address. No default. Another one is another host.'),
  port: z
    .int()
    .min(1)
    .max(65_535)
    .default(DEFAULT_SSH_PORT)
    .describe('Of its SSH server. Default 22. Another one is another host.'),
  user: z
    .string()
    .regex(HOST_USER_PATTERN, HOST_USER_RULE)
    .default('root')
    .describe('Who logs in: root, or one who may use sudo without a password. Default root.'),
  hostKeySha256: z
    .string()
    .regex(HOST_KEY_PATTERN, HOST_KEY_RULE)
    .describe(
      'Fingerprint of one of its host keys; a host that shows another gets no login and no command. No default.',
    ),
  labels: z.record(z.string(), z.string().max(128)).default({}).describe('Told with its node. Default none.'),
  agentDir: z
    .string()
    .regex(HOST_DIRECTORY_PATTERN, HOST_DIRECTORY_RULE)
    .default(DEFAULT_AGENT_DIRECTORY)
    .describe(`Where everything of Muster's agent lies. Default ${DEFAULT_AGENT_DIRECTORY}.`),
  nodePath: z
    .string()
    .regex(HOST_PATH_PATTERN, HOST_PATH_RULE)
    .optional()
    .describe('The Node that runs the agent. Default: the newest on its PATH.'),
};

export const credentialRef = z.string().regex(CREDENTIAL_REF_PATTERN, CREDENTIAL_REF_RULE);

export const agent = z
  .boolean()
  .default(true)
  .describe("Install Muster's agent. Default true; without a control plane the host is only looked at.");

export const onpremNodeConfigSchema = z.strictObject({
  ...hostFields,
  credentialRef: credentialRef.describe(
    'Names the SSH private key: a credential of the control plane. No default. Under plain `pulumi up` any name, with the key in MUSTER_SSH_PRIVATE_KEY_FILE.',
  ),
  agent,
});

export type OnpremNodeConfig = z.output<typeof onpremNodeConfigSchema>;
