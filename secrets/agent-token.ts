/**
 * The one-time token by which the agent on a rented machine registers, sealed with the address that it registers at: what a machine was
 * bought with must come out the same from every engine run. Only its digest is compared (db/nodes.ts).
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Envelope } from './envelope.ts';
import { identityAt } from './sealed-place.ts';

export const AGENT_TOKEN_PREFIX = 'mn_';

/** What a machine's environment tells its agent. */
export interface AgentJoin {
  url: string;
  token: string;
}

export function makeAgentToken(): string {
  return `${AGENT_TOKEN_PREFIX}${randomBytes(32).toString('base64url')}`;
}

export function hashAgentToken(token: string): Buffer {
  return createHash('sha256').update(token, 'utf8').digest();
}

export function sealJoin(envelope: Envelope, attemptId: string, join: AgentJoin): string {
  return envelope.seal(JSON.stringify(join), identityAt('attempts.agent_sealed', attemptId));
}

/** Throws SealError where it was sealed to another attempt. */
export function openJoin(envelope: Envelope, attemptId: string, sealed: string): AgentJoin {
  return JSON.parse(envelope.open(sealed, identityAt('attempts.agent_sealed', attemptId))) as AgentJoin;
}
