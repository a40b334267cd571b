/** Nodes: hosts that run our agent. A heartbeat is one statement, because every node sends one every few seconds. */
import { sql, type Selectable } from 'kysely';
import type { FailureVerdict } from '../domain/failure.ts';
import { STALE_BEATS, type NodeStatus } from '../domain/node.ts';
import { TAKING_OVER } from '../domain/standby.ts';
import { runPrepared, type Database, type Executor, type Tx } from './database.ts';
import { newId } from './new-id.ts';
import { insertDueSample, type NodeSample } from './node-samples.ts';
import type { Schema } from './schema.ts';

export type NodeRow = Selectable<Schema['nodes']> & {
  /** Of its attempt; null where it has none. */
  attempt_status: string | null;
  promised_gpu: string | null;
  promised_gpu_count: number | null;
  promised_gpu_memory_gib: number | null;
  /** null: nothing speaks against it (db/node-watches.ts). */
  watch_verdict: FailureVerdict | null;
  watch_since: Date | null;
  watch_reasons: string[] | null;
  watch_checked_at: Date | null;
  /** null: no host of ours. */
  host: NodeHost | null;
  /** null: no node of a cluster. */
  cluster_name: string | null;
  is_standby_removed: boolean;
};

export interface NodeHost {
  stack_id: string;
  name: string;
  address: string;
  port: number;
  ssh_user: string;
  host_key_sha256: string;
  credential_id: string | null;
  labels: Record<string, string>;
  added_by: string | null;
  is_removed: boolean;
}

function selectNodes(executor: Executor) {
  return executor
    .selectFrom('nodes')
    .leftJoin('attempts', 'attempts.id', 'nodes.attempt_id')
    .leftJoin('hosts', 'hosts.node_id', 'nodes.id')
    .leftJoin('clusters', 'clusters.id', 'nodes.cluster_id')
    .leftJoin('standbys', 'standbys.id', 'nodes.standby_id')
    .leftJoin('node_watches', 'node_watches.node_id', 'nodes.id')
    .selectAll('nodes')
    .select([
      'clusters.name as cluster_name',
      'attempts.status as attempt_status',
      'attempts.gpu as promised_gpu',
      'attempts.gpu_count as promised_gpu_count',
      'attempts.gpu_memory_gib as promised_gpu_memory_gib',
      'node_watches.verdict as watch_verdict',
      'node_watches.since as watch_since',
      'node_watches.reasons as watch_reasons',
      'node_watches.checked_at as watch_checked_at',
      sql<boolean>`standbys.removed_at is not null`.as('is_standby_removed'),
      sql<NodeHost | null>`case when hosts.node_id is not null then jsonb_build_object(
        'stack_id', hosts.stack_id, 'name', hosts.name, 'address', hosts.address, 'port', hosts.port,
        'ssh_user', hosts.ssh_user, 'host_key_sha256', hosts.host_key_sha256, 'credential_id', hosts.credential_id,
        'labels', hosts.labels, 'added_by', hosts.added_by, 'is_removed', hosts.removed_at is not null) end`.as('host'),
    ]);
}

export function findNode(executor: Executor, orgId: string, nodeId: string): Promise<NodeRow | undefined> {
  return selectNodes(executor).where('nodes.id', '=', nodeId).where('nodes.org_id', '=', orgId).executeTakeFirst();
}

export interface NodeFilter {
  orgId: string;
  instanceId?: string;
  clusterId?: string;
  /** As domain/node.ts judges it, with the interval of the heartbeats. */
  status?: { is: NodeStatus; intervalMs: number };
  limit: number;
  before?: { createdAt: Date; id: string };
}

/** Newest first. */
export function listNodes(executor: Executor, filter: NodeFilter): Promise<NodeRow[]> {
  let query = selectNodes(executor).where('nodes.org_id', '=', filter.orgId);
  if (filter.instanceId !== undefined) query = query.where('nodes.instance_id', '=', filter.instanceId);
  if (filter.clusterId !== undefined) query = query.where('nodes.cluster_id', '=', filter.clusterId);
  if (filter.status) {
    const { is, intervalMs } = filter.status;
    const isGone = sql<boolean>`(coalesce(attempts.status = 'gone', false) or hosts.removed_at is not null or standbys.removed_at is not null or left_at is not null)`;
    const isInstalling = sql<boolean>`(not ${isGone} and key_hash is null)`;
    const isFresh = sql<boolean>`coalesce(heartbeat_at, registered_at) >= now() - ${STALE_BEATS * intervalMs} * interval '1 millisecond'`;
    query = query.where(
      is === 'gone'
        ? isGone
        : is === 'installing'
          ? isInstalling
          : is === 'online'
            ? sql<boolean>`(not ${isGone} and not ${isInstalling} and ${isFresh})`
            : sql<boolean>`(not ${isGone} and not ${isInstalling} and not ${isFresh})`,
    );
  }
  if (filter.before) {
    const { createdAt, id } = filter.before;
    query = query.where(sql<boolean>`(nodes.registered_at, nodes.id) < (${createdAt}, ${id})`);
  }
  return query.orderBy('nodes.registered_at', 'desc').orderBy('nodes.id', 'desc').limit(filter.limit).execute();
}

