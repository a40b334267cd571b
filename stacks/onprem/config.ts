/** The configuration of the `onprem` stack: a Kubernetes cluster on machines of our own. Schema only. Nothing of it costs money. */
import { z } from 'zod';
import { HOST_DIRECTORY_PATTERN, HOST_DIRECTORY_RULE } from '../../domain/on-prem-host.ts';
import { gpuOperator, nodeAgent } from '../config-fields.ts';
import { agent, credentialRef, hostFields } from '../onprem-node/config.ts';

/** One server, and agents that join it one after another's start: far more than it can serve. */
const MAX_HOSTS = 200;

const directory = z.string().regex(HOST_DIRECTORY_PATTERN, HOST_DIRECTORY_RULE);

const host = z.strictObject({
  name: z
    .string()
    .regex(/^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/, 'must be 1 to 32 lower-case letters, digits and inner dashes')
    .optional()
    .describe('In the cluster. Default: made of its address. Another name is another host.'),
  ...hostFields,
  credentialRef: credentialRef.optional().describe("Default: the cluster's own."),
});

const k3s = z
  .strictObject({
    artefactUrl: z
      .string()
      .regex(/^(https?:\/\/[^\s']+|file:\/\/\/[^\s']+)$/, 'must be https://… or file:///… on the hosts')
      .describe('The k3s binary to run. No default.'),
    artefactSha256: z
      .string()
      .regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits')
      .describe('Of the binary; one with another checksum is not run. No default.'),
    apiPort: z.int().min(1).max(65_535).default(6443).describe("Where the server's API listens. Default 6443."),
    installDir: directory.default('/opt/muster-k3s').describe('Binary and configuration. Default /opt/muster-k3s.'),
    dataDir: directory
      .default('/var/lib/rancher/k3s')
      .describe("The cluster's data, which is removed with it. Default /var/lib/rancher/k3s."),
  })
  .optional()
  .describe('Install k3s on the hosts, the first as server. Default: none, then kubeconfig is given.');

export const onpremConfigSchema = z
  .strictObject({
    hosts: z.array(host).max(MAX_HOSTS).default([]).describe('Machines of the cluster. Default none.'),
    credentialRef: credentialRef
      .optional()
      .describe('Names the SSH private key of all hosts that name none. No default.'),
    k3s,
    kubeconfig: z
      .string()
      .min(1)
      .optional()
      .describe(
        'Of a cluster that is there already. Set with --secret. Default none. The control plane takes none here: register such a cluster with POST /clusters.',
      ),
    openshift: z.boolean().default(false).describe('The existing cluster is OpenShift. Default false.'),
    agent,
    gpuOperator,
    nodeAgent,
  })
  .superRefine((config, context) => {
    const problem = (path: (string | number)[], message: string) => context.addIssue({ code: 'custom', path, message });
    if ((config.k3s === undefined) === (config.kubeconfig === undefined))
      problem(['k3s'], 'give exactly one of k3s and kubeconfig');
    if (config.k3s !== undefined && config.hosts.length === 0) problem(['hosts'], 'k3s needs at least one host');
    if (config.openshift && config.kubeconfig === undefined) problem(['openshift'], 'k3s is no OpenShift');
    const names = config.hosts.map(nameOfHost);
    const places = config.hosts.map(({ address, port }) => `${address}:${port}`);
    config.hosts.forEach((each, index) => {
      if (each.credentialRef === undefined && config.credentialRef === undefined)
        problem(['hosts', index, 'credentialRef'], 'is needed where the cluster names none');
      if (names.indexOf(nameOfHost(each)) !== index)
        problem(['hosts', index, 'name'], 'is the name of another host too');
      if (places.indexOf(`${each.address}:${each.port}`) !== index)
        problem(['hosts', index, 'address'], 'is there twice');
    });
  });

export type OnpremConfig = z.output<typeof onpremConfigSchema>;

/** The same address gives the same name, wherever it stands in the list. */
export function nameOfHost({
  name,
  address,
  port,
}: Pick<OnpremConfig['hosts'][number], 'name' | 'address' | 'port'>): string {
  if (name !== undefined) return name;
  const place = port === 22 ? address : `${address}-${port}`;
  return place
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(-32)
    .replace(/^-|-$/g, '');
}
