/**
 * Vast.ai's paged list of instances, whole or not at all: every page is read and the vendor's own counts are held against
 * what was seen. A list that contradicts itself throws `unbelievable`; clients that took such lists for "no instances"
 * launched again and again.
 */
import type { ObservedInstance } from '../../domain/observed-instance.ts';
import type { VastaiSend } from './sender.ts';
import { readInstancePage, unbelievable, type InstancePage } from './wire.ts';

/** The vendor's maximum. */
const PAGE_SIZE = 25;
/** 10,000 instances: no known account is near; more means that the pages go in circles. */
const MAX_PAGES = 400;

/** @param label only instances with exactly this label; null: all of the account */
export async function listAllInstances(
  send: VastaiSend,
  label: string | null,
  signal?: AbortSignal,
): Promise<ObservedInstance[]> {
  const seen = new Map<string, ObservedInstance>();
  const tokens = new Set<string>();
  const pages: InstancePage[] = [];
  for (let token: string | null = null; pages.length < MAX_PAGES;) {
    const path = `/api/v1/instances/?${listQuery(label, token)}`;
    const page = readInstancePage(await send({ endpoint: 'list', kind: 'read', method: 'GET', path, signal }));
    pages.push(page);
    for (const instance of page.instances) seen.set(instance.providerInstanceId, instance);
    token = page.nextToken;
    if (token === null) {
      checkCounts(pages, seen.size, label);
      const all = [...seen.values()];
      return label === null ? all : all.filter((instance) => instance.label === label);
    }
    if (tokens.has(token)) throw unbelievable('the list repeats a page token');
    tokens.add(token);
  }
  throw unbelievable(`the list has more than ${MAX_PAGES} pages`);
}

function listQuery(label: string | null, token: string | null): string {
  return new URLSearchParams({
    limit: String(PAGE_SIZE),
    order_by: JSON.stringify([{ col: 'id', dir: 'asc' }]),
    select_filters: JSON.stringify(label === null ? {} : { label: { eq: label } }),
    ...(token === null ? {} : { after_token: token }),
  }).toString();
}

/** The least count of all pages is compared: instances may come and go while pages are read. */
function checkCounts(pages: InstancePage[], seen: number, label: string | null): void {
  const claims = [least(pages, (page) => page.instancesFound)];
  if (label === null) {
    claims.push(least(pages, (page) => page.totalInstances));
    claims.push(
      least(pages, ({ labelCounts }) => labelCounts && Object.values(labelCounts).reduce((a, b) => a + b, 0)),
    );
  } else {
    claims.push(least(pages, ({ labelCounts }) => labelCounts?.[label] ?? null));
  }
  const claimed = Math.max(...claims);
  if (seen < claimed) throw unbelievable(`the list claims ${claimed} instances and shows ${seen}`);
}

function least(pages: InstancePage[], count: (page: InstancePage) => number | null): number {
  const counts = pages.map(count).filter((value) => value !== null);
  return counts.length === 0 ? 0 : Math.min(...counts);
}
