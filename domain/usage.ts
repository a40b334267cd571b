/**
 * Usage: the metered intervals of what an attempt may have billed, from its purchase until the provider said not-found. An interval has
 * one price; a changed price closes it and opens the next. Intervals are made from facts alone, so that metering again changes nothing.
 * Who pays, budgets and the ledger are not its business.
 *
 * Money accrues until the machine is proven gone, because what cannot be seen may still bill. `provenUntil` says how far a sign of life
 * reaches (a believable listing that shows it, SSH, its agent); what an interval holds beyond it is charged too, and shown as unproven.
 * A later sign proves all the time before it: it is the same machine.
 */
import { accrue, type MicroUsd } from './money.ts';
import type { ObservedInstance } from './observed-instance.ts';

/** By what costs are added up. */
export const COST_GROUPS = ['instance', 'session', 'consumer', 'provider', 'gpu', 'day'] as const;
export type CostGroup = (typeof COST_GROUPS)[number];

/** What is recorded of one attempt's life; times in milliseconds. */
export interface BilledLife {
  purchasedAt: number;
  /** When the provider said not-found; null: not yet. */
  goneAt: number | null;
  /** The last sign of life; null: none after the purchase, which is one itself. */
  provenAt: number | null;
  /** As bought. */
  priceMicroUsdPerHour: MicroUsd;
  /** In any order; the price from that moment on. */
  priceChanges: readonly { at: number; priceMicroUsdPerHour: MicroUsd }[];
  /** When it was handed over to another instance: an interval ends there, whatever the price. Absent or null: never. */
  handedOverAt?: number | null;
}

/** [from, to): closed ones never change but for a later proof. */
export interface UsageInterval {
  from: number;
  to: number;
  /** Between `from` and `to`, both included. */
  provenUntil: number;
  priceMicroUsdPerHour: MicroUsd;
  /** Still growing: the machine may exist, at this price. */
  isOpen: boolean;
}

/** The intervals so far, oldest first, without gap or overlap: they end at `goneAt`, or at `now` with the open one. */
export function meterLife(life: BilledLife, now: number): UsageInterval[] {
  const end = Math.max(life.purchasedAt, life.goneAt ?? now);
  const proven = Math.max(life.purchasedAt, life.provenAt ?? life.purchasedAt);
  const segments = splitAt(listSegments(life, end), life.handedOverAt ?? null, life, end);
  return segments.flatMap(({ at: from, priceMicroUsdPerHour }, index) => {
    const isLast = index === segments.length - 1;
    const to = segments[index + 1]?.at ?? end;
    const isOpen = isLast && life.goneAt === null;
    if (to === from && !isOpen) return [];
    return [{ from, to, provenUntil: Math.min(to, Math.max(from, proven)), priceMicroUsdPerHour, isOpen }];
  });
}

/** Where each price begins. A change to the same price is none; of two at one moment the later given counts. */
function listSegments(life: BilledLife, end: number): Segment[] {
  const segments = [{ at: life.purchasedAt, priceMicroUsdPerHour: life.priceMicroUsdPerHour }];
  const changes = life.priceChanges
    .filter((change) => change.at < end || (change.at === end && life.goneAt === null))
    .toSorted((a, b) => a.at - b.at);
  for (const change of changes) {
    const at = Math.max(change.at, life.purchasedAt);
    const last = segments.at(-1);
    if (last?.at === at) segments.pop();
    if (segments.at(-1)?.priceMicroUsdPerHour !== change.priceMicroUsdPerHour) segments.push({ ...change, at });
  }
  return segments;
}

interface Segment {
  at: number;
  priceMicroUsdPerHour: MicroUsd;
}

/** What each owner has used is apart, though the price went on. */
function splitAt(segments: Segment[], at: number | null, life: BilledLife, end: number): Segment[] {
  if (at === null || at <= life.purchasedAt || at > end || (at === end && life.goneAt !== null)) return segments;
  const after = segments.findIndex((segment) => segment.at >= at);
  if (segments[after]?.at === at) return segments;
  const place = after === -1 ? segments.length : after;
  const { priceMicroUsdPerHour } = segments[place - 1] as Segment;
  return segments.toSpliced(place, 0, { at, priceMicroUsdPerHour });
}

export interface Period {
  from: number;
  to: number;
}

/**
 * What an interval costs within a period. Rounded down once, from the interval's beginning: the costs of adjacent periods add up to
 * that of both together, to the micro-dollar. An open one is taken to reach to `asOf`.
 */
export function usageCost(interval: UsageInterval, period: Period, asOf: number): MicroUsd {
  return costUntil(interval, period.to, asOf) - costUntil(interval, period.from, asOf);
}

/** The part of usageCost that lies beyond the last sign of life. */
export function unprovenCost(interval: UsageInterval, period: Period, asOf: number): MicroUsd {
  const from = Math.max(period.from, interval.provenUntil);
  return from >= period.to ? 0n : usageCost(interval, { from, to: period.to }, asOf);
}

function costUntil(interval: UsageInterval, moment: number, asOf: number): MicroUsd {
  const end = interval.isOpen ? Math.max(interval.from, asOf) : interval.to;
  return accrue(interval.priceMicroUsdPerHour, Math.min(moment, end) - interval.from);
}

/** All of time. */
export const EVER: Period = { from: -Infinity, to: Infinity };

/** What intervals cost together, of all time. */
export function totalCost(intervals: readonly UsageInterval[], asOf: number): MicroUsd {
  return intervals.reduce((sum, interval) => sum + usageCost(interval, EVER, asOf), 0n);
}

/**
 * The price that a believable listing says is charged now; null where it says none. A machine that is not stopped costs something: a
 * price of 0 is a reading that failed. A stopped one costs what the listing says, its disk mostly.
 */
export function priceCharged(observed: Pick<ObservedInstance, 'status' | 'priceMicroUsdPerHour'>): MicroUsd | null {
  const { status, priceMicroUsdPerHour: price } = observed;
  if (price === null || status === 'unknown') return null;
  return price === 0n && status !== 'stopped' ? null : price;
}
