/** What agents call: registering, heartbeats, what their node shall be, and what came of it. */
import type { Request, Response } from 'express';
import { MusterError } from '../../domain/error-table.ts';
import { appendAudit } from '../../db/audit.ts';
import { inTransaction } from '../../db/database.ts';
import { findAgentNode, recordPoweringOff, type AgentNode } from '../../db/desired.ts';
import { recordLateSamples } from '../../db/node-samples.ts';
import { recordHeartbeat, registerNode } from '../../db/nodes.ts';
import { listOpenOrders, recordOrderReports } from '../../db/orders.ts';
import { recordPodReports } from '../../db/pod-reports.ts';
import { listDesiredPods } from '../../db/pods.ts';
import { AGENT_TOKEN_PREFIX, hashAgentToken } from '../../secrets/agent-token.ts';
import type { ApiContext } from '../api-deps.ts';
import { agentCredentialOf } from '../authentication.ts';
import { createBell } from '../bell.ts';
import { joinCluster } from '../cluster-join.ts';
import {
  desiredQuery,
  desiredReply,
  heartbeatBody,
  heartbeatReply,
  registerBody,
  registerReply,
  reportsBody,
  reportsReply,
} from '../contract/nodes.ts';
import type { OrderReport } from '../contract/orders.ts';
import { logBatchBody, logBatchReply } from '../contract/pods.ts';
import { AGENT_KEY_PREFIX, hashCredential, makeToken } from '../credential.ts';
import { sampleOf } from '../contract/node-sample.ts';
import { takeLogBatch } from '../pod-logs.ts';
import { route, type Route } from '../route.ts';

const AREA = 'nodes';

const REFUSALS = {
  unknown: 'the token is unknown, or of a cluster, for which a service account token is needed too',
  expired: 'the token has expired',
  used: 'the token was used already',
  host_removed: 'the host that the token belongs to was removed',
  attempt_ended: 'the machine that the token belongs to is being destroyed or gone',
} as const;

const KEY_UNKNOWN = 'the key is unknown or replaced';

