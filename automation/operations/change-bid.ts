/**
 * Changing a bid: the row says what is to be bid, the engine tells the vendor (the machine's resource differs in its bid alone). Whether
 * the machine comes back is not waited for: check-interruptible sees it.
 */
import { isWanted } from '../../domain/attempt.ts';
import { loadStack, runStackUpdate } from './run-update.ts';
import type { StepContext, StepResult } from './step.ts';

const ENGINE_WAIT_MS = 2_000;
/** check-interruptible has decided anew by then. */
const MAX_TROUBLE_MS = 5 * 60_000;

/** Kind `change_bid`, target `attempt`. */
export async function changeBid(context: StepContext): Promise<StepResult> {
  const view = await loadStack(context, context.operation.stack_id as string);
  const attempt = view.attempts.find((one) => one.id === context.operation.target_id);
  if (!attempt || !isWanted(attempt.status)) return { kind: 'done', note: 'the machine is being given up' };
  if (!context.engineReady()) {
    return {
      kind: 'wait',
      until: new Date(context.now().getTime() + ENGINE_WAIT_MS),
      note: 'waiting for the engine',
    };
  }
  // What is being destroyed stays in the program: destroying is its own operation's work.
  const held = new Set((await context.runner.readState(view.stackName))?.resources.map((resource) => resource.name));
  if (!held.has(attempt.id)) return { kind: 'done', note: 'the machine is gone' };
  const outcome = await runStackUpdate(
    context,
    view,
    view.attempts.filter((one) => held.has(one.id)),
  );
  if (context.kill.aborted || context.cancel.aborted) return { kind: 'release' };
  const failure = outcome.failures[attempt.id];
  if (outcome.isOk || (failure === undefined && outcome.error === null))
    return { kind: 'done', note: 'the bid is raised' };
  const detail = failure?.reason ?? outcome.error?.detail ?? 'the bid could not be raised';
  const startedAt = context.operation.started_at ?? context.now();
  if (context.now().getTime() - startedAt.getTime() > MAX_TROUBLE_MS || failure?.errorKind === 'invalid') {
    return { kind: 'fail', error: { code: 'provider_unavailable', detail } };
  }
  return { kind: 'retry', afterMs: 0, note: detail };
}
