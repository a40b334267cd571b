/**
 * Kind `forget_dry_run`, target `stack`: the stack of a dry run whose plan nobody can carry out any more, with what the engine keeps of it. It
 * never made anything, so nothing is destroyed. Its operations stay, as history.
 */
import { retryWhileAway } from '../../db/database.ts';
import { finishOperation, withClaim } from '../../db/operations.ts';
import { deleteDryRun, isForgettable } from '../../db/stack-dry-runs.ts';
import { findStack } from '../../db/stacks.ts';
import { LEASE_MS } from '../../domain/operation.ts';
import type { StepContext, StepResult } from './step.ts';

export async function forgetDryRun(context: StepContext): Promise<StepResult> {
  const { db, operation } = context;
  const stack = await findStack(db, null, operation.target_id);
  // It was carried out, or forgotten by a step that died before it could say so.
  if (!stack || !(await isForgettable(db, stack.id))) return { kind: 'done', note: 'there is nothing to forget' };
  await context.runner.remove(stack.name);
  await retryWhileAway(
    () =>
      withClaim(db, context.claim, async (tx) => {
        await finishOperation(tx, context.queue, operation.id, 'succeeded', { note: 'forgotten' });
        await deleteDryRun(tx, stack.id);
      }),
    LEASE_MS,
  );
  return { kind: 'recorded' };
}
