/** Routes of nodes as hosts of our own: adding one, and keeping work away from one. Removing one stands with the other nodes. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { inTransaction } from '../../db/database.ts';
import { acceptDrain, placePending } from '../../db/place-pods.ts';
import { cordonNode, findNode, type NodeRow } from '../../db/nodes.ts';
import { addNodeBody, node, nodeAccepted } from '../contract/nodes.ts';
import { id } from '../contract/values.ts';
import { acceptHost, auditHost } from '../host-order.ts';
import { nodeReply } from '../replies/node-reply.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { route, type Route } from '../route.ts';

const AREA = 'nodes';
const params = z.object({ id: id('node') });

export const hostRoutes: Route[] = [
  route({
    method: 'post',
    path: '/nodes',
    access: 'change',
    area: AREA,
    summary: 'Add a host of your own, over SSH',
    description:
      'It gets a stack of its own (kind `onprem-node`), whose up looks at the host and installs the agent. The node is `installing` until its agent has registered; why an installation failed stands in the operation, and `POST /stacks/:id/up` tries again.',
    body: addNodeBody,
    isIdempotent: true,
    replies: { 202: nodeAccepted },
    problems: ['conflict'],
    handle: ({ body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const { nodeId, operation } = await acceptHost(tx, deps.queue, { body, caller, actor });
        const row = (await findNode(tx, caller.orgId, nodeId)) as NodeRow;
        const reply = nodeReply(row, deps.agents.intervalMs, Date.now());
        const body202 = { operation: operationRefReply(operation), node: reply };
        return { status: 202, body: body202, location: operationLocation(operation) };
      }),
  }),
  cordonRoute('cordon', true, 'Keep new work away from a node', 'What runs on it goes on.'),
  cordonRoute('uncordon', false, 'Let a node take work again', 'Undoes `cordon` and `drain`.'),
  cordonRoute(
    'drain',
    true,
    'Move the pods of a node elsewhere',
    'It is cordoned too. Each pod ends there and is placed on another node when it has; one that may not move is stopped.',
  ),
];

function cordonRoute(
  verb: 'cordon' | 'uncordon' | 'drain',
  isCordoned: boolean,
  summary: string,
  description: string,
): Route {
  return route({
    method: 'post',
    path: `/nodes/:id/${verb}`,
    access: 'change',
    area: AREA,
    summary,
    description,
    params,
    body: z.strictObject({}),
    isBodyOptional: true,
    replies: { 200: node },
    handle: ({ params: { id: nodeId }, caller, actor, deps }) =>
      inTransaction(deps.database.kysely, async (tx) => {
        const row = await cordonNode(tx, caller.orgId, nodeId, isCordoned);
        if (!row) throw new MusterError('not_found', `there is no node ${nodeId}`);
        const detail = verb === 'drain' ? { pods: await acceptDrain(tx, nodeId) } : {};
        // What waited may have room here now.
        if (verb === 'uncordon') await placePending(tx, caller.orgId, deps.agents.intervalMs);
        await auditHost(tx, actor, { nodeId, orgId: row.org_id, action: `node.${verb}`, detail });
        return { status: 200, body: nodeReply(row, deps.agents.intervalMs, Date.now()) };
      }),
  });
}
