/** What the parts of a failover's operation share: how a phase is entered, under the claim, and how a step waits. */
import type { FailoverPhase } from '../../domain/failover.ts';
import { retryWhileAway, type Tx } from '../../db/database.ts';
import { measureFailoverCost, movePhase, type FailoverChange, type FailoverRow } from '../../db/failovers.ts';
import type { InstanceRow } from '../../db/instances.ts';
import { appendEvents, withClaim } from '../../db/operations.ts';
import type { StepContext, StepResult } from './step.ts';

const APPLY_PATIENCE_MS = 10_000;

/** As read at the beginning of a step; whoever changes something locks instance, then failover, and looks again. */
export interface Episode {
  failover: FailoverRow;
  instance: InstanceRow;
}

/** With the dollars spent by then, and told as an event. Returns whether the phase could be entered. */
export async function enter(
  context: StepContext,
  tx: Tx,
  failover: FailoverRow,
  phase: FailoverPhase,
  change: FailoverChange = {},
): Promise<boolean> {
  const costMicroUsd = await measureFailoverCost(tx, failover);
  if (!(await movePhase(tx, failover.id, phase, { ...change, costMicroUsd }))) return false;
  const { instance_id: instanceId, id: failoverId } = failover;
  await appendEvents(tx, context.operation.id, [
    { type: 'failover', data: { instanceId, failoverId, phase, costMicroUsd: Number(costMicroUsd) } },
  ]);
  return true;
}

export function applyTo<T>(context: StepContext, work: Parameters<typeof withClaim<T>>[2]): Promise<T> {
  return retryWhileAway(() => withClaim(context.db, context.claim, work), APPLY_PATIENCE_MS);
}

export function wait(context: StepContext, afterMs: number, note: string): StepResult {
  return { kind: 'wait', until: new Date(context.now().getTime() + afterMs), note };
}
