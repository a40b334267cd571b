/**
 * A vendor of the world: one provider's market and machines in memory, on the virtual clock, with everything that vendors do wrong. It
 * keeps the truth, so that the world's promises are judged by what is, not by what was told.
 */
import type { ObservedInstance, ObservedStatus } from '../../domain/observed-instance.ts';
import type { Offer } from '../../domain/offer.ts';
import { ProviderError } from '../../domain/provider-error.ts';
import type { ProviderName } from '../../domain/provider.ts';
import type { ProviderClient, PurchaseOrder } from '../../providers-dynamic/provider-client.ts';
import type { SeededRandom } from '../support/seeded-random.ts';
import { makeMarket, moveMarket, type MarketOffer } from './world-market.ts';

/** What is wrong for a while. */
export const SPELLS = [
  'empty_list',
  'shrunken_list',
  'html_list',
  'deprecated_list',
  'outage',
  'destroy_outage',
  'refused_key',
  'rate_limits',
  'lost_answers',
  'lost_requests',
  'stale_offers',
  'drought',
  'slow_boots',
  'bad_machines',
] as const;
export type Spell = (typeof SPELLS)[number];

export type Fate = 'boots' | 'boots_late' | 'fails' | 'never_boots' | 'no_ssh' | 'wrong_gpu';

export interface WorldMachine {
  id: string;
  label: string | null;
  isForeign: boolean;
  gpu: string;
  machineId: string | null;
  price: bigint;
  image: string | null;
  interruptible: boolean;
  isOutbid: boolean;
  bid: bigint | null;
  bornAt: number;
  runsAt: number;
  fate: Fate;
}

export interface WorldVendor {
  provider: ProviderName;
  client: ProviderClient;
  machines: Map<string, WorldMachine>;
  offers: MarketOffer[];
  /** Until when each lasts. */
  spells: Map<Spell, number>;
  place(label: string | null, isForeign: boolean): WorldMachine;
  /** What happened at the vendor since the last look. */
  takeDeeds(): { bought: WorldMachine[]; destroyed: WorldMachine[] };
  /** Lets the market move. */
  move(): void;
  has(spell: Spell): boolean;
}

export interface SshPlaces {
  /** By the GPU that nvidia-smi shows there. */
  byGpu: Record<string, { host: string; port: number; user: string }>;
  /** Nobody listens there. */
  closed: { host: string; port: number; user: string };
}

const MINUTE = 60_000;
/** How long a list may lag behind a purchase; far below the time between two ticks. */
const LIST_LAG_MS = 8_000;
const MEMORY: Record<string, number> = { 'RTX 4090': 24, 'H100 SXM': 80 };

