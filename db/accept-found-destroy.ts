/**
 * Accepting the destroy of a found machine, whoever asks: reconcile by its policy, or a person. An ordinary operation destroys it by id
 * and label, until the provider says not-found.
 */
import { appendAudit, type Actor } from './audit.ts';
import type { Tx } from './database.ts';
import { changeFinding, lockFinding, type FindingRow } from './findings.ts';
import { acceptOperation, type OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';

/**
 * null: not any more. The finding is in none of the states of `from`, or the machine has a row of its own by now (adopted since it was
 * found): its own destroy is then the way to end it.
 */
export async function acceptFoundDestroy(
  tx: Tx,
  queue: Queue,
  order: {
    findingId: string;
    from: FindingRow['status'][];
    actor: Actor;
    reason: string | null;
    createdBy: string;
  },
): Promise<OperationRow | null> {
  const finding = await lockFinding(tx, order.findingId);
  if (!finding || !order.from.includes(finding.status) || (await isRecorded(tx, finding))) return null;
  const operation = await acceptOperation(tx, queue, {
    orgId: finding.org_id,
    kind: 'destroy_machine',
    targetKind: 'finding',
    targetId: finding.id,
    stackId: null,
    input: { reason: order.reason },
    deterministicKey: `destroy:${finding.id}`,
    createdBy: order.createdBy,
  });
  await changeFinding(tx, finding.id, {
    status: 'resolving',
    from: order.from,
    operationId: operation.id,
    reason: order.reason,
  });
  await appendAudit(tx, {
    orgId: finding.org_id,
    actor: order.actor,
    action: 'finding.destroy',
    targetKind: 'finding',
    targetId: finding.id,
    detail: {
      class: finding.class,
      provider: finding.provider,
      machine: finding.provider_instance_id,
      operation: operation.id,
      ...(order.reason === null ? {} : { reason: order.reason }),
    },
  });
  return operation;
}

async function isRecorded(tx: Tx, finding: FindingRow): Promise<boolean> {
  const row = await tx
    .selectFrom('attempts')
    .select('id')
    .where('provider', '=', finding.provider)
    .where('provider_instance_id', '=', finding.provider_instance_id)
    .where('status', '<>', 'gone')
    .executeTakeFirst();
  return row !== undefined;
}
