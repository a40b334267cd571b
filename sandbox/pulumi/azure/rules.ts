/** The simulated Azure: what holds for all of its types. Ids are ARM paths, every name is the program's or made from it. */
import { CloudError } from '../cloud-error.ts';
import type { FillRequest, PackageRules, ResourceRules, Scene } from '../cloud-rules.ts';
import type { CloudResource } from '../cloud-store.ts';
import { autoName, newUuid, seededHex } from '../names.ts';
import { getPath, textOf, withPath, type Properties, asText } from '../properties.ts';
import { AKS_RULES, invokeAks } from './aks.ts';
import { AZURE_NETWORK_RULES } from './network.ts';
import { azureError } from './errors.ts';
import { LOCATIONS, plainLocation, SUBSCRIPTION_ID, TENANT_ID } from './places.ts';

const GROUP = 'azure-native:resources:ResourceGroup';
const IDENTITY = 'azure-native:managedidentity:UserAssignedIdentity';

const TYPES: Readonly<Record<string, ResourceRules>> = {
  [GROUP]: {
    nameInput: 'resourceGroupName',
    maxNameLength: 90,
    replaceOn: ['location'],
    seconds: { create: [1, 3], delete: [15, 60] },
    id: (inputs, scene) => `/subscriptions/${subscriptionOf(scene)}/resourceGroups/${String(inputs.resourceGroupName)}`,
    refuseCreate: (inputs) => requireLocation(inputs),
    // ARM takes everything inside along.
    afterDelete(group, { scene, remove }) {
      for (const resource of scene.find('*')) {
        if (resource.package === 'azure-native' && resource.id.startsWith(`${group.id}/`)) remove(resource);
      }
    },
  },
  [IDENTITY]: {
    nameInput: 'resourceName',
    replaceOn: ['location'],
    outputs: (_inputs, { before }) => ({
      principalId: before?.outputs.principalId ?? newUuid(),
      clientId: before?.outputs.clientId ?? newUuid(),
      tenantId: TENANT_ID,
    }),
  },
  'azure-native:managedidentity:FederatedIdentityCredential': {
    nameInput: 'federatedIdentityCredentialResourceName',
    replaceOn: ['resourceName'],
    id: (inputs, scene) =>
      `${groupPath(inputs, scene)}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/${String(inputs.resourceName)}/federatedIdentityCredentials/${String(inputs.federatedIdentityCredentialResourceName)}`,
    refuseCreate(inputs, scene) {
      if (!scene.find(IDENTITY).some((one) => one.inputs.resourceName === inputs.resourceName)) {
        throw azureError(
          404,
          'ParentResourceNotFound',
          `Failed to perform 'write' on resource: the parent resource 'userAssignedIdentities/${String(inputs.resourceName)}' could not be found.`,
        );
      }
    },
  },
  'azure-native:authorization:RoleAssignment': {
    nameInput: 'roleAssignmentName',
    replaceOn: ['scope', 'principalId', 'roleDefinitionId', 'principalType'],
    id: (inputs) =>
      `${String(inputs.scope)}/providers/Microsoft.Authorization/roleAssignments/${String(inputs.roleAssignmentName)}`,
    refuseCreate(inputs, scene) {
      const isSame = scene
        .find('azure-native:authorization:RoleAssignment')
        .some(({ inputs: other }) =>
          ['scope', 'principalId', 'roleDefinitionId'].every((key) => other[key] === inputs[key]),
        );
      if (isSame) throw azureError(409, 'RoleAssignmentExists', 'The role assignment already exists.');
    },
  },
  'azure-native:monitor:DiagnosticSetting': {
    nameInput: 'name',
    replaceOn: ['resourceUri'],
    id: ({ resourceUri, name }) =>
      `${String(resourceUri)}/providers/Microsoft.Insights/diagnosticSettings/${String(name)}`,
  },
  'azure-native:operationalinsights:Workspace': {
    nameInput: 'workspaceName',
    maxNameLength: 63,
    replaceOn: ['location'],
    seconds: { create: [15, 40], delete: [5, 10] },
    outputs: (_inputs, { before }) => ({ customerId: before?.outputs.customerId ?? newUuid() }),
  },
  ...AZURE_NETWORK_RULES,
  ...AKS_RULES,
};

