/** Instances with their attempts and usage, read together and as the API shows them. */
import { listAttemptsOfInstances } from '../db/attempts.ts';
import type { Executor } from '../db/database.ts';
import { listFailingOver } from '../db/failovers.ts';
import { listHibernations } from '../db/hibernations.ts';
import type { InstanceRow } from '../db/instances.ts';
import { readUsage } from '../db/usage.ts';
import { listWorkspaces } from '../db/workspaces.ts';
import type { Instance } from './contract/instances.ts';
import { instanceReply } from './replies/instance-reply.ts';

export async function viewInstances(executor: Executor, rows: InstanceRow[]): Promise<Instance[]> {
  const ids = rows.map((row) => row.id);
  const attempts = await listAttemptsOfInstances(executor, ids);
  const usage = await readUsage(executor, ids);
  const sleeps = Map.groupBy(await listHibernations(executor, ids), (sleep) => sleep.instance_id);
  const workspaces = await listWorkspaces(executor, ids);
  const failingOver = await listFailingOver(executor, ids);
  const byInstance = Map.groupBy(attempts, (attempt) => attempt.instance_id);
  const now = Date.now();
  return rows.map((row) =>
    instanceReply(
      row,
      byInstance.get(row.id) ?? [],
      usage,
      now,
      { hibernations: sleeps.get(row.id) ?? [], workspace: workspaces.get(row.id) },
      failingOver.has(row.id),
    ),
  );
}

export async function viewInstance(executor: Executor, row: InstanceRow): Promise<Instance> {
  return (await viewInstances(executor, [row]))[0] as Instance;
}
