/** Accepting the repair of a stack's drift, whoever asks: the stack by its policy, or a person. An ordinary up undoes it, after a refresh. */
import { acceptStackOperation, findStackUpdate, refuseBesideUpdate } from './accept-stack.ts';
import { appendAudit, type Actor } from './audit.ts';
import type { Tx } from './database.ts';
import { changeFinding, type FindingRow } from './findings.ts';
import type { OperationRow } from './operations.ts';
import type { Queue } from './queue.ts';
import type { StackRow } from './stacks.ts';

export interface DriftRepair {
  /** Open or ignored, of class drift, and of this stack. */
  finding: FindingRow;
  stack: StackRow;
  actor: Actor;
  reason: string | null;
  /** The operation in whose step this is accepted: what a person has asked for meanwhile goes first, and undefined is returned. */
  follows?: string;
}

/** Throws MusterError `conflict` while another update of the stack is under way, and for a stack that is gone. */
export async function acceptDriftRepair(
  tx: Tx,
  queue: Queue,
  { finding, stack, actor, reason, follows }: DriftRepair,
): Promise<OperationRow | undefined> {
  if (follows !== undefined && (await findStackUpdate(tx, stack.id))) return undefined;
  await refuseBesideUpdate(tx, stack);
  const operation = await acceptStackOperation(tx, queue, {
    stack,
    kind: 'up_stack',
    actor,
    refreshFirst: true,
    ...(follows === undefined ? {} : { follows }),
  });
  await changeFinding(tx, finding.id, {
    status: 'resolving',
    from: ['open', 'ignored'],
    operationId: operation.id,
    reason,
  });
  await appendAudit(tx, {
    orgId: finding.org_id,
    actor,
    action: 'finding.repair',
    targetKind: 'finding',
    targetId: finding.id,
    detail: { class: finding.class, stack: stack.id, operation: operation.id, ...(reason === null ? {} : { reason }) },
  });
  return operation;
}
