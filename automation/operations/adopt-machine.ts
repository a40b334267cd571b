/**
 * Adopting: an orphan that a person wants to keep. Its rows were committed with the request; here it waits until the readiness
 * watcher has seen what every rented machine must show (running, SSH, the GPUs). One that does not come up is destroyed like any
 * other; nothing is bought in its place.
 */
import { finishOperation, findOperation, withClaim } from '../../db/operations.ts';
import { findProvider } from '../../db/providers.ts';
import type { ErrorCode } from '../../domain/error-table.ts';
import { loadStack } from './run-update.ts';
import type { StepContext, StepResult } from './step.ts';

const UNBELIEVED_WAIT_MS = 30_000;

/** Kind `adopt_machine`, target `instance`: one instance with one attempt, `bought` from the start. */
export async function adoptMachine(context: StepContext): Promise<StepResult> {
  const row = await findOperation(context.db, null, context.operation.id);
  if (row?.cancel_requested_at != null) return endCanceled(context, row.cancel_reason ?? 'canceled');
  if (context.cancel.aborted) return { kind: 'release' };
  const { instances, attempts } = await loadStack(context, context.operation.stack_id as string);
  const [attempt] = attempts;
  if (instances.length === 0 || !attempt) throw new Error(`${context.operation.id} has no instance to adopt`);
  if (attempt.status === 'ready') return { kind: 'done', note: 'adopted: it answers SSH and shows its GPUs' };
  if (attempt.status !== 'bought' || attempt.failure_code !== null) {
    const code = (attempt.failure_code ?? 'lost') as ErrorCode;
    return { kind: 'fail', error: { code, detail: attempt.failure_detail ?? `its machine is ${attempt.status}` } };
  }
  const deadline = attempt.boot_deadline ?? context.now();
  if (context.now() < deadline) return { kind: 'wait', until: deadline, note: 'waiting for SSH and the GPU check' };
  if ((await findProvider(context.db, attempt.provider))?.instances_problem !== null) {
    const until = new Date(context.now().getTime() + UNBELIEVED_WAIT_MS);
    return { kind: 'wait', until, note: `${attempt.provider}'s listing is not believed` };
  }
  return { kind: 'fail', error: { code: 'boot_timeout', detail: 'it did not answer SSH with its GPUs in time' } };
}

/** Whoever canceled it began to destroy the instance in the same transaction. */
async function endCanceled(context: StepContext, reason: string): Promise<StepResult> {
  await withClaim(context.db, context.claim, (tx) =>
    finishOperation(tx, context.queue, context.operation.id, 'canceled', {
      error: { code: 'canceled', detail: reason },
    }),
  );
  return { kind: 'recorded' };
}
