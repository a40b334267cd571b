/**
 * Who speaks to the state service: a person's CLI with an API key, whose role decides, or an engine run of our own with a token that opens
 * the one stack it runs on. Run tokens live as long as the process that made them: the engine's processes do too.
 */
import { randomBytes } from 'node:crypto';
import type { Actor } from '../../db/audit.ts';
import { isAllowed, type AccessRule, type Role } from '../../domain/access.ts';
import { StateError } from './state-error.ts';

export type StatePrincipal =
  { kind: 'person'; orgId: string; actor: Actor; role: Role; isAdmin: boolean } | ({ kind: 'run' } & EngineRun);

export interface EngineRun {
  runId: string;
  /** The only stack that it opens, by the engine's name. */
  stackName: string;
  /** Whose progress it is. @default nobody follows it */
  operationId?: string | null;
}

export interface RunTokens {
  issue(run: EngineRun): string;
  revoke(token: string): void;
  find(token: string): EngineRun | null;
}

const PREFIX = 'mu_';

export function createRunTokens(): RunTokens {
  const runs = new Map<string, EngineRun>();
  return {
    issue(run) {
      const token = `${PREFIX}${randomBytes(32).toString('base64url')}`;
      runs.set(token, run);
      return token;
    },
    revoke: (token) => void runs.delete(token),
    find: (token) => runs.get(token) ?? null,
  };
}

/** Throws StateError 403 where the role does not allow it. A run of ours may do everything to its stack. */
export function assertMay(principal: StatePrincipal, rule: Extract<AccessRule, 'read' | 'change'>, what: string): void {
  if (principal.kind === 'run' || isAllowed(rule, principal)) return;
  throw new StateError(403, `Forbidden: the role ${principal.role} may not ${what}`);
}
