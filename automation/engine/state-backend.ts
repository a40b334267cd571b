/**
 * The state backend: what the runner needs of the states of its stacks. They are rows of ours (db/state-stacks.ts), which the engine reads and
 * writes through the state service (api/state-service/) that runs in this process for it, each run with a token of its own.
 */
import { withAdopted, type FoundResource } from '../../domain/state/adopt.ts';
import type { Deployment, ResourceState } from '../../domain/state/deployment.ts';
import { toStackState, type StackState } from '../../domain/state/stack-state.ts';
import { LEASE_MS } from '../../domain/operation.ts';
import { inTransaction, retryWhileAway, type Db, type Executor, type Tx } from '../../db/database.ts';
import { findStackOrg } from '../../db/stacks.ts';
import {
  appendStateVersion,
  deleteStateStack,
  findEngineStack,
  insertStateStack,
  lockStateStack,
  type StateStackRow,
} from '../../db/state-stacks.ts';
import {
  endStateUpdate,
  findActiveUpdate,
  isLeaseOver,
  readCurrentState,
  type StateUpdateRow,
} from '../../db/state-updates.ts';
import type { Envelope } from '../../secrets/envelope.ts';
import { makeStackKey } from '../../secrets/stack-key.ts';

export const PROJECT = 'muster';

/** Something that may be at a cloud. */
export interface LookUpCandidate {
  /** The pending create that may have made it. */
  urn: string;
  id: string;
}

/** Where one run of the engine reads and writes its stack's state. */
export interface StateAccess {
  url: string;
  /** Opens this stack alone, until the run is over. Secret. */
  accessToken: string;
  /** The run is over: what it did not end itself ends now, with what it wrote. Idempotent. */
  close(): Promise<void>;
}

export interface EngineRun {
  runId: string;
  stackName: string;
  /** Whose progress it is. @default nobody follows it */
  operationId?: string | null;
}

/** The state service as this process offers it to its engines (main.ts); the API offers it to people's. */
export interface EngineStateService {
  url: string;
  runTokens: {
    issue(run: EngineRun): string;
    revoke(token: string): void;
  };
}

export interface StateBackend {
  openRun(run: EngineRun): StateAccess;
  /** Makes the stack where it is missing. Idempotent. */
  prepareStack(stackName: string): Promise<void>;
  /** null: there is no such stack. */
  readState(stackName: string): Promise<StackState | null>;
  /**
   * Ends all pending creates: those in `found` (by urn) become resources that the next up makes whole (they carry an init error, so the
   * engine calls update), the others are dropped. Only while no update runs.
   */
  resolvePendingCreates(stackName: string, found: Record<string, FoundResource>): Promise<void>;
  /** Inputs of a provider of the stack, as the state has them (secrets sealed); null: there is none of this reference. */
  readProvider(stackName: string, reference: string): Promise<Record<string, unknown> | null>;
  /**
   * Makes a stack beside it that holds its providers and the candidates as if they were there, so that a refresh of that stack says which
   * of them are: readState then has those, with what the provider told. Replaces one that is left from before. @returns its name; the
   * candidates' resources are named `name~index`
   */
  openLookUp(stackName: string, candidates: LookUpCandidate[]): Promise<string>;
  closeLookUp(stackName: string): Promise<void>;
  /** Forgets an empty stack. Throws when it still has resources. Idempotent. */
  removeStack(stackName: string): Promise<void>;
  /**
   * Takes every protection off, so that a destroy deletes what the stack's owner no longer protects: also the mark by which the engine would
   * forget data and keys instead of deleting them. Only while no update runs.
   */
  unprotect(stackName: string): Promise<void>;
  /**
   * Ends updates of ours that died with their process, each with what it had written. Only for the holder of the stack's lease.
   * Throws StackHeldError while a person's update holds the stack.
   */
  endDeadUpdates(stackName: string): Promise<void>;
}

/** A person's CLI updates the stack at this moment. */
export class StackHeldError extends Error {
  readonly by: string;
  readonly since: Date | null;

