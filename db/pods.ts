/**
 * Pods of an org (domain/pods/pod.ts): making them, reading them, and what people want of them. Where they are placed is place-pods.ts's, what
 * agents say of them pod-reports.ts's. Whoever changes what a node shall run tells its agent in the same transaction.
 */
import { sql, type Selectable, type UpdateObject } from 'kysely';
import { readRegistryLogin } from '../domain/credential.ts';
import type { NodeLossPolicy, PodRequirements, PodSpec, PodStatus } from '../domain/pods/pod.ts';
import type { GpuShare } from '../domain/pods/schedule.ts';
import type { Envelope } from '../secrets/envelope.ts';
import { identityAt } from '../secrets/sealed-place.ts';
import { openCredential } from './credentials.ts';
import type { Executor, Tx } from './database.ts';
import { raiseDesired } from './desired.ts';
import { newId } from './new-id.ts';
import type { Schema } from './schema.ts';

/** Without what is sealed. */
export type PodRow = Omit<Selectable<Schema['pods']>, 'secrets_sealed'>;

const SHOWN = [
  'id',
  'org_id',
  'name',
  'status',
  'reason',
  'desired',
  'run',
  'node_id',
  'previous_node_id',
  'is_leaving',
  'gpus',
  'spec',
  'requirements',
  'secret_names',
  'credential_id',
  'on_node_lost',
  'restarts',
  'exit_code',
  'health',
  'pull_percent',
  'published_ports',
  'image_digest',
  'started_at',
  'finished_at',
  'reported_at',
  'moves',
  'created_by',
  'created_at',
  'removed_at',
] as const;

export interface NewPod {
  orgId: string;
  /** null: made of its id. */
  name: string | null;
  spec: PodSpec;
  requirements: PodRequirements;
  secretEnv: Record<string, string>;
  credentialId: string | null;
  onNodeLost: NodeLossPolicy;
  createdBy: string;
}

/** `pending`, on no node. @returns null where the name is taken */
export async function insertPod(tx: Tx, envelope: Envelope, pod: NewPod): Promise<PodRow | null> {
  const id = newId('pod');
  const names = Object.keys(pod.secretEnv).sort();
  const row = await tx
    .insertInto('pods')
    .values({
      id,
      org_id: pod.orgId,
      name: pod.name ?? `pod-${id.slice('pod_'.length)}`,
      spec: JSON.stringify(pod.spec),
      requirements: JSON.stringify(pod.requirements),
      secret_names: names,
      secrets_sealed:
        names.length === 0 ? null : envelope.seal(JSON.stringify(pod.secretEnv), identityAt('pods.secrets_sealed', id)),
      credential_id: pod.credentialId,
      on_node_lost: pod.onNodeLost,
      created_by: pod.createdBy,
    })
    .onConflict((conflict) => conflict.columns(['org_id', 'name']).where('removed_at', 'is', null).doNothing())
    .returning(SHOWN)
    .executeTakeFirst();
  return row ?? null;
}

export function findPod(executor: Executor, orgId: string, podId: string): Promise<PodRow | undefined> {
  return executor
    .selectFrom('pods')
    .select(SHOWN)
    .where('id', '=', podId)
    .where('org_id', '=', orgId)
    .executeTakeFirst();
}

/** Kept as it is until the transaction ends. */
export function lockPod(tx: Tx, orgId: string, podId: string): Promise<PodRow | undefined> {
  return tx
    .selectFrom('pods')
    .select(SHOWN)
    .where('id', '=', podId)
    .where('org_id', '=', orgId)
    .forUpdate()
    .executeTakeFirst();
}

export interface PodFilter {
  orgId: string;
  status?: readonly PodStatus[];
  nodeId?: string;
  name?: string;
  /** @default false */
  includeRemoved?: boolean;
  limit: number;
  before?: { createdAt: Date; id: string };
}

/** Newest first. */
export function listPods(executor: Executor, filter: PodFilter): Promise<PodRow[]> {
  let query = executor.selectFrom('pods').select(SHOWN).where('org_id', '=', filter.orgId);
  if (filter.status) query = query.where('status', 'in', filter.status);
  if (filter.nodeId !== undefined) query = query.where('node_id', '=', filter.nodeId);
  if (filter.name !== undefined) query = query.where('name', '=', filter.name);
  if (filter.includeRemoved !== true && !filter.status?.includes('removed'))
    query = query.where('removed_at', 'is', null);
  if (filter.before) {
    const { createdAt, id } = filter.before;
    query = query.where(sql<boolean>`(created_at, id) < (${createdAt}, ${id})`);
  }
  return query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(filter.limit).execute();
}

/** Of those that it has, those on their way out included. */
export function listPodsOfNode(executor: Executor, nodeId: string): Promise<PodRow[]> {
  return executor
    .selectFrom('pods')
    .select(SHOWN)
    .where('node_id', '=', nodeId)
    .where('removed_at', 'is', null)
    .orderBy('id')
    .execute();
}

/** As listPodsOfNode, kept as they are until the transaction ends. */
export function lockPodsOfNode(tx: Tx, nodeId: string): Promise<PodRow[]> {
  return tx
    .selectFrom('pods')
    .select(SHOWN)
    .where('node_id', '=', nodeId)
    .where('removed_at', 'is', null)
    .orderBy('id')
    .forUpdate()
    .execute();
}

