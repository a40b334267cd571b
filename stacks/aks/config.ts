/** The configuration of the `aks` stack: a Kubernetes cluster with GPU nodes at Azure. Schema only. Prices are of East US. */
import { z } from 'zod';
import { describeOverlaps, parseCidr } from '../../domain/cidr.ts';
import { describeGpuTypeProblem } from '../../domain/gpu-instance-type.ts';
import { describeSkew, describeVersionProblem, newestKubernetes } from '../../domain/kubernetes-version.ts';
import { allowList, checkCatalogue, cidr, gpuOperator, nodeAgent } from '../config-fields.ts';

const version = z.string().regex(/^1\.\d{1,3}$/, `must be a minor version such as "${newestKubernetes('aks')}"`);
const uuid = z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i, 'must be a UUID');
const vmSize = z.string().regex(/^Standard_\w+$/, 'must be an Azure VM size such as "Standard_NC24ads_A100_v4"');
const count = z.int().min(0).max(1000);
/** Azure's own rule for Linux pools. */
const poolName = z
  .string()
  .regex(/^[a-z][a-z0-9]{0,11}$/, 'must be 1 to 12 lower-case letters and digits, beginning with a letter');

const gpuNodePool = z
  .strictObject({
    name: poolName.optional().describe('Default: gpu1, gpu2, … in their order. Renaming one replaces it.'),
    vmSize: vmSize.describe('A GPU size: what costs most here. No default. Changing it replaces the pool.'),
    minCount: count.default(0).describe('Fewest nodes. Default 0: an idle pool costs nothing.'),
    maxCount: count.min(1).describe('Most nodes: what the pool can cost at worst. No default.'),
    count: count.optional().describe('Nodes now. Default: minCount.'),
    autoscaled: z
      .boolean()
      .default(false)
      .describe(
        "AKS's own autoscaler decides between minCount and maxCount; updates then leave count alone. Default false. Free.",
      ),
    capacityType: z
      .enum(['on_demand', 'spot'])
      .default('on_demand')
      .describe('spot is cheaper by 60 to 90 %, and may be taken away with 30 seconds of warning. Default on_demand.'),
    maxSpotPriceUsdPerHour: z
      .string()
      .regex(/^\d{1,4}(\.\d{1,5})?$/, 'must be dollars per hour such as "1.50", with at most five decimals')
      .optional()
      .describe('Only with capacityType: spot. Default: up to the on-demand price.'),
    diskGib: z
      .int()
      .min(30)
      .max(2048)
      .default(128)
      .describe('Managed OS disk of a node, about $0.13 per GiB and month. Default 128.'),
    kubernetesVersion: version
      .optional()
      .describe("Of the nodes. Default: the control plane's. May be up to three minors behind it."),
    powerState: z
      .enum(['running', 'stopped'])
      .default('running')
      .describe('A stopped pool keeps its settings and costs only its disks. Default running.'),
    tainted: z
      .boolean()
      .default(true)
      .describe('Keep Pods that ask for no GPU off (nvidia.com/gpu:NoSchedule). Default true. Free.'),
    labels: z
      .record(z.string(), z.string())
      .default({})
      .describe('More Kubernetes labels on the nodes. Default none. Free.'),
  })
  .superRefine((pool, context) => {
    const wanted = pool.count ?? pool.minCount;
    if (pool.minCount > pool.maxCount)
      context.addIssue({ code: 'custom', path: ['minCount'], message: `is above maxCount ${pool.maxCount}` });
    else if (wanted < pool.minCount || wanted > pool.maxCount)
      context.addIssue({
        code: 'custom',
        path: ['count'],
        message: `${wanted} is not between minCount ${pool.minCount} and maxCount ${pool.maxCount}`,
      });
    if (pool.maxSpotPriceUsdPerHour !== undefined && pool.capacityType !== 'spot')
      context.addIssue({ code: 'custom', path: ['maxSpotPriceUsdPerHour'], message: 'only with capacityType: spot' });
  });

