/**
 * A step: one resumable slice of an operation, run under a claim. It loads, decides by a pure rule, acts outside any transaction and
 * applies under the claim. It may die at any line; the next step starts from the rows.
 */
import type { Logger } from 'pino';
import type { CrashPoint } from '../../domain/crash-points.ts';
import type { ErrorCode } from '../../domain/error-table.ts';
import type { LabelMac } from '../../domain/label.ts';
import type { ProviderName } from '../../domain/provider.ts';
import type { Db } from '../../db/database.ts';
import type { Claim, NewEvent, OperationRow } from '../../db/operations.ts';
import type { Queue } from '../../db/queue.ts';
import type { DestroyTimings } from '../../providers-dynamic/destroy-machine.ts';
import type { ProviderClient, RateLimiter } from '../../providers-dynamic/provider-client.ts';
import type { Envelope } from '../../secrets/envelope.ts';
import type { AzureManagement } from '../clusters/azure-management.ts';
import type { KubernetesReader } from '../clusters/kubernetes-reader.ts';
import type { ListedProvider } from '../readiness/list-instances.ts';
import type { StackRunner } from '../engine/stack-runner.ts';
import type { SnapshotServices } from '../snapshots/restic-port.ts';

/** What every step may use; made once per process. */
export interface StepServices {
  db: Db;
  queue: Queue;
  runner: StackRunner;
  /** Resolves when the engine is there; operations wait for it and say so. */
  engineReady: () => boolean;
  client: (provider: ProviderName) => ProviderClient;
  enabledProviders: ProviderName[];
  limiter: RateLimiter;
  envelope: Envelope;
  kubernetes: KubernetesReader;
  /** Absent: no cluster can be started or stopped. */
  azure?: AzureManagement;
  /** Absent: this process has no store of snapshots. */
  snapshots?: SnapshotServices;
  /** Of the sandbox's control page, where drills make losses. Absent: nothing is simulated. */
  sandboxUrl?: string;
  /** Where agents reach us; null: machines carry none. */
  agentUrl: string | null;
  labelMac: LabelMac;
  deploymentId: string;
  deploymentSshPublicKey: string;
  /** Opens every machine of ours. */
  deploymentSshPrivateKey: string;
  /** Of what no request says it for. */
  bootTimeoutMs: number;
  listLagMs: (provider: ProviderName) => number;
  now: () => Date;
  /** How long one step waits for the proof of a destroy before it gives way. Default: DESTROY_TIMINGS. */
  destroyTimings?: DestroyTimings;
  crashPoint: CrashPoint;
  log: Logger;
}

export interface StepContext extends StepServices {
  operation: OperationRow;
  claim: Claim;
  /** Aborted by a cancel request and by a drain: wind down and let the step end. */
  cancel: AbortSignal;
  /** Aborted when the lease is lost: stop at once, apply nothing. */
  kill: AbortSignal;
  /** Tells the engine's run to spend only while our lease is renewed. */
  onRunStarted: (runId: string) => void;
  emit: (events: NewEvent[]) => Promise<void>;
}

export type StepResult =
  /** `commit` already recorded the end of the operation or of the step in its own transaction. */
  | { kind: 'recorded' }
  | { kind: 'done'; note?: string }
  | { kind: 'wait'; until: Date; note: string }
  /** Trouble that may pass: wait with a growing delay. */
  | { kind: 'retry'; afterMs: number; note: string }
  | { kind: 'fail'; error: { code: ErrorCode; detail: string } }
  /** Interrupted by a drain: due again at once, for whoever comes. */
  | { kind: 'release' };

export type StepHandler = (context: StepContext) => Promise<StepResult>;

export function listedProvider(services: StepServices, provider: ProviderName): ListedProvider {
  const { db, now } = services;
  return { db, provider, client: services.client(provider), lagMs: services.listLagMs(provider), now };
}
