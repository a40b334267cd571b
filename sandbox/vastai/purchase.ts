/**
 * "Accept ask": the purchase at the simulated vendor. Checks what the vendor checks, and keeps the count of purchase
 * calls per label by which a test proves that nothing was bought twice.
 */
import type { HttpReply } from '../http-listener.ts';
import type { Journal } from '../journal.ts';
import { findKeysInScript } from '../public-keys.ts';
import { createPurchaseCounts, type PurchaseCount } from '../purchase-counts.ts';
import { goneAsk, refusal, unknownAsk, VastaiError } from './errors.ts';
import type { Fleet, NewMachine } from './fleet.ts';
import type { OfferBook } from './offers.ts';
import type { VastaiSwitches } from './switches.ts';

export interface PurchaseDesk {
  /** Answers one purchase call; the machine is in the journal before this returns. Throws VastaiError on bad input. */
  buy(offerId: number, body: Record<string, unknown>): HttpReply;
  /** Somebody else takes the offer: the answer of a lost race. */
  loseRace(offerId: number, label: string): HttpReply;
  /** Counts a call that a fault answered before the vendor saw it. */
  countRefused(label: string): void;
  counts(): Record<string, PurchaseCount<number>>;
}

export interface PurchaseDependencies {
  offers: OfferBook;
  fleet: Fleet;
  journal: Journal;
  switches: () => VastaiSwitches;
  accountKeys: () => string[];
  hasCredit: () => boolean;
}

const COUNT_KEY = 'vastai/purchases/';
const LIMITS = { label: 256, image: 1024, onstart: 4096, env: 256, envTotal: 32_768, minDiskGb: 8, maxPrice: 128 };
const RUNTYPE_WORDS = new Set([
  'ssh',
  'jupyter',
  'args',
  'ssh_proxy',
  'ssh_direct',
  'ssh_direc',
  'jupyter_proxy',
  'jupyter_direct',
  'jupyter_direc',
]);

