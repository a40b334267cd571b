/** The `onprem` stack: a cluster on machines of our own, with what GPUs need in it. */
import { Provider } from '@pulumi/kubernetes/provider.js';
import { secret, type Output } from '@pulumi/pulumi/output.js';
import type { ComponentResourceOptions } from '@pulumi/pulumi/resource.js';
import { GpuOperator } from '../../components/gpu-operator.ts';
import { NodeAgent } from '../../components/node-agent.ts';
import { OnPremCluster } from '../../components/onprem-cluster.ts';
import { withPolicies } from '../policy-gate.ts';
import type { StackArgs } from '../stack-args.ts';
import { nameOfHost, type OnpremConfig } from './config.ts';

export function onpremProgram(args: StackArgs<OnpremConfig>): Record<string, Output<unknown>> {
  const { config, name, tags, protect = true, ceilingMicroUsdPerHour } = args;
  return withPolicies({ ceilingMicroUsdPerHour, region: null }, (options) => {
    const { k3s, kubeconfig, agent } = config;
    const cluster = new OnPremCluster(
      name,
      {
        tags,
        hosts: config.hosts.map((host) => withDefaults(host, config)),
        ...(k3s === undefined ? {} : { k3s }),
        ...(kubeconfig === undefined ? {} : { kubeconfig: secret(kubeconfig) }),
        agent,
        protect,
      },
      options,
    );
    installParts(args, cluster, options);
    return { kubeconfig: cluster.kubeconfig, ...(cluster.apiUrl === null ? {} : { apiUrl: cluster.apiUrl }) };
  });
}

function withDefaults(host: OnpremConfig['hosts'][number], config: OnpremConfig) {
  const { nodePath, credentialRef = config.credentialRef ?? '', ...access } = host;
  return { ...access, name: nameOfHost(host), credentialRef, ...(nodePath === undefined ? {} : { nodePath }) };
}

function installParts(args: StackArgs<OnpremConfig>, cluster: OnPremCluster, options: ComponentResourceOptions): void {
  const { name, tags, config } = args;
  const { gpuOperator, nodeAgent, openshift } = config;
  if (!gpuOperator && !nodeAgent) return;
  const provider = new Provider(
    `${name}-kubernetes`,
    // Where the cluster is gone already, what was in it is gone too.
    { kubeconfig: cluster.kubeconfig, enableServerSideApply: true, deleteUnreachable: true },
    { ...options, dependsOn: cluster.nodes },
  );
  if (gpuOperator)
    new GpuOperator(`${name}-gpu-operator`, { tags, openshift, ...gpuOperator }, { ...options, provider });
  // Which nodes have GPUs is told by labels of clouds that hosts of our own lack: the agent goes to all.
  if (nodeAgent) new NodeAgent(`${name}-node-agent`, { tags, openshift, ...nodeAgent }, { ...options, provider });
}
