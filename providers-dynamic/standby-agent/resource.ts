/** How the agent of a standby joins, as a Pulumi resource. What it does stands in crud.ts; this is its face to programs. */
import type { Input, Output } from '@pulumi/pulumi/output.js';
import { CustomResource, mergeOptions, type CustomResourceOptions } from '@pulumi/pulumi/resource.js';
import { shimText } from '../shim.ts';

/** Nothing here costs money. */
export interface StandbyAgentArgs {
  /** The disk that keeps the agent's key: another one is a machine that has to join anew. */
  disk: Input<string>;
  /** Where the agent reports. */
  controlPlaneUrl: Input<string>;
}

export class StandbyAgent extends CustomResource {
  declare readonly nodeId: Output<string>;
  /** Secret, and worth something once. */
  declare readonly token: Output<string>;

  constructor(name: string, args: StandbyAgentArgs, options?: CustomResourceOptions) {
    const properties = { nodeId: undefined, token: undefined, ...args, __provider: shimText('standby_agent') };
    const secrets = { additionalSecretOutputs: ['token'] };
    super('pulumi-nodejs:dynamic/standby-agent:Join', name, properties, mergeOptions(options, secrets));
  }
}
