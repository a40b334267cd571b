/** Routes of the inventory: the offers that can be rented now. */
import { z } from 'zod';
import { MusterError } from '../../domain/error-table.ts';
import { parseUsd } from '../../domain/money.ts';
import { findOffer, listInventory } from '../../db/inventory.ts';
import { listProviders } from '../../db/providers.ts';
import { INVENTORY_SORTS, inventoryQuery, offer, offerPage } from '../contract/inventory.ts';
import { id } from '../contract/values.ts';
import { cutPage, readCursor } from '../cursor.ts';
import { offerReply, sourceReply } from '../replies/offer-reply.ts';
import { route, type Route } from '../route.ts';

const AREA = 'inventory';
/** Sort values are numbers as text; anything else must not reach a cast. */
const inventoryCursor = z.tuple([
  z.enum(INVENTORY_SORTS),
  z.string().regex(/^-?\d{1,30}(?:\.\d{1,40})?(?:e-?\d{1,3})?$/),
  z.string().max(64),
]);

export const inventoryRoutes: Route[] = [
  route({
    method: 'get',
    path: '/inventory',
    access: 'read',
    area: AREA,
    summary: 'List what can be rented now',
    description:
      'Offers of every provider that is switched on, those of a failing one as they were last believed; `providers` says how each stands. Hidden: what is on a denylisted machine, and what was just bought or refused.',
    query: inventoryQuery,
    replies: { 200: offerPage },
    handle: async ({ query, deps }) => {
      const cursor = readCursor(inventoryCursor, query.cursor);
      if (cursor && cursor[0] !== query.sort) {
        throw new MusterError('invalid_request', 'cursor belongs to another sort', {
          errors: [{ path: 'cursor', message: `belongs to a list sorted by ${cursor[0]}` }],
        });
      }
      const gpu = query.gpu === undefined ? undefined : await deps.gpus.resolve(query.gpu);
      const { maxPriceUsdPerHour, limit, cursor: _, ...filter } = query;
      const [rows, providers] = await Promise.all([
        listInventory(deps.database.kysely, {
          ...filter,
          ...(gpu === undefined ? {} : { gpu }),
          ...(maxPriceUsdPerHour === undefined
            ? {}
            : { maxPriceMicroUsdPerHour: parseUsd(maxPriceUsdPerHour) as bigint }),
          limit: limit + 1,
          ...(cursor ? { after: { value: cursor[1], id: cursor[2] } } : {}),
        }),
        listProviders(deps.database.kysely),
      ]);
      const now = Date.now();
      const page = cutPage(
        rows,
        limit,
        (row) => [query.sort, row.sort_value, row.id],
        (row) => offerReply(row, now, query.diskGib),
      );
      const asked = query.provider === undefined ? providers : providers.filter((row) => row.name === query.provider);
      return { status: 200, body: { ...page, providers: asked.map((row) => sourceReply(row, now)) } };
    },
  }),
  route({
    method: 'get',
    path: '/inventory/:id',
    access: 'read',
    area: AREA,
    summary: 'Get an offer',
    params: z.object({ id: id('offer') }),
    replies: { 200: offer },
    handle: async ({ params, deps }) => {
      const row = await findOffer(deps.database.kysely, params.id);
      if (!row) throw new MusterError('not_found', `there is no offer ${params.id}; offers come and go`);
      return { status: 200, body: offerReply(row, Date.now()) };
    },
  }),
];