export function createPurchaseDesk(deps: PurchaseDependencies): PurchaseDesk {
  const { offers, fleet, journal, switches } = deps;
  const counts = createPurchaseCounts<number>(journal, COUNT_KEY);
  const { count } = counts;

  function refuse(label: string, reply: HttpReply): HttpReply {
    journal.put(count(label, 'refused'));
    return reply;
  }

  function buyListed(offerId: number, body: Record<string, unknown>, label: string): HttpReply {
    const wanted = readPurchase(body);
    if (switches().untaggedImage === 'server_error' && !/[:@]/.test(wanted.image)) {
      return refuse(label, serverErrorReply());
    }
    const lookup = offers.find(offerId);
    if (lookup.kind === 'unknown') return refuse(label, unknownAsk(offerId));
    if (lookup.kind === 'gone') {
      if (wanted.cancelUnavailable || switches().unavailableWithoutCancel === 'refuse')
        return desk.loseRace(offerId, label);
      // Waits for a GPU that it may never get; the vendor takes it as an order all the same.
      const slot = offers.slot(offers.slotOfUsedOffer(offerId));
      const price = wanted.bidMicroUsdPerHour ?? slot.priceMicroUsdPerHour;
      return accept({ ...wanted, slotId: slot.slotId, gpuMicroUsdPerHour: price }, 'scheduling', label);
    }
    const { slot, priceMicroUsdPerHour, minBidMicroUsdPerHour } = lookup.offer;
    const price = wanted.bidMicroUsdPerHour ?? priceMicroUsdPerHour;
    const isTooLow = wanted.bidMicroUsdPerHour !== null && price < minBidMicroUsdPerHour;
    const machine = { ...wanted, slotId: slot.slotId, gpuMicroUsdPerHour: price };
    if (isTooLow) return refuseLowBid(machine, label);
    return accept(machine, wanted.isWantedStopped ? 'stopped' : 'boot', label);
  }

  function accept(wanted: WantedMachine, beginning: 'boot' | 'stopped' | 'scheduling', label: string): HttpReply {
    const machine = fleet.create(toNewMachine(wanted), 'bought', beginning, (id) => count(label, 'accepted', id));
    return {
      status: 200,
      body: { success: true, new_contract: machine.id, instance_api_key: `instance-key-${machine.id}` },
    };
  }

  /** The trap of this vendor: it says no, and a stopped machine that costs storage is there all the same. */
  function refuseLowBid(wanted: WantedMachine, label: string): HttpReply {
    const machine = fleet.create(toNewMachine(wanted), 'bought', 'stopped', (id) => count(label, 'refused', id));
    return {
      status: switches().bidTooLowStatus,
      body: { success: false, error: 'bid_too_low', msg: 'bid below minimum', new_contract: machine.id },
    };
  }

  function toNewMachine(wanted: WantedMachine): NewMachine {
    const { bidMicroUsdPerHour, isWantedStopped: _stopped, cancelUnavailable: _cancel, ...rest } = wanted;
    return {
      ...rest,
      isBid: bidMicroUsdPerHour !== null,
      publicKeys: [...new Set([...deps.accountKeys(), ...findKeysInScript(wanted.onstart)])],
    };
  }

  const desk: PurchaseDesk = {
    buy(offerId, body) {
      const label = typeof body['label'] === 'string' ? body['label'] : '';
      try {
        if (!deps.hasCredit()) throw refusal(400, 'missing_billing', 'Your account has no credit.');
        return buyListed(offerId, body, label);
      } catch (error) {
        if (error instanceof VastaiError) journal.put(count(label, 'refused'));
        throw error;
      }
    },
    loseRace(offerId, label) {
      const lookup = offers.findListed(offerId);
      if (lookup !== undefined) {
        // Taken and given back at once: the slot is listed again under another id.
        journal.put([...offers.occupy(lookup, 'other'), ...offers.release(lookup)]);
      }
      return refuse(label, goneAsk(offerId, switches().raceStatus));
    },
    countRefused: (label) => journal.put(count(label, 'refused')),
    counts: () => counts.all(),
  };
  return desk;
}

type WantedMachine = Omit<NewMachine, 'isBid' | 'publicKeys'> & {
  bidMicroUsdPerHour: number | null;
  isWantedStopped: boolean;
  cancelUnavailable: boolean;
};

/** Everything that the vendor refuses before it looks at the offer. `slotId` and price of the offer come later. */
function readPurchase(body: Record<string, unknown>): WantedMachine {
  const bidMicroUsdPerHour = readPrice(body['price']);
  const targetState = body['target_state'] ?? 'running';
  if (targetState !== 'running' && targetState !== 'stopped') throw invalid('target_state must be running or stopped');
  const cancelDefault = bidMicroUsdPerHour === null && targetState === 'running';
  return {
    slotId: 0,
    gpuMicroUsdPerHour: 0,
    label: readText(body, 'label', LIMITS.label, 'label_too_long') ?? '',
    image: readImage(body),
    imageArgs: readArgs(body),
    env: readEnv(body['env']),
    onstart: readOnstart(body),
    runtype: readRuntype(body['runtype']),
    templateHashId: readText(body, 'template_hash_id', LIMITS.image, 'invalid_args'),
    diskGb: readDisk(body['disk']),
    bidMicroUsdPerHour,
    isWantedStopped: targetState === 'stopped',
    cancelUnavailable: typeof body['cancel_unavail'] === 'boolean' ? body['cancel_unavail'] : cancelDefault,
  };
}

function readText(body: Record<string, unknown>, field: string, limit: number, code: string): string | null {
  const value = body[field] ?? null;
  if (value === null) return null;
  if (typeof value !== 'string') throw invalid(`${field} must be a string`);
  if (value.length > limit) throw refusal(400, code, `${field} is longer than ${limit} characters`);
  return value;
}

