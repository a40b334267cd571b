/** The deliver-webhooks cron: sends what is due, each object's events in their order, and records what came of it. */
import type { Logger } from 'pino';
import { retryDelayMs } from '../../domain/backoff.ts';
import { judgeTry, signDelivery, webhookKey } from '../../domain/webhook.ts';
import type { Db } from '../../db/database.ts';
import { hasDue, recordTry, takeDue, type DueDelivery } from '../../db/webhook-deliveries.ts';
import { openWebhookSecrets } from '../../db/webhooks.ts';
import type { Envelope } from '../../secrets/envelope.ts';
import { PostError, postDelivery, type Posted } from '../webhooks/post-delivery.ts';
import type { Cron } from './scheduler.ts';

export interface DeliverOptions {
  db: Db;
  envelope: Envelope;
  /** Where webhooks may lead: outside the sandbox to public addresses only. */
  targets: 'public' | 'any';
  now: () => Date;
  log: Logger;
  everyMs?: number;
}

/** At once, of all webhooks together. */
const CONCURRENCY = 16;
const TIMEOUT_MS = 10_000;
/** Rounds of one tick: what is left is the next tick's, which another replica may take. */
const MAX_ROUNDS = 20;

export function createDeliverWebhooksCron(options: DeliverOptions): Cron {
  const { db } = options;
  return {
    name: 'deliver-webhooks',
    everyMs: options.everyMs ?? 5_000,
    hasWork: () => hasDue(db),
    async run(signal) {
      const counts = { sent: 0, succeeded: 0, failed: 0, disabled: 0 };
      for (let round = 0; round < MAX_ROUNDS && !signal.aborted; round++) {
        const due = await takeDue(db, CONCURRENCY);
        if (due.length === 0) break;
        await Promise.all(due.map((delivery) => deliver(options, delivery, signal, counts)));
      }
      return counts;
    },
  };
}

async function deliver(
  options: DeliverOptions,
  delivery: DueDelivery,
  signal: AbortSignal,
  counts: { sent: number; succeeded: number; failed: number; disabled: number },
): Promise<void> {
  const { db, now, log } = options;
  const startedAt = performance.now();
  let answer: Posted | null = null;
  let error: string | null = null;
  try {
    answer = await send(options, delivery, signal);
  } catch (thrown) {
    // One that cannot be sent at all (its secret does not open) must not hold up the others.
    if (!(thrown instanceof PostError))
      log.error({ err: thrown, delivery: delivery.id }, 'a delivery could not be made');
    error = thrown instanceof PostError ? thrown.message : 'it could not be made: an internal error';
  }
  if (error === null && answer && (answer.status < 200 || answer.status >= 300)) {
    const isRedirect = answer.status >= 300 && answer.status < 400;
    error = `answered ${answer.status}${isRedirect ? '; redirects are not followed' : ''}`;
  }
  const verdict = judgeTry(
    { status: answer?.status ?? null, retryAfterMs: answer?.retryAfterMs ?? null },
    delivery.tries,
    delivery.webhook.failing_since?.getTime() ?? null,
    now().getTime(),
  );
  const askedMs = verdict.kind === 'again' ? verdict.askedMs : 0;
  const wasDisabled = await recordTry(db, delivery, {
    responseStatus: answer?.status ?? null,
    responseExcerpt: answer?.excerpt ?? null,
    error,
    durationMs: Math.round(performance.now() - startedAt),
    verdict,
    delayMs: verdict.kind === 'again' ? retryDelayMs('webhook', delivery.tries - 1, Math.random(), askedMs) : 0,
  });
  counts.sent++;
  if (verdict.kind === 'succeeded') counts.succeeded++;
  else counts.failed++;
  if (!wasDisabled) return;
  counts.disabled++;
  log.warn({ webhook: delivery.webhook_id, error }, 'a webhook was disabled: its receiver takes nothing');
}

function send({ envelope, targets, now }: DeliverOptions, delivery: DueDelivery, signal: AbortSignal): Promise<Posted> {
  const sentAt = now();
  const seconds = Math.floor(sentAt.getTime() / 1000);
  const body = bodyOf(delivery);
  const keys = openWebhookSecrets(envelope, delivery.webhook, sentAt).map(webhookKey);
  return postDelivery(delivery.webhook.url, {
    targets,
    timeoutMs: TIMEOUT_MS,
    signal,
    body,
    headers: {
      'content-type': 'application/json',
      'user-agent': 'Muster-Webhooks',
      'webhook-id': delivery.id,
      'webhook-timestamp': String(seconds),
      'webhook-signature': signDelivery(keys, delivery.id, seconds, body),
    },
  });
}

/** The same for every try, so that a receiver may compare. */
function bodyOf(delivery: DueDelivery): string {
  return JSON.stringify({
    id: delivery.id,
    type: delivery.type,
    timestamp: delivery.happened_at.toISOString(),
    sequence: Number(delivery.seq),
    orgId: delivery.org_id,
    object: { kind: delivery.object_kind, id: delivery.object_id },
    data: delivery.data,
  });
}
