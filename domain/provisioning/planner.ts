/**
 * A planner: a pure function from what a request's instances, attempts and the market look like now to what is to be done next.
 * This module holds the values that go in and come out. It decides nothing (plan.ts does) and applies nothing (the worker does).
 * Times are epoch milliseconds.
 */
import type { AttemptStatus } from '../attempt.ts';
import type { ErrorCode } from '../error-table.ts';
import type { InstanceStatus } from '../instance.ts';
import type { MachineRecord } from '../machine-history.ts';
import type { MicroUsd } from '../money.ts';
import type { Offer, OfferRequirements } from '../offer.ts';
import type { ProviderName } from '../provider.ts';
import type { ProviderRecord, ReadyTimes } from './outlook.ts';

/**
 * `race` buys several machines at once, the first verified ready wins · `round_robin` buys one, gives it its full deadline, then
 * the next at another provider · `coldstart` buys one, gives it its full deadline, then the next best · `serverless` claims a warm
 * instance of a pool when it is accepted, and is planned like `coldstart` where there is none.
 */
export const STRATEGY_NAMES = ['race', 'round_robin', 'coldstart', 'serverless'] as const;
export type StrategyName = (typeof STRATEGY_NAMES)[number];

/** What one request asked for; the same for each of its instances. */
export interface ProvisionSpec {
  strategy: StrategyName;
  /** Wanted racers per instance; the others ignore it. */
  raceWidth: number;
  /** Bound on what racing may cost beyond the winners, for the whole request: it is split evenly among its instances. */
  maxRaceCostMicroUsd: MicroUsd;
  requirements: OfferRequirements;
  /** From purchase to verified ready. */
  bootTimeoutMs: number;
  /** Bound on attempts ever made for one instance, racers included. */
  maxAttemptsPerInstance: number;
}

export interface PlannedInstance {
  id: string;
  status: InstanceStatus;
  winnerAttemptId: string | null;
  /** Attempts made before it (epoch ms) were for a machine that it has lost since: they do not count any more. @default none */
  since?: number | null;
}

export interface PlannedAttempt {
  id: string;
  instanceId: string;
  status: AttemptStatus;
  provider: ProviderName;
  providerOfferId: string | null;
  machineId: string | null;
  priceMicroUsdPerHour: MicroUsd | null;
  /** What was bid for an interruptible machine; absent or null: on demand. */
  bidMicroUsdPerHour?: MicroUsd | null;
  purchasedAt: number | null;
  readyAt: number | null;
  bootDeadline: number | null;
  createdAt: number;
  failureCode: string | null;
  failureDetail?: string | null;
}

export interface PlanInput {
  spec: ProvisionSpec;
  /** All instances of the request, whatever their status. */
  instances: PlannedInstance[];
  /** All attempts ever made for them, gone ones included. */
  attempts: PlannedAttempt[];
  offers: Offer[];
  /** Offers of the kind that are out of `offers` because they were bought or refused in the last minutes. @default 0 */
  hiddenOffers?: number;
  machines: MachineRecord[];
  /** @default summed up from `machines` */
  providers?: ProviderRecord[];
  /** Times to ready by machine key, better known than by the means in `machines`. @default none */
  readyTimes?: ReadonlyMap<string, ReadyTimes>;
  /** Providers from which nothing may be bought now. Their offers in `offers` are known from before, and may come back. */
  closed?: ReadonlyMap<ProviderName, ClosedProvider>;
  /** Offer keys and machine keys (`offerKey`, `machineKey`) held by other operations. */
  reserved: ReadonlySet<string>;
  /** Spreads simultaneous requests over equally good machines; the same seed gives the same plan. */
  seed: string;
  /** Whether the listing of offers is believed of any provider. While it is not, nothing is bought and nothing fails. */
  offersBelievable: boolean;
  /**
   * Providers whose listing of rented machines is not believed. While it is not, no boot deadline is enforced there: a machine that
   * could not be seen may well be up.
   * @default none
   */
  unseenProviders?: ReadonlySet<ProviderName>;
  /**
   * When the request was accepted: for RESERVED_PATIENCE_MS from then, offers that only other operations hold, or of providers that
   * are closed for now, are waited for. Absent: they are not waited for.
   */
  requestedAt?: number;
  now: number;
}

/** Why nothing may be bought at a provider. */
export interface ClosedProvider {
  /** Such as "switched off" or "its listing is not believed". */
  reason: string;
  /** Whether it opens again without a person. */
  mayReopen: boolean;
}

export type PlanAction =
  /**
   * Make one attempt. Candidates are ranked best first, of any provider; an offer stands with no more `buy`s of this plan than it
   * has machines.
   */
  | { kind: 'buy'; instanceId: string; candidates: Offer[] }
  /** This attempt was verified ready first. */
  | { kind: 'win'; instanceId: string; attemptId: string }
  /** Destroy it and prove it gone. */
  | { kind: 'abandon'; attemptId: string; code: ErrorCode; reason: string }
  /** Nothing left to try. */
  | { kind: 'fail'; instanceId: string; code: ErrorCode; reason: string }
  /** Nothing to do before `until`, unless something is observed earlier. Always the only action of its plan. */
  | { kind: 'wait'; until: number; reason: string };

/** How often the market is looked at again while its listing is not believed. */
export const QUARANTINE_RECHECK_MS = 10_000;
/** How soon to look again while a purchase is under way: the engine reports it, so this only bounds a lost report. */
export const PURCHASE_RECHECK_MS = 5_000;
/** How often to look whether another operation has given an offer back. */
export const RESERVED_RECHECK_MS = 2_000;
/** Reservations live for seconds (until bought or refused); what is held for longer is rented, and waiting would not end. */
export const RESERVED_PATIENCE_MS = 120_000;
/** Candidates handed out per attempt: enough to pass over a tenth of stale offers with certainty, few enough to store. */
export const MAX_CANDIDATES = 20;
