/** Cursors: where a page ended, as opaque text. They hold the sort values of the last item, so pages stay stable while rows come. */
import { z } from 'zod';
import { MusterError } from '../domain/error-table.ts';

/** Throws MusterError `invalid_request` for text that is no cursor of that shape. */
export function readCursor<T>(shape: z.ZodType<T>, cursor: string | undefined): T | undefined {
  if (cursor === undefined) return undefined;
  const parsed = shape.safeParse(decode(cursor));
  if (parsed.success) return parsed.data;
  throw new MusterError('invalid_request', 'cursor is not the `nextCursor` of a page of this list', {
    errors: [{ path: 'cursor', message: 'is not the `nextCursor` of a page of this list' }],
  });
}

/** The page out of one row more than asked for. `positionOf` the last item gives the next cursor. */
export function cutPage<Row, Item>(
  rows: Row[],
  limit: number,
  positionOf: (row: Row) => unknown,
  toItem: (row: Row) => Item,
): { items: Item[]; nextCursor: string | null } {
  const kept = rows.slice(0, limit);
  const last = kept.at(-1);
  const hasMore = rows.length > limit && last !== undefined;
  return { items: kept.map(toItem), nextCursor: hasMore ? encode(positionOf(last)) : null };
}

/** What a list of the newest is asked for: one row more than the page has, from behind the last page's end on. */
export interface PageOfTime {
  limit: number;
  before?: { createdAt: Date; id: string };
}

interface PageQuery {
  limit: number;
  cursor?: string | undefined;
}

interface PageOf<Item> {
  items: Item[];
  nextCursor: string | null;
}

type List<Row> = (page: PageOfTime) => Promise<Row[]>;
type Show<Row, Item> = (rows: Row[]) => Item[] | Promise<Item[]>;

/**
 * One page of what is listed newest first, by when it was made.
 * @param show is given the rows of the page and no others
 * @param madeAt where the rows call that moment something else
 */
export function pageByTime<Row extends { id: string; created_at: Date }, Item>(
  query: PageQuery,
  list: List<Row>,
  show: Show<Row, Item>,
): Promise<PageOf<Item>>;
export function pageByTime<Row extends { id: string }, Item>(
  query: PageQuery,
  list: List<Row>,
  show: Show<Row, Item>,
  madeAt: (row: Row) => Date,
): Promise<PageOf<Item>>;
export async function pageByTime<Row extends { id: string; created_at: Date }, Item>(
  { limit, cursor }: PageQuery,
  list: List<Row>,
  show: Show<Row, Item>,
  madeAt: (row: Row) => Date = (row) => row.created_at,
): Promise<PageOf<Item>> {
  const last = readCursor(byTime, cursor);
  const before = last && { createdAt: new Date(last[0]), id: last[1] };
  const rows = await list({ limit: limit + 1, ...(before ? { before } : {}) });
  const { nextCursor } = cutPage(
    rows,
    limit,
    (row) => [madeAt(row).toISOString(), row.id],
    (row) => row,
  );
  return { items: await show(rows.slice(0, limit)), nextCursor };
}

/** Newest first, by time and id. */
const byTime = z.tuple([z.iso.datetime(), z.string().max(64)]);

function encode(position: unknown): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url');
}

function decode(cursor: string): unknown {
  try {
    return JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}
