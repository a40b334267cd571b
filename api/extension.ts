/** Moving an end: what instances and sessions have in common. */
import { MusterError } from '../domain/error-table.ts';

/** The present end. Throws MusterError `conflict` for what has none, or is in no state to have it moved. */
export function endToMove(
  row: { id: string; status: string; expires_at: Date | null },
  allowedActions: readonly string[],
): Date {
  if (allowedActions.includes('extend') && row.expires_at !== null) return row.expires_at;
  const state = row.expires_at === null ? 'without an end' : row.status;
  throw new MusterError('conflict', `${row.id} is ${state}: it cannot be extended`, { facts: { state: row.status } });
}
