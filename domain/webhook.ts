/**
 * Webhooks: what we tell others' servers by ourselves. A webhook is an address with a secret that wants some events; a delivery is one
 * event on its way to it. Deliveries of one object are in order: a later one waits until the earlier has ended.
 *
 * States of a delivery, how each is entered and left:
 *   pending     the change that it tells of is committed → succeeded (answered 2xx) | failed (all tries used) | canceled
 *   succeeded   → pending (asked for again)
 *   failed      given up → pending (asked for again)
 *   canceled    its webhook was disabled → pending (asked for again)
 */
import { createHmac } from 'node:crypto';
import { CLUSTER_STATUSES } from './clusters/cluster.ts';
import { FAILOVER_PHASES } from './failover.ts';
import { FAILURE_VERDICTS } from './failure.ts';
import { FINDING_STATUSES } from './finding.ts';
import { INSTANCE_STATUSES } from './instance.ts';
import { OPERATION_STATUSES } from './operation.ts';
import { DRILL_STATUSES } from './drill.ts';
import { POD_STATUSES } from './pods/pod.ts';
import { SESSION_STATUSES } from './session.ts';
import { SNAPSHOT_STATUSES } from './snapshots/snapshot.ts';
import { STANDBY_STATUSES } from './standby.ts';

export const DELIVERY_STATUSES = ['pending', 'succeeded', 'failed', 'canceled'] as const;
export type DeliveryStatus = (typeof DELIVERY_STATUSES)[number];

/** `<kind of object>.<status it has now>`, made by the rows' triggers (migrations/0006-webhooks.ts), and a session's warnings. */
export const WEBHOOK_EVENTS = [
  ...INSTANCE_STATUSES.map((status) => `instance.${status}` as const),
  ...OPERATION_STATUSES.map((status) => `operation.${status}` as const),
  ...FINDING_STATUSES.map((status) => `finding.${status}` as const),
  ...SESSION_STATUSES.map((status) => `session.${status}` as const),
  'session.expiring',
  ...CLUSTER_STATUSES.map((status) => `cluster.${status}` as const),
  ...POD_STATUSES.map((status) => `pod.${status}` as const),
  ...SNAPSHOT_STATUSES.map((status) => `snapshot.${status}` as const),
  'snapshot.behind',
  ...STANDBY_STATUSES.map((status) => `standby.${status}` as const),
  'standby.behind',
  'standby.caught_up',
  ...DRILL_STATUSES.map((status) => `drill.${status}` as const),
  ...FAILOVER_PHASES.map((phase) => `failover.${phase}` as const),
  ...FAILURE_VERDICTS.map((verdict) => `node.${verdict}` as const),
  'endpoint.changed',
] as const;

/** What a webhook may want: one event, or all of a kind of object, or all. */
export const WEBHOOK_FILTERS = [
  '*',
  'instance.*',
  'session.*',
  'operation.*',
  'finding.*',
  'cluster.*',
  'pod.*',
  'snapshot.*',
  'standby.*',
  'drill.*',
  'failover.*',
  'node.*',
  ...WEBHOOK_EVENTS,
] as const;
export type WebhookFilter = (typeof WEBHOOK_FILTERS)[number];

/** Sent on request only, whatever the webhook wants. */
export const TEST_EVENT = 'webhook.test';

/** Tries before a delivery is given up: with the backoff of `webhook` most of a day. */
export const MAX_TRIES = 16;
/** An address that has taken nothing for so long is not asked again until a person says so. */
export const MAX_FAILING_MS = 3 * 86_400_000;
/** A receiver that asks for time gets no more. */
export const MAX_ASKED_MS = 3_600_000;

export interface TryOutcome {
  /** null: no answer. */
  status: number | null;
  /** What the receiver asked for by Retry-After. */
  retryAfterMs: number | null;
}

export type Verdict =
  | { kind: 'succeeded' }
  | { kind: 'again'; askedMs: number }
  | { kind: 'failed' }
  /** The webhook itself is over: its remaining deliveries are canceled. */
  | { kind: 'disable'; reason: string };

/**
 * What follows a try.
 * @param tries with this one
 * @param failingSince of the webhook, this try not counted; null: the last one succeeded
 */
export function judgeTry(outcome: TryOutcome, tries: number, failingSince: number | null, now: number): Verdict {
  const { status } = outcome;
  if (status !== null && status >= 200 && status < 300) return { kind: 'succeeded' };
  if (status === 410) return { kind: 'disable', reason: 'the receiver answered 410: it is gone' };
  if (failingSince !== null && now - failingSince >= MAX_FAILING_MS) {
    const days = Math.floor((now - failingSince) / 86_400_000);
    return { kind: 'disable', reason: `it has taken no delivery for ${days} days` };
  }
  if (tries >= MAX_TRIES) return { kind: 'failed' };
  return { kind: 'again', askedMs: Math.min(MAX_ASKED_MS, outcome.retryAfterMs ?? 0) };
}

/**
 * The signature header, in the form of the Standard Webhooks specification: an HMAC-SHA256 of id, time and body for each secret, so
 * that a receiver knows who sent it, that nothing was changed, and can refuse what is old or was seen.
 * @param secrets keys as bytes; two while a new one takes over
 * @param sentAt in seconds
 */
export function signDelivery(secrets: readonly Uint8Array[], deliveryId: string, sentAt: number, body: string): string {
  const signed = `${deliveryId}.${sentAt}.${body}`;
  return secrets.map((secret) => `v1,${createHmac('sha256', secret).update(signed).digest('base64')}`).join(' ');
}

const SECRET_PREFIX = 'whsec_';

/** A secret as it is shown. */
export function formatWebhookSecret(bytes: Uint8Array): string {
  return `${SECRET_PREFIX}${Buffer.from(bytes).toString('base64')}`;
}

/** The key behind a secret as shown. */
export function webhookKey(secret: string): Uint8Array {
  return Buffer.from(secret.slice(SECRET_PREFIX.length), 'base64');
}
