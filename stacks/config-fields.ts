/** Fields that several kinds of stack share, so that the same word means the same in each. Schema only. */
import { z } from 'zod';
import { isEveryAddress, parseCidr } from '../domain/cidr.ts';

export const cidr = z
  .string()
  .refine((text) => parseCidr(text) !== null, 'must be an IPv4 network such as "10.0.0.0/16", with no host bits set');

/** Who may reach something from outside. Never everybody. */
export const allowList = z
  .array(cidr.refine((text) => !isEveryAddress(text), 'lets everybody in: name the networks that may reach it'))
  .default([]);

export const partName = z
  .string()
  .regex(/^[a-z](?:[a-z0-9-]{0,18}[a-z0-9])?$/, 'must be 1 to 20 lower-case letters, digits and inner dashes');

export const checkCatalogue = z
  .boolean()
  .default(true)
  .describe(
    'Refuse instance types and Kubernetes versions that the committed tables do not know. Default true; false where the tables are behind the cloud. Free.',
  );

/** In-cluster parts need the cluster's API to be reachable from where the engine runs: a private endpoint means inside its network. */
export const gpuOperator = z
  .strictObject({
    version: z
      .string()
      .regex(/^v\d+\.\d+\.\d+$/, 'must be a chart version such as "v25.10.1"')
      .default('v25.10.1'),
    driver: z
      .boolean()
      .default(false)
      .describe(
        'Let the operator install the driver. Default false: the node images bring it. Free; minutes more until a node is ready.',
      ),
    mig: z.enum(['none', 'single', 'mixed']).default('none').describe('How MIG slices are shown. Default none. Free.'),
  })
  .optional()
  .describe("NVIDIA's GPU operator. Default: not installed. Free; about 0.5 vCPU on a system node.");

export const nodeAgent = z
  .strictObject({
    image: z.string().regex(/^\S+$/, 'must be a container image reference'),
    controlPlaneUrl: z.url({ protocol: /^https?$/ }).describe('Where the agents report. No default.'),
    enrolmentToken: z
      .string()
      .min(8)
      .optional()
      .describe(
        'Of the cluster (`POST /clusters/:id/enrolment`); set with --secret. Default: the one that a control plane which runs the stack brings for a cluster of its own; under plain pulumi up agents are enrolled by hand.',
      ),
  })
  .optional()
  .describe("Muster's agent on every GPU node. Default: not installed. Free; about 0.05 vCPU on each node.");
