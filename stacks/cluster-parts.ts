/** What a stack puts into the cluster that it made: the operator and the agent, once there are nodes. */
import { Provider } from '@pulumi/kubernetes/provider.js';
import type { Output } from '@pulumi/pulumi/output.js';
import type { ComponentResourceOptions, Resource } from '@pulumi/pulumi/resource.js';
import { GPU_NODE_LABELS } from '../components/gpu-nodes.ts';
import { GpuOperator } from '../components/gpu-operator.ts';
import { NodeAgent } from '../components/node-agent.ts';
import type { StackTags } from '../domain/stack-tags.ts';
import type { EksConfig } from './eks/config.ts';

export interface ClusterParts {
  name: string;
  tags: StackTags;
  kubeconfig: Output<string>;
  /** Made before the parts and gone after them. */
  nodes: Resource[];
  gpuOperator: EksConfig['gpuOperator'];
  nodeAgent: EksConfig['nodeAgent'];
}

export function installClusterParts(parts: ClusterParts, options: ComponentResourceOptions): void {
  const { name, tags, kubeconfig, nodes, gpuOperator, nodeAgent } = parts;
  if (!gpuOperator && !nodeAgent) return;
  const provider = new Provider(
    `${name}-kubernetes`,
    // Where the cluster is gone already, what was in it is gone too.
    { kubeconfig, enableServerSideApply: true, deleteUnreachable: true },
    { ...options, dependsOn: nodes },
  );
  if (gpuOperator) new GpuOperator(`${name}-gpu-operator`, { tags, ...gpuOperator }, { ...options, provider });
  if (nodeAgent) {
    const nodeSelector = GPU_NODE_LABELS;
    new NodeAgent(`${name}-node-agent`, { tags, ...nodeAgent, nodeSelector }, { ...options, provider });
  }
}
