/** How often a purchase was called per label: by this a test proves that nothing was bought twice. Survives a kill. */
import type { Journal, JournalRecord } from './journal.ts';

export interface PurchaseCount<Id = number | string> {
  calls: number;
  accepted: number;
  refused: number;
  machineIds: Id[];
}

export interface PurchaseCounts<Id> {
  /** Counts one call; what is returned must be written, together with the machine where there is one. */
  count(label: string, outcome: 'accepted' | 'refused', machineId?: Id): JournalRecord[];
  all(): Record<string, PurchaseCount<Id>>;
}

/** `prefix` begins the journal's keys, such as `vastai/purchases/`. */
export function createPurchaseCounts<Id>(journal: Journal, prefix: string): PurchaseCounts<Id> {
  const counts = new Map<string, PurchaseCount<Id>>();
  for (const [key, value] of journal.restored) {
    if (key.startsWith(prefix)) counts.set(key.slice(prefix.length), value as PurchaseCount<Id>);
  }
  return {
    count(label, outcome, machineId) {
      const before = counts.get(label) ?? { calls: 0, accepted: 0, refused: 0, machineIds: [] };
      const after = { ...before, calls: before.calls + 1, [outcome]: before[outcome] + 1 };
      if (machineId !== undefined) after.machineIds = [...before.machineIds, machineId];
      counts.set(label, after);
      return [[`${prefix}${label}`, after]];
    },
    all: () => Object.fromEntries(counts),
  };
}
