/** Previews that a request waits for: what a stack would become and cost, as the answer of the request that asks. */
import { MusterError } from '../domain/error-table.ts';
import { isFinished } from '../domain/operation.ts';
import type { OperationRow } from '../db/operations.ts';
import { findPlanOfOperation } from '../db/stack-plans.ts';
import { agentNotes } from './agent-note.ts';
import type { ApiContext } from './api-deps.ts';
import { awaitOperation, throwFailure } from './await-operation.ts';
import { operationLocation } from './replies/operation-reply.ts';
import { stackPlanReply } from './replies/stack-reply.ts';
import type { Answer } from './route.ts';

/** A preview of ours takes about a second; a cloud that has to be asked takes longer. */
const PREVIEW_PATIENCE_MS = 60_000;

/**
 * The plan, or 202 with what `describeUnderWay` gives where it takes too long. Throws MusterError with what the preview failed of.
 * @param operation of kind preview_stack
 */
export async function answerPlan(
  deps: ApiContext,
  operation: OperationRow,
  stackKind: string,
  describeUnderWay: (operation: OperationRow) => unknown,
): Promise<Answer> {
  const ended = await awaitOperation(deps, operation.id, PREVIEW_PATIENCE_MS);
  if (!isFinished(ended.status))
    return { status: 202, body: describeUnderWay(ended), location: operationLocation(ended) };
  throwFailure(ended);
  const plan = await findPlanOfOperation(deps.database.kysely, ended.id);
  if (!plan) throw new MusterError('not_found', `${ended.id} left no plan`);
  return { status: 200, body: stackPlanReply(plan, ended, agentNotes(deps, stackKind)) };
}