/** Takes no new work from now on, or takes it again. @returns undefined where there is no such node */
export async function cordonNode(
  tx: Tx,
  orgId: string,
  nodeId: string,
  isCordoned: boolean,
): Promise<NodeRow | undefined> {
  await tx
    .updateTable('nodes')
    .set({ cordoned_at: isCordoned ? sql<Date>`coalesce(cordoned_at, now())` : null })
    .where('id', '=', nodeId)
    .where('org_id', '=', orgId)
    .execute();
  return findNode(tx, orgId, nodeId);
}

/** Its samples go with it; its key is worth nothing from now on. */
export async function deleteNode(tx: Tx, nodeId: string): Promise<void> {
  await tx.deleteFrom('nodes').where('id', '=', nodeId).execute();
}

export interface SentHeartbeat {
  keyHash: Buffer;
  bootId: string;
  sequence: number;
  agentVersion: string;
  system: unknown;
  gpu: unknown;
  sample: NodeSample;
  /** undefined: the agent does not tell. `declaredAgoMs` null: no workload declared any. */
  activity?: { declaredAgoMs: number | null } | undefined;
  /** Offered where the present key is older than `rotateAfterMs`. */
  freshKeyHash: Buffer;
  rotateAfterMs: number;
}

export interface RecordedHeartbeat {
  nodeId: string;
  orgId: string;
  /** false: overtaken or repeated; nothing was written. */
  isAccepted: boolean;
  isReboot: boolean;
  /** The fresh key is the node's next one: hand it out. */
  isKeyOffered: boolean;
  desiredRevision: number;
  isFenced: boolean;
  /**
   * It switches its machine off where nobody answers: one that is rented, and a standby while it takes over. One at rest has nothing but a
   * copy, and is what is left where the control plane comes back late; hosts of our own are never switched off.
   */
  obeysDeadMan: boolean;
}

/** undefined: the key is nobody's. The rule of order is domain/node.ts's placeBeat, the samples are a ring of a day. */
export async function recordHeartbeat(
  database: Pick<Database, 'kysely' | 'pool'>,
  beat: SentHeartbeat,
): Promise<RecordedHeartbeat | undefined> {
  const { keyHash, bootId, sequence, sample } = beat;
  const declaredAgoMs = beat.activity?.declaredAgoMs ?? null;
  const isDue = sql<boolean>`key_made_at <= now() - ${beat.rotateAfterMs} * interval '1 millisecond'`;
  const statement = sql<RecordedHeartbeat>`
    with sender as materialized (
      select id, org_id, desired_revision, fenced_at, attempt_id, standby_id from nodes
      where key_hash = ${keyHash} or next_key_hash = ${keyHash}
    ), beat as (
      update nodes set
        key_hash = ${keyHash},
        key_made_at = case when next_key_hash = ${keyHash} then now() else key_made_at end,
        next_key_hash = case when next_key_hash is distinct from ${keyHash} and ${isDue} then ${beat.freshKeyHash}::bytea end,
        previous_boot_id = case when boot_id is distinct from ${bootId} then boot_id else previous_boot_id end,
        reboots = reboots + case when boot_id <> ${bootId} then 1 else 0 end,
        rebooted_at = case when boot_id <> ${bootId} then now() else rebooted_at end,
        boot_id = ${bootId},
        sequence = ${sequence},
        agent_version = ${beat.agentVersion},
        heartbeat_at = now(),
        -- Within its minute a sample stays as it is.
        sampled_at = case when sampled_at > now() - interval '1 minute' then sampled_at else now() end,
        powering_off_at = null,
        powering_off_reason = null,
        is_activity_known = ${beat.activity !== undefined},
        activity_declared_at = now() - ${declaredAgoMs}::float8 * interval '1 millisecond',
        system = ${JSON.stringify(beat.system)}::jsonb,
        gpu = ${JSON.stringify(beat.gpu)}::jsonb
      from sender
      where nodes.id = sender.id
        and (boot_id is null
             or (boot_id = ${bootId} and sequence < ${sequence})
             or (boot_id <> ${bootId} and previous_boot_id is distinct from ${bootId}))
      returning nodes.id, rebooted_at is not distinct from now() as is_reboot, next_key_hash is not null as is_key_offered,
                sampled_at = now() as is_sample_due
    ), sample as (
      ${insertDueSample(sql`select id from beat where is_sample_due`, sql`now()`, sample)}
    )
    select sender.id as "nodeId", sender.org_id as "orgId", beat.id is not null as "isAccepted",
           coalesce(beat.is_reboot, false) as "isReboot", coalesce(beat.is_key_offered, false) as "isKeyOffered",
           sender.desired_revision as "desiredRevision", sender.fenced_at is not null as "isFenced",
           sender.attempt_id is not null or case when sender.standby_id is null then false else exists (
             select from standbys where id = sender.standby_id and status in (${sql.join(TAKING_OVER)})
           ) end as "obeysDeadMan",
           -- A heartbeat that a crash of the server loses is followed by the next one, so its commit waits for no disk. A key that is handed
           -- out must be known after the crash.
           set_config('synchronous_commit',
                      case when beat.is_key_offered then current_setting('synchronous_commit') else 'off' end, true) as "durability"
    from sender left join beat on beat.id = sender.id`;
  return (await runPrepared(database, 'record_heartbeat', statement))[0];
}

