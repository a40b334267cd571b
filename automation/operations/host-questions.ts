/**
 * What an operation child asks about hosts of our own and standbys in the middle of a run: the key to a host, how its agent joins, whether
 * it may be forgotten. Answered from the stack's org only; secrets go over the child's channel and nowhere else.
 */
import { ProviderError } from '../../domain/provider-error.ts';
import { findCredential, openCredential } from '../../db/credentials.ts';
import { retryWhileAway, type Tx } from '../../db/database.ts';
import { claimHost, findHostOfStack, isLiveNode, markHostRemoved } from '../../db/hosts.ts';
import { replaceNodeToken } from '../../db/nodes.ts';
import { withClaim } from '../../db/operations.ts';
import { findStandbyOfStack } from '../../db/standbys.ts';
import type { StackRow } from '../../db/stacks.ts';
import { LEASE_MS } from '../../domain/operation.ts';
import type { HostJoin, StandbyJoin } from '../../providers-dynamic/host-runtime.ts';
import { hashAgentToken, makeAgentToken } from '../../secrets/agent-token.ts';
import type { Questions } from '../engine/protocol.ts';
import type { StepContext } from './step.ts';

/** It is used within the minute; a download on a slow line takes its time. */
const TOKEN_LIFETIME_MS = 30 * 60_000;

/** A stopped standby starts for the first time when it is needed. */
const STANDBY_TOKEN_LIFETIME_MS = 365 * 86_400_000;

type HostQuestion = 'sshKey' | 'joinHost' | 'joinStandby' | 'mayForgetHost' | 'hostRemoved';

/** undefined: the question is not about hosts. Throws ProviderError. */
export function answerHostQuestion(
  context: StepContext,
  stack: StackRow,
  question: keyof Questions,
  input: unknown,
): Promise<unknown> | undefined {
  const answers: Record<HostQuestion, () => Promise<unknown>> = {
    sshKey: () => openSshKey(context, stack, input as Questions['sshKey']['ask']),
    joinHost: () => joinHost(context, stack, input as Questions['joinHost']['ask']),
    joinStandby: () => joinStandby(context, stack),
    mayForgetHost: async () => {
      const { host } = input as Questions['mayForgetHost']['ask'];
      return (await findHostOfStack(context.db, stack.id, host))?.forget_requested_at != null;
    },
    hostRemoved: async () => {
      const { host } = input as Questions['hostRemoved']['ask'];
      await write(context, (tx) => markHostRemoved(tx, stack.id, host));
      return null;
    },
  };
  return Object.hasOwn(answers, question) ? answers[question as HostQuestion]() : undefined;
}

async function openSshKey(
  { db, envelope }: StepContext,
  stack: StackRow,
  { credentialRef }: Questions['sshKey']['ask'],
): Promise<Questions['sshKey']['answer']> {
  const privateKey = await openCredential(db, envelope, stack.org_id, credentialRef, 'ssh_private_key');
  if (privateKey === null)
    throw new ProviderError(
      'auth',
      `there is no credential "${credentialRef}" with an SSH private key: POST /credentials`,
    );
  return { privateKey };
}

async function joinHost(
  context: StepContext,
  stack: StackRow,
  { host, wantsToken, carries }: Questions['joinHost']['ask'],
): Promise<HostJoin | null> {
  const { agentUrl: url } = context;
  if (url === null) return null;
  let join: HostJoin | null = null;
  await write(context, async (tx) => {
    const credential = await findCredential(tx, stack.org_id, host.credentialRef);
    const place = { ...host, name: host.host, credentialId: credential?.id ?? null };
    const order = { ...place, orgId: stack.org_id, stackId: stack.id, addedBy: null };
    const { node_id: nodeId } = await claimHost(tx, order, wantsToken);
    const mayTakeOver = carries === null || carries === nodeId || !(await isLiveNode(tx, carries));
    join = { url, nodeId, token: null, mayTakeOver };
    if (!wantsToken || carries === nodeId || !mayTakeOver) return;
    const token = makeAgentToken();
    await replaceNodeToken(tx, { tokenHash: hashAgentToken(token), nodeId, lifetimeMs: TOKEN_LIFETIME_MS });
    join = { ...join, token };
  });
  return join;
}

/** An earlier token is worth nothing from now on. null: people made the stack without a standby. */
async function joinStandby(context: StepContext, stack: StackRow): Promise<StandbyJoin | null> {
  let join: StandbyJoin | null = null;
  await write(context, async (tx) => {
    const standby = await findStandbyOfStack(tx, stack.id);
    if (!standby || standby.node_id === null || standby.removed_at !== null) return;
    const token = makeAgentToken();
    const order = { tokenHash: hashAgentToken(token), nodeId: standby.node_id, lifetimeMs: STANDBY_TOKEN_LIFETIME_MS };
    await replaceNodeToken(tx, order);
    join = { nodeId: standby.node_id, token };
  });
  return join;
}

function write(context: StepContext, work: (tx: Tx) => Promise<void>): Promise<void> {
  return retryWhileAway(() => withClaim(context.db, context.claim, work), LEASE_MS);
}
