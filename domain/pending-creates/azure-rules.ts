/**
 * Azure. Every id is the path under which Azure's resource manager has it, made of names that the inputs hold:
 * https://learn.microsoft.com/azure/templates/ has each type's. Which subscription that is in only the credentials know.
 */
import { byName, textOf, type Answer, type Inputs, type PendingRule, type PendingRules } from './rule.ts';

const IDENTITY = 'Microsoft.ManagedIdentity/userAssignedIdentities';
const CLUSTER = 'Microsoft.ContainerService/managedClusters';
const NETWORK = 'Microsoft.Network/virtualNetworks';

export const AZURE_PENDING_RULES: PendingRules = {
  'azure-native:authorization:RoleAssignment': byName(
    (i) => [textOf(i.scope), textOf(i.roleAssignmentName)],
    '/providers/Microsoft.Authorization/roleAssignments/',
  ),
  'azure-native:monitor:DiagnosticSetting': byName(
    (i) => [textOf(i.resourceUri), textOf(i.name)],
    '/providers/Microsoft.Insights/diagnosticSettings/',
  ),
  'azure-native:containerservice:AgentPool': inGroup(CLUSTER, 'resourceName', 'agentPools', 'agentPoolName'),
  'azure-native:containerservice:ManagedCluster': inGroup(CLUSTER, 'resourceName'),
  'azure-native:managedidentity:FederatedIdentityCredential': inGroup(
    IDENTITY,
    'resourceName',
    'federatedIdentityCredentials',
    'federatedIdentityCredentialResourceName',
  ),
  'azure-native:managedidentity:UserAssignedIdentity': inGroup(IDENTITY, 'resourceName'),
  'azure-native:network:Subnet': inGroup(NETWORK, 'virtualNetworkName', 'subnets', 'subnetName'),
  'azure-native:network:VirtualNetwork': inGroup(NETWORK, 'virtualNetworkName'),
  'azure-native:operationalinsights:Workspace': inGroup('Microsoft.OperationalInsights/workspaces', 'workspaceName'),
  'azure-native:resources:ResourceGroup': {
    ask: whoAsks,
    idsOf: (inputs, who) => pathOf([groupPath(inputs, who)]),
  },
};

/** @param name inputs that hold the names @param childKind of what lies in it */
function inGroup(kind: string, name: string, childKind?: string, childName?: string): PendingRule {
  return {
    ask: whoAsks,
    idsOf(inputs, who) {
      const child = childKind === undefined || childName === undefined ? [] : [childKind, textOf(inputs[childName])];
      return pathOf([groupPath(inputs, who), 'providers', kind, textOf(inputs[name]), ...child]);
    },
  };
}

function whoAsks() {
  return { token: 'azure-native:authorization:getClientConfig', args: {} };
}

function groupPath({ resourceGroupName }: Inputs, { subscriptionId }: Answer): string | undefined {
  const [group, subscription] = [textOf(resourceGroupName), textOf(subscriptionId)];
  return group === undefined || subscription === undefined
    ? undefined
    : `/subscriptions/${subscription}/resourceGroups/${group}`;
}

function pathOf(parts: (string | undefined)[]): string[] | undefined {
  return parts.includes(undefined) ? undefined : [parts.join('/')];
}
