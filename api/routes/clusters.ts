/** Routes of clusters: made of cloud resources through a stack of theirs, or registered as they are. */
import { z } from 'zod';
import {
  countNodesOf,
  scaleGroup,
  upgradeTo,
  type CloudClusterKind,
  type ClusterChange,
} from '../../domain/clusters/change.ts';
import { AGENT_AUDIENCE, AGENT_SERVICE_ACCOUNT, ENROLMENT_OVERLAP_MS } from '../../domain/clusters/enrolment.ts';
import type { NodeFacts } from '../../domain/clusters/node-facts.ts';
import { formatKubeconfig } from '../../domain/clusters/kubeconfig.ts';
import { MusterError } from '../../domain/error-table.ts';
import { acceptStackOperation, refuseBesideUpdate, type StackOrder } from '../../db/accept-stack.ts';
import {
  findCluster,
  findClusterAccess,
  findClusterFacts,
  listClusters,
  setClusterStatus,
  type ClusterRow,
} from '../../db/clusters.ts';
import { replaceEnrolment, revokeEnrolment } from '../../db/cluster-enrolments.ts';
import { inTransaction, type Tx } from '../../db/database.ts';
import { listNodesOfCluster } from '../../db/nodes.ts';
import type { StackRow } from '../../db/stacks.ts';
import { hashAgentToken, makeAgentToken } from '../../secrets/agent-token.ts';
import { openAccess, openToken, sealEnrolment } from '../../secrets/cluster-access.ts';
import { STACK_CONFIG_SCHEMAS } from '../../stacks/schemas.ts';
import { followStack, makeCluster, planCluster } from '../cluster-making.ts';
import { registerCluster, replaceKubeconfig } from '../cluster-registration.ts';
import { auditCluster, describeCluster, holdCluster, noCluster } from '../cluster-view.ts';
import {
  cluster,
  clusterAccepted,
  clusterEnrolment,
  clusterEvents,
  clusterHealth,
  clusterKubeconfig,
  clusterListQuery,
  clusterNodes,
  clusterPage,
  clusterStorageClasses,
  createClusterBody,
  enrolClusterBody,
  replaceKubeconfigBody,
  scaleClusterBody,
  upgradeClusterBody,
} from '../contract/clusters.ts';
import { stackPlan } from '../contract/stacks.ts';
import { id } from '../contract/values.ts';
import { pageByTime } from '../cursor.ts';
import { answerPlan } from '../stack-planning.ts';
import { operationRefReply } from '../replies/operation-reply.ts';
import { clusterHealthReply, clusterNodeReply } from '../replies/cluster-reply.ts';
import { isoOrNull } from '../reply-values.ts';
import { route, type Answer, type Call, type Route } from '../route.ts';

const AREA = 'clusters';
type ChangeClusterInput = Pick<z.infer<typeof scaleClusterBody>, 'dryRun' | 'planHash'>;
const params = z.object({ id: id('cluster') });
/** A token that is over before it is used is worth nothing. */
const MIN_TOKEN_LIFE_MS = 60_000;
/** A look is due each minute; what is older tells nothing of what an autoscaler did. */
const RECENT_LOOK_MS = 3 * 60_000;
const NO_TOKEN = 'its cloud has not given a token yet: workers ask for one when they look at it, every minute';

