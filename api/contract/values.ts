/** The values that requests and replies are made of: ids, money, times, durations, pages. */
import { z } from 'zod';
import { parseDuration } from '../../domain/duration.ts';
import { ID_PREFIXES, isId, type IdKind } from '../../domain/ids.ts';
import { parseUsd } from '../../domain/money.ts';

/** An id in a path: one of another shape answers 404. */
export function id(kind: IdKind) {
  return z
    .string()
    .refine((text) => isId(kind, text), `is not the id of ${kind}`)
    .meta({
      description: `Id: \`${ID_PREFIXES[kind]}_\` and 16 characters`,
      example: `${ID_PREFIXES[kind]}_abcdefghijklmnop`,
    });
}

const USD_HELP = 'must be a decimal string of dollars, not negative, with up to six decimals, such as "0.60"';

/** Dollars in a request. */
export const usd = z
  .string({ error: USD_HELP })
  .refine((text) => parseUsd(text) !== null, USD_HELP)
  .meta({ description: 'US dollars as a decimal string', example: '0.60' });

export const positiveUsd = z
  .string({ error: USD_HELP })
  .refine((text) => parseUsd(text) !== null, USD_HELP)
  .refine((text) => parseUsd(text) !== 0n, 'must be more than 0')
  .meta({ description: 'US dollars as a decimal string, more than 0', example: '0.60' });

/** Money in a reply. */
export const microUsd = z.int().meta({ description: 'Millionths of a US dollar' });

export const time = z.iso.datetime().meta({ description: 'RFC 3339, UTC', example: '2026-11-21T09:00:00.000Z' });

const MINUTE_MS = 60_000;
const YEAR_MS = 365 * 86_400_000;

export function duration(minMs: number, maxMs: number, help: string) {
  return z
    .string()
    .max(40)
    .refine((text) => {
      const ms = parseDuration(text);
      return ms !== null && ms >= minMs && ms <= maxMs;
    }, `must be a duration ${help}, such as "4 hours"`)
    .meta({ description: `A duration ${help}`, example: '4 hours' });
}

export const lifetime = duration(MINUTE_MS, YEAR_MS, 'from 1 minute to 365 days');

/** A sentence for people, kept in the audit log. */
export const reason = z.string().trim().min(3).max(500);

export const DEFAULT_PAGE = 50;
export const MAX_PAGE = 500;

/** Query parameters of every list. */
export const pageQuery = z.strictObject({
  limit: z.coerce
    .number({ error: `must be an integer from 1 to ${MAX_PAGE}` })
    .int()
    .min(1)
    .max(MAX_PAGE)
    .default(DEFAULT_PAGE)
    .meta({ description: 'How many items at most' }),
  cursor: z.string().max(500).optional().meta({ description: '`nextCursor` of the page before' }),
});

/** A page: `nextCursor` null means that there is no more. */
export function pageOf<T extends z.ZodType>(item: T) {
  return z.object({ items: z.array(item), nextCursor: z.string().nullable() });
}

/** A query parameter with several values: `ready,booting`. */
export function commaList<const T extends readonly [string, ...string[]]>(values: T) {
  return z
    .string()
    .transform((text) => text.split(','))
    .pipe(z.array(z.enum(values)).max(values.length))
    .meta({ description: `Comma-separated, any of ${values.join(', ')}` });
}

/** A yes-or-no query parameter. */
export const flag = z
  .enum(['true', 'false'])
  .transform((text) => text === 'true')
  .meta({ description: '`true` or `false`' });

/** A label to which cost is attributed. */
export const consumer = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/, 'must be 1 to 63 letters, digits, ".", "_", "/" or "-"');