export const agentCallRoutes: Route[] = [
  route({
    method: 'post',
    path: '/nodes/register',
    access: 'agent',
    area: AREA,
    summary: 'An agent joins with its token and gets its key',
    description:
      'The token, in X-Agent-API-Key, is bound to one machine and works once; or it is the one of a cluster, and works for each node that the cluster itself says the agent is on: with `kubernetesToken`, by which the cluster is asked. Until it has answered this says 503.',
    body: registerBody,
    replies: { 201: registerReply },
    problems: ['unavailable'],
    handle: async ({ body, request, requestId, deps }) => {
      const token = agentCredentialOf(request, AGENT_TOKEN_PREFIX);
      const key = makeToken(AGENT_KEY_PREFIX);
      if (body.kubernetesToken !== undefined) {
        const nodeId = await joinCluster(deps, requestId, token, body, key);
        return { status: 201, body: { nodeId, key, intervalMs: deps.agents.intervalMs } };
      }
      const nodeId = await inTransaction(deps.database.kysely, async (tx) => {
        const outcome = await registerNode(tx, {
          tokenHash: hashAgentToken(token),
          nonceHash: hashCredential(body.nonce),
          keyHash: hashCredential(key),
          agentVersion: body.agentVersion,
          hostname: body.hostname,
        });
        if (outcome.kind === 'refused') throw new MusterError('unauthenticated', REFUSALS[outcome.reason]);
        await appendAudit(tx, {
          orgId: outcome.orgId,
          actor: { kind: 'agent', id: outcome.nodeId, requestId },
          action: 'node.register',
          targetKind: 'node',
          targetId: outcome.nodeId,
          detail: {
            instanceId: outcome.instanceId,
            attemptId: outcome.attemptId,
            agentVersion: body.agentVersion,
            ...(outcome.isRepeat ? { isRepeat: true } : {}),
          },
        });
        return outcome.nodeId;
      });
      return { status: 201, body: { nodeId, key, intervalMs: deps.agents.intervalMs } };
    },
  }),
  route({
    method: 'post',
    path: '/nodes/heartbeat',
    access: 'agent',
    area: AREA,
    summary: 'An agent tells that it lives, and what it sees',
    body: heartbeatBody,
    replies: { 200: heartbeatReply },
    handle: async ({ body, request, requestId, deps }) => {
      const freshKey = makeToken(AGENT_KEY_PREFIX);
      const { kysely } = deps.database;
      const recorded = await recordHeartbeat(deps.database, {
        keyHash: keyHashOf(request),
        ...body,
        sample: sampleOf(body),
        freshKeyHash: hashCredential(freshKey),
        rotateAfterMs: deps.agents.rotateKeyAfterMs,
      });
      if (!recorded) throw new MusterError('unauthenticated', KEY_UNKNOWN);
      const { nodeId } = recorded;
      if (recorded.isReboot) {
        await appendAudit(kysely, {
          orgId: recorded.orgId,
          actor: { kind: 'agent', id: nodeId, requestId },
          action: 'node.reboot',
          targetKind: 'node',
          targetId: nodeId,
          detail: { bootId: body.bootId },
        });
      }
      if (body.pods && recorded.isAccepted)
        await recordPodReports(kysely, { id: nodeId, orgId: recorded.orgId }, body.pods, deps.agents.intervalMs);
      if (body.samples && recorded.isAccepted) await recordLateSamples(kysely, nodeId, body.samples);
      return {
        status: 200,
        body: {
          accepted: recorded.isAccepted,
          intervalMs: deps.agents.intervalMs,
          ...(recorded.isKeyOffered ? { key: freshKey } : {}),
          desiredRevision: recorded.desiredRevision,
          acknowledgedOrders: await takeOrderReports(deps, nodeId, body.orders),
          deadManMs: recorded.obeysDeadMan ? (deps.agents.deadManMs ?? null) : null,
          isFenced: recorded.isFenced,
          agentSha256: deps.agentSha256(),
        },
      };
    },
  }),
  route({
    method: 'get',
    path: '/nodes/desired',
    access: 'agent',
    area: AREA,
    summary: 'What the agent of a node shall do: answered when there is something new, or at the end of the wait',
    query: desiredQuery,
    replies: { 200: desiredReply },
    handle: async ({ query, request, response, deps }) => {
      const node = await awaitDesired(deps, { ...query, keyHash: keyHashOf(request), response });
      if (node === null) return undefined; // nobody listens any more
      const { id, desiredRevision: revision, isFenced } = node;
      if (revision === query.after) return { status: 200, body: { revision, isFenced, orders: null, pods: null } };
      const orders = await listOpenOrders(deps.database.kysely, deps.envelope, id);
      const pods = await listDesiredPods(deps.database.kysely, deps.envelope, id);
      return { status: 200, body: { revision, isFenced, orders, pods } };
    },
  }),
  route({
    method: 'post',
    path: '/nodes/reports',
    access: 'agent',
    area: AREA,
    summary: 'An agent tells at once what ended or changed, beside its heartbeats',
    body: reportsBody,
    replies: { 200: reportsReply },
    handle: async ({ body, request, requestId, deps }) => {
      const { kysely } = deps.database;
      const node = requireAgentNode(await findAgentNode(kysely, keyHashOf(request)));
      const acknowledgedOrders = await takeOrderReports(deps, node.id, body.orders);
      if (body.pods) await recordPodReports(kysely, node, body.pods, deps.agents.intervalMs);
      if (body.poweringOff) {
        await recordPoweringOff(kysely, node.id, body.poweringOff.reason);
        await appendAudit(kysely, {
          orgId: node.orgId,
          actor: { kind: 'agent', id: node.id, requestId },
          action: 'node.power_off',
          targetKind: 'node',
          targetId: node.id,
          detail: { reason: body.poweringOff.reason },
        });
      }
      return { status: 200, body: { acknowledgedOrders } };
    },
  }),
  route({
    method: 'post',
    path: '/nodes/pod-logs',
    access: 'agent',
    area: AREA,
    summary: "An agent brings lines of a pod's log that it was asked for",
    description: 'The answer waits while the reader is slow. `isWanted` false: nobody reads it any more.',
    body: logBatchBody,
    replies: { 200: logBatchReply },
    handle: async ({ body, request, deps }) => {
      const node = requireAgentNode(await findAgentNode(deps.database.kysely, keyHashOf(request)));
      return { status: 200, body: await takeLogBatch(deps, node.id, body) };
    },
  }),
];

interface Waiting {
  keyHash: Buffer;
  after: number;
  waitMs: number;
  response: Response;
}

/** null: whoever asked has gone. Throws MusterError `unauthenticated`. One statement where nothing changes: a thousand agents ask. */
async function awaitDesired(
  { database, hub }: ApiContext,
  { keyHash, after, waitMs, response }: Waiting,
): Promise<AgentNode | null> {
  const look = async () => requireAgentNode(await findAgentNode(database.kysely, keyHash));
  const until = performance.now() + waitMs;
  const { heard } = hub;
  let node = await look();
  if (node.desiredRevision !== after || waitMs === 0) return node;
  const bell = createBell();
  const stop = hub.subscribe(node.id, bell.ring);
  response.on('close', bell.ring);
  try {
    // What was said between the look and the subscription.
    if (hub.heard !== heard) node = await look();
    while (node.desiredRevision === after && !response.destroyed && !hub.isClosed) {
      const leftMs = until - performance.now();
      if (leftMs <= 0 || !(await bell.wait(leftMs))) break;
      if (!response.destroyed && !hub.isClosed) node = await look();
    }
    return response.destroyed ? null : node;
  } finally {
    stop();
    response.off('close', bell.ring);
  }
}

/** @returns what the agent may forget */
async function takeOrderReports(
  { database, queue }: ApiContext,
  nodeId: string,
  reports: readonly OrderReport[] | undefined,
): Promise<string[]> {
  if (reports === undefined || reports.length === 0) return [];
  return inTransaction(database.kysely, (tx) => recordOrderReports(tx, queue, nodeId, reports));
}

function keyHashOf(request: Request): Buffer {
  return hashCredential(agentCredentialOf(request, AGENT_KEY_PREFIX));
}

function requireAgentNode(node: AgentNode | undefined): AgentNode {
  if (!node) throw new MusterError('unauthenticated', KEY_UNKNOWN);
  return node;
}
