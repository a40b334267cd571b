/** The configuration of the `eks` stack: a Kubernetes cluster with GPU nodes at AWS. Schema only. Prices are of us-east-1. */
import { z } from 'zod';
import { describeOverlaps, parseCidr } from '../../domain/cidr.ts';
import { describeGpuTypeProblem } from '../../domain/gpu-instance-type.ts';
import { describeSkew, describeVersionProblem, newestKubernetes } from '../../domain/kubernetes-version.ts';
import { allowList, checkCatalogue, cidr, gpuOperator, nodeAgent, partName } from '../config-fields.ts';

const version = z.string().regex(/^1\.\d{1,3}$/, `must be a minor version such as "${newestKubernetes('eks')}"`);
const arn = (service: string) =>
  z.string().regex(new RegExp(`^arn:aws[a-z-]*:${service}:`), `must be an ARN of ${service}`);
const instanceType = z.string().regex(/^[a-z0-9-]+\.[a-z0-9-]+$/, 'must be an EC2 instance type such as "g5.xlarge"');
const size = z.int().min(0).max(450);

const gpuNodeGroup = z
  .strictObject({
    name: partName.optional().describe('Default: gpu-1, gpu-2, … in their order. Renaming one replaces it.'),
    instanceType: instanceType.describe(
      'A GPU instance type: what costs most here. No default. Changing it replaces the group.',
    ),
    minSize: size.default(0).describe('Fewest nodes. Default 0: an idle group costs nothing.'),
    maxSize: size.min(1).describe('Most nodes: what the group can cost at worst. No default.'),
    desiredSize: size.optional().describe('Nodes now. Default: minSize.'),
    capacityType: z
      .enum(['on_demand', 'spot'])
      .default('on_demand')
      .describe('spot is cheaper by about 60 %, and may be taken away with two minutes of warning. Default on_demand.'),
    image: z
      .enum(['al2023', 'bottlerocket'])
      .default('al2023')
      .describe('AL2023_x86_64_NVIDIA or BOTTLEROCKET_x86_64_NVIDIA; both bring the driver. Default al2023. Free.'),
    diskGib: z
      .int()
      .min(20)
      .max(16_000)
      .default(100)
      .describe('Root disk of a node, gp3: $0.08 per GiB and month. Default 100.'),
    kubernetesVersion: version
      .optional()
      .describe("Of the nodes. Default: the control plane's. May be up to three minors behind it."),
    autoscaled: z
      .boolean()
      .default(false)
      .describe(
        'An autoscaler decides between minSize and maxSize how many nodes there are; updates then leave that number alone (`POST /clusters/:id/scale` sets it once). Default false. Free.',
      ),
    tainted: z
      .boolean()
      .default(true)
      .describe('Keep Pods that ask for no GPU off (nvidia.com/gpu:NoSchedule). Default true. Free.'),
    labels: z
      .record(z.string(), z.string())
      .default({})
      .describe('More Kubernetes labels on the nodes. Default none. Free.'),
  })
  .superRefine((group, context) => {
    const desired = group.desiredSize ?? group.minSize;
    if (group.minSize > group.maxSize)
      context.addIssue({ code: 'custom', path: ['minSize'], message: `is above maxSize ${group.maxSize}` });
    else if (desired < group.minSize || desired > group.maxSize)
      context.addIssue({
        code: 'custom',
        path: ['desiredSize'],
        message: `${desired} is not between minSize ${group.minSize} and maxSize ${group.maxSize}`,
      });
  });