export const aksConfigSchema = z
  .strictObject({
    subscriptionId: uuid.optional().describe('Default: ARM_SUBSCRIPTION_ID of the environment.'),
    location: z
      .string()
      .regex(/^[a-z]+[a-z0-9]*$/, 'must be an Azure location such as "swedencentral"')
      .describe('No default. Prices differ by up to 60 % between locations.'),
    kubernetesVersion: version.default(newestKubernetes('aks')).describe('Default: the newest known. Free.'),
    tier: z
      .enum(['free', 'standard', 'premium'])
      .default('standard')
      .describe(
        'Of the control plane: free has no SLA and costs nothing; standard $0.10, premium (long-term support) $0.60 per hour. Default standard.',
      ),
    vnetCidr: cidr.default('10.61.0.0/16').describe('The network to make, /16 to /20. Default 10.61.0.0/16. Free.'),
    existingSubnetId: z
      .string()
      .regex(
        /^\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/Microsoft\.Network\/virtualNetworks\/[^/]+\/subnets\/[^/]+$/i,
        'must be the ARM id of a subnet',
      )
      .optional()
      .describe('Put nodes into this subnet instead of making a network. Default: a network is made.'),
    podCidr: cidr
      .default('10.244.0.0/16')
      .describe('Addresses of Kubernetes Pods (overlay). Default 10.244.0.0/16. Free.'),
    serviceCidr: cidr
      .default('172.21.0.0/16')
      .describe('Addresses of Kubernetes Services, /12 to /24. Default 172.21.0.0/16. Free.'),
    connectedCidrs: z
      .array(cidr)
      .default([])
      .describe(
        'Networks that must stay reachable from the cluster (offices, other clouds); nothing here may overlap them. Default none.',
      ),
    publicAccessCidrs: allowList.describe(
      'Networks that may reach a public API endpoint. Default none: a private cluster. Free; a private endpoint is $0.01 per hour. Changing between none and some replaces the cluster.',
    ),
    adminGroupIds: z
      .array(uuid)
      .default([])
      .describe(
        'Microsoft Entra groups with cluster-admin. Default none: Azure RBAC roles only. Local accounts are off. Free.',
      ),
    tenantId: uuid.optional().describe("Microsoft Entra tenant. Default: the subscription's."),
    systemNodes: z
      .strictObject({
        vmSize: vmSize.default('Standard_D2s_v5').describe('Default Standard_D2s_v5, $0.096 per hour each.'),
        count: z
          .int()
          .min(1)
          .max(20)
          .default(2)
          .describe('Nodes for what is not a GPU workload. Default 2, so that one may fail.'),
        diskGib: z.int().min(30).max(1024).default(64).describe('Default 64, about $0.13 per GiB and month.'),
      })
      .prefault({})
      .describe(
        'Nodes for CoreDNS, operators and what is not a GPU workload. Default: two of Standard_D2s_v5. Fixed when the cluster is made.',
      ),
    gpuNodePools: z.array(gpuNodePool).max(20).default([]).describe('Pools of GPU nodes. Default none.'),
    workloadIdentities: z
      .array(
        z.strictObject({
          name: z
            .string()
            .regex(
              /^[a-z](?:[a-z0-9-]{0,18}[a-z0-9])?$/,
              'must be 1 to 20 lower-case letters, digits and inner dashes',
            ),
          namespace: z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, 'must be a Kubernetes namespace'),
          serviceAccount: z
            .string()
            .regex(/^[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?$/, 'must be a Kubernetes service account'),
        }),
      )
      .default([])
      .describe('Azure identities that Kubernetes service accounts may take without a secret. Default none. Free.'),
    logRetentionDays: z
      .int()
      .min(0)
      .max(730)
      .default(30)
      .describe(
        'Control plane audit logs to Log Analytics: about $2.30 per GB taken in, 31 days kept free. Default 30; 0 is off.',
      ),
    gpuOperator,
    nodeAgent,
    checkCatalogue,
  })
  .superRefine((config, context) => {
    const problem = (path: (string | number)[], message: string | null) => {
      if (message !== null) context.addIssue({ code: 'custom', path, message });
    };
    const vnet = parseCidr(config.vnetCidr);
    if (!config.existingSubnetId && vnet && (vnet.prefix < 8 || vnet.prefix > 20))
      problem(['vnetCidr'], 'must be a /8 to a /20');
    const service = parseCidr(config.serviceCidr);
    if (service && (service.prefix < 12 || service.prefix > 24)) problem(['serviceCidr'], 'must be a /12 to a /24');
    if (config.logRetentionDays > 0 && config.logRetentionDays < 30)
      problem(['logRetentionDays'], 'must be 0 or 30 to 730');
    const own = [
      ...(config.existingSubnetId ? [] : [{ name: 'vnetCidr', cidr: config.vnetCidr }]),
      { name: 'podCidr', cidr: config.podCidr },
      { name: 'serviceCidr', cidr: config.serviceCidr },
    ];
    const connected = config.connectedCidrs.map((each, index) => ({ name: `connectedCidrs.${index}`, cidr: each }));
    for (const { name, message } of describeOverlaps(own, connected)) problem(name.split('.'), message);
    if (config.checkCatalogue) problem(['kubernetesVersion'], describeVersionProblem('aks', config.kubernetesVersion));
    const names = config.gpuNodePools.map((pool, index) => pool.name ?? `gpu${index + 1}`);
    config.gpuNodePools.forEach((pool, index) => {
      const path = ['gpuNodePools', index];
      if (config.checkCatalogue)
        problem([...path, 'vmSize'], describeGpuTypeProblem('azure', pool.vmSize, config.location));
      if (pool.kubernetesVersion !== undefined)
        problem([...path, 'kubernetesVersion'], describeSkew(config.kubernetesVersion, pool.kubernetesVersion));
      if (names.indexOf(names[index] as string) !== index || names[index] === 'system')
        problem([...path, 'name'], `the name ${names[index]} is taken`);
    });
    const identities = config.workloadIdentities.map(({ name }) => name);
    identities.forEach((name, index) => {
      if (identities.indexOf(name) !== index)
        problem(['workloadIdentities', index, 'name'], `the name ${name} is taken`);
    });
  });

export type AksConfig = z.output<typeof aksConfigSchema>;