export interface NewNodeToken {
  tokenHash: Buffer;
  attemptId: string;
  lifetimeMs: number;
}

/** Bound to the node of a host of ours or of a standby: whoever shows it is it. An earlier one is worth nothing from now on. */
export async function replaceNodeToken(
  tx: Tx,
  token: { tokenHash: Buffer; nodeId: string; lifetimeMs: number },
): Promise<void> {
  await tx.deleteFrom('node_tokens').where('node_id', '=', token.nodeId).execute();
  await tx
    .insertInto('node_tokens')
    .values({
      token_hash: token.tokenHash,
      node_id: token.nodeId,
      expires_at: sql<Date>`now() + ${token.lifetimeMs} * interval '1 millisecond'`,
    })
    .execute();
}

/** Bound to one attempt: whoever shows it is that attempt's node. */
export async function insertNodeToken(tx: Tx, token: NewNodeToken): Promise<void> {
  await tx
    .insertInto('node_tokens')
    .values({
      token_hash: token.tokenHash,
      attempt_id: token.attemptId,
      expires_at: sql<Date>`now() + ${token.lifetimeMs} * interval '1 millisecond'`,
    })
    .execute();
}

/** NOTIFY channel: an agent of a rented machine has registered; payload is the provider and the moment in milliseconds. */
export const REGISTRATION_CHANNEL = 'machine_registered';

export interface Registration {
  tokenHash: Buffer;
  nonceHash: Buffer;
  keyHash: Buffer;
  agentVersion: string;
  hostname: string | null;
}

export type RegistrationOutcome =
  | {
      kind: 'registered';
      nodeId: string;
      orgId: string;
      /** null: a host of ours. */
      instanceId: string | null;
      attemptId: string | null;
      isRepeat: boolean;
    }
  | { kind: 'refused'; reason: 'unknown' | 'expired' | 'used' | 'attempt_ended' | 'host_removed' };

/**
 * Uses the token up and makes the attempt's node, or gives the host's node its key. The same agent (by its nonce) may ask again until its key was used: then its answer was
 * lost, and it gets another key for the same node.
 */