  constructor(by: string, kind: string, since: Date | null) {
    super(`the stack is held by ${describeKind(kind)} of ${by}`);
    this.name = 'StackHeldError';
    this.by = by;
    this.since = since;
  }
}

function describeKind(kind: string): string {
  return kind === 'update' ? 'an update' : `a ${kind}`;
}

export interface StateBackendOptions {
  db: Db;
  envelope: Envelope;
  /** null: this process runs no engine; states can be read. */
  service: EngineStateService | null;
}

/** A database that is away for longer has taken the operation's own lease too. Everything here can be done again. */
function withPatience<T>(work: () => Promise<T>): Promise<T> {
  return retryWhileAway(work, LEASE_MS);
}

function inPatientTransaction<T>(db: Db, work: (tx: Tx) => Promise<T>): Promise<T> {
  return withPatience(() => inTransaction(db, work));
}

export function createStateBackend({ db, envelope, service }: StateBackendOptions): StateBackend {
  const backend: StateBackend = {
    openRun(run) {
      const { runId, stackName } = run;
      if (service === null) throw new Error('this process has no state service for its engines');
      const accessToken = service.runTokens.issue(run);
      return {
        url: service.url,
        accessToken,
        async close() {
          service.runTokens.revoke(accessToken);
          await endUpdates(db, stackName, (update) => update.run_id === runId, 'its engine is gone');
        },
      };
    },
    prepareStack: (stackName) => makeStack(stackName, null),
    readState: (stackName) =>
      withPatience(async () => {
        const stack = await findEngineStack(db, stackName);
        return stack ? toStackState((await readCurrentState(db, stack)).deployment) : null;
      }),
    resolvePendingCreates: (stackName, found) =>
      change(stackName, (deployment) => {
        const { pending_operations: pending = [], ...rest } = deployment;
        if (pending.length === 0) return null;
        const resources = pending.reduce<ResourceState[]>((known, { resource, type }) => {
          const made = found[resource.urn];
          return type === 'creating' && made !== undefined ? withAdopted(known, resource, made) : known;
        }, rest.resources ?? []);
        return { ...rest, resources };
      }),
    async removeStack(stackName) {
      const state = await backend.readState(stackName);
      if (state === null) return;
      if (state.resources.length > 0)
        throw new Error(`stack ${stackName} still has ${state.resources.length} resources`);
      await removeRows([stackName, lookUpName(stackName)]);
    },
    readProvider: (stackName, reference) =>
      withPatience(async () => {
        const stack = await findEngineStack(db, stackName);
        const resources = stack ? (await readCurrentState(db, stack)).deployment.resources : [];
        return resources?.find(({ urn, id }) => `${urn}::${id}` === reference)?.inputs ?? null;
      }),
    openLookUp: (stackName, candidates) =>
      withPatience(async () => {
        const name = lookUpName(stackName);
        const stack = await needStack(db, stackName);
        const state = await readCurrentState(db, stack);
        await removeRows([name]);
        await makeStack(name, stack);
        await change(name, () => lookUpDeployment(state.deployment, name, candidates));
        return name;
      }),
    closeLookUp: (stackName) => removeRows([lookUpName(stackName)]),
    unprotect: (stackName) =>
      change(stackName, (deployment) => {
        const resources = deployment.resources ?? [];
        if (!resources.some((resource) => resource.protect || resource.retainOnDelete)) return null;
        return {
          ...deployment,
          resources: resources.map(({ protect: _protect, retainOnDelete: _retain, ...resource }) => resource),
        };
      }),
    endDeadUpdates: (stackName) =>
      withPatience(async () => {
        await endUpdates(db, stackName, (update) => update.run_id !== null || isLeaseOver(update), 'its process died');
        const stack = await findEngineStack(db, stackName);
        const active = stack && (await findActiveUpdate(db, stack));
        if (active) throw new StackHeldError(active.requested_by, active.kind, active.started_at);
      }),
  };
  return backend;

  /** @param like whose secrets it can read; null: it has a key of its own */
  async function makeStack(name: string, like: StateStackRow | null): Promise<void> {
    if (await withPatience(() => findEngineStack(db, name))) return;
    await inPatientTransaction(db, async (tx) => {
      const orgId = like ? like.org_id : await findStackOrg(tx, name);
      await insertStateStack(tx, {
        orgId,
        project: PROJECT,
        name,
        isEngine: true,
        tags: {},
        key: like
          ? { owner: like.key_owner, sealed: like.key_sealed }
          : (uuid) => ({ owner: uuid, sealed: makeStackKey(envelope, uuid) }),
      });
    });
  }

  /** Writes a new version of the state; null leaves it as it is. Only while no update runs. */
  async function change(stackName: string, make: (deployment: Deployment) => Deployment | null): Promise<void> {
    await inPatientTransaction(db, async (tx) => {
      const found = await needStack(tx, stackName);
      const stack = (await lockStateStack(tx, found.uuid)) ?? found;
      const state = await readCurrentState(tx, stack);
      const deployment = make(state.deployment);
      if (deployment !== null) await appendStateVersion(tx, stack, { ...state, deployment }, null);
    });
  }

  function removeRows(names: readonly string[]): Promise<void> {
    return inPatientTransaction(db, async (tx) => {
      for (const name of names) {
        const stack = await findEngineStack(tx, name);
        if (stack) await deleteStateStack(tx, stack.uuid);
      }
    });
  }
}