export const clusterRoutes: Route[] = [
  route({
    method: 'post',
    path: '/clusters',
    access: 'change',
    area: AREA,
    summary: 'Make a cluster, or register one',
    description:
      'eks, aks and onprem become a stack of that kind, made by one operation; with `dryRun` it answers what would be made and its price, and a later request may present the `planHash`. registered connects with the kubeconfig first: one that the cluster does not take is refused, and nothing is kept of it.',
    body: createClusterBody,
    isIdempotent: true,
    replies: { 200: stackPlan, 202: clusterAccepted },
    problems: [
      'conflict',
      'plan_changed',
      'stack_refused',
      'engine_unavailable',
      'engine_failed',
      'cluster_refused',
      'cluster_unreachable',
      'canceled',
    ],
    handle: (call) => {
      const { body } = call;
      if (body.kind === 'registered') return registerCluster(call, body.name, body.kubeconfig);
      return body.dryRun ? planCluster(call, body) : makeCluster(call, body);
    },
  }),
  route({
    method: 'get',
    path: '/clusters',
    access: 'read',
    area: AREA,
    summary: 'List clusters, newest first',
    query: clusterListQuery,
    replies: { 200: clusterPage },
    handle: async ({ query, caller, deps }) => {
      const db = deps.database.kysely;
      const { kind, status } = query;
      const filter = { orgId: caller.orgId, ...(kind ? { kind } : {}), ...(status ? { status } : {}) };
      const body = await pageByTime(
        query,
        (page) => listClusters(db, { ...filter, ...page }),
        (rows) => Promise.all(rows.map((row) => describeCluster(db, row))),
      );
      return { status: 200, body };
    },
  }),
  route({
    method: 'get',
    path: '/clusters/:id',
    access: 'read',
    area: AREA,
    summary: 'Get a cluster',
    params,
    replies: { 200: cluster },
    handle: async (call) => ({
      status: 200,
      body: await describeCluster(call.deps.database.kysely, await requireCluster(call)),
    }),
  }),
  route({
    method: 'delete',
    path: '/clusters/:id',
    access: 'change',
    area: AREA,
    summary: 'Destroy a cluster, or forget a registered one',
    description:
      'One that was made here is destroyed with its stack, unless that is protected (202). A registered one is only forgotten, with its kubeconfig: nothing at it changes (200).',
    params,
    isIdempotent: true,
    replies: { 200: cluster, 202: clusterAccepted },
    problems: ['conflict', 'stack_protected'],
    handle: (call) =>
      call.once(async (tx) => {
        const { row, stack } = await holdCluster(tx, call);
        if (stack) return followStack(tx, call, row, stack, 'destroy_stack');
        await setClusterStatus(tx, row.id, 'destroyed');
        await auditCluster(tx, call, row, 'cluster.forget');
        return {
          status: 200,
          body: await describeCluster(tx, (await findCluster(tx, row.org_id, row.id)) as ClusterRow),
        };
      }),
  }),
  route({
    method: 'get',
    path: '/clusters/:id/nodes',
    access: 'read',
    area: AREA,
    summary: 'Nodes of a cluster, with what accelerators they have, as of the last answer',
    params,
    replies: { 200: clusterNodes },
    handle: async (call) => {
      const { deps } = call;
      const facts = await readFacts(call);
      const agents = await listNodesOfCluster(deps.database.kysely, call.params.id);
      const items = (facts?.nodes ?? []).map((node) =>
        clusterNodeReply(node, agents.get(node.uid ?? ''), deps.agents.intervalMs, Date.now()),
      );
      return { status: 200, body: { takenAt: isoOrNull(facts?.taken_at ?? null), items } };
    },
  }),
  route({
    method: 'get',
    path: '/clusters/:id/health',
    access: 'read',
    area: AREA,
    summary: 'How a cluster is doing, and which nodes are not fit',
    params,
    replies: { 200: clusterHealth },
    handle: async (call) => {
      const row = await requireCluster(call);
      return { status: 200, body: clusterHealthReply(row, await findClusterFacts(call.deps.database.kysely, row.id)) };
    },
  }),
  route({
    method: 'get',
    path: '/clusters/:id/events',
    access: 'read',
    area: AREA,
    summary: 'Warnings that Kubernetes recorded lately, as of the last answer',
    params,
    replies: { 200: clusterEvents },
    handle: async (call) => {
      const facts = await readFacts(call);
      return { status: 200, body: { takenAt: isoOrNull(facts?.taken_at ?? null), items: facts?.warnings ?? [] } };
    },
  }),
  route({
    method: 'get',
    path: '/clusters/:id/storage-classes',
    access: 'read',
    area: AREA,
    summary: 'Storage classes of a cluster, as of the last answer',
    params,
    replies: { 200: clusterStorageClasses },
    handle: async (call) => {
      const facts = await readFacts(call);
      return {
        status: 200,
        body: { takenAt: isoOrNull(facts?.taken_at ?? null), items: facts?.storage_classes ?? [] },
      };
    },
  }),
  route({
    method: 'get',
    path: '/clusters/:id/kubeconfig',
    access: 'change',
    area: AREA,
    summary: 'A kubeconfig that opens the cluster',
    description:
      'For operators and owners, and written into the audit log. At EKS and AKS it holds a token that is over within the hour.',
    params,
    replies: { 200: clusterKubeconfig },
    problems: ['conflict', 'unavailable'],
    handle: handOutKubeconfig,
  }),
  route({
    method: 'post',
    path: '/clusters/:id/kubeconfig',
    access: 'change',
    area: AREA,
    summary: 'Replace the kubeconfig of a registered cluster',
    description: 'It must lead to the same cluster. One that is refused changes nothing.',
    params,
    body: replaceKubeconfigBody,
    isIdempotent: true,
    replies: { 202: clusterAccepted },
    problems: ['conflict', 'cluster_refused', 'cluster_unreachable', 'canceled'],
    handle: (call) => replaceKubeconfig(call, call.body.kubeconfig, async (tx) => (await holdCluster(tx, call)).row),
  }),
  route({
    method: 'post',
    path: '/clusters/:id/enrolment',
    access: 'change',
    area: AREA,
    summary: "A new token by which agents of a cluster's nodes join",
    description:
      'For clusters whose agents you install yourself; a stack with a node agent brings its own. The token before works for seven days more. Written into the audit log.',
    params,
    body: enrolClusterBody,
    isBodyOptional: true,
    replies: { 201: clusterEnrolment },
    problems: ['conflict'],
    handle: enrolCluster,
  }),
  route({
    method: 'delete',
    path: '/clusters/:id/enrolment',
    access: 'change',
    area: AREA,
    summary: "Revoke the tokens by which agents of a cluster's nodes join",
    description: 'Nodes that have joined stay. A stack with a node agent brings a new token with its next up.',
    params,
    replies: { 204: null },
    problems: ['conflict'],
    handle: (call) =>
      inTransaction(call.deps.database.kysely, async (tx) => {
        const { row } = await holdCluster(tx, call);
        if (await revokeEnrolment(tx, row.id)) await auditCluster(tx, call, row, 'cluster.revoke_enrolment');
        return { status: 204 };
      }),
  }),
  changeRoute(
    'scale',
    'Change how many nodes a group of GPU nodes has',
    scaleClusterBody,
    (row, config, body, nodes) => {
      const scale = body as z.infer<typeof scaleClusterBody>;
      return scaleGroup(cloudKindOf(row), config, scale, nodes && countNodesOf(nodes, scale.nodeGroup));
    },
  ),
  changeRoute('upgrade', 'Upgrade Kubernetes by one minor', upgradeClusterBody, (row, config, body) => {
    cloudKindOf(row);
    return upgradeTo(config, (body as z.infer<typeof upgradeClusterBody>).kubernetesVersion);
  }),
];