export const eksConfigSchema = z
  .strictObject({
    region: z
      .string()
      .regex(/^[a-z]{2}(-[a-z]+)+-\d$/, 'must be an AWS region such as "eu-west-1"')
      .describe('No default. Prices differ by up to 60 % between regions.'),
    kubernetesVersion: version
      .default(newestKubernetes('eks'))
      .describe(
        'Default: the newest known. A version past its standard support costs $0.60 per hour instead of $0.10.',
      ),
    extendedSupport: z
      .boolean()
      .default(false)
      .describe(
        'Stay on a version after its standard support, at $0.60 per hour, instead of being upgraded by AWS. Default false.',
      ),
    vpcCidr: cidr.default('10.60.0.0/16').describe('The network to make, /16 to /20. Default 10.60.0.0/16. Free.'),
    existingVpc: z
      .strictObject({
        vpcId: z.string().regex(/^vpc-[0-9a-f]+$/, 'must be a VPC id such as "vpc-0a1b2c3d"'),
        subnetIds: z
          .array(z.string().regex(/^subnet-[0-9a-f]+$/, 'must be a subnet id such as "subnet-0a1b2c3d"'))
          .min(2, 'EKS wants subnets in at least two zones'),
      })
      .optional()
      .describe('Use these private subnets instead of making a network. Default: a network is made.'),
    serviceCidr: cidr
      .default('172.20.0.0/16')
      .describe('Addresses of Kubernetes Services, /12 to /24. Default 172.20.0.0/16. Free.'),
    connectedCidrs: z
      .array(cidr)
      .default([])
      .describe(
        'Networks that must stay reachable from the cluster (offices, other clouds); nothing here may overlap them. Default none.',
      ),
    zoneCount: z
      .int()
      .min(2)
      .max(3)
      .default(3)
      .describe('Zones to spread over. Default 3. Free; traffic between zones is $0.01 per GB and direction.'),
    nat: z
      .enum(['single', 'per_zone', 'none'])
      .default('single')
      .describe(
        'How private nodes reach the internet: $0.045 per hour a gateway and $0.045 per GB. Default single; none needs images from inside.',
      ),
    publicAccessCidrs: allowList.describe(
      'Networks that may reach a public API endpoint. Default none: the endpoint is private, reachable from its VPC and what is connected to it. Free.',
    ),
    admins: z
      .array(arn('iam'))
      .default([])
      .describe(
        'IAM roles or users with cluster-admin by access entries. Default none: only whoever makes the cluster. Free.',
      ),
    logTypes: z
      .array(z.enum(['api', 'audit', 'authenticator', 'controllerManager', 'scheduler']))
      .default(['api', 'audit', 'authenticator'])
      .describe('Control plane logs: $0.50 per GB taken in. Default api, audit, authenticator.'),
    logRetentionDays: z
      .literal([1, 3, 5, 7, 14, 30, 60, 90, 180, 365])
      .default(30)
      .describe('$0.03 per GB and month kept. Default 30.'),
    secretsKeyArn: arn('kms')
      .optional()
      .describe('KMS key for Kubernetes Secrets. Default: one is made, $1 per month.'),
    oidcProvider: z
      .boolean()
      .default(false)
      .describe(
        'Also let service accounts take IAM roles by OIDC (IRSA). Default false: pod identity does it without a provider in IAM. Free.',
      ),
    systemNodes: z
      .strictObject({
        instanceType: instanceType.default('m7i.large').describe('Default m7i.large, $0.1008 per hour each.'),
        size: z
          .int()
          .min(1)
          .max(20)
          .default(2)
          .describe('Nodes for what is not a GPU workload. Default 2, so that one may fail.'),
        diskGib: z.int().min(20).max(1000).default(50).describe('Default 50, gp3: $0.08 per GiB and month.'),
      })
      .prefault({})
      .describe('Nodes for CoreDNS, operators and what is not a GPU workload. Default: two of m7i.large.'),
    gpuNodeGroups: z.array(gpuNodeGroup).max(20).default([]).describe('Groups of GPU nodes. Default none.'),
    gpuOperator,
    nodeAgent,
    checkCatalogue,
  })
  .superRefine((config, context) => {
    const problem = (path: (string | number)[], message: string | null) => {
      if (message !== null) context.addIssue({ code: 'custom', path, message });
    };
    const vpc = parseCidr(config.vpcCidr);
    if (!config.existingVpc && vpc && (vpc.prefix < 16 || vpc.prefix > 20))
      problem(['vpcCidr'], 'must be a /16 to a /20: AWS takes no larger one, and GPU nodes soon fill a smaller one');
    const service = parseCidr(config.serviceCidr);
    if (service && (service.prefix < 12 || service.prefix > 24)) problem(['serviceCidr'], 'must be a /12 to a /24');
    const own = [
      ...(config.existingVpc ? [] : [{ name: 'vpcCidr', cidr: config.vpcCidr }]),
      { name: 'serviceCidr', cidr: config.serviceCidr },
    ];
    const connected = config.connectedCidrs.map((each, index) => ({ name: `connectedCidrs.${index}`, cidr: each }));
    for (const { name, message } of describeOverlaps(own, connected)) problem(name.split('.'), message);
    if (config.checkCatalogue) problem(['kubernetesVersion'], describeVersionProblem('eks', config.kubernetesVersion));
    const names = config.gpuNodeGroups.map((group, index) => group.name ?? `gpu-${index + 1}`);
    config.gpuNodeGroups.forEach((group, index) => {
      const path = ['gpuNodeGroups', index];
      if (config.checkCatalogue)
        problem([...path, 'instanceType'], describeGpuTypeProblem('aws', group.instanceType, config.region));
      if (group.kubernetesVersion !== undefined)
        problem([...path, 'kubernetesVersion'], describeSkew(config.kubernetesVersion, group.kubernetesVersion));
      if (names.indexOf(names[index] as string) !== index || names[index] === 'system')
        problem([...path, 'name'], `the name ${names[index]} is taken`);
    });
  });

export type EksConfig = z.output<typeof eksConfigSchema>;
