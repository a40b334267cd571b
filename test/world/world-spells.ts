/**
 * What vendors do wrong: spells that last a while, drawn by the script; the little that goes wrong all the time; and the manners that one
 * account has for the whole week. Each is a fault or a switch of the simulated vendor, so it comes over the wire as it would.
 */
import type { ProviderName } from '../../domain/provider.ts';
import type { FaultInput } from '../../sandbox/faults.ts';
import type { SeededRandom } from '../support/seeded-random.ts';

type Call = 'search' | 'create' | 'list' | 'show' | 'destroy' | '*' | 'machine';
export type Trouble = Omit<FaultInput, 'provider' | 'endpoint'> & { call: Call };

const always = (call: Call, kind: Trouble['kind'], more: Partial<Trouble> = {}): Trouble => ({ call, kind, ...more });
const sometimes = (probability: number, call: Call, kind: Trouble['kind'], more: Partial<Trouble> = {}): Trouble =>
  always(call, kind, { probability, ...more });

/** By name. `silence` costs real time, so it is rare. */
export const SPELLS = {
  empty_list: [always('list', 'empty')],
  shrunken_list: [always('list', 'shrink', { keepShare: 0.25 })],
  html_list: [always('list', 'html')],
  cut_list: [always('list', 'malformed')],
  deprecated_list: [always('list', 'status', { status: 410 })],
  empty_market: [always('search', 'empty')],
  broken_market: [always('search', 'html')],
  outage: [always('*', 'status', { status: 503 })],
  cut_connections: [sometimes(0.3, '*', 'drop')],
  silence: [sometimes(0.05, 'list', 'timeout'), sometimes(0.05, 'show', 'timeout')],
  refused_key: [always('*', 'status', { status: 401, body: { error: 'invalid api key' } })],
  rate_limits: [sometimes(0.3, '*', 'rate_limit')],
  lost_answers: [sometimes(0.5, 'create', 'lose_response')],
  late_errors: [sometimes(0.5, 'create', 'execute_then_status', { status: 500 })],
  late_silence: [sometimes(0.2, 'create', 'execute_then_timeout')],
  lost_requests: [sometimes(0.5, 'create', 'drop')],
  bad_gateway: [sometimes(0.5, 'create', 'status', { status: 502 })],
  html_purchases: [sometimes(0.5, 'create', 'html')],
  cut_purchases: [sometimes(0.5, 'create', 'malformed')],
  stale_offers: [sometimes(0.6, 'create', 'stale_offer')],
  refusals: [sometimes(0.6, 'create', 'refuse')],
  unknown_machines: [sometimes(0.5, 'show', 'status', { status: 500 })],
  destroy_outage: [always('destroy', 'status', { status: 500 })],
  lost_destroys: [sometimes(0.7, 'destroy', 'drop')],
  deaf_destroys: [sometimes(0.7, 'destroy', 'lose_response'), sometimes(0.3, 'destroy', 'execute_then_status')],
  bad_machines: [
    sometimes(0.25, 'machine', 'slow_boot', { factor: 12 }),
    sometimes(0.25, 'machine', 'failed_boot'),
    sometimes(0.25, 'machine', 'ssh_never_answers', { mode: 'refused' }),
    sometimes(0.25, 'machine', 'wrong_gpu'),
  ],
  dying_hosts: [sometimes(0.5, 'machine', 'host_loss', { delayMs: 20 * 60_000 })],
  drought: [],
  dear: [],
} satisfies Record<string, Trouble[]>;
export type Spell = keyof typeof SPELLS;
export const SPELL_NAMES = Object.keys(SPELLS) as Spell[];

/** While one lasts, a believed listing may be a lie that nothing contradicts. */
export const LIES: ReadonlySet<Spell> = new Set(['empty_list', 'shrunken_list']);

/** Switches of a spell, taken back at its end. */
export const SPELL_SWITCHES: Partial<Record<Spell, { on: Record<string, unknown>; off: Record<string, unknown> }>> = {
  drought: { on: { drought: ['*'] }, off: { drought: [] } },
  dear: { on: { priceFactor: 1.6 }, off: { priceFactor: 1 } },
};

/** On the best of days. */
export const USUAL: Trouble[] = [
  sometimes(0.03, 'create', 'lose_response'),
  sometimes(0.02, 'create', 'drop'),
  sometimes(0.05, 'create', 'stale_offer'),
  sometimes(0.02, 'destroy', 'lose_response'),
  sometimes(0.01, 'show', 'drop'),
  sometimes(0.01, 'list', 'status', { status: 502 }),
  sometimes(0.03, 'machine', 'slow_boot', { factor: 12 }),
  sometimes(0.03, 'machine', 'failed_boot'),
  sometimes(0.03, 'machine', 'ssh_never_answers', { mode: 'refused' }),
  sometimes(0.03, 'machine', 'wrong_gpu'),
];

/** Our names of a vendor's calls, by the vendor's own. */
export const CALLS: Record<ProviderName, Record<Exclude<Call, '*' | 'machine'>, string>> = {
  vastai: { search: 'search', create: 'create', list: 'list', show: 'read', destroy: 'destroy' },
  tensordock: { search: 'hostnodes', create: 'create', list: 'list', show: 'show', destroy: 'destroy' },
  runpod: { search: 'catalog', create: 'create', list: 'list', show: 'read', destroy: 'destroy' },
  lambda: { search: 'search', create: 'create', list: 'list', show: 'read', destroy: 'destroy' },
};

/** How this account's vendor behaves all week: what documents leave open or users report differently. */
export function drawManners(provider: ProviderName, random: SeededRandom, listLagMs: number): Record<string, unknown> {
  const common = { listLagMs, bootMs: [60_000, 300_000] };
  switch (provider) {
    case 'vastai':
      return {
        ...common,
        rateLimitBody: random.pick(['json', 'text', 'both']),
        raceStatus: random.pick([410, 404, 400]),
        bidTooLowStatus: random.pick([200, 400]),
        hasIpSpace: random.chance(0.5),
        isStartStuck: random.chance(0.3),
        staleOfferShare: random.pick([0, 0.2]),
      };
    case 'tensordock':
      return {
        ...common,
        listShape: random.pick(['A', 'B', 'C']),
        doListsHavePorts: random.chance(0.5),
        isGetWrapped: random.chance(0.5),
        isCreateWrapped: random.chance(0.7),
        refusalStatus: random.pick([200, 400]),
        deleteStatus: random.pick([200, 204]),
        statusStyle: random.pick(['lower', 'camel', 'snake', 'dashed']),
        saysRunningAtOnce: random.chance(0.3),
        missingIp: random.pick(['empty', 'absent']),
        stopKeepsGpu: random.chance(0.5),
        hostLossStatus: random.pick(['error', 'stopped', 'running']),
        staleHostShare: random.pick([0, 0.2]),
      };
    case 'runpod':
      return {
        ...common,
        terminatedForMs: random.pick([0, null]),
        zeroGpuRestart: random.pick(['off', 'shown', 'hidden', 'refused']),
        hostLossStatus: random.pick(['EXITED', 'RUNNING', 'ERROR']),
        staleOfferShare: random.pick([0, 0.2]),
        hasNoPublicPorts: random.chance(0.1),
      };
    case 'lambda':
      return {
        ...common,
        terminateReply: random.pick(['instances', 'empty', 'alternate']),
        terminateEarly: random.pick(['accept', 'refuse', 'ignore']),
        keepTerminatedMs: random.pick([0, 60_000]),
        pageSize: random.pick([null, 3]),
        raceShare: random.pick([0, 0.27]),
      };
  }
}