/** Carries out a changed configuration of the cluster's stack, which becomes the stack's own when it is begun. */
function changeRoute(
  verb: 'scale' | 'upgrade',
  summary: string,
  body: z.ZodType,
  change: (
    row: ClusterRow,
    config: Record<string, unknown>,
    body: unknown,
    nodes: readonly NodeFacts[] | null,
  ) => ClusterChange,
): Route {
  return route({
    method: 'post',
    path: `/clusters/:id/${verb}`,
    access: 'change',
    area: AREA,
    summary,
    description:
      'With `dryRun` it answers what would change and its price, and a later request may present the `planHash`. It is planned first, in the same operation: where it is refused (a policy, the ceiling, another plan) nothing is changed, the configuration neither. One that began keeps the new configuration, also where it fails: the next up goes on with it.',
    params,
    body,
    isIdempotent: true,
    replies: { 200: stackPlan, 202: clusterAccepted },
    problems: ['conflict', 'plan_changed', 'stack_refused', 'engine_unavailable', 'engine_failed', 'canceled'],
    handle: async (call) => {
      const { dryRun, planHash } = call.body as ChangeClusterInput;
      const prepare = async (tx: Tx) => {
        const { row, stack } = await holdCluster(tx, call);
        if (!stack)
          throw new MusterError('conflict', `${row.name} is registered: it is changed where it was made`, {
            facts: { kind: row.kind },
          });
        await refuseBesideUpdate(tx, stack);
        const facts = await findClusterFacts(tx, row.id);
        const isRecent = facts !== undefined && facts.taken_at.getTime() > Date.now() - RECENT_LOOK_MS;
        const nodes = isRecent ? facts.nodes : null;
        const order = checkChange(stack, change(row, stack.config as Record<string, unknown>, call.body, nodes));
        return { row, stack, order };
      };
      if (dryRun) return planChange(call, prepare);
      return call.once(async (tx) => {
        const { row, stack, order } = await prepare(tx);
        await auditCluster(tx, call, row, `cluster.${verb}`, call.body as Record<string, unknown>);
        return followStack(tx, call, row, stack, 'up_stack', {
          ...order,
          ...(planHash === undefined ? {} : { planHash }),
        });
      });
    },
  });
}

