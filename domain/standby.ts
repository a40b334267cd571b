/**
 * A standby: the CPU machine that is kept in sync with an instance's workspace, to take over when the instance is lost. Its machine is
 * the stack's (stacks/standby); here are its states and the rules of keeping it in sync.
 *
 *   creating     its stack is made for the first time → warm | stopped | failed
 *   warm         runs, and its disk is restored to each new verified snapshot → promoting | destroying
 *   stopped      holds its disk and waits → promoting | destroying
 *   failed       its stack could not be made; another up of the stack may → warm | stopped | destroying
 *   promoting    it is started and restored, to take over → serving | warm | stopped
 *   serving      it has the workspace → demoting
 *   demoting     it goes back to what it was declared → warm | stopped
 *   destroying → destroyed
 */
export const STANDBY_STATUSES = [
  'creating',
  'warm',
  'stopped',
  'failed',
  'promoting',
  'serving',
  'demoting',
  'destroying',
  'destroyed',
] as const;
export type StandbyStatus = (typeof STANDBY_STATUSES)[number];

/** What it is declared to be while nothing has failed. */
export const STANDBY_STATES = ['warm', 'stopped'] as const;
export type StandbyState = (typeof STANDBY_STATES)[number];

/** A snapshot and its proof by reading back take a moment; below that nothing can be promised. */
export const MIN_RPO_MS = 10_000;
export const MAX_RPO_MS = 7 * 86_400_000;

/** It is there and nothing is under way with it. */
export function isAtRest(status: StandbyStatus): boolean {
  return status === 'warm' || status === 'stopped';
}

/** It has, or is about to have, or had just now the workspace: a sync would write over what it does. */
export const TAKING_OVER = ['promoting', 'serving', 'demoting'] as const satisfies readonly StandbyStatus[];

export function isTakingOver(status: StandbyStatus): boolean {
  return (TAKING_OVER as readonly StandbyStatus[]).includes(status);
}

export const STANDBY_ACTIONS = ['failover', 'failback', 'drill', 'destroy'] as const;
export type StandbyAction = (typeof STANDBY_ACTIONS)[number];

export function allowedStandbyActions(status: StandbyStatus): StandbyAction[] {
  switch (status) {
    case 'warm':
    case 'stopped':
      return ['failover', 'drill', 'destroy'];
    case 'serving':
      return ['failback'];
    case 'creating':
    case 'failed':
      return ['destroy'];
    default:
      return [];
  }
}

/** What is known of an instance's recovery points. Times in milliseconds. */
export interface RecoveryView {
  now: number;
  rpoMs: number;
  /** Since when the standby stands for this workspace. */
  since: number;
  /** Since when its present writer writes: what is older it has restored, and can again. */
  writerSince: number;
  /** The moment that the newest verified snapshot shows; null: there is none. */
  newestVerifiedAt: number | null;
  /** The moment that the snapshot under way will show, and since when it is under way; null: none is. */
  underWay: { startedAt: number } | null;
  /** How long the last one took until it was verified; null: not known. */
  lastTookMs: number | null;
  /** How the last try failed; null: it did not. */
  lastFailure: { at: number; detail: string } | null;
  /** Whether somebody writes whose workspace can be read: null, or why not. */
  sourceTrouble: string | null;
  /** Between two looks. */
  tickMs: number;
}

export interface RecoveryVerdict {
  /** Begin one now. */
  isSnapshotDue: boolean;
  /** How old what could be restored is; null: there is nothing. */
  lagMs: number | null;
  isBehind: boolean;
  /** For people, while it is behind. */
  reason: string | null;
}

/** What a snapshot takes until one has been measured. */
const GUESSED_TOOK_MS = 5_000;
/** A try that failed is not repeated at once. */
const RETRY_MS = 5_000;

/**
 * A snapshot shows the moment at which it began, so the next must be verified before the last is as old as the RPO: it begins that much
 * earlier, with as much again for surprises, but never more often than at a tenth of the RPO.
 */
