/** Routes of pods: container workloads on nodes. What is asked is recorded and told to the node's agent, which makes it so. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { allowedPodActions, type PodVerb } from '../../domain/pods/pod.ts';
import { inTransaction, type Tx } from '../../db/database.ts';
import { placePending } from '../../db/place-pods.ts';
import { deletePod, findPod, listPods, lockPod, restartPod, startPod, stopPod, type PodRow } from '../../db/pods.ts';
import { createPodBody, pod, podListQuery, podLogs, podLogsQuery, podPage } from '../contract/pods.ts';
import { id } from '../contract/values.ts';
import { pageByTime, type PageOfTime } from '../cursor.ts';
import { readPodLogs, streamPodLogs } from '../pod-logs.ts';
import { acceptPod, auditPod } from '../pod-order.ts';
import { podReply } from '../replies/pod-reply.ts';
import { route, type Call, type Route } from '../route.ts';

const AREA = 'pods';
const params = z.object({ id: id('pod') });

export const podRoutes: Route[] = [
  route({
    method: 'post',
    path: '/pods',
    access: 'change',
    area: AREA,
    summary: 'Run a container on a node that has room for it',
    description:
      'It is placed at once, or `pending` with the reason until a node has room. Its files are those of its mounts: its container is made anew at each start.',
    body: createPodBody,
    isIdempotent: true,
    replies: { 201: pod },
    problems: ['conflict', 'policy_violated'],
    handle: ({ body, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = await acceptPod(tx, deps, { body, caller, actor });
        return { status: 201, body: podReply(row), location: `/api/v1/pods/${row.id}` };
      }),
  }),
  route({
    method: 'get',
    path: '/pods',
    access: 'read',
    area: AREA,
    summary: 'List pods, newest first',
    query: podListQuery,
    replies: { 200: podPage },
    handle: async ({ query, caller, deps }) => {
      const { status, nodeId, name, includeRemoved } = query;
      const wanted = {
        orgId: caller.orgId,
        ...(status === undefined ? {} : { status }),
        ...(nodeId === undefined ? {} : { nodeId }),
        ...(name === undefined ? {} : { name }),
        ...(includeRemoved === undefined ? {} : { includeRemoved }),
      };
      const list = (page: PageOfTime) => listPods(deps.database.kysely, { ...wanted, ...page });
      return { status: 200, body: await pageByTime(query, list, (rows) => rows.map(podReply)) };
    },
  }),
  route({
    method: 'get',
    path: '/pods/:id',
    access: 'read',
    area: AREA,
    summary: 'Get a pod',
    params,
    replies: { 200: pod },
    handle: async ({ params: { id: podId }, caller, deps }) => {
      const row = await findPod(deps.database.kysely, caller.orgId, podId);
      return { status: 200, body: podReply(requirePod(row, podId)) };
    },
  }),
  route({
    method: 'delete',
    path: '/pods/:id',
    access: 'change',
    area: AREA,
    summary: 'Delete a pod: its container, its volumes and what is sealed of it',
    description: 'It is `removing` until its agent says that nothing is left of it, or its machine is gone.',
    params,
    isIdempotent: true,
    replies: { 202: pod },
    handle: ({ params: { id: podId }, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = requirePod(await lockPod(tx, caller.orgId, podId), podId);
        if (row.desired === 'removed') return { status: 202, body: podReply(row) };
        const changed = await deletePod(tx, row);
        await auditPod(tx, actor, row, 'pod.delete');
        await placeOthers(tx, deps, caller.orgId);
        return { status: 202, body: podReply(changed) };
      }),
  }),
  verbRoute('stop', 'Stop a pod', 'It gets the time of `stopGraceSeconds` to end, and stays stopped.', stopPod),
  verbRoute('start', 'Start a pod', 'Another run of it, placed anew: where it was, if it fits there.', startPod),
  verbRoute('restart', 'Restart a pod', 'Its container is made anew, where it is.', restartPod),
  route({
    method: 'get',
    path: '/pods/:id/logs',
    access: 'read',
    area: AREA,
    summary: 'What its container writes',
    description:
      'Of the present run, or of its last one on its node. With `follow` Server-Sent Events: `log` with one line each, whose id is its time, so that `Last-Event-ID` goes on after it; `end` when the container has ended.',
    params,
    query: podLogsQuery,
    replies: { 200: podLogs },
    problems: ['conflict', 'unavailable'],
    handle: async (call) => {
      const {
        params: { id: podId },
        query,
        caller,
        deps,
      } = call;
      const row = requirePod(await findPod(deps.database.kysely, caller.orgId, podId), podId);
      if (query.follow === true) {
        await streamPodLogs(call, row, query);
        return undefined;
      }
      return { status: 200, body: await readPodLogs(call, row, query) };
    },
  }),
];

function verbRoute(
  verb: Exclude<PodVerb, 'delete'>,
  summary: string,
  description: string,
  act: (tx: Tx, row: PodRow) => Promise<PodRow>,
): Route {
  return route({
    method: 'post',
    path: `/pods/:id/${verb}`,
    access: 'change',
    area: AREA,
    summary,
    description,
    params,
    body: z.strictObject({}),
    isBodyOptional: true,
    replies: { 200: pod },
    problems: ['conflict'],
    handle: ({ params: { id: podId }, caller, actor, deps }) =>
      inTransaction(deps.database.kysely, async (tx) => {
        const row = requirePod(await lockPod(tx, caller.orgId, podId), podId);
        if (!allowedPodActions(row).includes(verb)) {
          const detail = `${podId} is ${row.status}: it cannot be asked to ${verb}`;
          throw new MusterError('conflict', detail, { facts: { state: row.status, allowed: allowedPodActions(row) } });
        }
        await act(tx, row);
        await auditPod(tx, actor, row, `pod.${verb}`);
        await placeOthers(tx, deps, caller.orgId);
        return { status: 200, body: podReply(requirePod(await findPod(tx, caller.orgId, podId), podId)) };
      }),
  });
}

/** It, and those that waited for room. */
async function placeOthers(tx: Tx, { agents }: Call['deps'], orgId: string): Promise<void> {
  await placePending(tx, orgId, agents.intervalMs);
}

function requirePod(row: PodRow | undefined, podId: string): PodRow {
  if (!row) throw new MusterError('not_found', `there is no pod ${podId}`);
  return row;
}
