/** One page of a list, or with `--all` every page after another, as a table or as the API's JSON. */
import type { Query } from '../api-client.ts';
import type { Context } from '../context.ts';
import { EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';

export interface PageOptions {
  limit?: number;
  cursor?: string;
  all?: boolean;
}

interface Page<T> {
  items: T[];
  nextCursor: string | null;
}

const LARGEST_PAGE = 500;

export async function showPage<T>(
  context: Context,
  path: string,
  filters: Query,
  options: PageOptions,
  head: readonly string[],
  toRow: (item: T) => string[],
): Promise<ExitCode> {
  const { terminal } = context;
  const page = await readPages<T>(context, path, filters, options);
  if (terminal.isJson) {
    terminal.printJson(page);
    return EXIT.done;
  }
  if (page.items.length === 0) terminal.say('Nothing found.');
  else await terminal.printTable(head, page.items.map(toRow));
  if (page.nextCursor !== null) terminal.say(`There is more: --all, or --cursor ${page.nextCursor}`);
  return EXIT.done;
}

/** All pages are joined into one of the same form. */
async function readPages<T>(context: Context, path: string, filters: Query, options: PageOptions): Promise<Page<T>> {
  const limit = options.limit ?? (options.all ? LARGEST_PAGE : undefined);
  const first = await context.api.get<Page<T>>(path, { ...filters, limit, cursor: options.cursor });
  if (!options.all) return first;
  const items = first.items;
  let nextCursor = first.nextCursor;
  while (nextCursor !== null) {
    const page: Page<T> = await context.api.get<Page<T>>(path, { ...filters, limit, cursor: nextCursor });
    items.push(...page.items);
    nextCursor = page.nextCursor;
  }
  return { items, nextCursor: null };
}
