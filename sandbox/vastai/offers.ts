/**
 * The offers of the simulated market: which slot is listed under which id, and who has it.
 * An offer is used up by its purchase; when the slot is free again it is listed under another id. Ids that were
 * used up come back for other slots later, as the vendor does: an offer id is no identity.
 */
import type { JournalRecord } from '../journal.ts';
import { createRandom } from '../random.ts';
import { describeSlot, type Slot } from './hardware.ts';
import type { VastaiSwitches } from './switches.ts';

export interface SlotState {
  /** The id under which it is listed; null while somebody has it. */
  offerId: number | null;
  /** Our machine in it, `other` for another customer of the vendor, or null. */
  occupant: number | 'other' | null;
  /** Another renter's bid that has to be topped, or null. */
  rivalBidMicroUsd: number | null;
}

export interface Offer {
  id: number;
  slot: Slot;
  priceMicroUsdPerHour: number;
  minBidMicroUsdPerHour: number;
}

export type OfferLookup = { kind: 'listed'; offer: Offer } | { kind: 'gone' } | { kind: 'unknown' };

export interface OfferBook {
  /** All listed offers; among them `staleOfferShare` that cannot be bought. */
  list(): Offer[];
  count(): number;
  find(offerId: number): OfferLookup;
  /** The slot listed under this id, stale or not. */
  findListed(offerId: number): number | undefined;
  /** A slot for an order on an offer that is gone: the one that had the id last, or the first. */
  slotOfUsedOffer(offerId: number): number;
  slot(slotId: number): Slot;
  /** The floor for a bid on this slot now. */
  bidFloor(slotId: number): number;
  /** Who has the slot. */
  occupant(slotId: number): SlotState['occupant'];
  occupy(slotId: number, occupant: number | 'other'): JournalRecord[];
  release(slotId: number): JournalRecord[];
  setRivalBid(slotId: number, microUsd: number | null): JournalRecord[];
  /** A slot of its own outside the market, for machines that were there before. */
  takeUnlistedSlot(): { slotId: number; records: JournalRecord[] };
}

const FIRST_OFFER_ID = 9_000_000;
/** Ids for slots that are listed again. */
const FIRST_NEXT_OFFER_ID = 9_100_000;
const FIRST_UNLISTED_SLOT = 90_000;
/** So many used ids wait before the oldest may come back, for another slot than the one that used it last. */
const IDS_HELD_BACK = 16;
const COUNTER_KEY = 'vastai/offer-counters';

interface Counters {
  nextOfferId: number;
  nextUnlistedSlot: number;
  usedIds: number[];
}

export function createOfferBook(
  seed: number,
  count: number,
  switches: () => VastaiSwitches,
  restored: ReadonlyMap<string, unknown>,
): OfferBook {
  const slots = new Map<number, Slot>();
  const states = new Map<number, SlotState>();
  const listed = new Map<number, number>();
  const counters: Counters = (restored.get(COUNTER_KEY) as Counters | undefined) ?? {
    nextOfferId: FIRST_NEXT_OFFER_ID,
    nextUnlistedSlot: FIRST_UNLISTED_SLOT,
    usedIds: [],
  };

  for (let slotId = 1; slotId <= count; slotId++) {
    setState(slotId, { offerId: FIRST_OFFER_ID + slotId, occupant: null, rivalBidMicroUsd: null });
  }
  for (const [key, value] of restored) {
    if (key.startsWith('vastai/slot/')) setState(Number(key.slice('vastai/slot/'.length)), value as SlotState);
  }

  function setState(slotId: number, state: SlotState): void {
    const before = states.get(slotId)?.offerId;
    if (before !== undefined && before !== null) listed.delete(before);
    states.set(slotId, state);
    if (state.offerId !== null) listed.set(state.offerId, slotId);
  }

  function slot(slotId: number): Slot {
    let found = slots.get(slotId);
    if (found === undefined) slots.set(slotId, (found = describeSlot(seed, slotId)));
    return found;
  }

  function change(slotId: number, state: SlotState): JournalRecord[] {
    setState(slotId, state);
    return [
      [`vastai/slot/${slotId}`, state],
      [COUNTER_KEY, counters],
    ];
  }

  function stateOf(slotId: number): SlotState {
    return states.get(slotId) ?? { offerId: null, occupant: null, rivalBidMicroUsd: null };
  }

  function bidFloor(slotId: number): number {
    return stateOf(slotId).rivalBidMicroUsd ?? scale(slot(slotId).minBidMicroUsdPerHour);
  }

  function scale(microUsd: number): number {
    const factor = switches().priceFactor;
    return factor === 1 ? microUsd : Math.round(microUsd * factor);
  }

  function toOffer(offerId: number, slotId: number): Offer {
    const found = slot(slotId);
    return {
      id: offerId,
      slot: found,
      priceMicroUsdPerHour: scale(found.priceMicroUsdPerHour),
      minBidMicroUsdPerHour: bidFloor(slotId),
    };
  }

  function isInDrought(found: Slot): boolean {
    const { drought } = switches();
    return drought.length > 0 && (drought.includes('*') || drought.includes(found.gpu.name));
  }

  /** Which offers are stale does not change while their id lasts. */
  function isStale(offerId: number): boolean {
    const share = switches().staleOfferShare;
    return share > 0 && createRandom(seed, `stale ${offerId}`).next() < share;
  }

  function nextOfferId(): number {
    const canRecycle = switches().areOfferIdsRecycled && counters.usedIds.length > IDS_HELD_BACK;
    return canRecycle ? counters.usedIds.shift()! : counters.nextOfferId++;
  }

  return {
    list() {
      const offers: Offer[] = [];
      for (const [offerId, slotId] of listed) {
        if (!isInDrought(slot(slotId))) offers.push(toOffer(offerId, slotId));
      }
      return offers;
    },
    count: () => listed.size,
    find(offerId) {
      const slotId = listed.get(offerId);
      if (slotId !== undefined) {
        if (isInDrought(slot(slotId)) || isStale(offerId)) return { kind: 'gone' };
        return { kind: 'listed', offer: toOffer(offerId, slotId) };
      }
      const wasOffer =
        (offerId > FIRST_OFFER_ID && offerId <= FIRST_OFFER_ID + count) ||
        (offerId >= FIRST_NEXT_OFFER_ID && offerId < counters.nextOfferId);
      return { kind: wasOffer ? 'gone' : 'unknown' };
    },
    findListed: (offerId) => listed.get(offerId),
    slotOfUsedOffer(offerId) {
      const number = offerId - FIRST_OFFER_ID;
      return listed.get(offerId) ?? (number >= 1 && number <= count ? number : 1);
    },
    slot,
    bidFloor,
    occupant: (slotId) => stateOf(slotId).occupant,
    occupy(slotId, occupant) {
      const state = stateOf(slotId);
      if (state.offerId !== null) {
        counters.usedIds.push(state.offerId);
        if (counters.usedIds.length > 4 * IDS_HELD_BACK) counters.usedIds.shift();
      }
      return change(slotId, { ...state, offerId: null, occupant });
    },
    release(slotId) {
      const isUnlisted = slotId >= FIRST_UNLISTED_SLOT;
      return change(slotId, { offerId: isUnlisted ? null : nextOfferId(), occupant: null, rivalBidMicroUsd: null });
    },
    setRivalBid: (slotId, microUsd) => change(slotId, { ...stateOf(slotId), rivalBidMicroUsd: microUsd }),
    takeUnlistedSlot() {
      const slotId = counters.nextUnlistedSlot++;
      return { slotId, records: [[COUNTER_KEY, counters]] };
    },
  };
}
