/**
 * Giving up one rented machine while its instance goes on, whoever does: it lost a race, failed, was late, was taken away. An ordinary
 * operation destroys it until the provider says not-found.
 */
import { markDestroying, type AttemptRow } from './attempts.ts';
import type { Tx } from './database.ts';
import { acceptOperation } from './operations.ts';
import type { Queue } from './queue.ts';

/** Idempotent. `by`: who gives it up, an operation's id or a cron's name. */
export async function acceptAttemptDestroy(
  tx: Tx,
  queue: Queue,
  attempt: Pick<AttemptRow, 'id' | 'org_id' | 'stack_id'>,
  { failure, by }: { failure: { code: string; detail: string }; by: string },
): Promise<void> {
  await markDestroying(tx, [attempt.id], failure);
  await acceptOperation(tx, queue, {
    orgId: attempt.org_id,
    kind: 'destroy_machine',
    targetKind: 'attempt',
    targetId: attempt.id,
    stackId: attempt.stack_id,
    input: { reason: failure.detail },
    deterministicKey: `destroy:${attempt.id}`,
    createdBy: by,
  });
}
