/**
 * Reaping: ending a rented machine that switched itself off, because a machine that is off still bills at some vendors. Two sources must
 * agree: its agent (it said so, or was silent for longer than its dead man's time, after which it switches off) and its provider (it lists
 * the machine as not running). A machine that runs is never reaped, however silent: that is domain/failure.ts's.
 */
import type { ObservedStatus } from './observed-instance.ts';

export interface SilentMachine {
  /** Its last heartbeat. */
  heardAt: number;
  /** When its agent said that it switches the machine off, and was not heard of since; null: it did not. */
  poweringOffAt: number | null;
  /** null: agents switch nothing off. */
  deadManMs: number | null;
  /** As a listing says that is believed; null: it is not listed, or there is none. */
  observed: ObservedStatus | null;
  /** Its vendor took it away: that is met by the request's policy. */
  isInterrupted: boolean;
  now: number;
}

/** Why it is to be destroyed, for people; null: it is not. */
export function judgeReaping(machine: SilentMachine): string | null {
  const { observed, poweringOffAt, deadManMs } = machine;
  if (machine.isInterrupted || (observed !== 'stopped' && observed !== 'failed')) return null;
  const silentMs = machine.now - machine.heardAt;
  const said = poweringOffAt !== null;
  if (!said && (deadManMs === null || silentMs < deadManMs)) return null;
  const what = said
    ? 'its agent said that it switches the machine off'
    : `its agent was silent for ${minutes(silentMs)}`;
  return `${what}, and the provider lists the machine as ${observed}`;
}

function minutes(ms: number): string {
  const whole = Math.floor(ms / 60_000);
  return whole < 1 ? `${Math.round(ms / 1_000)} s` : `${whole} min`;
}
