/**
 * A session: a consumer's time-boxed right to an instance. It is the menu, not the middleman: it opens an instance by the ordinary
 * provision, hands over direct access, and ends it by the ordinary destroy. Its status follows its instance's.
 *
 * States, how each is entered and left:
 *   opening   accepted; its instance is not ready → open | ending
 *   open      usable → opening (its interruptible machine was taken away, another is bought) | ending
 *   ending    its machine is being destroyed and may bill: on request, because its time was over, or because it could not be had or
 *             was lost → done | expired | failed (the provider said not-found)
 *   done      the end, on request
 *   expired   the end, by time
 *   failed    the end; `failureCode` says why
 */
import type { InstanceStatus } from './instance.ts';

export const SESSION_STATUSES = ['opening', 'open', 'ending', 'done', 'expired', 'failed'] as const;
export type SessionStatus = (typeof SESSION_STATUSES)[number];

export const SESSION_NEXT: Record<SessionStatus, readonly SessionStatus[]> = {
  opening: ['open', 'ending'],
  open: ['opening', 'ending'],
  ending: ['done', 'expired', 'failed'],
  done: [],
  expired: [],
  failed: [],
};

export const SESSION_ACTIONS = ['done', 'extend', 'ssh'] as const;
export type SessionAction = (typeof SESSION_ACTIONS)[number];

const ACTION_FROM: Record<SessionAction, readonly SessionStatus[]> = {
  done: ['opening', 'open'],
  extend: ['opening', 'open'],
  ssh: ['open'],
};

/** What may be done to a session in `status`. */
export function allowedSessionActions(status: SessionStatus): SessionAction[] {
  return SESSION_ACTIONS.filter((action) => ACTION_FROM[action].includes(status));
}

/** Whether nothing more can come: its machine is proven gone. */
export function isOver(status: SessionStatus): boolean {
  return SESSION_NEXT[status].length === 0;
}

/** Where a session is whose instance is there. @param failureCode of the instance; null: it was ended on request */
export function sessionStatusOf(instance: InstanceStatus, failureCode: string | null): SessionStatus {
  switch (instance) {
    case 'requested':
    case 'creating':
    case 'booting':
      return 'opening';
    case 'ready':
    case 'hibernating':
    case 'hibernated':
    case 'waking':
      return 'open';
    case 'lost':
    case 'destroying':
      return 'ending';
    case 'destroyed':
      if (failureCode === 'expired') return 'expired';
      return failureCode === null || failureCode === 'canceled' ? 'done' : 'failed';
  }
}

/** The statuses to go through, in order, to where the instance is; empty where it is there, or where there is no way. */
export function followInstance(
  status: SessionStatus,
  instance: InstanceStatus,
  failureCode: string | null,
): SessionStatus[] {
  const target = sessionStatusOf(instance, failureCode);
  if (SESSION_NEXT[status].includes(target)) return [target];
  // An instance that never needed a machine is destroyed at once.
  return SESSION_NEXT[status].includes('ending') && SESSION_NEXT.ending.includes(target) ? ['ending', target] : [];
}

/** Minutes before its end at which a session is warned, once each. */
export const WARNING_MINUTES = [15, 5] as const;

/**
 * The warning that is due, in minutes; null: none. Of two that are due at once only the later counts.
 * @param warned the last one given for the present end; null: none
 */
export function dueWarning(expiresAt: number | null, warned: number | null, now: number): number | null {
  if (expiresAt === null || expiresAt <= now) return null;
  const reached = reachedWarning(expiresAt - now);
  return reached !== null && (warned === null || reached < warned) ? reached : null;
}

/** Warnings whose time was past when the end was set are not given: who asks for ten minutes knows that there are less than fifteen. */
export function reachedWarning(leftMs: number): number | null {
  return WARNING_MINUTES.filter((minutes) => leftMs <= minutes * 60_000).at(-1) ?? null;
}