/** Ends the update that holds the stack, where `isMeant` says so. */
function endUpdates(
  db: Db,
  stackName: string,
  isMeant: (update: StateUpdateRow) => boolean,
  reason: string,
): Promise<void> {
  return inPatientTransaction(db, async (tx) => {
    const found = await findEngineStack(tx, stackName);
    const stack = found && (await lockStateStack(tx, found.uuid));
    const active = stack && (await findActiveUpdate(tx, stack));
    if (active && isMeant(active)) await endStateUpdate(tx, stack, active, 'failed', reason);
  });
}

async function needStack(executor: Executor, name: string): Promise<StateStackRow> {
  const stack = await findEngineStack(executor, name);
  if (!stack) throw new Error(`there is no state of stack ${name}`);
  return stack;
}

/** A name that no stack of ours can have. */
function lookUpName(stackName: string): string {
  return `${stackName}.look-up`;
}

/** Everything by which the resources hang together in their own stack is left out: each is only to be read. */
function lookUpDeployment(own: Deployment, name: string, candidates: LookUpCandidate[]): Deployment {
  const pending = (own.pending_operations ?? []).map(({ resource }) => resource);
  const resources = candidates.map(({ urn, id }, index): ResourceState => {
    const { type, inputs, provider } = pending.find((one) => one.urn === urn) ?? { type: '' };
    const beside = `urn:pulumi:${name}::${PROJECT}::${type}::${urn.split('::').at(-1)}~${index}`;
    return {
      urn: beside,
      type,
      custom: true,
      id,
      inputs: inputs ?? {},
      outputs: { ...inputs },
      ...(provider ? { provider } : {}),
    };
  });
  const providers = (own.resources ?? [])
    .filter(({ urn, id }) => resources.some(({ provider }) => provider === `${urn}::${id}`))
    .map(({ urn, type, custom, id, inputs, outputs }): ResourceState => {
      return {
        urn,
        type,
        custom: custom ?? true,
        ...(id === undefined ? {} : { id }),
        inputs: withoutGuess(inputs),
        outputs: withoutGuess(outputs),
      };
    });
  const { secrets_providers: secrets, manifest } = own;
  return {
    ...(manifest ? { manifest } : {}),
    ...(secrets ? { secrets_providers: secrets } : {}),
    resources: [...providers, ...resources],
  };
}

/** A cluster that does not answer is no reason to believe that what was in it is gone. */
function withoutGuess(values: Record<string, unknown> = {}): Record<string, unknown> {
  const { deleteUnreachable: _, ...rest } = values;
  return rest;
}
