/** The account's SSH keys at the simulated vendor. They go onto machines created afterwards, never onto older ones. */
import type { Journal } from '../journal.ts';

export interface AccountKey {
  id: number;
  user_id: number;
  public_key: string;
  created_at: string;
  deleted_at: null;
}

export interface AccountKeys {
  list(): AccountKey[];
  /** The same key twice is one key. */
  add(publicKey: string): AccountKey;
  /** False when there is no such key. */
  replace(id: number, publicKey: string): boolean;
  remove(id: number): boolean;
}

const KEYS = 'vastai/account-keys';
export const ACCOUNT_ID = 4242;

export function createAccountKeys(journal: Journal, now: () => number): AccountKeys {
  const stored = journal.restored.get(KEYS) as { nextId: number; keys: AccountKey[] } | undefined;
  let keys = stored?.keys ?? [];
  let nextId = stored?.nextId ?? 501;

  function save(changed: AccountKey[]): void {
    keys = changed;
    journal.put([[KEYS, { nextId, keys }]]);
  }

  return {
    list: () => [...keys],
    add(publicKey) {
      const existing = keys.find((key) => key.public_key === publicKey);
      if (existing !== undefined) return existing;
      const key: AccountKey = {
        id: nextId++,
        user_id: ACCOUNT_ID,
        public_key: publicKey,
        created_at: new Date(now()).toISOString(),
        deleted_at: null,
      };
      save([...keys, key]);
      return key;
    },
    replace(id, publicKey) {
      if (!keys.some((key) => key.id === id)) return false;
      save(keys.map((key) => (key.id === id ? { ...key, public_key: publicKey } : key)));
      return true;
    },
    remove(id) {
      const left = keys.filter((key) => key.id !== id);
      if (left.length === keys.length) return false;
      save(left);
      return true;
    },
  };
}
