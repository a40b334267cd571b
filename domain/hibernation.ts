/**
 * A hibernation: one sleep of an instance, from the order to copy its files until it is ready again. What decides that it sleeps is
 * idle.ts's and sleep-schedule.ts's.
 *
 *   copying    a snapshot is taken and verified; its machine is its own still → releasing | failed | ended
 *   releasing  the snapshot was verified, and the machine is destroyed → asleep (the provider said not-found) | ended
 *   asleep     nothing is rented → waking | ended
 *   waking     a machine is bought, booted and restored → woken | asleep (none could be had) | ended
 *   woken, failed, ended   over: ready again; never slept, and why; its instance was destroyed
 */
import { accrue, type MicroUsd } from './money.ts';
import type { Period } from './usage.ts';

export const HIBERNATION_STATUSES = ['copying', 'releasing', 'asleep', 'waking', 'woken', 'failed', 'ended'] as const;
export type HibernationStatus = (typeof HIBERNATION_STATUSES)[number];

export const HIBERNATION_CAUSES = ['request', 'idle', 'schedule', 'budget'] as const;
export type HibernationCause = (typeof HIBERNATION_CAUSES)[number];

export const WAKE_CAUSES = ['request', 'schedule'] as const;
export type WakeCause = (typeof WAKE_CAUSES)[number];

export function isOpenHibernation(status: HibernationStatus): boolean {
  return status === 'copying' || status === 'releasing' || status === 'asleep' || status === 'waking';
}

/** After so long asleep it is proven once more that nothing is left at any provider. */
export const PROVE_EMPTY_AFTER_MS = 30 * 60_000;
/** After a wake or a hibernation that failed, before a cron tries it again. */
export const RETRY_AFTER_MS = 10 * 60_000;

/** A time in which a machine that was paid for before was not; times in milliseconds. */
export interface Sleep {
  /** When the provider said not-found. */
  sleptAt: number;
  /** When a machine was paid for again; null: not yet. */
  endedAt: number | null;
  /** What the machine before cost. */
  priceMicroUsdPerHour: MicroUsd;
  storageMicroUsdPerHour: MicroUsd;
}

export interface Savings {
  asleepMs: number;
  /** What the machines would have cost meanwhile. */
  avoidedMicroUsd: MicroUsd;
  storageMicroUsd: MicroUsd;
  /** Avoided, less the storage; negative where that was dearer. */
  savedMicroUsd: MicroUsd;
}

/** What sleeping saved within a period, up to `asOf`. Rounded down once for each sleep. */
export function sumSavings(sleeps: readonly Sleep[], period: Period, asOf: number): Savings {
  const sum = { asleepMs: 0, avoidedMicroUsd: 0n, storageMicroUsd: 0n };
  for (const sleep of sleeps) {
    const from = Math.max(sleep.sleptAt, period.from);
    const to = Math.min(sleep.endedAt ?? asOf, asOf, period.to);
    const ms = Math.max(0, to - from);
    sum.asleepMs += ms;
    sum.avoidedMicroUsd += accrue(sleep.priceMicroUsdPerHour, ms);
    sum.storageMicroUsd += accrue(sleep.storageMicroUsdPerHour, ms);
  }
  return { ...sum, savedMicroUsd: sum.avoidedMicroUsd - sum.storageMicroUsd };
}