/** ARM's own name of each type, and how its path goes on after the group's. */
const ARM_TYPES: Record<string, string> = {
  [IDENTITY]: 'Microsoft.ManagedIdentity/userAssignedIdentities',
  'azure-native:operationalinsights:Workspace': 'Microsoft.OperationalInsights/workspaces',
  'azure-native:containerservice:ManagedCluster': 'Microsoft.ContainerService/managedClusters',
  'azure-native:containerservice:AgentPool': 'Microsoft.ContainerService/managedClusters/agentPools',
  'azure-native:network:VirtualNetwork': 'Microsoft.Network/virtualNetworks',
  'azure-native:network:Subnet': 'Microsoft.Network/virtualNetworks/subnets',
  'azure-native:authorization:RoleAssignment': 'Microsoft.Authorization/roleAssignments',
  'azure-native:managedidentity:FederatedIdentityCredential':
    'Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials',
  [GROUP]: 'Microsoft.Resources/resourceGroups',
};

export const AZURE_RULES: PackageRules = {
  name: 'azure-native',
  types: Object.fromEntries(Object.entries(TYPES).map(([type, rules]) => [type, withGroup(type, rules)])),
  commonReplaceOn: ['resourceGroupName'],
  readConfig: (args) => ({
    ...args,
    subscriptionId: textOf(args.subscriptionId) ?? SUBSCRIPTION_ID,
    tenantId: TENANT_ID,
  }),
  scopeOf: () => '',
  fillInputs,
  knownOutputs: (type) => ({
    ...(ARM_TYPES[type] === undefined ? {} : { type: ARM_TYPES[type] }),
    azureApiVersion: '2025-09-01',
  }),
  defaultId(type, inputs, scene, logicalName) {
    const nameInput = TYPES[type]?.nameInput;
    const name = asText((nameInput === undefined ? undefined : inputs[nameInput]) ?? logicalName);
    return `${groupPath(inputs, scene)}/providers/${ARM_TYPES[type] ?? 'Microsoft.Unknown/things'}/${name}`;
  },
  makeOutput({ property, kind, id, inputs }) {
    if (property === 'name') return id.split('/').at(-1);
    if (property === 'provisioningState') return 'Succeeded';
    if (property === 'location') return textOf(inputs.location) ?? '';
    if (/^e[tT]ag$/.test(property)) return newUuid();
    if (kind.startsWith('[')) return [];
    return { string: '', number: 0, boolean: false }[kind] ?? {};
  },
  faultError(fault, { type, operation, name }) {
    const noun = type.split(':').at(-1)!;
    switch (fault.kind) {
      case 'throttled':
        return azureError(
          429,
          'TooManyRequests',
          fault.message ?? 'The request is being throttled as the limit has been reached for operation type.',
        );
      case 'quota_exceeded':
        return azureError(
          400,
          'QuotaExceeded',
          fault.message ??
            'Operation could not be completed as it results in exceeding approved Total Regional Cores quota.',
        );
      case 'no_capacity':
        return azureError(
          400,
          fault.code ?? 'AllocationFailed',
          fault.message ??
            'Allocation failed. We do not have sufficient capacity for the requested VM size in this region.',
        );
      case 'access_denied':
        return azureError(
          403,
          'AuthorizationFailed',
          fault.message ?? `The client does not have authorization to perform action on '${name}'.`,
        );
      case 'conflict':
        return azureError(
          409,
          'OperationNotAllowed',
          fault.message ?? `Operation is not allowed: another operation (Updating) is in progress on ${noun} ${name}.`,
        );
      case 'create_failed':
      case 'degraded':
        return new CloudError(
          fault.code ?? 'Failed',
          `${operation} of ${noun} ${name} ended with provisioningState Failed: Code="${fault.code ?? 'CreateVMSSAgentPoolFailed'}" Message="${fault.message ?? 'VMSSAgentPoolReconciler retry failed.'}"`,
        );
      default:
        return azureError(400, fault.code ?? 'BadRequest', fault.message ?? 'refused by a fault');
    }
  },
  conflictError(resource) {
    const { provisioningState } = resource.outputs;
    const message = `Operation is not allowed because there's an in progress ${asText(provisioningState ?? 'update')} operation on ${resource.id.split('/').at(-1)}. Please wait for it to finish before starting a new operation.`;
    return azureError(409, 'OperationNotAllowed', message);
  },
  existsError: (_type, id) => new CloudError('Exists', `cannot create already existing resource '${id}'`),
  goneError: (_type, id) => azureError(404, 'ResourceNotFound', `The Resource '${id}' was not found.`),
  invoke(token, args, scene) {
    if (token === 'azure-native:authorization:getClientConfig') {
      return {
        clientId: '04b07795-8ddb-461a-bbee-02f9e1bf7b46',
        objectId: '00000000-0000-4000-8000-0000000000aa',
        subscriptionId: subscriptionOf(scene),
        tenantId: TENANT_ID,
      };
    }
    return invokeAks(token, args, scene);
  },
};

