/**
 * A machine of our own, reached over SSH: known by its host key, looked at, and carrying Muster's agent where a control plane runs the
 * stack. Safe by default: another host key stops everything, and removal takes away what was installed and nothing else.
 */
import type { Output } from '@pulumi/pulumi/output.js';
import { ComponentResource, type ComponentResourceOptions } from '@pulumi/pulumi/resource.js';
import { formatTags, type StackTags } from '../domain/stack-tags.ts';
import { SshHost, type SshHostArgs } from '../providers-dynamic/ssh-host/resource.ts';

/** Nothing here costs money: the machine is there already. */
export interface OnPremHostArgs extends Omit<SshHostArgs, 'labels'> {
  tags: StackTags;
  /** Told with its node, besides the tags. @default {} */
  labels?: Record<string, string>;
}

export class OnPremHost extends ComponentResource {
  declare readonly address: Output<string>;
  /** `running`, or `not_managed` where there is no control plane. */
  declare readonly agentState: Output<string>;
  /** The node that it is at the control plane; null: none. */
  declare readonly nodeId: Output<string | null>;
  /** What it says about itself: system, processors, memory, disks, GPUs. null members are not known. */
  declare readonly facts: SshHost['facts'];

  /** @param name by which the control plane knows the host within its stack */
  constructor(name: string, args: OnPremHostArgs, options?: ComponentResourceOptions) {
    super('muster:onprem:Host', name, {}, options);
    const { tags, labels = {}, ...access } = args;
    const host = new SshHost(name, { ...access, labels: { ...formatTags(tags, name), ...labels } }, { parent: this });
    this.address = host.address;
    this.agentState = host.agentState;
    this.nodeId = host.nodeId;
    this.facts = host.facts;
    this.registerOutputs({ address: this.address, agentState: this.agentState, nodeId: this.nodeId });
  }
}
