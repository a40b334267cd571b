/** Managed identities around an AKS cluster: its own, and those that Kubernetes service accounts may take without a secret. */
import { createHash } from 'node:crypto';
import { RoleAssignment } from '@pulumi/azure-native/authorization/roleAssignment.js';
import { FederatedIdentityCredential } from '@pulumi/azure-native/managedidentity/federatedIdentityCredential.js';
import { UserAssignedIdentity } from '@pulumi/azure-native/managedidentity/userAssignedIdentity.js';
import { output, type Input, type Output } from '@pulumi/pulumi/output.js';
import type { Resource } from '@pulumi/pulumi/resource.js';

export interface IdentityPlace {
  resourceGroupName: Input<string>;
  location: string;
  tags: Record<string, string>;
}

export function makeIdentity(name: string, place: IdentityPlace, parent: Resource): UserAssignedIdentity {
  return new UserAssignedIdentity(name, { resourceName: name, ...place }, { parent });
}

/** Azure's "Network Contributor": joining the subnet and making load balancers in it, nothing else of the subscription. */
const NETWORK_CONTRIBUTOR = '4d97b98b-1d4f-4787-a291-c67834d212e7';

export function grantSubnet(
  name: string,
  identity: UserAssignedIdentity,
  subnetId: Input<string>,
  parent: Resource,
): RoleAssignment {
  const roleDefinitionId = output(subnetId).apply(
    (id) =>
      `/subscriptions/${id.split('/')[2]}/providers/Microsoft.Authorization/roleDefinitions/${NETWORK_CONTRIBUTOR}`,
  );
  return new RoleAssignment(
    name,
    {
      roleAssignmentName: uuidOf(name),
      principalId: identity.principalId,
      principalType: 'ServicePrincipal',
      roleDefinitionId,
      scope: subnetId,
    },
    { parent, deleteBeforeReplace: true },
  );
}

export interface WorkloadIdentity {
  name: string;
  namespace: string;
  serviceAccount: string;
}

/** An identity with no rights: whoever owns what the workload needs grants them to its principal. @returns its client id, for the service account's annotation */
export function makeWorkloadIdentity(
  name: string,
  workload: WorkloadIdentity,
  issuer: Input<string>,
  place: IdentityPlace,
  parent: Resource,
): Output<string> {
  const identity = makeIdentity(name, place, parent);
  new FederatedIdentityCredential(
    name,
    {
      federatedIdentityCredentialResourceName: name,
      resourceGroupName: place.resourceGroupName,
      resourceName: identity.name,
      audiences: ['api://AzureADTokenExchange'],
      issuer,
      subject: `system:serviceaccount:${workload.namespace}:${workload.serviceAccount}`,
    },
    { parent },
  );
  return identity.clientId;
}

/** Azure names role assignments by a UUID of the caller's: the same for the same name. */
function uuidOf(name: string): string {
  const hex = createHash('sha256').update(`muster role assignment ${name}`).digest('hex');
  return [hex.slice(0, 8), hex.slice(8, 12), `5${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join(
    '-',
  );
}
