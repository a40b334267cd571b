/** Failover orders: from what a request says to a policy that is kept, or a failover that is accepted. Throws MusterError naming the field. */
import { parseDuration } from '../domain/duration.ts';
import { MusterError } from '../domain/error-table.ts';
import type { FailoverPolicy } from '../domain/failover.ts';
import { parseUsd } from '../domain/money.ts';
import { acceptFailover, type FailoverOrder } from '../db/accept-failover.ts';
import type { Actor } from '../db/audit.ts';
import { appendAudit } from '../db/audit.ts';
import type { Tx } from '../db/database.ts';
import { saveFailoverPolicy } from '../db/failover-policies.ts';
import { findFailover, type FailoverRow } from '../db/failovers.ts';
import { findOperation, type OperationRow } from '../db/operations.ts';
import type { Queue } from '../db/queue.ts';
import { changeWorkspace, ensureWorkspace } from '../db/workspaces.ts';
import type { FailoverPolicyBody } from './contract/failovers.ts';

export function readPolicy(body: FailoverPolicyBody): FailoverPolicy {
  const { mode, maxPerDay, failback, maxPriceUsdPerHour: price, budgetUsdPerDay: budget } = body;
  return {
    mode,
    rpoMs: parseDuration(body.rpo) as number,
    maxPriceMicroUsdPerHour: price === undefined ? null : parseUsd(price),
    budgetMicroUsdPerDay: budget === undefined ? null : parseUsd(budget),
    cooldownMs: parseDuration(body.cooldown) as number,
    maxPerDay,
    failback,
  };
}

/** With a workspace that is saved as often as the policy promises: without one there would be nothing to go on with. */
export async function applyPolicy(
  tx: Tx,
  instances: readonly { id: string; org_id: string }[],
  policy: FailoverPolicy,
  actor: Actor,
): Promise<void> {
  for (const { id: instanceId, org_id: orgId } of instances) {
    await saveFailoverPolicy(tx, { id: instanceId, orgId }, policy, actor.id);
    if (policy.mode !== 'off') {
      const workspace = await ensureWorkspace(tx, { instanceId, orgId, wish: { snapshotEveryMs: policy.rpoMs } });
      const every = workspace.snapshot_every_ms;
      if (every === null || Number(every) > policy.rpoMs) {
        await changeWorkspace(tx, instanceId, { snapshotEveryMs: policy.rpoMs });
      }
    }
    await appendAudit(tx, {
      orgId,
      actor,
      action: 'instance.set_failover_policy',
      targetKind: 'instance',
      targetId: instanceId,
      detail: {
        ...policy,
        maxPriceMicroUsdPerHour: policy.maxPriceMicroUsdPerHour?.toString() ?? null,
        budgetMicroUsdPerDay: policy.budgetMicroUsdPerDay?.toString() ?? null,
      },
    });
  }
}

/** The one under way, where there is one. Throws `conflict` with the reason where none may begin. */
export async function orderFailover(
  tx: Tx,
  queue: Queue,
  order: FailoverOrder,
): Promise<{ failover: FailoverRow; operation: OperationRow }> {
  const accepted = await acceptFailover(tx, queue, order);
  if (accepted.kind === 'none' || accepted.kind === 'hold') throw new MusterError('conflict', accepted.reason);
  const failover = (await findFailover(tx, null, accepted.failover.id)) as FailoverRow;
  return { failover, operation: (await findOperation(tx, null, failover.operation_id as string)) as OperationRow };
}
