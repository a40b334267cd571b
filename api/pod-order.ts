/** What a request for a pod becomes: its rows, placed at once where a node has room. */
import { MusterError } from '../domain/error-table.ts';
import { formatImageName, isImageAllowed, parseImageName } from '../domain/pods/image.ts';
import type { PodRequirements, PodSpec } from '../domain/pods/pod.ts';
import { auditRow, type Actor } from '../db/audit.ts';
import { findCredential } from '../db/credentials.ts';
import type { Tx } from '../db/database.ts';
import { findNode } from '../db/nodes.ts';
import { placePending } from '../db/place-pods.ts';
import { findPod, insertPod, type PodRow } from '../db/pods.ts';
import type { ApiContext } from './api-deps.ts';
import type { Caller } from './caller.ts';
import { podRequirements, podSpec, type CreatePodInput } from './contract/pods.ts';

/**
 * Throws MusterError `policy_violated` for an image that the deployment does not allow, `invalid_request` for a credential or a place that
 * there is not, `conflict` for a name that is taken.
 */
export async function acceptPod(
  tx: Tx,
  deps: Pick<ApiContext, 'envelope' | 'agents' | 'podImages'>,
  { body, caller, actor }: { body: CreatePodInput; caller: Caller; actor: Actor },
): Promise<PodRow> {
  const patterns = deps.podImages ?? ['*'];
  if (!isImageAllowed(body.image, patterns)) {
    const message = `is not allowed here; allowed: ${patterns.join(', ') || 'none'}`;
    throw new MusterError('policy_violated', `image ${formatImageName(parseImageName(body.image))} ${message}`, {
      errors: [{ path: 'image', message }],
    });
  }
  const credentialId = await readCredential(tx, caller.orgId, body);
  await assertPlace(tx, caller.orgId, body);
  const row = await insertPod(tx, deps.envelope, {
    orgId: caller.orgId,
    name: body.name ?? null,
    spec: pick(body, Object.keys(podSpec.shape)) as unknown as PodSpec,
    requirements: pick(body, Object.keys(podRequirements.shape)) as unknown as PodRequirements,
    secretEnv: body.secretEnv,
    credentialId,
    onNodeLost: body.onNodeLost,
    createdBy: caller.id,
  });
  if (row === null) {
    throw new MusterError('conflict', `a pod named "${body.name ?? ''}" exists already`, {
      errors: [{ path: 'name', message: 'is taken by a pod of this org' }],
    });
  }
  await auditPod(tx, actor, row, 'pod.create', { image: body.image, gpuCount: body.gpuCount });
  await placePending(tx, caller.orgId, deps.agents.intervalMs);
  return (await findPod(tx, caller.orgId, row.id)) ?? row;
}

export function auditPod(
  tx: Tx,
  actor: Actor,
  row: PodRow,
  action: `pod.${string}`,
  detail: Record<string, unknown> = {},
): Promise<void> {
  return auditRow(tx, actor, row, action, { name: row.name, ...detail });
}

/** A login is shown to its own registry only: an image of another one must not be able to ask for it. */
async function readCredential(tx: Tx, orgId: string, body: CreatePodInput): Promise<string | null> {
  const ref = body.registryCredentialRef;
  if (ref === null) return null;
  const credential = await findCredential(tx, orgId, ref);
  const { registry } = parseImageName(body.image);
  if (credential?.kind !== 'registry')
    throw invalid('registryCredentialRef', `names no credential of the kind registry: "${ref}"`);
  if (credential.public_part !== registry)
    throw invalid('registryCredentialRef', `is for ${credential.public_part}, and the image is of ${registry}`);
  return credential.id;
}

async function assertPlace(tx: Tx, orgId: string, { nodeId, instanceId }: CreatePodInput): Promise<void> {
  if (nodeId !== null && !(await findNode(tx, orgId, nodeId))) throw invalid('nodeId', `there is no node ${nodeId}`);
  if (instanceId === null) return;
  const instance = await tx
    .selectFrom('instances')
    .select('id')
    .where('id', '=', instanceId)
    .where('org_id', '=', orgId)
    .executeTakeFirst();
  if (!instance) throw invalid('instanceId', `there is no instance ${instanceId}`);
}

function invalid(path: string, message: string): MusterError {
  return new MusterError('invalid_request', `${path} ${message}`, { errors: [{ path, message }] });
}

function pick<T extends object>(from: T, names: readonly string[]): Partial<T> {
  return Object.fromEntries(Object.entries(from).filter(([name]) => names.includes(name))) as Partial<T>;
}
