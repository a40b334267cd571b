/** The account's secrets: SSH keys that a purchase may name. Values are told only one by one. */
import type { Journal } from '../journal.ts';
import { createRandom } from '../random.ts';
import { makeUuid } from './hardware.ts';

export interface Secret {
  id: string;
  name: string;
  type: string;
  value: string;
}

export interface Secrets {
  all(): readonly Secret[];
  find(id: string): Secret | undefined;
  add(secret: Omit<Secret, 'id'>): Secret;
  remove(id: string): boolean;
}

const KEY = 'tensordock/secrets';

export function createSecrets(journal: Journal, seed: number): Secrets {
  let stored = (journal.restored.get(KEY) as { made: number; secrets: Secret[] } | undefined) ?? {
    made: 0,
    secrets: [],
  };
  const store = (next: typeof stored): void => {
    stored = next;
    journal.put([[KEY, stored]]);
  };
  return {
    all: () => stored.secrets,
    find: (id) => stored.secrets.find((secret) => secret.id === id),
    add(input) {
      const made = stored.made + 1;
      const secret = { id: makeUuid(createRandom(seed, `tensordock secret ${made}`)), ...input };
      store({ made, secrets: [...stored.secrets, secret] });
      return secret;
    },
    remove(id) {
      const secrets = stored.secrets.filter((secret) => secret.id !== id);
      const isFound = secrets.length < stored.secrets.length;
      if (isFound) store({ ...stored, secrets });
      return isFound;
    },
  };
}
