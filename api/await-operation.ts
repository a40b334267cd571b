/** Waiting for an operation's end, for requests whose answer it is. */
import { ERROR_CODES, MusterError, type ErrorCode } from '../domain/error-table.ts';
import { isFinished } from '../domain/operation.ts';
import { findOperation, type OperationRow } from '../db/operations.ts';
import type { ApiContext } from './api-deps.ts';

/** Its end is rung for; this is for a ring that was lost. */
const LOOK_AGAIN_MS = 250;

/** The operation when it ended, or as it is when patience is over. */
export async function awaitOperation(deps: ApiContext, operationId: string, patienceMs: number): Promise<OperationRow> {
  const startedAt = performance.now();
  let ring = () => {};
  const stop = deps.hub.subscribe(operationId, () => ring());
  try {
    for (;;) {
      const operation = (await findOperation(deps.database.kysely, null, operationId)) as OperationRow;
      const isOver = performance.now() - startedAt >= patienceMs || deps.hub.isClosed;
      if (isFinished(operation.status) || isOver) return operation;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LOOK_AGAIN_MS);
        ring = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  } finally {
    stop();
  }
}

/** Throws MusterError with what the operation failed of, for a request that waited for it. */
export function throwFailure(operation: OperationRow): void {
  if (operation.status !== 'failed' && operation.status !== 'canceled') return;
  const isKnown = (ERROR_CODES as readonly string[]).includes(operation.error_code ?? '');
  const code = isKnown ? (operation.error_code as ErrorCode) : 'engine_failed';
  throw new MusterError(code, operation.error_detail ?? 'the operation failed', {
    facts: { operationId: operation.id },
  });
}
