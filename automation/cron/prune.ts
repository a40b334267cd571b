/** The prune cron: rows that nobody needs any more, and stacks of dry runs, by operations. The audit log is never pruned. */
import { sql } from 'kysely';
import { inTransaction, type Db } from '../../db/database.ts';
import type { Queue } from '../../db/queue.ts';
import { acceptForgetting } from '../../db/stack-dry-runs.ts';
import type { Cron } from './scheduler.ts';

/** Each statement keeps what a person or a retry may still ask for. */
const RETENTION: [name: string, statement: string][] = [
  ['idempotencyKeys', `delete from idempotency_keys where created_at < now() - interval '24 hours'`],
  ['refreshTokens', `delete from refresh_tokens where expires_at < now() - interval '7 days'`],
  ['cronTicks', `delete from cron_ticks where tick_at < now() - interval '2 days'`],
  ['clusterJoins', `delete from cluster_joins where asked_at < now() - interval '1 hour'`],
  ['componentStatus', `delete from component_status where updated_at < now() - interval '1 day'`],
  ['webhookDeliveries', `delete from webhook_deliveries where finished_at < now() - interval '30 days'`],
  ['providerOutcomes', `delete from provider_outcomes where at < now() - interval '1 hour'`],
  ['reservations', `delete from offer_reservations where expires_at < now()`],
  ['rateLimits', `delete from rate_limits where expire is not null and expire < extract(epoch from now()) * 1000`],
  ['priceChanges', `delete from price_changes where at < now() - interval '30 days'`],
  ['priceHours', `delete from price_hours where hour < now() - interval '400 days'`],
  ['stackPlans', `delete from stack_plans where expires_at < now() - interval '30 days'`],
  ['readySamples', `delete from ready_samples where at < now() - interval '90 days'`],
  [
    'statePreviews',
    `delete from state_updates where (is_dry_run or kind = 'preview') and created_at < now() - interval '1 day'`,
  ],
  [
    'stateJournals',
    `delete from state_journal where update_id in
       (select id from state_updates where ended_at < now() - interval '7 days')`,
  ],
  [
    'stateVersions',
    `delete from state_versions v using state_stacks s
     where s.uuid = v.stack_uuid and v.version < s.version - 20 and v.created_at < now() - interval '30 days'`,
  ],
  // Of a stack that is gone its history stays, without what its engines told.
  [
    'stateEvents',
    `delete from state_events where update_id in
       (select u.id from state_updates u where u.ended_at < now() - interval '30 days'
        and not exists (select from state_stacks s where s.uuid = u.stack_uuid))`,
  ],
  ['stateUpdates', `delete from state_updates where ended_at < now() - interval '400 days'`],
  ['pods', `delete from pods where removed_at < now() - interval '30 days'`],
  ['nodeOrders', `delete from node_orders where finished_at < now() - interval '7 days'`],
  [
    'operationEvents',
    `delete from operation_events where operation_id in
       (select id from operations where finished_at < now() - interval '30 days')`,
  ],
];

/** More than a day makes; the rest waits for the next. */
const MAX_DRY_RUNS = 1_000;

export function createPruneCron(db: Db, queue: Queue, everyMs = 24 * 3_600_000): Cron {
  return {
    name: 'prune',
    everyMs,
    async run() {
      const counts: Record<string, number> = {};
      for (const [name, statement] of RETENTION) {
        const result = await sql.raw(statement).execute(db);
        counts[name] = Number(result.numAffectedRows ?? 0n);
      }
      counts['dryRuns'] = await inTransaction(db, (tx) => acceptForgetting(tx, queue, MAX_DRY_RUNS));
      return counts;
    },
  };
}