export async function registerNode(tx: Tx, registration: Registration): Promise<RegistrationOutcome> {
  const hostToken = await lockHostToken(tx, registration.tokenHash);
  if (hostToken) return registerHost(tx, registration, hostToken);
  const token = await tx
    .selectFrom('node_tokens')
    .innerJoin('attempts', 'attempts.id', 'node_tokens.attempt_id')
    .select([
      'attempts.id as attempt_id',
      'attempts.org_id',
      'attempts.instance_id',
      'attempts.status',
      'attempts.provider',
      'used_at',
      'nonce_hash',
    ])
    .select(sql<boolean>`expires_at <= now()`.as('is_expired'))
    .where('token_hash', '=', registration.tokenHash)
    .forUpdate()
    .executeTakeFirst();
  if (!token) return { kind: 'refused', reason: 'unknown' };
  if (['destroying', 'gone', 'lost'].includes(token.status)) return { kind: 'refused', reason: 'attempt_ended' };
  const facts = { orgId: token.org_id, instanceId: token.instance_id, attemptId: token.attempt_id };
  if (token.used_at !== null) {
    if (token.nonce_hash?.equals(registration.nonceHash) !== true) return { kind: 'refused', reason: 'used' };
    const again = await tx
      .updateTable('nodes')
      .set({ key_hash: registration.keyHash, agent_version: registration.agentVersion })
      .where('attempt_id', '=', token.attempt_id)
      .where('heartbeat_at', 'is', null)
      .returning('id')
      .executeTakeFirst();
    return again
      ? { kind: 'registered', nodeId: again.id, ...facts, isRepeat: true }
      : { kind: 'refused', reason: 'used' };
  }
  if (token.is_expired) return { kind: 'refused', reason: 'expired' };
  const nodeId = newId('node');
  await tx
    .insertInto('nodes')
    .values({
      id: nodeId,
      org_id: token.org_id,
      attempt_id: token.attempt_id,
      instance_id: token.instance_id,
      key_hash: registration.keyHash,
      agent_version: registration.agentVersion,
      hostname: registration.hostname,
    })
    .execute();
  await tx
    .updateTable('node_tokens')
    .set({ used_at: sql<Date>`now()`, nonce_hash: registration.nonceHash })
    .where('token_hash', '=', registration.tokenHash)
    .execute();
  await tx
    .updateTable('attempts')
    .set({ agent_registered_at: sql<Date>`now()`, updated_at: sql<Date>`now()` })
    .where('id', '=', token.attempt_id)
    .execute();
  const word = sql`${token.provider} || ' ' || floor(extract(epoch from clock_timestamp()) * 1000)`;
  await sql`select pg_notify(${REGISTRATION_CHANNEL}, ${word})`.execute(tx);
  return { kind: 'registered', nodeId, ...facts, isRepeat: false };
}

type HostToken = NonNullable<Awaited<ReturnType<typeof lockHostToken>>>;

function lockHostToken(tx: Tx, tokenHash: Buffer) {
  return tx
    .selectFrom('node_tokens')
    .innerJoin('nodes', 'nodes.id', 'node_tokens.node_id')
    .leftJoin('hosts', 'hosts.node_id', 'nodes.id')
    .leftJoin('standbys', 'standbys.id', 'nodes.standby_id')
    .select(['nodes.id', 'nodes.org_id', 'nodes.heartbeat_at', 'used_at', 'nonce_hash'])
    .select(sql<Date | null>`coalesce(hosts.removed_at, standbys.removed_at)`.as('removed_at'))
    .select(sql<boolean>`expires_at <= now()`.as('is_expired'))
    .where('token_hash', '=', tokenHash)
    .forUpdate(['node_tokens', 'nodes'])
    .executeTakeFirst();
}

/** A host that was installed anew gets another key for the node that it is; the key before is worth nothing then. */
async function registerHost(tx: Tx, registration: Registration, token: HostToken): Promise<RegistrationOutcome> {
  if (token.removed_at !== null) return { kind: 'refused', reason: 'host_removed' };
  const isRepeat = token.used_at !== null;
  const isSameAgent = token.nonce_hash?.equals(registration.nonceHash) === true && token.heartbeat_at === null;
  if (isRepeat && !isSameAgent) return { kind: 'refused', reason: 'used' };
  if (!isRepeat && token.is_expired) return { kind: 'refused', reason: 'expired' };
  await tx
    .updateTable('nodes')
    .set({
      key_hash: registration.keyHash,
      key_made_at: sql<Date>`now()`,
      next_key_hash: null,
      agent_version: registration.agentVersion,
      hostname: registration.hostname,
      heartbeat_at: null,
      registered_at: sql<Date>`now()`,
    })
    .where('id', '=', token.id)
    .execute();
  await tx
    .updateTable('node_tokens')
    .set({ used_at: sql<Date>`coalesce(used_at, now())`, nonce_hash: registration.nonceHash })
    .where('token_hash', '=', registration.tokenHash)
    .execute();
  return { kind: 'registered', nodeId: token.id, orgId: token.org_id, instanceId: null, attemptId: null, isRepeat };
}

/** Of a cluster and still in it, by the uid that Kubernetes knows them by. */
export async function listNodesOfCluster(executor: Executor, clusterId: string): Promise<Map<string, NodeRow>> {
  const rows = await selectNodes(executor)
    .where('nodes.cluster_id', '=', clusterId)
    .where('nodes.left_at', 'is', null)
    .execute();
  return new Map(rows.map((row) => [row.kubernetes_uid as string, row]));
}

/** The node of an attempt; undefined: its agent has not registered, or it carries none. */
export function findNodeOfAttempt(executor: Executor, attemptId: string): Promise<NodeRow | undefined> {
  return selectNodes(executor).where('nodes.attempt_id', '=', attemptId).executeTakeFirst();
}
