/** The `eks` stack: one GPU cluster at AWS, and what belongs into it. Credentials are those of the environment. */
import { getCluster } from '@pulumi/aws/eks/getCluster.js';
import { getClusters } from '@pulumi/aws/eks/getClusters.js';
import { Provider } from '@pulumi/aws/provider.js';
import type { Output } from '@pulumi/pulumi/output.js';
import { EksGpuCluster } from '../../components/eks-gpu-cluster.ts';
import type { PolicyViolation } from '../../domain/policy.ts';
import { formatTags, TAG_KEYS } from '../../domain/stack-tags.ts';
import { installClusterParts } from '../cluster-parts.ts';
import { withPolicies } from '../policy-gate.ts';
import type { StackArgs } from '../stack-args.ts';
import type { EksConfig } from './config.ts';

export function eksProgram(args: StackArgs<EksConfig>): Record<string, Output<unknown>> {
  const { config, name, tags, protect, ceilingMicroUsdPerHour, resize = [] } = args;
  const { gpuOperator, nodeAgent, connectedCidrs: _checked, checkCatalogue: _alsoChecked, ...cluster } = config;
  return withPolicies({ ceilingMicroUsdPerHour, region: config.region }, (options, ask) => {
    const provider = new Provider(
      `${name}-aws`,
      // The default tags reach what EKS makes for us; everything that we make says them itself too.
      { region: config.region, defaultTags: { tags: formatTags(tags, name) } },
      options,
    );
    ask(findOtherCluster(args, provider));
    const made = new EksGpuCluster(name, { ...cluster, tags, protect, resize }, { ...options, provider });
    const nodes = made.nodeGroups;
    installClusterParts({ name, tags, kubeconfig: made.kubeconfig, nodes, gpuOperator, nodeAgent }, options);
    return {
      clusterName: made.clusterName,
      clusterArn: made.clusterArn,
      endpoint: made.endpoint,
      certificateAuthority: made.certificateAuthority,
      kubernetesVersion: made.kubernetesVersion,
      kubeconfig: made.kubeconfig,
      vpcId: made.vpcId,
    };
  });
}

/** AWS would refuse the name only when network, roles and key are made. A cluster with our tags is this stack's own. */
async function findOtherCluster(
  { name, tags }: StackArgs<EksConfig>,
  provider: Provider,
): Promise<PolicyViolation | null> {
  const { names } = await getClusters({}, { provider });
  if (!names.includes(name)) return null;
  const found = (await getCluster({ name }, { provider })).tags;
  if (found[TAG_KEYS.stack] === name && found[TAG_KEYS.deployment] === tags.deployment) return null;
  const message = `an EKS cluster "${name}" that is not this stack's is in the region already: give the stack another name`;
  return { rule: 'name_taken', resource: name, message };
}
