/**
 * What the worker and an operation child say to each other over their IPC channel. Everything is plain data; amounts are decimal
 * strings because the channel is JSON. Secrets travel here and nowhere else: not in argv, not in the environment.
 */
import type { PlannedStep } from '../../domain/prices/price-diff.ts';
import type { Drift } from '../../domain/stack.ts';
import type { ProviderErrorKind } from '../../domain/provider-error.ts';
import type { ProviderName } from '../../domain/provider.ts';
import type { HostJoin, JoiningHost, StandbyJoin } from '../../providers-dynamic/host-runtime.ts';

/** The first three change nothing: what an up or a destroy would do, and what an outside hand has done. */
export type UpdateKind = 'preview' | 'preview_destroy' | 'detect_drift' | 'up' | 'refresh' | 'destroy';

export function changesNothing(update: UpdateKind): boolean {
  return update === 'preview' || update === 'preview_destroy' || update === 'detect_drift';
}

/** By Pulumi's name of the package: where a provider listens that the engine is to dial instead of starting the plugin. */
export type CloudPorts = Partial<Record<'aws' | 'azure-native' | 'gcp' | 'kubernetes', number>>;

export interface ChildSettings {
  /** The `pulumi` program. */
  enginePath: string;
  engineVersion: string;
  /** The project's folder: where @pulumi/pulumi resolves. */
  projectRoot: string;
  /** The child's own scratch folder: PULUMI_HOME and work directories. */
  scratchDir: string;
  providers: Partial<Record<ProviderName, { apiKey: string; baseUrl: string; listLagMs: number }>>;
  /** The sandbox's simulated clouds; empty: the official plugins. */
  cloudPorts: CloudPorts;
  /** The clouds' own credential variables, for the engine's official plugins. */
  cloudEnvironment: Record<string, string>;
  /** Parallel resource operations of one update. */
  parallel: number;
}

export interface RunRequest {
  runId: string;
  update: UpdateKind;
  stackName: string;
  /** Where the engine finds the stack's state; the token is secret. */
  state: { url: string; accessToken: string };
  /** Absent for what needs none: it works on the state. */
  program: { kind: string; args: unknown } | null;
  /** Labels whose machine may exist already: looked up before anything is bought. */
  mayExist: string[];
  deploymentSshPublicKeys: string[];
  /** Names of outputs to hand over in clear after an up: they travel over this channel and are to be sealed at once. */
  secretOutputs?: string[];
}

/** Why a resource could not be made, changed or deleted. */
export interface ResourceFailure {
  errorKind: ProviderErrorKind | 'internal';
  reason: string;
}

export interface ResourceProgress {
  name: string;
  type: string;
  op: string;
  status: 'started' | 'done' | 'failed';
  /** Outputs of a finished create, update or read. */
  outputs?: Record<string, unknown>;
  id?: string;
}

export interface RunResult {
  isOk: boolean;
  /** Text of the engine and of the Automation API, classified by classify-error.ts. No secrets. */
  errorText: string | null;
  /** By resource name (the attempt's id). */
  failures: Record<string, ResourceFailure>;
  changes: Record<string, number>;
  /** Of the stack; the engine has replaced secrets by a mark. */
  outputs: Record<string, unknown>;
  /** Of a preview: every resource, in the engine's order. Empty for the rest. */
  steps: PlannedStep[];
  /** Of `detect_drift` and `refresh`. */
  drift: Drift[];
  /** Of an up that ended well: the outputs that were asked for, in clear. */
  secretOutputs?: Record<string, unknown>;
}

export type ToChild =
  | { type: 'settings'; settings: ChildSettings }
  | { type: 'run'; request: RunRequest }
  | { type: 'cancel'; runId: string }
  /** The parent's lease was renewed: the child may spend for so long from now. */
  | { type: 'lease'; runId: string; validForMs: number }
  | { type: 'answer'; askId: number; value?: unknown; error?: { kind: ProviderErrorKind | null; message: string } };

/** Questions the child asks in the middle of a run. */
export interface Questions {
  acquire: { ask: { provider: ProviderName; endpoint: string }; answer: null };
  slowDown: { ask: { provider: ProviderName; endpoint: string; forMs: number }; answer: null };
  /** Of hosts of ours: the private key that the stack's org keeps under this name. */
  sshKey: { ask: { credentialRef: string }; answer: { privateKey: string } };
  joinHost: { ask: { host: JoiningHost; wantsToken: boolean; carries: string | null }; answer: HostJoin | null };
  /** Of the standby whose stack this is: who its agent is, and the token by which it joins. */
  joinStandby: { ask: Record<string, never>; answer: StandbyJoin | null };
  mayForgetHost: { ask: { host: string }; answer: boolean };
  hostRemoved: { ask: { host: string }; answer: null };
  nextCandidate: {
    ask: { label: string; refused: { providerOfferId: string; reason: string } | null };
    answer: { providerOfferId: string; machineId: string | null; priceMicroUsdPerHour: string } | null;
  };
}

export type FromChild =
  | { type: 'ready'; rssBytes: number }
  | { type: 'ask'; askId: number; runId: string; question: keyof Questions; input: unknown }
  | { type: 'resources'; runId: string; resources: ResourceProgress[] }
  | { type: 'progress'; runId: string; message: string }
  | { type: 'result'; runId: string; result: RunResult; rssBytes: number };
