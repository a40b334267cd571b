/** One request to the state service, and what its handlers have at hand. */
import type { IncomingMessage } from 'node:http';
import type { Logger } from 'pino';
import type { z } from 'zod';
import type { Database, Db } from '../../db/database.ts';
import type { StateStackRow } from '../../db/state-stacks.ts';
import type { VersionedDeployment } from '../../domain/state/deployment.ts';
import type { Envelope } from '../../secrets/envelope.ts';
import { openStackKey, type StackCipher } from '../../secrets/stack-key.ts';
import type { StatePrincipal } from './state-principal.ts';
import { StateError } from './state-error.ts';

/** The only org that a caller sees is its own; the CLI knows it by the name that its file backends use. */
export const OWN_ORG = 'organization';

export interface StateCall {
  database: Pick<Database, 'kysely' | 'pool'>;
  /** Of the same database. */
  db: Db;
  envelope: Envelope;
  log: Logger;
  request: IncomingMessage;
  query: URLSearchParams;
  /** null: the route proves itself by an update's token. */
  principal: StatePrincipal | null;
  /** Of the update; empty where none was sent. */
  updateToken: string;
  /** What it makes is called so, and opened by that: the same in each repetition of the request. The second is secret. */
  fresh(): { id: string; token: string };
  /** The database went away under this request: what it is to do may be done. */
  isAgain: boolean;
  /** As the caller reaches us, without a path: it stands in the states that it reads. */
  baseUrl: string;
  json<Schema extends z.ZodType>(schema: Schema, maxBytes?: number): Promise<z.output<Schema>>;
}

/** Throws StateError 401 where the route needs one and there is none. */
export function principalOf(call: StateCall): StatePrincipal {
  if (call.principal) return call.principal;
  throw new StateError(401, 'Unauthorized: log in with an API key (PULUMI_ACCESS_TOKEN or pulumi login)');
}

const ciphers = new WeakMap<Envelope, Map<string, StackCipher>>();
const MAX_CIPHERS = 1_000;

export function cipherOf(call: StateCall, stack: Pick<StateStackRow, 'key_owner' | 'key_sealed'>): StackCipher {
  const known = ciphers.get(call.envelope) ?? new Map<string, StackCipher>();
  ciphers.set(call.envelope, known);
  const cipher = known.get(stack.key_sealed) ?? openStackKey(call.envelope, stack.key_owner, stack.key_sealed);
  if (known.size >= MAX_CIPHERS) known.clear();
  known.set(stack.key_sealed, cipher);
  return cipher;
}

/**
 * Where a state says that its secrets are the service's, it names the service's address and the stack; both may have changed since. The
 * engine asks that address for the key, so it is written as the caller knows it.
 */
export function atHome(
  state: VersionedDeployment,
  home: { baseUrl: string; stack: Pick<StateStackRow, 'project' | 'name'> },
): VersionedDeployment {
  const provider = state.deployment.secrets_providers;
  if (provider?.type !== 'service') return state;
  const { project, name } = home.stack;
  const secretsProviders = { type: 'service', state: { url: home.baseUrl, owner: OWN_ORG, project, stack: name } };
  return { ...state, deployment: { ...state.deployment, secrets_providers: secretsProviders } };
}
