/** What the API is given: main.ts makes it, routes use it. */
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Database } from '../db/database.ts';
import type { SourcingMode } from '../domain/sourcing.ts';
import type { Queue } from '../db/queue.ts';
import type { RateLimit } from '../db/rate-limits.ts';
import type { Envelope } from '../secrets/envelope.ts';
import type { AgentPlatform } from './contract/agent-runtime.ts';
import type { AccessTokens } from './access-token.ts';
import type { EventHub } from './event-hub.ts';
import type { GpuCatalogue } from './gpu-catalogue.ts';
import type { OpenRepositoryFiles } from './repository/open-files.ts';

/** What agents are given and told. */
export interface AgentDeps {
  /** Whether what is made carries one. @default true */
  isOn?: boolean;
  /** The agent's one file. A failure is thrown and tried again with the next call. */
  bundle(): Promise<{ text: string; sha256: string; version: string }>;
  /** Node itself, for machines that have none. */
  nodePrograms: {
    /** SHA-256 in hex of each program that there is. */
    digests(): Promise<Partial<Record<AgentPlatform, string>>>;
    /** Path of the program compressed by gzip; null: there is none for the platform. */
    compressed(platform: AgentPlatform): Promise<string | null>;
  };
  /** restic likewise. @default none is handed out */
  resticPrograms?: AgentDeps['nodePrograms'];
  /** Between two heartbeats. */
  intervalMs: number;
  /** An agent whose key is older is offered another. */
  rotateKeyAfterMs: number;
  /** A rented machine switches itself off where its agent heard nothing of us for so long; null: never. @default null */
  deadManMs?: number | null;
}

export interface ApiDeps {
  /** At least 10 connections: a request that spends holds one for its whole transaction. */
  database: Database;
  queue: Queue;
  /** Seals what requests bring that is secret (environment variables). */
  envelope: Envelope;
  /** The deployment's token signing key (secrets/deployment-secrets.ts), PEM. */
  tokenSigningKey: { privatePem: string; publicPem: string };
  deploymentId: string;
  agents: AgentDeps;
  /** Where the repositories of workspaces lie. */
  openRepositoryFiles: OpenRepositoryFiles;
  registration: 'closed' | 'invite' | 'open';
  /** Requests a second per key or user; null: no limit. */
  rateLimitPerSecond: number | null;
  /** Default and hard maximum of a lifetime. */
  maxLifetimeMs: number;
  /** Where webhooks may lead: public addresses only, or anywhere. */
  webhookTargets: 'public' | 'any';
  /** Default for a request that names none. */
  bootTimeoutMs: number;
  /** How long a plan waits for fresh listings of offers; 0: it takes what is there. @default 30000 */
  offerPatienceMs?: number;
  /** Images that pods may have, as patterns of domain/pods/image.ts. @default any */
  podImages?: readonly string[];
  /** What sourcing rules lead to. @default off */
  sourcingMode?: SourcingMode;
  logger: Logger;
  /** What GET /metrics shows; the API adds its own. */
  metrics: Registry;
  /** How long a silent event stream waits before it sends a comment. @default 15000 */
  heartbeatMs?: number;
  /** Every reply is held against its schema, a mismatch answers 500. For tests. @default false */
  checkReplies?: boolean;
}

/** What handlers are given: the same, and what app.ts made of it. */
export interface ApiContext extends ApiDeps {
  hub: EventHub;
  accessTokens: AccessTokens;
  /** Of passwords and invites, by address and email. */
  guessLimit: RateLimit;
  gpus: GpuCatalogue;
  /** Of the agent that we hand out; null: not known yet. Never waits for it to be made. */
  agentSha256(): string | null;
}