export function createWorldVendor(
  provider: ProviderName,
  random: SeededRandom,
  now: () => number,
  ssh: SshPlaces,
): WorldVendor {
  const machines = new Map<string, WorldMachine>();
  const dying = new Map<string, number>();
  let deeds: ReturnType<WorldVendor['takeDeeds']> = { bought: [], destroyed: [] };
  let number = 1000 + random.below(1000);

  const has = (spell: Spell): boolean => (vendor.spells.get(spell) ?? 0) > now();
  const meet = (what: 'read' | 'list' | 'destroy'): void => {
    if (has('outage') || (what === 'destroy' && has('destroy_outage')))
      throw new ProviderError('retryable', 'HTTP 503: down', { httpStatus: 503 });
    if (has('refused_key')) throw new ProviderError('auth', 'HTTP 401: the key is refused', { httpStatus: 401 });
    if (has('rate_limits') && random.chance(0.3))
      throw new ProviderError('rate_limited', 'HTTP 429', { httpStatus: 429 });
  };
  /** A list as the vendor tells it today. */
  const tell = <T>(all: T[]): T[] => {
    if (has('html_list')) throw new ProviderError('unbelievable', 'the reply is no JSON: <html>');
    if (has('deprecated_list')) throw new ProviderError('unbelievable', 'HTTP 410: deprecated', { httpStatus: 410 });
    if (has('empty_list')) return [];
    return has('shrunken_list') ? all.slice(0, Math.floor(all.length / 4)) : all;
  };
  const statusOf = (machine: WorldMachine): ObservedStatus => {
    if (machine.isOutbid) return 'stopped';
    if (machine.fate === 'fails') return now() - machine.bornAt > MINUTE ? 'failed' : 'starting';
    if (machine.fate === 'never_boots') return 'starting';
    return now() >= machine.runsAt ? 'running' : 'starting';
  };
  const sshOf = (machine: WorldMachine): ObservedInstance['ssh'] => {
    if (statusOf(machine) !== 'running') return null;
    if (machine.fate === 'no_ssh') return ssh.closed;
    const shown = machine.fate === 'wrong_gpu' ? (machine.gpu === 'RTX 4090' ? 'H100 SXM' : 'RTX 4090') : machine.gpu;
    return ssh.byGpu[shown] ?? ssh.closed;
  };
  const observe = (machine: WorldMachine): ObservedInstance => ({
    provider,
    providerInstanceId: machine.id,
    label: machine.label,
    status: statusOf(machine),
    statusDetail: null,
    machineId: machine.machineId,
    gpu: machine.gpu,
    gpuCount: 1,
    gpuMemoryGib: MEMORY[machine.gpu] ?? null,
    priceMicroUsdPerHour: machine.price,
    interruptible: machine.interruptible,
    interrupted: machine.isOutbid,
    ssh: sshOf(machine),
    image: machine.image,
    region: 'SE',
    startedAt: null,
  });
  const find = (id: string): WorldMachine | undefined => {
    const left = dying.get(id);
    if (left !== undefined && left <= 0) machines.delete(id);
    else if (left !== undefined) dying.set(id, left - 1);
    return machines.get(id);
  };
  const make = (label: string | null, isForeign: boolean, change: Partial<WorldMachine> = {}): WorldMachine => {
    const machine: WorldMachine = {
      id: String(number++),
      label,
      isForeign,
      gpu: 'RTX 4090',
      machineId: null,
      price: 300_000n,
      image: null,
      interruptible: false,
      isOutbid: false,
      bid: null,
      bornAt: now(),
      runsAt: now(),
      fate: 'boots',
      ...change,
    };
    machines.set(machine.id, machine);
    return machine;
  };

  function sell(order: PurchaseOrder, offer: MarketOffer): WorldMachine {
    const fate = drawFate(random, has('bad_machines'));
    const slow = has('slow_boots') || fate === 'boots_late' ? 20 * MINUTE + random.below(40 * MINUTE) : 0;
    offer.left--;
    const machine = make(order.label, false, {
      gpu: offer.gpu,
      machineId: offer.machineId,
      price: offer.priceMicroUsdPerHour,
      image: provider === 'vastai' || provider === 'runpod' ? order.image : null,
      interruptible: order.interruptible,
      bid: order.bidMicroUsdPerHour,
      ...(order.interruptible && order.bidMicroUsdPerHour !== null ? { price: order.bidMicroUsdPerHour } : {}),
      fate,
      runsAt: now() + MINUTE + random.below(5 * MINUTE) + slow,
    });
    deeds.bought.push(machine);
    return machine;
  }

  const client: ProviderClient = {
    provider,
    capabilities: {
      interruptible: provider === 'vastai',
      stop: provider !== 'lambda',
      attachKeys: provider === 'vastai',
      relabel: provider === 'vastai',
    },
    async searchOffers() {
      meet('list');
      // What was sold out a moment ago is often listed still.
      const listed = vendor.offers.filter((offer) => offer.left > 0 || random.chance(0.3));
      return tell(has('drought') ? listed.slice(0, 1) : listed).map(toOffer);
    },
    async buy(order, signal, beforeSending) {
      if (signal?.aborted) throw new ProviderError('canceled', 'canceled');
      beforeSending?.();
      if (has('outage')) throw new ProviderError('unknown', 'HTTP 502');
      if (has('refused_key')) throw new ProviderError('auth', 'HTTP 401: the key is refused');
      if (has('rate_limits') && random.chance(0.5)) throw new ProviderError('unknown', 'HTTP 429', { httpStatus: 429 });
      if (random.chance(has('lost_requests') ? 0.5 : 0.02)) throw new ProviderError('unknown', 'connection reset');
      const offer = vendor.offers.find((one) => one.providerOfferId === order.providerOfferId);
      if (!offer || offer.left <= 0 || has('drought') || random.chance(has('stale_offers') ? 0.6 : 0.05)) {
        throw new ProviderError('no_capacity', 'no longer available');
      }
      const machine = sell(order, offer);
      if (random.chance(0.02))
        throw new ProviderError('no_capacity', 'accepted but errored', { createdInstanceId: machine.id });
      if (random.chance(has('lost_answers') ? 0.5 : 0.03)) throw new ProviderError('unknown', 'connection reset');
      return { providerInstanceId: machine.id };
    },
    async readInstance(id) {
      meet('read');
      const machine = find(id);
      return machine ? observe(machine) : null;
    },
    async listInstances() {
      meet('list');
      const listed = [...machines.values()].filter((one) => now() - one.bornAt > LIST_LAG_MS || random.chance(0.5));
      return tell(listed.map(observe));
    },
    async findByLabel(label) {
      meet('list');
      return tell([...machines.values()].map(observe)).filter((one) => one.label === label);
    },
    async destroy(id) {
      meet('destroy');
      const machine = find(id);
      if (!machine) return;
      deeds.destroyed.push(machine);
      if (random.chance(0.2)) dying.set(id, 1);
      else machines.delete(id);
    },
    stop: () => Promise.reject(new ProviderError('invalid', 'not in this world')),
    start: () => Promise.reject(new ProviderError('invalid', 'not in this world')),
    async setLabel(id, label) {
      const machine = find(id);
      if (machine) machine.label = label;
    },
    async changeBid(id, bid) {
      meet('read');
      const machine = find(id);
      if (!machine) throw new ProviderError('not_found', 'no such instance');
      if (machine.bid !== null && bid > machine.bid) Object.assign(machine, { isOutbid: false, price: bid });
      machine.bid = bid;
    },
    attachSshKey: () => Promise.resolve(),
    listAccountSshKeys: () => Promise.resolve([]),
    addAccountSshKey: () => Promise.resolve(),
    readAccount: () => Promise.resolve({ accountId: provider, creditMicroUsd: null }),
  };
  const vendor: WorldVendor = {
    provider,
    client,
    machines,
    offers: makeMarket(provider, random),
    spells: new Map(),
    place: (label, isForeign) => make(label, isForeign),
    takeDeeds() {
      const taken = deeds;
      deeds = { bought: [], destroyed: [] };
      return taken;
    },
    move: () => moveMarket(vendor.offers, random),
    has,
  };
  return vendor;
}

function drawFate(random: SeededRandom, isBadTime: boolean): Fate {
  if (!random.chance(isBadTime ? 0.6 : 0.15)) return 'boots';
  return random.pick(['boots_late', 'fails', 'never_boots', 'no_ssh', 'wrong_gpu']);
}

function toOffer({ left: _left, ...offer }: MarketOffer): Offer {
  return offer;
}
