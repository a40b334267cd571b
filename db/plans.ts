/** Plans: the quotes that were shown for a request, kept until a while after they expired. */
import { sql, type Selectable } from 'kysely';
import { QUOTE_VALID_MS, type Quote } from '../domain/provisioning/quotes.ts';
import type { Executor } from './database.ts';
import type { Schema } from './schema.ts';

type PlanRow = Selectable<Schema['plans']>;

export interface Plan {
  planHash: string;
  requestHash: string;
  seed: string;
  quotes: Quote[];
  expiresAt: Date;
  /** The database's clock, by which it expires. */
  now: Date;
}

/** How long an expired plan is still known, so that its refusal can say what became of each quote. */
const KEPT_AFTER_EXPIRY_MS = 60 * 60_000;

/** Keeps a plan and forgets the org's old ones. @returns when its quotes expire. */
export async function savePlan(
  executor: Executor,
  plan: { planHash: string; orgId: string; requestHash: string; seed: string; quotes: Quote[]; createdBy: string },
): Promise<Date> {
  await executor
    .deleteFrom('plans')
    .where('org_id', '=', plan.orgId)
    .where('expires_at', '<', sql<Date>`now() - ${KEPT_AFTER_EXPIRY_MS} * interval '1 millisecond'`)
    .execute();
  const row = await executor
    .insertInto('plans')
    .values({
      plan_hash: plan.planHash,
      org_id: plan.orgId,
      request_hash: plan.requestHash,
      seed: plan.seed,
      quotes: JSON.stringify(
        plan.quotes.map((quote) => ({ ...quote, priceMicroUsdPerHour: Number(quote.priceMicroUsdPerHour) })),
      ),
      created_by: plan.createdBy,
      expires_at: sql<string>`now() + ${QUOTE_VALID_MS} * interval '1 millisecond'`,
    })
    .returning('expires_at')
    .executeTakeFirstOrThrow();
  return row.expires_at;
}

/** @returns undefined for one that is not known (any more), or another org's. */
export async function findPlan(executor: Executor, orgId: string, planHash: string): Promise<Plan | undefined> {
  const row = await executor
    .selectFrom('plans')
    .selectAll()
    .select(sql<Date>`now()`.as('now'))
    .where('plan_hash', '=', planHash)
    .where('org_id', '=', orgId)
    .executeTakeFirst();
  return row && { ...planFromRow(row), now: row.now };
}

function planFromRow(row: PlanRow): Omit<Plan, 'now'> {
  const quotes = row.quotes as (Omit<Quote, 'priceMicroUsdPerHour'> & { priceMicroUsdPerHour: number })[];
  return {
    planHash: row.plan_hash,
    requestHash: row.request_hash,
    seed: row.seed,
    quotes: quotes.map((quote) => ({ ...quote, priceMicroUsdPerHour: BigInt(quote.priceMicroUsdPerHour) })),
    expiresAt: row.expires_at,
  };
}