function fillInputs({
  logicalName,
  rules,
  table,
  news,
  olds,
  randomSeed,
  proposedName,
  scene,
}: FillRequest): Properties {
  let inputs: Properties = { ...news };
  const { nameInput } = rules;
  if (nameInput !== undefined && getPath(news, nameInput) === undefined && proposedName !== null) {
    const name = getPath(olds, nameInput) ?? (proposedName || makeName(logicalName, rules, randomSeed));
    inputs = withPath(inputs, nameInput, name);
  }
  // What lies in a group is where the group is, unless the program says otherwise.
  if ('location' in table.in && inputs.location === undefined) {
    const group = scene.find(GROUP).find((one) => one.inputs.resourceGroupName === inputs.resourceGroupName);
    const location = olds?.location ?? group?.inputs.location ?? scene.config.location;
    if (location !== undefined) inputs.location = location;
  }
  return { ...inputs, ...rules.defaults?.(inputs, scene), ...news };
}

/** A role assignment's name is a GUID; an agent pool's has letters and digits only. */
function makeName(logicalName: string, { nameInput, maxNameLength }: ResourceRules, seed: Uint8Array): string {
  if (nameInput === 'roleAssignmentName') {
    return seededHex(seed, 32).replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  }
  const base = nameInput === 'agentPoolName' ? logicalName.toLowerCase().replaceAll(/[^a-z0-9]/g, '') : logicalName;
  return autoName(base, seededHex(seed, maxNameLength !== undefined && maxNameLength < 20 ? 4 : 8), '', maxNameLength);
}

/** What is in a group needs the group. */
function withGroup(type: string, rules: ResourceRules): ResourceRules {
  if (type === GROUP) return rules;
  return {
    ...rules,
    isSilent: (path, before, after) => path === 'location' && plainLocation(before) === plainLocation(after),
    refuseCreate(inputs, scene) {
      requireGroup(inputs, scene);
      requireLocation(inputs);
      rules.refuseCreate?.(inputs, scene);
    },
  };
}

function requireGroup(inputs: Properties, scene: Scene): void {
  const name = textOf(inputs.resourceGroupName);
  if (name === undefined) return;
  const found: CloudResource | undefined = scene
    .find(GROUP)
    .find(({ id }) => id.toLowerCase() === groupPath(inputs, scene).toLowerCase());
  if (!found) throw azureError(404, 'ResourceGroupNotFound', `Resource group '${name}' could not be found.`);
  if (found.transition?.operation === 'delete') {
    throw azureError(
      409,
      'ResourceGroupBeingDeleted',
      `The resource group '${name}' is in deprovisioning state and cannot perform this operation.`,
    );
  }
}

function requireLocation({ location }: Properties): void {
  if (textOf(location) === undefined || LOCATIONS[plainLocation(location)] !== undefined) return;
  throw azureError(
    400,
    'LocationNotAvailableForResourceType',
    `The provided location '${String(location)}' is not available. List of available regions is '${Object.keys(LOCATIONS).join(',')}'.`,
  );
}

function subscriptionOf({ config }: Scene): string {
  return String(config.subscriptionId);
}

export function groupPath(inputs: Properties, scene: Scene): string {
  return `/subscriptions/${subscriptionOf(scene)}/resourceGroups/${String(inputs.resourceGroupName)}`;
}
