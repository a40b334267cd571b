/**
 * The token by which agents of a cluster's nodes join, for the program that puts it into the cluster. It lies sealed in a row of its own and is
 * added to a program's arguments when it runs, so that a stack's row, its plans and its outputs hold none.
 */
import {
  DEFAULT_AGENT_NAMESPACE,
  ENROLMENT_OVERLAP_MS,
  ENROLMENT_ROTATE_AFTER_MS,
} from '../../domain/clusters/enrolment.ts';
import { findEnrolment, holdEnrolment, replaceEnrolment, type NewEnrolment } from '../../db/cluster-enrolments.ts';
import { findClusterOfStack } from '../../db/clusters.ts';
import { inTransaction, type Db } from '../../db/database.ts';
import type { StackRow } from '../../db/stacks.ts';
import { hashAgentToken, makeAgentToken } from '../../secrets/agent-token.ts';
import { openEnrolment, sealEnrolment } from '../../secrets/cluster-access.ts';
import type { Envelope } from '../../secrets/envelope.ts';

export interface EnrolmentServices {
  db: Db;
  envelope: Envelope;
  now: () => Date;
}

/** Stands for the token in a dry run, which has no cluster yet: wherever it is shown, both are `[secret]`. */
const PLACEHOLDER = 'made-with-the-cluster';

/** The stack's configuration, with the token where an agent is asked for and none is given. */
export async function withEnrolment({ db, envelope }: EnrolmentServices, stack: StackRow): Promise<unknown> {
  const { config } = stack;
  if (!wantsToken(config)) return config;
  const cluster = await findClusterOfStack(db, stack.id);
  if (!cluster && stack.removed_at === null) return config;
  let token = PLACEHOLDER;
  if (cluster) {
    const held = await holdEnrolment(db, makeEnrolment(envelope, cluster.id));
    token = openEnrolment(envelope, cluster.id, held.token_sealed);
  }
  return { ...config, nodeAgent: { ...config.nodeAgent, enrolmentToken: token } };
}

/** Before an up is planned: a token that is due is replaced. Agents that run learn the new one from their volume. */
export async function renewEnrolment({ db, envelope, now }: EnrolmentServices, stack: StackRow): Promise<void> {
  if (!wantsToken(stack.config)) return;
  const cluster = await findClusterOfStack(db, stack.id);
  const held = cluster && (await findEnrolment(db, cluster.id));
  if (!held || now().getTime() - held.made_at.getTime() < ENROLMENT_ROTATE_AFTER_MS) return;
  const fresh = makeEnrolment(envelope, held.cluster_id);
  await inTransaction(db, (tx) => replaceEnrolment(tx, fresh, ENROLMENT_OVERLAP_MS));
}

function makeEnrolment(envelope: Envelope, clusterId: string): NewEnrolment {
  const token = makeAgentToken();
  return {
    clusterId,
    tokenHash: hashAgentToken(token),
    tokenSealed: sealEnrolment(envelope, clusterId, token),
    namespace: DEFAULT_AGENT_NAMESPACE,
  };
}

interface AgentConfig {
  nodeAgent: Record<string, unknown>;
}

function wantsToken(config: unknown): config is AgentConfig {
  const { nodeAgent } = (config ?? {}) as Partial<AgentConfig>;
  return typeof nodeAgent === 'object' && nodeAgent !== null && nodeAgent['enrolmentToken'] === undefined;
}
