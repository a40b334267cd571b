/** Routes of nodes: what people see of them, and what their agents call. */
import { basename, dirname } from 'node:path';
import type { Response } from 'express';
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { appendAudit } from '../../db/audit.ts';
import { inTransaction } from '../../db/database.ts';
import { deleteNode, findNode, listNodes, recordHeartbeat, registerNode, type NodeRow } from '../../db/nodes.ts';
import { AGENT_TOKEN_PREFIX, hashAgentToken } from '../../secrets/agent-token.ts';
import { agentCredentialOf } from '../authentication.ts';
import { AGENT_PLATFORMS } from '../contract/agent-runtime.ts';
import {
  deleteNodeQuery,
  heartbeatBody,
  heartbeatReply,
  node,
  nodeAccepted,
  nodeListQuery,
  nodePage,
  registerBody,
  registerReply,
} from '../contract/nodes.ts';
import { id } from '../contract/values.ts';
import { AGENT_KEY_PREFIX, hashCredential, makeToken } from '../credential.ts';
import { byTime, cutPage, readCursor } from '../cursor.ts';
import { joinCluster } from '../cluster-join.ts';
import { acceptHostRemoval } from '../host-order.ts';
import { renderInstallScript } from '../install-script.ts';
import { sampleOf } from '../node-sample.ts';
import { nodeReply } from '../replies/node-reply.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { iso } from '../reply-values.ts';
import { route, type Route } from '../route.ts';

const AREA = 'nodes';
const params = z.object({ id: id('node') });

const REFUSALS = {
  unknown: 'the token is unknown, or of a cluster, for which a service account token is needed too',
  expired: 'the token has expired',
  used: 'the token was used already',
  host_removed: 'the host that the token belongs to was removed',
  attempt_ended: 'the machine that the token belongs to is being destroyed or gone',
} as const;

