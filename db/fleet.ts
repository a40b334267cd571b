/** The fleet of an org: how much is live, what it costs now and has cost. The deployment's caps are checked in instances.ts. */
import { sql } from 'kysely';
import type { InstanceStatus } from '../domain/instance.ts';
import { readBurn } from './costs.ts';
import type { Executor } from './database.ts';

export interface OrgFleet {
  byStatus: { status: InstanceStatus; count: number }[];
  /** Machines that may exist at the provider: everything bought and not proven gone. */
  byProvider: { provider: string; machines: number; burnMicroUsdPerHour: bigint }[];
  accruedMicroUsd: bigint;
  openFindings: number;
  unbounded: { id: string; name: string; override_reason: string | null }[];
}

export async function readOrgFleet(executor: Executor, orgId: string): Promise<OrgFleet> {
  const statuses = await executor
    .selectFrom('instances')
    .select(['status', sql<bigint>`count(*)`.as('count')])
    .where('org_id', '=', orgId)
    .where('status', '<>', 'destroyed')
    .groupBy('status')
    .execute();
  const providers = await readBurn(executor, orgId, new Date());
  const findings = await executor
    .selectFrom('findings')
    .select(sql<bigint>`count(*)`.as('count'))
    .where('org_id', '=', orgId)
    .where('status', 'in', ['open', 'resolving'])
    .executeTakeFirstOrThrow();
  const unbounded = await executor
    .selectFrom('instances')
    .select(['id', 'name', 'override_reason'])
    .where('org_id', '=', orgId)
    .where('unbounded', '=', true)
    .where('status', '<>', 'destroyed')
    .orderBy('created_at')
    .limit(500)
    .execute();
  return {
    byStatus: statuses.map((row) => ({ status: row.status, count: Number(row.count) })),
    byProvider: providers.map(({ accruedMicroUsd: _, ...burn }) => burn),
    accruedMicroUsd: providers.reduce((sum, row) => sum + row.accruedMicroUsd, 0n),
    openFindings: Number(findings.count),
    unbounded,
  };
}
