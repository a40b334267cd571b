/** Azure's resource manager at its own wire, as far as somebody asks it for what no Pulumi resource does: managed clusters, their start and stop. */
import type { HttpReply } from '../../http-listener.ts';
import type { SimulatedClouds } from '../clouds.ts';

export interface ArmRequest {
  method: string;
  /** Without the prefix of the sandbox. */
  path: string;
  authorization: string | undefined;
}

const CLUSTER = 'azure-native:containerservice:ManagedCluster';
const ACTION =
  /^(\/subscriptions\/[^/]+\/resourceGroups\/[^/]+\/providers\/Microsoft\.ContainerService\/managedClusters\/[^/]+)(?:\/(start|stop))?$/i;
const TOKEN = 'Bearer sandbox';

export function answerArm(clouds: SimulatedClouds | null, { method, path, authorization }: ArmRequest): HttpReply {
  if (authorization !== TOKEN)
    return error(401, 'AuthenticationFailed', 'Authentication failed. The access token is missing or invalid.');
  const [, armId = '', action] = ACTION.exec(decodeURIComponent(path)) ?? [];
  const isKnown = armId !== '' && (action === undefined ? method === 'GET' : method === 'POST');
  if (!isKnown || clouds === null) return error(404, 'InvalidResourceType', `nothing is simulated at ${path}`);
  const missing = () =>
    error(404, 'ResourceNotFound', `The Resource '${armId.split('/providers/')[1]}' was not found.`);
  if (action !== undefined) {
    const answer = clouds.switchPower(armId, action.toLowerCase() as 'start' | 'stop');
    if (answer === null) return missing();
    return answer.error
      ? error(answer.status, answer.error.code, answer.error.message)
      : { status: answer.status, body: '' };
  }
  const cluster = clouds.resources(CLUSTER).find(({ id }) => id.toLowerCase() === armId.toLowerCase());
  if (!cluster) return missing();
  const { name, location, tags, powerState, provisioningState = 'Succeeded', fqdn } = cluster.properties;
  const properties = { powerState, provisioningState, fqdn };
  return {
    status: 200,
    body: { id: cluster.id, name, type: 'Microsoft.ContainerService/ManagedClusters', location, tags, properties },
  };
}

function error(status: number, code: string, message: string): HttpReply {
  return { status, body: { error: { code, message } } };
}
