/** Routes of nodes as people see them, and what an agent is installed from. What agents call is agent-calls.ts's. */
import { basename, dirname } from 'node:path';
import type { Response } from 'express';
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { appendAudit } from '../../db/audit.ts';
import { deleteNode, findNode, listNodes, type NodeRow } from '../../db/nodes.ts';
import { AGENT_PLATFORMS } from '../contract/agent-runtime.ts';
import { deleteNodeQuery, node, nodeAccepted, nodeListQuery, nodePage } from '../contract/nodes.ts';
import { id } from '../contract/values.ts';
import { pageByTime } from '../cursor.ts';
import { acceptHostRemoval } from '../host-order.ts';
import { renderInstallScript } from '../install-script.ts';
import { nodeReply } from '../replies/node-reply.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { route, type Route } from '../route.ts';

const AREA = 'nodes';
const params = z.object({ id: id('node') });

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
      const { intervalMs } = deps.agents;
      const wanted = {
        orgId: caller.orgId,
        ...(query.instanceId === undefined ? {} : { instanceId: query.instanceId }),
        ...(query.clusterId === undefined ? {} : { clusterId: query.clusterId }),
        ...(query.status === undefined ? {} : { status: { is: query.status, intervalMs } }),
      };
      const now = Date.now();
      const body = await pageByTime(
        query,
        (page) => listNodes(deps.database.kysely, { ...wanted, ...page }),
        (rows) => rows.map((row) => nodeReply(row, intervalMs, now)),
        (row) => row.registered_at,
      );
      return { status: 200, body };
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
    path: '/nodes/restic/:platform',
    access: 'public',
    area: AREA,
    summary: 'restic for a machine that has none, compressed by gzip',
    description: 'The SHA-256 of the unpacked program is in the order that needs it.',
    params: z.object({ platform: z.enum(AGENT_PLATFORMS) }),
    replies: { 200: 'application/gzip' },
    handle: async ({ params: { platform }, deps, response }) => {
      const file = (await deps.agents.resticPrograms?.compressed(platform)) ?? null;
      if (file === null) throw new MusterError('not_found', `there is no restic for ${platform} here`);
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
