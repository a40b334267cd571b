/** One host of ours, reached over SSH, as a Pulumi resource. What it does stands in crud.ts; this is its face to programs. */
import { CustomResource, type CustomResourceOptions } from '@pulumi/pulumi/resource.js';
import type { Input, Output } from '@pulumi/pulumi/output.js';
import { shimText } from '../shim.ts';
import type { HostOutputs } from './properties.ts';
import type { HostFacts } from './wire.ts';

/** How a host is reached. Nothing here costs money. */
export interface HostAccessArgs {
  /** Name or address. Another one is another host. */
  address: Input<string>;
  /** @default 22. Another one is another host. */
  port?: Input<number>;
  /** root, or one who may use sudo without a password. @default root */
  user?: Input<string>;
  /** Fingerprint of one of the host's keys ("SHA256:…"): a host that shows another gets no login and no command. */
  hostKeySha256: Input<string>;
  /** Names the private key at the control plane; under plain `pulumi up` any name, the key comes from MUSTER_SSH_PRIVATE_KEY_FILE. */
  credentialRef: Input<string>;
}

export interface SshHostArgs extends HostAccessArgs {
  /** Install our agent, where there is a control plane. Without it the host is only looked at. @default true */
  agent?: Input<boolean>;
  /** Where everything of the agent lies. Another place moves it there. @default /var/lib/muster-agent */
  agentDir?: Input<string>;
  /** The Node that runs the agent. @default the newest on the host's PATH */
  nodePath?: Input<string>;
  /** Told with the node. @default {} */
  labels?: Input<Record<string, Input<string>>>;
}

export class SshHost extends CustomResource {
  declare readonly address: Output<string>;
  declare readonly port: Output<number>;
  declare readonly agentState: Output<HostOutputs['agentState']>;
  declare readonly nodeId: Output<string | null>;
  declare readonly facts: Output<HostFacts>;

  /** @param name by which the control plane knows the host within its stack */
  constructor(name: string, args: SshHostArgs, options?: CustomResourceOptions) {
    const properties = {
      agentState: undefined,
      nodeId: undefined,
      facts: undefined,
      ...args,
      host: name,
      __provider: shimText('ssh_host'),
    };
    super('pulumi-nodejs:dynamic/ssh-host:Host', name, properties, options);
  }
}
