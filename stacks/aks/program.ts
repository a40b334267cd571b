/** The `aks` stack: one GPU cluster at Azure, and what belongs into it. Credentials are those of the environment. */
import { Provider } from '@pulumi/azure-native/provider.js';
import { output, type Output } from '@pulumi/pulumi/output.js';
import { AksGpuCluster } from '../../components/aks-gpu-cluster.ts';
import { installClusterParts } from '../cluster-parts.ts';
import { withPolicies } from '../policy-gate.ts';
import type { StackArgs } from '../stack-args.ts';
import type { AksConfig } from './config.ts';

export function aksProgram(args: StackArgs<AksConfig>): Record<string, Output<unknown>> {
  const { config, name, tags, protect, ceilingMicroUsdPerHour, resize = [] } = args;
  const {
    gpuOperator,
    nodeAgent,
    subscriptionId,
    connectedCidrs: _checked,
    checkCatalogue: _alsoChecked,
    ...cluster
  } = config;
  return withPolicies({ ceilingMicroUsdPerHour, region: config.location }, (options) => {
    const provider = new Provider(`${name}-azure`, { subscriptionId, location: config.location }, options);
    const driver = gpuOperator?.driver === true ? 'none' : 'install';
    const gpuNodePools = cluster.gpuNodePools.map((pool) => ({ ...pool, driver }) as const);
    const made = new AksGpuCluster(name, { ...cluster, gpuNodePools, tags, protect, resize }, { ...options, provider });
    const nodes = made.nodePools;
    installClusterParts({ name, tags, kubeconfig: made.kubeconfig, nodes, gpuOperator, nodeAgent }, options);
    return {
      clusterName: made.clusterName,
      clusterId: made.clusterId,
      resourceGroupName: made.resourceGroupName,
      endpoint: made.endpoint,
      certificateAuthority: made.certificateAuthority,
      kubernetesVersion: made.kubernetesVersion,
      kubeconfig: made.kubeconfig,
      oidcIssuerUrl: made.oidcIssuerUrl,
      workloadClientIds: output(made.workloadClientIds),
    };
  });
}
