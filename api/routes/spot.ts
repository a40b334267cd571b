/** The route of the spot market. */
import { z } from 'zod';
import { interruptionRate, savingBasisPoints, volatilityBasisPoints } from '../../domain/spot-market.ts';
import { listSpotMarket, type SpotRow } from '../../db/spot-market.ts';
import { spotMarketPage, spotMarketQuery, type SpotClass } from '../contract/prices.ts';
import { cutPage, readCursor } from '../cursor.ts';
import { iso, microOrNull } from '../reply-values.ts';
import { route, type Route } from '../route.ts';

const spotCursor = z.tuple([z.string().max(64), z.string().max(64)]);

export const spotRoutes: Route[] = [
  route({
    method: 'get',
    path: '/spot/market',
    access: 'read',
    area: 'inventory',
    summary: 'Interruptible machines by GPU and provider: price, saving, volatility, interruptions',
    description: 'Prices are of one GPU for an hour with the disk that offers are listed with.',
    query: spotMarketQuery,
    replies: { 200: spotMarketPage },
    handle: async ({ query, deps }) => {
      const after = readCursor(spotCursor, query.cursor);
      const rows = await listSpotMarket(deps.database.kysely, {
        ...(query.gpu === undefined ? {} : { gpu: await deps.gpus.resolve(query.gpu) }),
        ...(query.provider === undefined ? {} : { provider: query.provider }),
        limit: query.limit + 1,
        ...(after ? { after: { gpuKey: after[0], provider: after[1] } } : {}),
      });
      return { status: 200, body: cutPage(rows, query.limit, (row) => [row.gpuKey, row.provider], spotReply) };
    },
  }),
];

function spotReply(row: SpotRow): SpotClass {
  return {
    provider: row.provider,
    gpu: row.gpu,
    interruptibleFloorMicroUsdPerGpuHour: microOrNull(row.floor),
    interruptibleMedianMicroUsdPerGpuHour: microOrNull(row.median),
    onDemandFloorMicroUsdPerGpuHour: microOrNull(row.onDemandFloor),
    savingBasisPoints: savingBasisPoints(row.floor, row.onDemandFloor),
    offers: row.offers,
    volatilityBasisPoints: volatilityBasisPoints(row.hourlyFloors.map(BigInt)),
    hoursKnown: row.hourlyFloors.length,
    attempts: row.attempts,
    interruptions: row.interruptions,
    machineHours: Math.round(row.machineHours * 100) / 100,
    interruptionsPerMachineHour: interruptionRate(row.interruptions, row.machineHours),
    changedAt: iso(row.changedAt),
    seenAt: iso(row.seenAt),
  };
}
