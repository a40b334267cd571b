/** Updates: made, started (which takes the stack), written, renewed, ended, canceled. */
import { inTransaction } from '../../db/database.ts';
import { lockStateStack, type StateStackRow } from '../../db/state-stacks.ts';
import {
  appendJournal,
  endStateUpdate,
  findHolder,
  findOwnedUpdate,
  findStateUpdate,
  insertStateUpdate,
  renewStateLease,
  startStateUpdate,
  writeCheckpoint,
  type StateUpdateRow,
} from '../../db/state-updates.ts';
import { appendUpdateEvents, listUpdateEvents } from '../../db/update-events.ts';
import { JournalError } from '../../domain/state/journal.ts';
import { AmbiguousAliasError } from '../../domain/state/normalize.ts';
import type { VersionedDeployment } from '../../domain/state/deployment.ts';
import { STATE_LEASE_MS, type StateUpdateKind, type StateUpdateStatus } from '../../domain/state/update.ts';
import { audit, findStackOf, requesterOf, stackHeld, type StackPath } from './stack-routes.ts';
import { principalOf, type StateCall } from './state-call.ts';
import { leaseLost, notFound, StateError } from './state-error.ts';
import { assertMay } from './state-principal.ts';
import {
  checkpointBody,
  completeBody,
  createUpdateBody,
  eventsBody,
  journalBody,
  renewBody,
  startUpdateBody,
} from './wire.ts';

/** Of one batch of entries as unpacked; the CLI halves a batch that is larger. */
const MAX_JOURNAL_BYTES = 32 * 1024 * 1024;
const EVENTS_PAGE = 1_000;
const JOURNAL_VERSION = 1;

export async function createUpdate(call: StateCall, path: StackPath, kind: Exclude<StateUpdateKind, 'import'>) {
  const stack = await findStackOf(call, path);
  const body = await call.json(createUpdateBody);
  const isDryRun = body.options?.dryRun === true;
  const principal = principalOf(call);
  if (kind !== 'preview' && !isDryRun) assertMay(principal, 'change', 'update stacks');
  const update = await insertStateUpdate(call.db, {
    id: call.fresh().id,
    stackUuid: stack.uuid,
    kind,
    isDryRun,
    request: {
      message: body.metadata?.message ?? '',
      environment: body.metadata?.environment ?? {},
      config: body.config ?? {},
    },
    engineVersion: engineVersionOf(call.request.headers['user-agent']),
    requestedBy: requesterOf(call),
    runId: principal.kind === 'run' ? principal.runId : null,
    operationId: principal.kind === 'run' ? (principal.operationId ?? null) : null,
  });
  return { updateID: update.id, requiredPolicies: [], messages: [], aiSettings: { copilotIsEnabled: false } };
}

export async function startUpdate(call: StateCall, path: StackPath, updateId: string) {
  const stack = await findStackOf(call, path);
  const update = await findUpdate(call, stack, updateId);
  if (update.kind !== 'preview' && !update.is_dry_run) assertMay(principalOf(call), 'change', 'update stacks');
  const body = await call.json(startUpdateBody);
  const journalVersion = (body.journalVersion ?? 0) >= JOURNAL_VERSION ? JOURNAL_VERSION : 0;
  const outcome = await replaying(() =>
    inTransaction(call.db, async (tx) => {
      const started = await startStateUpdate(tx, {
        stackUuid: stack.uuid,
        updateId,
        token: call.fresh().token,
        journalVersion,
        tags: body.tags ?? null,
      });
      if (started.kind === 'started' && !started.isRepeat)
        await audit(call, tx, stack, 'stack.update', {
          update: updateId,
          kind: update.kind,
          isDryRun: update.is_dry_run,
        });
      return started;
    }),
  );
  if (outcome.kind === 'held') throw stackHeld();
  if (outcome.kind === 'not_new') throw new StateError(409, 'Conflict: the update was started before.');
  return {
    version: outcome.update.version,
    token: call.fresh().token,
    tokenExpiration: Math.floor((Date.now() + STATE_LEASE_MS) / 1000),
    journalVersion,
  };
}

const WIRE_STATUS: Record<StateUpdateStatus, string> = {
  not_started: 'not started',
  running: 'running',
  succeeded: 'succeeded',
  failed: 'failed',
  canceled: 'cancelled',
};

export async function getUpdate(call: StateCall, path: StackPath, updateId: string) {
  const update = await findUpdate(call, await findStackOf(call, path), updateId);
  return { status: WIRE_STATUS[update.status], events: [] };
}