export function judgeRecovery(view: RecoveryView): RecoveryVerdict {
  const { now, rpoMs, newestVerifiedAt, underWay, lastFailure, sourceTrouble, tickMs } = view;
  const tookMs = view.lastTookMs ?? GUESSED_TOOK_MS;
  const dueAgeMs = Math.min(rpoMs / 2, Math.max(rpoMs / 10, rpoMs - 2 * (tookMs + tickMs)));
  const lagMs = newestVerifiedAt === null ? null : Math.max(0, now - newestVerifiedAt);
  const isRested = lastFailure === null || now - lastFailure.at >= Math.min(RETRY_MS, rpoMs / 2);
  const isDue = lagMs === null || lagMs >= dueAgeMs;
  const ageMs = now - Math.max(newestVerifiedAt ?? view.since, view.writerSince);
  const isBehind = ageMs > rpoMs;
  return {
    isSnapshotDue: isDue && underWay === null && sourceTrouble === null && isRested,
    lagMs,
    isBehind,
    reason: isBehind ? describeLag(view, tookMs) : null,
  };
}

function describeLag(view: RecoveryView, tookMs: number): string {
  const { now, rpoMs, newestVerifiedAt, underWay, lastFailure, sourceTrouble } = view;
  const age =
    newestVerifiedAt === null
      ? 'there is no verified snapshot yet'
      : `the newest verified snapshot is ${seconds(now - newestVerifiedAt)} old`;
  const why =
    sourceTrouble ??
    (lastFailure !== null && (newestVerifiedAt === null || lastFailure.at > newestVerifiedAt)
      ? `the last one failed: ${lastFailure.detail}`
      : tookMs > rpoMs
        ? `one takes ${seconds(tookMs)}`
        : underWay !== null
          ? `the next is under way for ${seconds(now - underWay.startedAt)}`
          : 'the next was not begun');
  return `${age}, ${seconds(rpoMs)} declared; ${why}`;
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}

/** Words of a cloud that has no room: another zone may have some. */
const NO_CAPACITY = /ZONE_RESOURCE_POOL_EXHAUSTED|does not have enough resources available|resourceExhausted/i;

export function isCapacityRefusal(detail: string): boolean {
  return NO_CAPACITY.test(detail);
}

/** A stopped standby that was started by a failover and forgotten must stop billing. */
const STARTED_MAX_RUN_HOURS = 168;

export interface StandbyStackConfig {
  state?: StandbyState;
  runIn?: 'zone' | 'fallback_zone';
  fallbackZone?: string | undefined;
  maxRunHours?: number | null | undefined;
  stopAt?: string | undefined;
  [other: string]: unknown;
}

/** As declared, with the guard that a start must not take off. */
export function withRunGuard<Config extends StandbyStackConfig>(config: Config): Config {
  if (config.state === 'warm' || config.maxRunHours !== undefined || config.stopAt !== undefined) return config;
  return { ...config, maxRunHours: STARTED_MAX_RUN_HOURS };
}

/** As declared, in the zone where it is now: where it is made anew for nothing, it may find no room. */
export function restConfig(declared: StandbyStackConfig, present: StandbyStackConfig): StandbyStackConfig {
  return present.runIn === undefined ? declared : { ...declared, runIn: present.runIn };
}

/** The configuration that makes it run: in the other zone where the one it is in has no room; null: there is none left to try. */
export function startConfig(
  config: StandbyStackConfig,
  zonesWithoutRoom: readonly string[],
): StandbyStackConfig | null {
  const zones = config.fallbackZone === undefined ? (['zone'] as const) : (['zone', 'fallback_zone'] as const);
  const present = config.runIn ?? 'zone';
  const runIn = [present, ...zones].find((one) => !zonesWithoutRoom.includes(one));
  return runIn === undefined ? null : { ...config, state: 'warm', runIn };
}
