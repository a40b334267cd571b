/** Routes of endpoints' names: given, shown and taken away. What keeps a name is a stack of its own. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { acceptStackOperation } from '../../db/accept-stack.ts';
import { appendAudit } from '../../db/audit.ts';
import {
  findEndpointName,
  insertEndpointName,
  recordTold,
  removeEndpointName,
  type EndpointNameRow,
} from '../../db/endpoint-names.ts';
import { findEndpoint } from '../../db/endpoints.ts';
import { findInstance } from '../../db/instances.ts';
import { insertStack, lockStack, type StackRow } from '../../db/stacks.ts';
import type { Executor } from '../../db/database.ts';
import { dnsRecordConfigSchema } from '../../stacks/dns-record/config.ts';
import { ownerOf } from '../cluster-order.ts';
import {
  endpointName,
  endpointNameAccepted,
  nameEndpointBody,
  type EndpointNameReply,
  type NameEndpointInput,
} from '../contract/endpoint-names.ts';
import { id } from '../contract/values.ts';
import { operationLocation, operationRefReply } from '../replies/operation-reply.ts';
import { iso } from '../reply-values.ts';
import { route, type Route } from '../route.ts';

const AREA = 'instances';
const PATH = '/instances/:id/endpoint/name';
const params = z.object({ id: id('instance') });

export const endpointNameRoutes: Route[] = [
  route({
    method: 'post',
    path: PATH,
    access: 'change',
    area: AREA,
    summary: 'Give the endpoint a name in your own DNS zone',
    description:
      'A stack (kind `dns-record`) keeps it, and is changed whenever the endpoint is. While nobody serves the workload the name is not there.',
    params,
    body: nameEndpointBody,
    isIdempotent: true,
    replies: { 202: endpointNameAccepted },
    problems: ['conflict'],
    handle: async ({ params: { id: instanceId }, body, caller, actor, deps, once }) => {
      const config = configOf(body);
      return once(async (tx) => {
        const instance = await findInstance(tx, caller.orgId, instanceId);
        if (!instance) throw noInstance(instanceId);
        if (instance.status === 'destroying' || instance.status === 'destroyed')
          throw new MusterError('conflict', `${instanceId} is ${instance.status}`, {
            facts: { state: instance.status },
          });
        const endpoint = await findEndpoint(tx, instanceId);
        const stack = await insertStack(tx, {
          orgId: caller.orgId,
          kind: 'dns-record',
          title: `name-${instanceId.slice('ins_'.length)}`,
          config: { ...config, address: endpoint?.host ?? null, port: endpoint?.port ?? null },
          owner: body.owner ?? ownerOf(caller),
          costCentre: body.costCentre ?? caller.orgId,
          ceilingMicroUsdPerHour: null,
          protect: false,
          onDrift: 'repair',
          createdBy: caller.id,
        });
        const isNew =
          stack !== null &&
          (await insertEndpointName(tx, {
            stackId: stack.id,
            instanceId,
            orgId: caller.orgId,
            hostname: body.hostname,
            createdBy: caller.id,
          }));
        if (stack === null || !isNew) throw new MusterError('conflict', `${instanceId} has a name already`);
        const operation = await acceptStackOperation(tx, deps.queue, { stack, kind: 'up_stack', actor });
        await recordTold(tx, stack.id, { version: endpoint?.version ?? 0n, operationId: operation.id });
        const detail = { hostname: body.hostname, stack: stack.id };
        await audit(tx, { orgId: caller.orgId, actor, action: 'instance.name', instanceId, detail });
        const row = (await findEndpointName(tx, instanceId)) as EndpointNameRow;
        const accepted = { operation: operationRefReply(operation), name: nameReply(row) };
        return { status: 202, body: accepted, location: operationLocation(operation) };
      });
    },
  }),
  route({
    method: 'get',
    path: PATH,
    access: 'read',
    area: AREA,
    summary: 'The name of the endpoint',
    params,
    replies: { 200: endpointName },
    handle: async ({ params: { id: instanceId }, caller, deps }) => ({
      status: 200,
      body: nameReply(await requireName(deps.database.kysely, caller.orgId, instanceId)),
    }),
  }),
  route({
    method: 'delete',
    path: PATH,
    access: 'change',
    area: AREA,
    summary: 'Take the name of the endpoint away',
    description: 'Its records go with its stack.',
    params,
    isIdempotent: true,
    replies: { 202: endpointNameAccepted },
    problems: ['conflict'],
    handle: ({ params: { id: instanceId }, caller, actor, deps, once }) =>
      once(async (tx) => {
        const row = await requireName(tx, caller.orgId, instanceId);
        const stack = (await lockStack(tx, row.stack_id)) as StackRow;
        const operation = await acceptStackOperation(tx, deps.queue, { stack, kind: 'destroy_stack', actor });
        await removeEndpointName(tx, row.stack_id);
        const detail = { hostname: row.hostname, stack: stack.id };
        await audit(tx, { orgId: caller.orgId, actor, action: 'instance.unname', instanceId, detail });
        const accepted = { operation: operationRefReply(operation), name: nameReply(row) };
        return { status: 202, body: accepted, location: operationLocation(operation) };
      }),
  }),
];

/** Throws MusterError `invalid_request` with every problem. */
function configOf({ zoneId, hostname, ttl }: NameEndpointInput) {
  const parsed = dnsRecordConfigSchema.safeParse({ zoneId, hostname, ttl });
  if (parsed.success) return parsed.data;
  const errors = parsed.error.issues.map(({ path, message }) => ({ path: path.join('.'), message }));
  throw new MusterError('invalid_request', 'the name is wrong', { errors });
}

function nameReply(row: EndpointNameRow): EndpointNameReply {
  const hasFailed = row.update_status === 'failed' || row.update_status === 'canceled';
  return {
    instanceId: row.instance_id,
    hostname: row.hostname,
    stackId: row.stack_id,
    host: row.host,
    port: row.port,
    isCurrent: row.update_status === 'succeeded' && row.told_version === (row.version ?? 0n),
    failure: hasFailed ? (row.update_error ?? 'for no known reason') : null,
    createdAt: iso(row.created_at),
  };
}

async function requireName(executor: Executor, orgId: string, instanceId: string): Promise<EndpointNameRow> {
  const row = await findEndpointName(executor, instanceId);
  if (row?.org_id === orgId) return row;
  throw new MusterError('not_found', `the endpoint of ${instanceId} has no name`);
}

function audit(
  tx: Parameters<typeof appendAudit>[0],
  { instanceId, ...entry }: Omit<Parameters<typeof appendAudit>[1], 'targetKind' | 'targetId'> & { instanceId: string },
): Promise<void> {
  return appendAudit(tx, { ...entry, targetKind: 'instance', targetId: instanceId });
}

function noInstance(instanceId: string): MusterError {
  return new MusterError('not_found', `there is no instance ${instanceId}`);
}