export async function getEvents(call: StateCall, path: StackPath, updateId: string) {
  const update = await findUpdate(call, await findStackOf(call, path), updateId);
  const after = Number(call.query.get('continuationToken') ?? -1);
  const rows = await listUpdateEvents(call.db, update.id, {
    after: Number.isInteger(after) ? after : -1,
    limit: EVENTS_PAGE,
  });
  const isOver = rows.length < EVENTS_PAGE && update.status !== 'running' && update.status !== 'not_started';
  return {
    events: rows.map(({ event }) => JSON.parse(event) as object),
    continuationToken: isOver ? null : String(rows.at(-1)?.sequence ?? after),
  };
}

/** What was journaled is kept; later writers are told that they lost the stack. */
export async function cancelUpdate(call: StateCall, path: StackPath, updateId: string) {
  const found = await findStackOf(call, path);
  assertMay(principalOf(call), 'change', 'cancel updates');
  await replaying(() =>
    inTransaction(call.db, async (tx) => {
      const stack = await lockStateStack(tx, found.uuid);
      const update = stack && (await findStateUpdate(tx, stack.uuid, updateId));
      const reason = `canceled by ${requesterOf(call)}`;
      if (call.isAgain && update?.end_reason === reason) return;
      if (!stack || update?.status !== 'running') throw new StateError(409, 'Conflict: The update is not running.');
      await endStateUpdate(tx, stack, update, 'canceled', reason);
      await audit(call, tx, stack, 'stack.cancel', { update: updateId });
    }),
  );
  return {};
}

export async function renewLease(call: StateCall, updateId: string) {
  const { duration } = await call.json(renewBody);
  const forMs = Math.min(duration * 1000, STATE_LEASE_MS);
  if (!(await renewStateLease(call.db, updateId, call.updateToken, forMs))) throw leaseLost();
  return { token: call.updateToken, tokenExpiration: Math.floor((Date.now() + forMs) / 1000) };
}

export async function writeJournal(call: StateCall, updateId: string) {
  const { entries } = await call.json(journalBody, MAX_JOURNAL_BYTES);
  const sent = (entries ?? []).map((entry) => ({ sequenceId: entry.sequenceID, text: JSON.stringify(entry) }));
  if (!(await appendJournal(call.database, updateId, call.updateToken, sent))) throw leaseLost();
  return {};
}

export async function putCheckpoint(call: StateCall, updateId: string) {
  const { version, features, deployment } = await call.json(checkpointBody);
  const state = { version, ...(features?.length ? { features } : {}), deployment: deployment ?? {} };
  if (!(await writeCheckpoint(call.db, updateId, call.updateToken, state as VersionedDeployment))) throw leaseLost();
  return {};
}

export async function putEvents(call: StateCall, updateId: string) {
  const { events } = await call.json(eventsBody);
  const sent = (events ?? []).map((event) => ({
    sequence: event.sequence,
    at: event.timestamp ? new Date(event.timestamp * 1000) : new Date(),
    event,
  }));
  if (!(await appendUpdateEvents(call.db, updateId, call.updateToken, sent))) throw leaseLost();
  return {};
}

/** Idempotent: the CLI asks again when the answer was lost, and is told what it was told before. */
export async function completeUpdate(call: StateCall, updateId: string) {
  const { status } = await call.json(completeBody);
  await replaying(() =>
    inTransaction(call.db, async (tx) => {
      const owned = await findOwnedUpdate(tx, updateId, call.updateToken);
      const stack = owned && (await lockStateStack(tx, owned.stack_uuid));
      const update = stack && (await findHolder(tx, updateId, call.updateToken));
      if (update) await endStateUpdate(tx, stack, update, status);
      else if ((await findOwnedUpdate(tx, updateId, call.updateToken))?.status !== status) throw leaseLost();
    }),
  );
  return {};
}

async function findUpdate(call: StateCall, stack: StateStackRow, updateId: string): Promise<StateUpdateRow> {
  const update = await findStateUpdate(call.db, stack.uuid, updateId);
  if (!update) throw notFound(`update ${updateId}`);
  return update;
}

/** A journal that contradicts itself makes no state: the stack stays as it is until somebody imports one. */
async function replaying<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof JournalError) && !(error instanceof AmbiguousAliasError)) throw error;
    throw new StateError(
      409,
      `Conflict: the journal of the last update cannot be replayed (${error.message}). Nothing was changed; look at what exists and import a state`,
    );
  }
}

/** From `pulumi-cli/1 (v3.259.0; linux; …)`; empty where it cannot be told. */
function engineVersionOf(userAgent: string | undefined): string {
  return /^pulumi-cli\/\S+ \((v[^;)]{1,40})/.exec(userAgent ?? '')?.[1] ?? '';
}
