/** One k3s server or agent on a host of ours, as a Pulumi resource. What it does stands in crud.ts; this is its face to programs. */
import { secret, type Input, type Output } from '@pulumi/pulumi/output.js';
import { CustomResource, mergeOptions, type CustomResourceOptions } from '@pulumi/pulumi/resource.js';
import { shimText } from '../shim.ts';
import type { HostAccessArgs } from '../ssh-host/resource.ts';
import { K3S_SECRET_OUTPUTS } from './properties.ts';

export interface K3sNodeArgs extends HostAccessArgs {
  role: 'server' | 'agent';
  /** A k3s binary: `https://…`, or `file:///…` on the host itself. */
  artefactUrl: Input<string>;
  /** Of the binary: one with another checksum is not run. */
  artefactSha256: Input<string>;
  /** Of an agent: `url` of the server. @default none */
  serverUrl?: Input<string>;
  /** Of an agent: `nodeToken` of the server; kept secret. @default none */
  token?: Input<string>;
  /** Where the server's API listens. @default 6443 */
  apiPort?: Input<number>;
  /** Labels of the Kubernetes node. @default {} */
  nodeLabels?: Input<Record<string, Input<string>>>;
  /** Where binary and configuration lie. Another place installs anew. @default /opt/muster-k3s */
  installDir?: Input<string>;
  /** The cluster's data; it is removed with the node. @default /var/lib/rancher/k3s */
  dataDir?: Input<string>;
}

export class K3sNode extends CustomResource {
  declare readonly url: Output<string>;
  declare readonly state: Output<string>;
  /** Secret. null for an agent. */
  declare readonly nodeToken: Output<string | null>;
  /** Secret. null for an agent. */
  declare readonly kubeconfig: Output<string | null>;

  constructor(name: string, args: K3sNodeArgs, options?: CustomResourceOptions) {
    const properties = {
      url: undefined,
      state: undefined,
      nodeToken: undefined,
      kubeconfig: undefined,
      ...args,
      ...(args.token === undefined ? {} : { token: secret(args.token) }),
      host: name,
      __provider: shimText('k3s_node'),
    };
    const secrets = { additionalSecretOutputs: [...K3S_SECRET_OUTPUTS] };
    super('pulumi-nodejs:dynamic/k3s:Node', name, properties, mergeOptions(options, secrets));
  }
}
