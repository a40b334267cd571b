/** Routes that start and stop whole clusters: by their cloud's own actions, not by an update of their stack. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { refuseBesideUpdate } from '../../db/accept-stack.ts';
import type { ClusterRow } from '../../db/clusters.ts';
import { acceptOperation } from '../../db/operations.ts';
import { auditCluster, holdCluster } from '../cluster-view.ts';
import { clusterAccepted } from '../contract/clusters.ts';
import { id } from '../contract/values.ts';
import { clusterReply } from '../replies/cluster-reply.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { route, type Route } from '../route.ts';

type Verb = 'start' | 'stop';

export const clusterPowerRoutes: Route[] = [
  powerRoute('start', 'Start a stopped AKS cluster', 'Control plane and nodes come back as they were, and cost again.'),
  powerRoute(
    'stop',
    'Stop a whole AKS cluster',
    "Control plane and all nodes: what runs on them ends, and the cluster costs nothing until it is started. Its state stays, by Azure's word for twelve months. Until then it takes no other change than its destroy. EKS has nothing like it: scale its groups of GPU nodes to 0.",
  ),
];

function powerRoute(verb: Verb, summary: string, description: string): Route {
  return route({
    method: 'post',
    path: `/clusters/:id/${verb}`,
    access: 'change',
    area: 'clusters',
    summary,
    description,
    params: z.object({ id: id('cluster') }),
    body: z.strictObject({}),
    isBodyOptional: true,
    isIdempotent: true,
    replies: { 202: clusterAccepted },
    problems: ['conflict'],
    handle: (call) =>
      call.once(async (tx) => {
        const { deps, actor } = call;
        const { row, stack } = await holdCluster(tx, call);
        refuseKind(row, verb);
        if (!stack) throw new MusterError('conflict', `the stack of ${row.name} is not there`);
        await refuseBesideUpdate(tx, stack);
        refuseStatus(row, stack.outputs ?? {}, verb);
        const operation = await acceptOperation(tx, deps.queue, {
          orgId: row.org_id,
          kind: verb === 'stop' ? 'stop_cluster' : 'start_cluster',
          targetKind: 'cluster',
          targetId: row.id,
          stackId: stack.id,
          createdBy: actor.id,
        });
        await auditCluster(tx, call, row, `cluster.${verb}`);
        const body = { operation: operationRefReply(operation), cluster: clusterReply(row, stack, operation) };
        return { status: 202, body, location: operationLocation(operation) };
      }),
  });
}

/** Throws MusterError `conflict` with what can be done instead. */
function refuseKind({ kind, name }: ClusterRow, verb: Verb): void {
  if (kind === 'aks') return;
  const why = {
    eks: `EKS cannot ${verb} a cluster: its control plane always runs and costs $0.10 an hour. Scale its groups of GPU nodes to 0 (POST /clusters/:id/scale), or destroy it`,
    onprem: `${name} runs on hosts of your own: ${verb} those`,
    registered: `${name} is registered: it is changed where it was made`,
  }[kind];
  throw new MusterError('conflict', why, { facts: { kind } });
}

function refuseStatus({ name, status }: ClusterRow, outputs: Record<string, unknown>, verb: Verb): void {
  const isStopped = status === 'stopped';
  const facts = { state: status };
  if (verb === 'start' && !isStopped) throw new MusterError('conflict', `${name} is not stopped`, { facts });
  if (verb === 'stop' && isStopped) throw new MusterError('conflict', `${name} is stopped already`, { facts });
  if (status === 'destroying' || typeof outputs['clusterId'] !== 'string')
    throw new MusterError('conflict', `${name} is ${status}: there is nothing to ${verb}`, { facts });
}
