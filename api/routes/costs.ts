/** Routes of costs: what the org's machines cost, grouped, and a month at a glance. */
import { z } from 'zod';
import { accrue } from '../../domain/money.ts';
import type { CostGroup } from '../../domain/usage.ts';
import { listCosts, readBurn, sumCosts, type Cost, type CostFilter } from '../../db/costs.ts';
import type { Db } from '../../db/database.ts';
import { listSleeps } from '../../db/hibernations.ts';
import { listWorkspaces } from '../../db/workspaces.ts';
import { costListQuery, costPage, costSummary, costSummaryQuery, type CostSummary } from '../contract/costs.ts';
import type { HibernationSavings } from '../contract/hibernation.ts';
import { MAX_PAGE } from '../contract/values.ts';
import { cutPage, readCursor } from '../cursor.ts';
import { sumSleeps } from '../replies/hibernation-reply.ts';
import { iso, micro } from '../reply-values.ts';
import { route, type Route } from '../route.ts';

const AREA = 'money';
/** Lines of one grouping in a summary. */
const MAX_LINES = 100;

export const costRoutes: Route[] = [
  route({
    method: 'get',
    path: '/costs',
    access: 'read_money',
    area: AREA,
    summary: 'What machines cost, grouped',
    description:
      'By default by instance, of all time. Every grouping adds up to the same total. A machine costs from its purchase until the provider says not-found.',
    query: costListQuery,
    replies: { 200: costPage },
    handle: async ({ query, caller, deps }) => {
      const { groupBy, limit, cursor, from, to, ...filter } = query;
      const after = readCursor(z.tuple([z.enum([groupBy]), z.string().max(200)]), cursor)?.[1];
      const db = deps.database.kysely;
      const asOf = new Date();
      const costs = { orgId: caller.orgId, ...filter, from: dateOrNull(from), to: dateOrNull(to), asOf };
      const lines = await listCosts(db, costs, groupBy, {
        limit: limit + 1,
        ...(after === undefined ? {} : { after }),
      });
      const total = await sumCosts(db, costs);
      const page = cutPage(
        lines,
        limit,
        (line) => [groupBy, line.key ?? ''],
        (line) => ({ key: line.key, name: line.name, ...costReply(line) }),
      );
      return { status: 200, body: { ...page, groupBy, total: costReply(total), asOf: iso(asOf) } };
    },
  }),
  route({
    method: 'get',
    path: '/costs/summary',
    access: 'read_money',
    area: AREA,
    summary: 'A month at a glance',
    query: costSummaryQuery,
    replies: { 200: costSummary },
    handle: async ({ query, caller, deps }) => {
      const asOf = new Date();
      const month = query.month ?? iso(asOf).slice(0, 7);
      return { status: 200, body: await summarize(deps.database.kysely, caller.orgId, month, asOf) };
    },
  }),
];

async function summarize(db: Db, orgId: string, month: string, asOf: Date): Promise<CostSummary> {
  const from = new Date(`${month}-01T00:00:00.000Z`);
  const to = new Date(Date.UTC(from.getUTCFullYear(), from.getUTCMonth() + 1, 1));
  const filter: CostFilter = { orgId, from, to, asOf };
  const total = await sumCosts(db, filter);
  const burn = (await readBurn(db, orgId, asOf)).reduce((sum, one) => sum + one.burnMicroUsdPerHour, 0n);
  const leftMs = Math.max(0, to.getTime() - Math.max(asOf.getTime(), from.getTime()));
  return {
    month,
    from: iso(from),
    to: iso(to),
    ...costReply(total),
    burnMicroUsdPerHour: micro(burn),
    forecastMicroUsd: micro(total.costMicroUsd + accrue(burn, leftMs)),
    hibernation: await summarizeSleeps(db, { orgId, from, to }, asOf),
    byConsumer: await linesBy(db, filter, 'consumer'),
    byProvider: await linesBy(db, filter, 'provider'),
    byGpu: await linesBy(db, filter, 'gpu'),
    byDay: await linesBy(db, filter, 'day'),
    asOf: iso(asOf),
  };
}

async function summarizeSleeps(
  db: Db,
  filter: { orgId: string; from: Date; to: Date },
  asOf: Date,
): Promise<HibernationSavings> {
  const sleeps = await listSleeps(db, filter);
  const workspaces = await listWorkspaces(db, [...new Set(sleeps.map((sleep) => sleep.instance_id))]);
  return sumSleeps(sleeps, workspaces, { from: filter.from.getTime(), to: filter.to.getTime() }, asOf.getTime());
}

async function linesBy(db: Db, filter: CostFilter, group: CostGroup): Promise<CostSummary['byDay']> {
  const lines = await listCosts(db, filter, group, { limit: MAX_PAGE });
  const isInOrder = group === 'day' || group === 'provider';
  const sorted = isInOrder ? lines : lines.toSorted((a, b) => Number(b.costMicroUsd - a.costMicroUsd));
  return sorted.slice(0, MAX_LINES).map((line) => ({ key: line.key, ...costReply(line) }));
}

function costReply(cost: Cost): { costMicroUsd: number; unprovenMicroUsd: number; billedMs: number } {
  return {
    costMicroUsd: micro(cost.costMicroUsd),
    unprovenMicroUsd: micro(cost.unprovenMicroUsd),
    billedMs: cost.billedMs,
  };
}

function dateOrNull(text: string | undefined): Date | null {
  return text === undefined ? null : new Date(text);
}
