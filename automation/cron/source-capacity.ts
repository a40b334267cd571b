/**
 * The source-capacity cron: for each enabled rule what could be bought, and, where sourcing may provision, what is missing of its target.
 * It decides nothing (domain/sourcing.ts does) and buys nothing itself: it accepts ordinary provisions.
 */
import type { Logger } from 'pino';
import { MusterError } from '../../domain/error-table.ts';
import { specOf } from '../../domain/provision-request.ts';
import { previewPlan, type PreviewCandidate } from '../../domain/provisioning/preview.ts';
import { decideSourcing, type RuleView, type SourcingDecision, type SourcingMode } from '../../domain/sourcing.ts';
import { acceptSourced, sourcedRequest, type SourcingBounds } from '../../db/accept-sourced.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import { readMarket } from '../../db/market.ts';
import type { Queue } from '../../db/queue.ts';
import {
  countLiveSourced,
  listSourced,
  listSourcingRules,
  recordSearch,
  type SourcingRuleRow,
} from '../../db/sourcing-rules.ts';
import type { Cron, TickCounts } from './scheduler.ts';

const EVERY_MS = 300_000;
/** Rules looked at in one tick; a deployment has a handful. */
const MAX_RULES = 500;
const SHOWN_CANDIDATES = 10;

export interface SourcingOptions extends SourcingBounds {
  mode: SourcingMode;
  db: Db;
  queue: Queue;
  now: () => Date;
  log: Logger;
}

interface Search {
  rule: SourcingRuleRow;
  view: RuleView;
  candidates: PreviewCandidate[];
  fitting: number;
}

export function createSourceCapacityCron(options: SourcingOptions): Cron {
  const { db, mode } = options;
  return {
    name: 'source-capacity',
    everyMs: EVERY_MS,
    hasWork: async () => mode !== 'off' && (await listSourcingRules(db, { onlyEnabled: true, limit: 1 })).length > 0,
    async run(signal) {
      const counts: TickCounts = { rules: 0, candidates: 0, bought: 0, refused: 0 };
      if (mode === 'off') return counts;
      const searches = await searchAll(options);
      const decisions = decideSourcing({
        mode,
        maxInstances: options.maxInstances,
        liveSourced: await countLiveSourced(db),
        rules: searches.map(({ view }) => view),
        now: options.now().getTime(),
      });
      for (const [index, search] of searches.entries()) {
        if (signal.aborted) break;
        const { bought, refused } = await carryOut(options, search, decisions[index] as SourcingDecision);
        counts['rules'] = Number(counts['rules']) + 1;
        counts['candidates'] = Number(counts['candidates']) + search.fitting;
        counts['bought'] = Number(counts['bought']) + bought;
        counts['refused'] = Number(counts['refused']) + Number(refused !== null);
      }
      return counts;
    },
  };
}

async function searchAll(options: SourcingOptions): Promise<Search[]> {
  const { db } = options;
  const rules = await listSourcingRules(db, { onlyEnabled: true, limit: MAX_RULES });
  const sourced = await listSourced(
    db,
    rules.map((rule) => rule.id),
  );
  const searches: Search[] = [];
  for (const rule of rules) {
    const request = sourcedRequest(rule, options);
    const market = await readMarket(db, request);
    const preview = previewPlan({
      spec: specOf(request),
      count: rule.target,
      ...market,
      seed: rule.id,
      limit: Math.max(SHOWN_CANDIDATES, rule.target),
      now: options.now().getTime(),
    });
    // Nothing is bought on the word of a market that is not believed; the provision itself would only wait.
    const candidates = market.offersBelievable ? preview.candidates : [];
    searches.push({
      rule,
      candidates,
      fitting: market.offersBelievable ? preview.fittingOffers : 0,
      view: {
        id: rule.id,
        target: rule.target,
        maxPriceMicroUsdPerHour: rule.max_price_micro_usd_per_hour,
        instances: sourced.get(rule.id) ?? [],
        candidates: candidates.map((candidate) => candidate.priceMicroUsdPerHour),
        shortage: market.offersBelievable ? preview.shortage : 'no listing of offers is believed now',
      },
    });
  }
  return searches;
}

/** Each purchase in a transaction of its own: what one is refused, those before it keep. */
async function carryOut(
  options: SourcingOptions,
  search: Search,
  decision: SourcingDecision,
): Promise<{ bought: number; refused: string | null }> {
  const { db, queue } = options;
  let bought = 0;
  let refused: string | null = null;
  while (bought < decision.buy && refused === null) {
    try {
      await inTransaction(db, (tx) => acceptSourced(tx, queue, search.rule.id, options));
      bought += 1;
    } catch (error) {
      if (!(error instanceof MusterError)) throw error;
      refused = error.detail;
      options.log.warn({ rule: search.rule.id, code: error.code }, `a sourced instance was refused: ${error.detail}`);
    }
  }
  await recordSearch(db, search.rule.id, {
    outcome: refused === null ? decision.outcome : 'refused',
    reason: refused ?? decision.reason,
    retryAt: decision.until === null ? null : new Date(decision.until),
    candidates: search.candidates.slice(0, SHOWN_CANDIDATES).map(shownCandidate),
    fitting: search.fitting,
    at: options.now(),
  });
  return { bought, refused };
}

/** As it is kept with the rule, and shown (api/contract/sourcing.ts). */
function shownCandidate({ offer, outlook, ...price }: PreviewCandidate) {
  return {
    provider: offer.provider,
    providerOfferId: offer.providerOfferId,
    machineId: offer.machineId,
    gpu: offer.gpu,
    gpuCount: offer.gpuCount,
    region: offer.region,
    reliability: offer.reliability,
    priceMicroUsdPerHour: Number(price.priceMicroUsdPerHour),
    chanceOfSuccess: outlook.chance,
    p50ReadyMs: outlook.p50ReadyMs,
  };
}
