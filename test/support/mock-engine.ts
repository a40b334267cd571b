/** An engine that makes nothing: what a program registers is written down and answered with plausible outputs. */
import { output, type Output } from '@pulumi/pulumi/output.js';
import { setMocks, type MockCallArgs, type MockResourceArgs } from '@pulumi/pulumi/runtime/mocks.js';
import { disconnect } from '@pulumi/pulumi/runtime/settings.js';
import { isRpcSecret, unwrapRpcSecret } from '@pulumi/pulumi/runtime/rpc.js';

export interface MockEngine {
  registered: MockResourceArgs[];
  /** The one of a type, or of a type and name. Throws Error when there is none or another. */
  find(type: string, name?: string): MockResourceArgs['inputs'];
  list(type: string): MockResourceArgs[];
  /** When all that the program registers is registered. Nothing can be registered after it. */
  settle(): Promise<void>;
}

/** Outputs of a type beside its inputs. */
const OUTPUTS: Record<string, (args: MockResourceArgs) => object> = {
  'aws:eks/cluster:Cluster': ({ inputs }) => ({
    arn: `arn:aws:eks:eu-west-1:123456789012:cluster/${inputs.name}`,
    endpoint: 'https://cluster.example',
    certificateAuthority: { data: 'Q0E=' },
    identities: [{ oidcs: [{ issuer: 'https://oidc.example/id' }] }],
  }),
  'aws:ec2/launchTemplate:LaunchTemplate': () => ({ latestVersion: 1 }),
  'aws:iam/role:Role': ({ inputs }) => ({ arn: `arn:aws:iam::123456789012:role/${inputs.name}` }),
  'aws:iam/policy:Policy': ({ inputs }) => ({ arn: `arn:aws:iam::123456789012:policy/${inputs.name}` }),
  'aws:iam/accessKey:AccessKey': () => ({ secret: 'the-secret-key' }),
  'aws:kms/key:Key': () => ({ arn: 'arn:aws:kms:eu-west-1:123456789012:key/made', keyId: 'made' }),
  'azure-native:containerservice:ManagedCluster': ({ inputs }) => ({
    name: inputs.resourceName,
    currentKubernetesVersion: '1.35.1',
    oidcIssuerProfile: { enabled: true, issuerURL: 'https://oidc.example/id' },
  }),
  'azure-native:resources:ResourceGroup': ({ inputs }) => ({ name: inputs.resourceGroupName }),
  'azure-native:network:VirtualNetwork': ({ inputs }) => ({ name: inputs.virtualNetworkName }),
  'azure-native:managedidentity:UserAssignedIdentity': ({ inputs }) => ({
    name: inputs.resourceName,
    principalId: `principal-of-${inputs.resourceName}`,
    clientId: `client-of-${inputs.resourceName}`,
  }),
  'gcp:serviceaccount/account:Account': ({ inputs }) => ({
    email: `${inputs.accountId}@${inputs.project}.iam.gserviceaccount.com`,
  }),
  'pulumi-nodejs:dynamic/k3s:Node': ({ inputs }) => ({
    url: `https://${inputs.address}:6443`,
    nodeToken: inputs.role === 'server' ? 'K10::server:token' : null,
    kubeconfig: inputs.role === 'server' ? 'the-made-kubeconfig' : null,
  }),
  'pulumi-nodejs:dynamic/standby-agent:Join': () => ({ nodeId: 'nod_aaaaaaaaaaaaaaaa', token: 'a-secret-token' }),
  'gcp:compute/instance:Instance': ({ inputs }) => ({
    currentStatus: inputs.desiredStatus,
    networkInterfaces: [{ networkIp: '10.62.0.2', accessConfigs: [] }],
  }),
};

const AKS_KUBECONFIG = `apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: QUtT
    server: https://aks.example:443
  name: aks
`;

function answerCall({ token }: MockCallArgs): Record<string, unknown> {
  if (token === 'aws:index/getAvailabilityZones:getAvailabilityZones')
    return { names: ['eu-west-1c', 'eu-west-1a', 'eu-west-1b'] };
  if (token === 'aws:eks/getClusters:getClusters') return { names: [] };
  if (token.endsWith(':listManagedClusterUserCredentials'))
    return { kubeconfigs: [{ name: 'clusterUser', value: Buffer.from(AKS_KUBECONFIG).toString('base64') }] };
  return {};
}

/** Every call of the SDK captures a stack, which vitest's source maps make thirty times as dear. */
Error.stackTraceLimit = 1;

export async function mockEngine(): Promise<MockEngine> {
  const registered: MockResourceArgs[] = [];
  await setMocks(
    {
      newResource(args) {
        registered.push(args);
        const state = { ...args.inputs, ...OUTPUTS[args.type]?.(args) };
        return { id: idOf(args), state };
      },
      call: answerCall,
    },
    'muster',
    'dev',
    false,
  );
  return {
    registered,
    find(type, name) {
      const found = registered.filter((each) => each.type === type && (name === undefined || each.name === name));
      if (found.length !== 1)
        throw new Error(
          `${found.length} of ${type} ${name ?? ''}; there are ${registered.map((each) => `${each.type} ${each.name}`).join(', ')}`,
        );
      return plain(found[0]?.inputs) as MockResourceArgs['inputs'];
    },
    list: (type) => registered.filter((each) => each.type === type),
    settle: () => disconnect(false),
  };
}

/** Of Azure's subnets something is read out of the id. */
function idOf({ type, name }: MockResourceArgs): string {
  return type === 'azure-native:network:Subnet'
    ? `/subscriptions/sub/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/${name}`
    : `id-of-${name}`;
}

export function valueOf<T>(from: Output<T>): Promise<T> {
  return new Promise((resolve) => output(from).apply((value) => resolve(value as T)));
}

export function isSecretOutput(from: Output<unknown>): Promise<boolean> {
  return (from as unknown as { isSecret: Promise<boolean> }).isSecret;
}

/** Secrets taken out of their wrapping. */
function plain(value: unknown): unknown {
  if (isRpcSecret(value)) return plain(unwrapRpcSecret(value));
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}
