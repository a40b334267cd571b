/**
 * Holding a request to its plan: a request that presents a `planHash` is refused before anything is accepted when the quotes of
 * that plan no longer hold; otherwise it buys within their prices. The rule is domain/provisioning/quotes.ts's.
 */
import { MusterError } from '../domain/error-table.ts';
import { formatUsd } from '../domain/money.ts';
import { specOf, type ProvisionRequest } from '../domain/provision-request.ts';
import { pricesNow } from '../domain/provisioning/preview.ts';
import { compareQuotes, quotedCeiling, type QuoteDifference } from '../domain/provisioning/quotes.ts';
import type { Executor } from '../db/database.ts';
import { readMarket } from '../db/market.ts';
import { findPlan } from '../db/plans.ts';
import { findWarm } from '../db/warm-instances.ts';
import type { OrderParts } from './provision-order.ts';
import { micro } from './reply-values.ts';

/**
 * The request as it is accepted: with the plan's price ceiling, and its choice among equally good offers. Throws MusterError
 * `plan_changed` with `differences`, or `conflict` where the plan is another request's.
 */
export async function holdToPlan(
  executor: Executor,
  order: Pick<OrderParts, 'request' | 'names' | 'requestHash'>,
  plan: { orgId: string; planHash: string; tolerancePercent: number },
): Promise<ProvisionRequest> {
  const { request, requestHash } = order;
  const found = await findPlan(executor, plan.orgId, plan.planHash);
  if (!found) throw planChanged('no such plan is known: its quotes expired long ago, or it is not from here', []);
  if (found.requestHash !== requestHash) {
    throw new MusterError('conflict', 'the request is not the one that planHash was given for: ask for a new plan', {
      errors: [{ path: 'planHash', message: 'belongs to another request' }],
    });
  }
  const { quotes, seed, expiresAt, now } = found;
  const market = await readMarket(executor, request);
  const prices = pricesNow({ spec: specOf(request), ...market, seed, now: now.getTime() });
  const { tolerancePercent } = plan;
  const differences = compareQuotes(quotes, prices, {
    tolerancePercent,
    expiresAt: expiresAt.getTime(),
    now: now.getTime(),
  });
  const refusing = differences.filter((one) => one.isRefusing);
  if (refusing.length > 0) throw planChanged(explain(refusing), differences);
  const quoted = quotedCeiling(quotes, tolerancePercent, BigInt(request.maxPriceMicroUsdPerHour));
  // The plan showed what is warm beside its quotes; what is warm may be dearer than what is offered now.
  const warm =
    request.strategy === 'serverless' ? await findWarm(executor, plan.orgId, request, order.names.length) : [];
  const ceiling =
    quoted === null
      ? null
      : warm.reduce((most, { priceMicroUsdPerHour: price }) => (price > most ? price : most), quoted);
  return {
    ...request,
    planSeed: seed,
    ...(ceiling === null ? {} : { maxPriceMicroUsdPerHour: Number(ceiling) }),
  };
}

function planChanged(detail: string, differences: QuoteDifference[]): MusterError {
  return new MusterError('plan_changed', `${detail}: ask for a new plan`, {
    errors: [{ path: 'planHash', message: detail }],
    facts: { differences: differences.map(differenceReply) },
  });
}

function explain(refusing: QuoteDifference[]): string {
  const [first] = refusing;
  if (first?.kind === 'expired') return 'the quotes have expired';
  return refusing
    .slice(0, 3)
    .map(({ quote, nowMicroUsdPerHour: now }) => {
      const quoted = `offer ${quote.providerOfferId} of ${quote.provider}, quoted at $${formatUsd(quote.priceMicroUsdPerHour)}`;
      return now === null ? `${quoted}, cannot be bought any more` : `${quoted}, costs $${formatUsd(now)} now`;
    })
    .join('; ');
}

function differenceReply(difference: QuoteDifference): Record<string, unknown> {
  const { quote, kind, nowMicroUsdPerHour: now, movedPercent, isRefusing } = difference;
  return {
    quoteId: quote.id,
    provider: quote.provider,
    providerOfferId: quote.providerOfferId,
    kind,
    isRefusing,
    quotedMicroUsdPerHour: micro(quote.priceMicroUsdPerHour),
    nowMicroUsdPerHour: now === null ? null : micro(now),
    movedPercent,
  };
}
