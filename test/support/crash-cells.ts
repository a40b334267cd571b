/**
 * What the crash matrix consists of: for each named place the scenarios that pass it, and how a seed becomes a cell. What a scenario does
 * is in crash-rental.ts, crash-sleep.ts and crash-failover.ts. A place that is added to the product does not compile before it is here.
 */
import { CRASH_POINTS, type CrashPointName } from '../../domain/crash-points.ts';
import { PROVIDER_NAMES, type ProviderName } from '../../domain/provider.ts';

/**
 * coldstart, race: rented and destroyed. serverless: claimed from a pool of one. snapshots: copied, restored in place, a copy deleted.
 * sleep: hibernated and woken. failover: replaced after a loss, or on request. standby: served by a standby, and failed back.
 */
export const SCENARIOS = ['coldstart', 'race', 'serverless', 'snapshots', 'sleep', 'failover', 'standby'] as const;
export type Scenario = (typeof SCENARIOS)[number];

export const VICTIMS = ['control', 'child', 'engine', 'postgres'] as const;
export type Victim = (typeof VICTIMS)[number];

export interface Kill {
  point: CrashPointName;
  victim: Victim;
}

export interface CrashCell {
  seed: number;
  /** Each once, whenever its place is passed first. */
  kills: readonly Kill[];
  /** Where everything is bought. */
  provider: ProviderName;
  scenario: Scenario;
  /** Of coldstart, race and serverless; others have one instance. */
  count: number;
  /** The vendor's answers to purchases that get lost, and offers that are stale, as probabilities. */
  lostResponses: number;
  staleOffers: number;
}

const RENTING: readonly Scenario[] = ['coldstart', 'race', 'sleep', 'failover'];

/** The first is where a place is tried first; the others come in later rounds. */
export const SCENARIOS_OF = {
  operation_claimed: RENTING,
  attempts_committed: RENTING,
  engine_starting: RENTING,
  engine_finished: RENTING,
  purchase_applied: RENTING,
  wait_recorded: RENTING,
  instance_ready_applied: RENTING,
  losers_marked: ['race'],
  warm_claimed: ['serverless'],
  warm_entered: ['serverless'],
  warm_handed_over: ['serverless'],
  warm_given_up: ['serverless'],
  hibernate_claimed: ['sleep'],
  snapshot_ordered: ['sleep'],
  hibernate_released: ['sleep'],
  hibernate_applied: ['sleep'],
  restore_ordered: ['sleep', 'failover'],
  restore_given_up: ['sleep'],
  restore_applied: ['sleep', 'failover'],
  snapshot_taken: ['snapshots', 'sleep', 'failover'],
  snapshot_verified: ['snapshots', 'sleep', 'failover'],
  snapshot_removed: ['snapshots'],
  failover_fenced: ['failover', 'standby'],
  failover_promoted: ['standby'],
  failover_released: ['standby'],
  failover_provisioned: ['failover', 'standby'],
  failover_switched: ['failover', 'standby'],
  failover_destroy_accepted: ['failover', 'standby'],
  create_entered: RENTING,
  candidate_assigned: RENTING,
  purchase_sending: RENTING,
  purchase_answered: RENTING,
  purchase_read_back: RENTING,
  ssh_keys_attached: RENTING,
  destroy_claimed: RENTING,
  delete_entered: RENTING,
  delete_sending: RENTING,
  delete_answered: RENTING,
  delete_verified: RENTING,
  destroy_applied: RENTING,
  stack_removed: ['coldstart', 'race'],
  stack_updated: ['standby'],
  stack_emptied: ['standby'],
} satisfies Record<CrashPointName, readonly Scenario[]>;

export type CellWish = Partial<Pick<CrashCell, 'provider' | 'scenario'>> & {
  victim?: Victim;
  /** @default all that the wished scenario passes */
  points?: readonly CrashPointName[];
};

/** One kill: all pairs of a place and a victim in turn, each with another provider and scenario in each round; faults by the seed. */
export function drawCell(seed: number, wish: CellWish = {}): CrashCell {
  const isWished = (point: CrashPointName) => wish.scenario === undefined || scenariosOf(point).includes(wish.scenario);
  const points = wish.points ?? CRASH_POINTS.filter(isWished);
  const pairs = points.length * VICTIMS.length;
  const pair = seed % pairs;
  const round = Math.floor(seed / pairs);
  const point = points[pair % points.length] as CrashPointName;
  const scenarios = scenariosOf(point);
  return {
    seed,
    kills: [{ point, victim: wish.victim ?? (VICTIMS[Math.floor(pair / points.length)] as Victim) }],
    provider: wish.provider ?? (PROVIDER_NAMES[(seed + round) % PROVIDER_NAMES.length] as ProviderName),
    scenario: wish.scenario ?? (scenarios[round % scenarios.length] as Scenario),
    count: seed % 5 === 0 ? 3 : 1,
    lostResponses: seed % 2 === 0 ? 0.3 : 0,
    staleOffers: 0.1,
  };
}

function scenariosOf(point: CrashPointName): readonly Scenario[] {
  return SCENARIOS_OF[point];
}

/** What a cell rents. */
export function wantedOf({ provider }: CrashCell): Record<string, unknown> {
  return { gpu: 'RTX 4090', providers: [provider], maxPriceUsdPerHour: '0.95' };
}