/** It stops on its node; one that no node has is stopped at once. */
export async function stopPod(tx: Tx, row: PodRow, reason: string | null = null): Promise<PodRow> {
  const isOver = row.node_id === null || row.status === 'exited' || row.status === 'failed' || row.status === 'lost';
  return change(tx, row, {
    desired: 'stopped',
    is_leaving: false,
    status: isOver ? 'stopped' : 'stopping',
    reason,
    ...(row.node_id === null || isOver ? { finished_at: sql<Date>`coalesce(finished_at, now())` } : {}),
  });
}

/**
 * Another run of it, to be placed anew: where it was, if it fits there. One that still runs ends first; a node that has it does not
 * start it before.
 */
export async function startPod(tx: Tx, row: PodRow): Promise<PodRow> {
  return change(tx, row, {
    desired: 'running',
    status: 'pending',
    reason: null,
    run: row.run + 1,
    previous_node_id: row.node_id ?? row.previous_node_id,
    node_id: null,
    gpus: '[]',
    is_leaving: false,
    ...FRESH,
  });
}

/** Its container is made anew where it is. */
export async function restartPod(tx: Tx, row: PodRow): Promise<PodRow> {
  if (row.is_leaving) return row; // it gets another run where it goes
  if (row.node_id === null || !isStarted(row)) return startPod(tx, row);
  return change(tx, row, { status: 'scheduled', reason: 'restarted on request', run: row.run + 1, ...FRESH });
}

/** It is deleted when its agent says so; at once where no node has it. */
export async function deletePod(tx: Tx, row: PodRow): Promise<PodRow> {
  const isNowhere = row.node_id === null;
  return change(tx, row, {
    desired: 'removed',
    status: isNowhere ? 'removed' : 'removing',
    reason: null,
    ...(isNowhere ? REMOVED : {}),
  });
}

/** Of a run that has not begun. */
export const FRESH = {
  restarts: 0,
  exit_code: null,
  health: null,
  pull_percent: null,
  published_ports: '[]',
  started_at: null,
  finished_at: null,
} as const;

/** The end: what is secret of it is wiped. */
export const REMOVED = {
  status: 'removed',
  removed_at: sql<Date>`now()`,
  secrets_sealed: null,
  node_id: null,
  gpus: '[]',
  is_leaving: false,
} as const;

/** What a node's agent shall run, and shall not any more. */
export interface DesiredPodRow {
  podId: string;
  run: number;
  state: 'running' | 'stopped' | 'removed';
  spec: PodSpec;
  gpus: GpuShare[];
  registryLogin: { registry: string; username: string; password: string } | null;
}

/** Opens what is sealed: for the agent's answer alone. */
export async function listDesiredPods(
  executor: Executor,
  envelope: Envelope,
  nodeId: string,
): Promise<DesiredPodRow[]> {
  const rows = await executor
    .selectFrom('pods')
    .leftJoin('credentials', 'credentials.id', 'pods.credential_id')
    .select(['pods.id', 'pods.org_id', 'status', 'desired', 'run', 'is_leaving', 'gpus', 'spec', 'secrets_sealed'])
    .select(['credential_id', 'credentials.public_part as registry'])
    .where('node_id', '=', nodeId)
    .where('removed_at', 'is', null)
    .where('status', '<>', 'lost')
    .orderBy('pods.id')
    .execute();
  return Promise.all(
    rows.map(async (row): Promise<DesiredPodRow> => {
      const state = desiredStateOf(row);
      const isNeeded = state === 'running';
      const secrets =
        isNeeded && row.secrets_sealed !== null
          ? envelope.open(row.secrets_sealed, identityAt('pods.secrets_sealed', row.id))
          : '{}';
      const login =
        isNeeded && row.credential_id !== null
          ? await openCredential(executor, envelope, row.org_id, row.credential_id, 'registry')
          : null;
      const read = login === null ? null : readRegistryLogin(login);
      return {
        podId: row.id,
        run: row.run,
        state,
        spec: { ...row.spec, env: { ...row.spec.env, ...(JSON.parse(secrets) as Record<string, string>) } },
        gpus: row.gpus,
        registryLogin: read && { registry: row.registry ?? '', ...read },
      };
    }),
  );
}

/** A run that has ended by itself is not begun again, even where its container was taken away by hand. */
function desiredStateOf(row: Pick<PodRow, 'desired' | 'status' | 'is_leaving'>): DesiredPodRow['state'] {
  if (row.desired === 'removed' || row.is_leaving) return 'removed';
  return row.desired === 'stopped' || row.status === 'exited' || row.status === 'failed' ? 'stopped' : 'running';
}

function isStarted({ status }: PodRow): boolean {
  return ['scheduled', 'pulling', 'starting', 'running', 'restarting'].includes(status);
}

/** Tells the agents of the node that had it and of the one that has it. */
async function change(tx: Tx, row: PodRow, set: UpdateObject<Schema, 'pods'>): Promise<PodRow> {
  const changed = await tx
    .updateTable('pods')
    .set(set)
    .where('id', '=', row.id)
    .returning(SHOWN)
    .executeTakeFirstOrThrow();
  const nodes = new Set([row.node_id, changed.node_id].filter((id): id is string => id !== null));
  for (const nodeId of [...nodes].sort()) await raiseDesired(tx, nodeId);
  return changed;
}