export const nodeRoutes: Route[] = [
  route({
    method: 'get',
    path: '/nodes',
    access: 'read',
    area: AREA,
    summary: 'List nodes: hosts that run our agent, newest first',
    query: nodeListQuery,
    replies: { 200: nodePage },
    handle: async ({ query, caller, deps }) => {
      const before = readCursor(byTime, query.cursor);
      const { intervalMs } = deps.agents;
      const rows = await listNodes(deps.database.kysely, {
        orgId: caller.orgId,
        ...(query.instanceId === undefined ? {} : { instanceId: query.instanceId }),
        ...(query.clusterId === undefined ? {} : { clusterId: query.clusterId }),
        ...(query.status === undefined ? {} : { status: { is: query.status, intervalMs } }),
        limit: query.limit + 1,
        ...(before ? { before: { registeredAt: new Date(before[0]), id: before[1] } } : {}),
      });
      const now = Date.now();
      return {
        status: 200,
        body: cutPage(
          rows,
          query.limit,
          (row) => [iso(row.registered_at), row.id],
          (row) => nodeReply(row, intervalMs, now),
        ),
      };
    },
  }),
  route({
    method: 'get',
    path: '/nodes/install.sh',
    access: 'public',
    area: AREA,
    summary: 'The script that installs the agent on a machine',
    replies: { 200: 'text/x-shellscript' },
    handle: async ({ deps }) => ({
      status: 200,
      body: renderInstallScript((await deps.agents.bundle()).sha256, await deps.agents.nodePrograms.digests()),
    }),
  }),
  route({
    method: 'get',
    path: '/nodes/agent.mjs',
    access: 'public',
    area: AREA,
    summary: 'The agent, one file for Node',
    description: 'Its SHA-256 is in X-Muster-Sha256 and in the install script.',
    replies: { 200: 'text/javascript' },
    handle: async ({ deps, response }) => {
      const { text, sha256, version } = await deps.agents.bundle();
      response.setHeader('x-muster-sha256', sha256);
      response.setHeader('x-muster-agent-version', version);
      return { status: 200, body: text };
    },
  }),
  route({
    method: 'get',
    path: '/nodes/runtime/:platform',
    access: 'public',
    area: AREA,
    summary: 'Node for a machine that has none, compressed by gzip',
    description: 'The SHA-256 of the unpacked program is in the install script.',
    params: z.object({ platform: z.enum(AGENT_PLATFORMS) }),
    replies: { 200: 'application/gzip' },
    handle: async ({ params: { platform }, deps, response }) => {
      const file = await deps.agents.nodePrograms.compressed(platform);
      if (file === null) throw new MusterError('not_found', `there is no Node for ${platform} here`);
      await sendFile(response, file);
      return undefined;
    },
  }),
  route({
    method: 'get',
    path: '/nodes/:id',
    access: 'read',
    area: AREA,
    summary: 'A node: whether it is heard of, its GPUs and its system',
    params,
    replies: { 200: node },
    handle: async ({ params: { id: nodeId }, caller, deps }) => {
      const row = await findNode(deps.database.kysely, caller.orgId, nodeId);
      return { status: 200, body: nodeReply(requireNode(row, nodeId), deps.agents.intervalMs, Date.now()) };
    },
  }),
  route({
    method: 'delete',
    path: '/nodes/:id',
    access: 'change',
    area: AREA,
    summary: 'Remove a node',
    description:
      'A host of your own is cordoned and drained, and our agent uninstalled, by the operation in the reply (202), which also cancels an installation that is under way; it stays, `gone`, to be forgotten by a second call. A node whose machine is gone is forgotten at once (204).',
    params,
    query: deleteNodeQuery,
    isIdempotent: true,
    replies: { 202: nodeAccepted, 204: null },
    problems: ['conflict', 'stack_protected'],
    handle: ({ params: { id: nodeId }, query, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = requireNode(await findNode(tx, caller.orgId, nodeId), nodeId);
        const { host } = row;
        if (host && !host.is_removed) {
          const order = { node: { ...row, host }, actor, forget: query.forget === true };
          const operation = await acceptHostRemoval(tx, deps.queue, order);
          const after = requireNode(await findNode(tx, caller.orgId, nodeId), nodeId);
          const reply = nodeReply(after, deps.agents.intervalMs, Date.now());
          const body = { operation: operationRefReply(operation), node: reply };
          return { status: 202, body, location: operationLocation(operation) };
        }
        if (row.cluster_id !== null && row.left_at === null) {
          const detail = `${nodeId} is ${row.kubernetes_name} of the cluster ${row.cluster_name}: take it out of the cluster first`;
          throw new MusterError('conflict', detail, { facts: { state: 'in_cluster', clusterId: row.cluster_id } });
        }
        if (!host && row.cluster_id === null && row.attempt_status !== 'gone') {
          const detail = `the machine of ${nodeId} is not gone: destroy its instance ${row.instance_id} first`;
          throw new MusterError('conflict', detail, { facts: { state: row.attempt_status } });
        }
        await deleteNode(tx, nodeId);
        await appendAudit(tx, {
          orgId: caller.orgId,
          actor,
          action: 'node.delete',
          targetKind: 'node',
          targetId: nodeId,
          detail: { instanceId: row.instance_id, attemptId: row.attempt_id, clusterId: row.cluster_id },
        });
        return { status: 204 };
      }),
  }),
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
      const recorded = await recordHeartbeat(kysely, {
        keyHash: hashCredential(agentCredentialOf(request, AGENT_KEY_PREFIX)),
        ...body,
        sample: sampleOf(body),
        freshKeyHash: hashCredential(freshKey),
        rotateAfterMs: deps.agents.rotateKeyAfterMs,
      });
      if (!recorded) throw new MusterError('unauthenticated', 'the key is unknown or replaced');
      if (recorded.isReboot) {
        await appendAudit(kysely, {
          orgId: recorded.orgId,
          actor: { kind: 'agent', id: recorded.nodeId, requestId },
          action: 'node.reboot',
          targetKind: 'node',
          targetId: recorded.nodeId,
          detail: { bootId: body.bootId },
        });
      }
      return {
        status: 200,
        body: {
          accepted: recorded.isAccepted,
          intervalMs: deps.agents.intervalMs,
          ...(recorded.isKeyOffered ? { key: freshKey } : {}),
        },
      };
    },
  }),
];

/** Resolves when it is sent, and also when whoever asked has gone. */
function sendFile(response: Response, file: string): Promise<void> {
  response.type('application/gzip');
  const { promise, resolve } = Promise.withResolvers<void>();
  // By its name in its folder, because a folder on the way may begin with a dot.
  response.sendFile(basename(file), { root: dirname(file), maxAge: '1h' }, (error) => {
    if (error && !response.headersSent) response.destroy(error);
    resolve();
  });
  return promise;
}

function requireNode(row: NodeRow | undefined, nodeId: string): NodeRow {
  if (!row) throw new MusterError('not_found', `there is no node ${nodeId}`);
  return row;
}