async function planChange(
  { deps, actor }: Call<'change'>,
  prepare: (tx: Tx) => Promise<{ row: ClusterRow; stack: StackRow; order: ChangeOrder }>,
): Promise<Answer> {
  const [row, operation] = await deps.database.kysely.transaction().execute(async (tx) => {
    const { row: held, stack, order } = await prepare(tx);
    const preview = { stack, kind: 'preview_stack', actor, ...order } as const;
    return [held, await acceptStackOperation(tx, deps.queue, preview)] as const;
  });
  const shown = await describeCluster(deps.database.kysely, row);
  return answerPlan(deps, operation, row.kind, (underWay) => ({
    operation: operationRefReply(underWay),
    cluster: shown,
  }));
}

type ChangeOrder = Pick<StackOrder, 'config' | 'resize'>;

/** The kind's schema says what a changed configuration may be, as it says it of a new one. */
function checkChange(stack: StackRow, change: ClusterChange): ChangeOrder {
  if ('errors' in change)
    throw new MusterError('invalid_request', 'the change is not possible', { errors: change.errors });
  const parsed = STACK_CONFIG_SCHEMAS[stack.kind].safeParse(change.config);
  if (parsed.success) return { ...change, config: parsed.data };
  const errors = parsed.error.issues.map(({ path, message }) => ({ path: path.join('.'), message }));
  throw new MusterError('invalid_request', 'the change is not possible', { errors });
}

/** Throws MusterError `conflict` for one whose nodes no cloud makes. */
function cloudKindOf({ kind, name }: ClusterRow): CloudClusterKind {
  if (kind === 'eks' || kind === 'aks') return kind;
  throw new MusterError(
    'conflict',
    `${name} is ${kind}: change the configuration of its stack (PATCH /stacks/:id) and up it`,
    {
      facts: { kind },
    },
  );
}

async function enrolCluster(
  call: Call<'change', { id: string }> & { body: z.infer<typeof enrolClusterBody> | undefined },
): Promise<Answer> {
  const { deps, body } = call;
  const { namespace } = body ?? enrolClusterBody.parse({});
  const token = makeAgentToken();
  const enrolment = await inTransaction(deps.database.kysely, async (tx) => {
    const { row } = await holdCluster(tx, call);
    await auditCluster(tx, call, row, 'cluster.enrol', { namespace });
    return replaceEnrolment(
      tx,
      {
        clusterId: row.id,
        tokenHash: hashAgentToken(token),
        tokenSealed: sealEnrolment(deps.envelope, row.id, token),
        namespace,
      },
      ENROLMENT_OVERLAP_MS,
    );
  });
  call.response.setHeader('cache-control', 'no-store');
  return {
    status: 201,
    body: {
      token,
      namespace,
      serviceAccount: AGENT_SERVICE_ACCOUNT,
      audience: AGENT_AUDIENCE,
      previousUntil: isoOrNull(enrolment.previous_until),
    },
  };
}

async function handOutKubeconfig(call: Call<'change', { id: string }>): Promise<Answer> {
  const { deps } = call;
  const { envelope } = deps;
  const row = await requireCluster(call);
  const sealed = await findClusterAccess(deps.database.kysely, row.id);
  if (!sealed || row.status === 'destroyed')
    throw new MusterError('conflict', `${row.name} has no kubeconfig: it is ${row.status}`, {
      facts: { state: row.status },
    });
  const access = openAccess(envelope, row.id, sealed.access_sealed);
  let token: string | null = null;
  if (access.credential.kind === 'cloud') {
    const { token_sealed: tokenSealed, token_expires_at: expiresAt } = sealed;
    const isFresh = expiresAt !== null && expiresAt.getTime() > Date.now() + MIN_TOKEN_LIFE_MS;
    if (tokenSealed === null || !isFresh) throw new MusterError('unavailable', `${row.name}: ${NO_TOKEN}`);
    token = openToken(envelope, row.id, tokenSealed);
  }
  // Written down before it is handed out: what cannot be audited is not given.
  await deps.database.kysely.transaction().execute((tx) => auditCluster(tx, call, row, 'cluster.kubeconfig'));
  const expiresAt = token === null ? null : isoOrNull(sealed.token_expires_at);
  call.response.setHeader('cache-control', 'no-store');
  return { status: 200, body: { kubeconfig: formatKubeconfig(row.name, access, token), expiresAt } };
}

type ReadCall = Pick<Call<'read', { id: string }>, 'caller' | 'deps' | 'params'>;

async function readFacts(call: ReadCall) {
  const row = await requireCluster(call);
  return findClusterFacts(call.deps.database.kysely, row.id);
}

async function requireCluster({ caller, deps, params: { id: clusterId } }: ReadCall): Promise<ClusterRow> {
  const row = await findCluster(deps.database.kysely, caller.orgId, clusterId);
  if (!row) throw noCluster(clusterId);
  return row;
}
