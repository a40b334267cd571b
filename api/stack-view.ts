/** What the routes of stacks share: the caller's stack, read or held, and its audit entries. */
import { z } from 'zod';
import { MusterError } from '../domain/error-table.ts';
import { auditRow } from '../db/audit.ts';
import type { Tx } from '../db/database.ts';
import { findStack, lockStack, type StackRow } from '../db/stacks.ts';
import { id } from './contract/values.ts';
import type { Call } from './route.ts';

export const stackParams = z.object({ id: id('stack') });
export type StackCall = Pick<Call<'read', { id: string }>, 'caller' | 'deps' | 'params'>;

/** Throws MusterError `not_found`, also for another org's. */
export async function requireStack({ caller, deps, params }: StackCall): Promise<StackRow> {
  const row = await findStack(deps.database.kysely, caller.orgId, params.id);
  if (!row) throw noStack(params.id);
  return row;
}

export async function holdStack(tx: Tx, { caller, params }: StackCall): Promise<StackRow> {
  const row = await lockStack(tx, params.id);
  if (row?.org_id !== caller.orgId) throw noStack(params.id);
  return row;
}

export function auditStack(
  tx: Tx,
  actor: Call['actor'],
  row: StackRow,
  action: `stack.${string}`,
  more: Record<string, unknown> = {},
): Promise<void> {
  const { title, kind, protect, on_drift: onDrift } = row;
  return auditRow(tx, actor, row, action, { title, kind, protect, onDrift, ...more });
}

function noStack(stackId: string): MusterError {
  return new MusterError('not_found', `there is no stack ${stackId}`);
}