function readImage(body: Record<string, unknown>): string {
  const image = readText(body, 'image', LIMITS.image, 'invalid_args');
  if (image !== null && image !== '') return image;
  if (body['template_hash_id']) return 'vastai/template';
  throw invalid('image is required');
}

function readDisk(value: unknown): number {
  const disk = value === undefined || value === null ? LIMITS.minDiskGb + 2 : Number(value);
  if (!Number.isFinite(disk) || disk < LIMITS.minDiskGb) throw invalid(`disk must be at least ${LIMITS.minDiskGb} GB`);
  return disk;
}

function readPrice(value: unknown): number | null {
  if (value === undefined || value === null) return null;
  const price = Number(value);
  if (!Number.isFinite(price) || price < 0.001 || price > LIMITS.maxPrice) {
    throw refusal(400, 'invalid_price', `Please set a bid price >= 0.001 and <= ${LIMITS.maxPrice}.`);
  }
  return Math.round(price * 1_000_000);
}

function readArgs(body: Record<string, unknown>): string[] {
  if (Array.isArray(body['args'])) return body['args'].map(String);
  return typeof body['args_str'] === 'string' && body['args_str'] !== '' ? body['args_str'].split(' ') : [];
}

function readOnstart(body: Record<string, unknown>): string | null {
  const onstart = readText(body, 'onstart', LIMITS.onstart, 'invalid_args');
  const combined = (onstart ?? '').length + readArgs(body).join(' ').length;
  if (combined > LIMITS.onstart)
    throw invalid(`onstart and args together are longer than ${LIMITS.onstart} characters`);
  return onstart;
}

function readRuntype(value: unknown): string {
  if (value === undefined || value === null) return 'ssh_proxy';
  const words = typeof value === 'string' ? value.split(' ') : [];
  if (words.length === 0 || !words.every((word) => RUNTYPE_WORDS.has(word))) {
    throw invalid(`runtype ${JSON.stringify(value)} is not known`);
  }
  return value as string;
}

/** An object of strings, or docker's flags in one string: `-e A=b -p 8000:8000 -h name`. */
function readEnv(value: unknown): [string, string][] {
  const pairs = typeof value === 'string' ? parseDockerFlags(value) : readEnvObject(value);
  let total = 0;
  for (const [name, text] of pairs) {
    total += name.length + text.length;
    if (name.length + text.length > LIMITS.env && !name.startsWith('-')) {
      throw invalid(`env ${name.slice(0, 40)} is longer than ${LIMITS.env} characters`);
    }
  }
  if (total > LIMITS.envTotal) throw invalid(`env is longer than ${LIMITS.envTotal} characters`);
  return pairs;
}

function readEnvObject(value: unknown): [string, string][] {
  if (value === undefined || value === null) return [];
  if (typeof value !== 'object' || Array.isArray(value))
    throw invalid('env must be an object or a string of docker flags');
  return Object.entries(value).map(([name, text]) => [name, String(text)]);
}

function parseDockerFlags(flags: string): [string, string][] {
  const words = flags.match(/(?:[^\s"']+|"[^"]*"|'[^']*')+/g) ?? [];
  const pairs: [string, string][] = [];
  for (let i = 0; i < words.length; i += 2) {
    const flag = words[i]!;
    const argument = words[i + 1]?.replace(/["']/g, '');
    if (argument === undefined || !['-e', '--env', '-p', '-h', '--hostname', '-v'].includes(flag)) {
      throw invalid(`env has an option that is not known: ${flag}`);
    }
    const equals = argument.indexOf('=');
    if (flag === '-e' || flag === '--env') {
      pairs.push(equals < 0 ? [argument, ''] : [argument.slice(0, equals), argument.slice(equals + 1)]);
    } else pairs.push([`${flag} ${argument}`, '1']);
  }
  return pairs;
}

function serverErrorReply(): HttpReply {
  return { status: 500, body: { success: false, error: 'server_error', msg: 'Something went wrong on the server' } };
}

function invalid(message: string): VastaiError {
  return refusal(400, 'invalid_args', message);
}
