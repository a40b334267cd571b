/** Gives an attempt its one-time token, in the transaction that records it: what is bought then carries an agent. */
import { insertNodeToken } from '../../db/nodes.ts';
import { sealAgent } from '../../db/attempts.ts';
import type { Tx } from '../../db/database.ts';
import { hashAgentToken, makeAgentToken, openJoin, sealJoin } from '../../secrets/agent-token.ts';
import { withAgentJoin, withAgentStart } from '../../domain/agent-start.ts';
import type { AttemptRow } from '../../db/attempts.ts';
import type { StepServices } from './step.ts';

/** Beyond the boot's own time: a purchase may be in trouble for half an hour before it boots. */
const TOKEN_MARGIN_MS = 60 * 60_000;

/** Does nothing where agents are off. */
export async function equipAgent(
  services: Pick<StepServices, 'agentUrl' | 'envelope'>,
  tx: Tx,
  attemptId: string,
  bootTimeoutMs: number,
): Promise<void> {
  if (services.agentUrl === null) return;
  const token = makeAgentToken();
  await insertNodeToken(tx, {
    tokenHash: hashAgentToken(token),
    attemptId,
    lifetimeMs: bootTimeoutMs + TOKEN_MARGIN_MS,
  });
  await sealAgent(tx, attemptId, sealJoin(services.envelope, attemptId, { url: services.agentUrl, token }));
}

/** What the attempt's machine starts with: the same from the same row, so that no engine run changes anything. */
export function startOf(
  services: Pick<StepServices, 'envelope'>,
  attempt: Pick<AttemptRow, 'id' | 'agent_sealed'>,
  wanted: { env: Record<string, string>; onStart: string | null },
): { env: Record<string, string>; onStart: string | null } {
  if (attempt.agent_sealed === null) return wanted;
  const join = openJoin(services.envelope, attempt.id, attempt.agent_sealed);
  return { env: withAgentJoin(wanted.env, join), onStart: withAgentStart(wanted.onStart) };
}
