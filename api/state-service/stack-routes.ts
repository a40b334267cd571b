/** Stacks: made, looked at, exported, imported, renamed, tagged, removed; and their secrets. */
import { appendAudit } from '../../db/audit.ts';
import { inTransaction, type Tx } from '../../db/database.ts';
import {
  appendStateVersion,
  deleteStateStack,
  findEngineStack,
  findStateStack,
  insertStateStack,
  lockStateStack,
  readStateVersion,
  renameStateStack,
  setStateTags,
  type StateStackRow,
} from '../../db/state-stacks.ts';
import {
  abandonStateUpdate,
  findActiveUpdate,
  findStateUpdate,
  insertStateUpdate,
  isLeaseOver,
  listStateUpdates,
  readCurrentState,
  type StateUpdateRow,
} from '../../db/state-updates.ts';
import { readChanges } from '../../db/update-events.ts';
import { withAdoptedImports } from '../../domain/state/adopt.ts';
import { countResources, emptyDeployment, type VersionedDeployment } from '../../domain/state/deployment.ts';
import { makeStackKey } from '../../secrets/stack-key.ts';
import { SealError } from '../../secrets/envelope.ts';
import { toSeconds } from './account-routes.ts';
import { atHome, cipherOf, OWN_ORG, principalOf, type StateCall } from './state-call.ts';
import { badRequest, notFound, StateError } from './state-error.ts';
import { assertMay } from './state-principal.ts';
import {
  batchDecryptBody,
  batchEncryptBody,
  createStackBody,
  decryptBody,
  encryptBody,
  renameBody,
  stateName,
  tagsBody,
  versionedDeployment,
} from './wire.ts';

export interface StackPath {
  org: string;
  project: string;
  name: string;
}

/** Throws StateError 404 where there is none, or it is not the caller's to see. */
export async function findStackOf(call: StateCall, path: StackPath): Promise<StateStackRow> {
  const principal = principalOf(call);
  const isOwn = path.org === OWN_ORG || (principal.kind === 'person' && path.org === principal.orgId);
  let stack: StateStackRow | undefined;
  if (isOwn && principal.kind === 'run')
    stack = path.name === principal.stackName ? await findEngineStack(call.db, path.name) : undefined;
  else if (isOwn && principal.kind === 'person')
    stack = await findStateStack(call.db, { orgId: principal.orgId, project: path.project, name: path.name });
  if (stack?.project !== path.project) throw notFound(`stack '${path.org}/${path.project}/${path.name}'`);
  assertMay(principal, 'read', 'look at stacks');
  return stack;
}

export async function createStack(call: StateCall, org: string, project: string) {
  const principal = principalOf(call);
  assertMay(principal, 'change', 'make stacks');
  if (principal.kind === 'run') throw new StateError(403, 'Forbidden: a run makes no stacks');
  if (org !== OWN_ORG && org !== principal.orgId) throw notFound(`organization ${org}`);
  if (!stateName.safeParse(project).success) throw badRequest(`project: ${project} is no project's name`);
  const body = await call.json(createStackBody);
  const given = body.state ? asDeployment(body.state) : null;
  await inTransaction(call.db, async (tx) => {
    const name = { orgId: principal.orgId, project, name: body.stackName };
    const stack = await insertStateStack(tx, {
      ...name,
      uuid: call.fresh().id,
      isEngine: false,
      tags: body.tags ?? {},
      key: (uuid) => ({ owner: uuid, sealed: makeStackKey(call.envelope, uuid) }),
    });
    // This very request made it: the answer of the database was lost.
    if (!stack && (await findStateStack(tx, name))?.uuid === call.fresh().id) return;
    // The CLI looks for "already exists".
    if (!stack) throw new StateError(409, `Conflict: stack ${project}/${body.stackName} already exists`);
    if (given) await appendStateVersion(tx, stack, given, null);
    await audit(call, tx, stack, 'stack.create');
  });
  return { messages: [] };
}

export async function getStack(call: StateCall, path: StackPath) {
  const stack = await findStackOf(call, path);
  const active = await findActiveUpdate(call.db, stack);
  return {
    id: stack.uuid,
    orgName: OWN_ORG,
    projectName: stack.project,
    stackName: stack.name,
    version: stack.version,
    activeUpdate: active?.id ?? '',
    tags: stack.tags,
    ...(active && !isLeaseOver(active)
      ? {
          currentOperation: {
            kind: active.kind,
            author: active.requested_by,
            started: toSeconds(active.started_at),
          },
        }
      : {}),
  };
}

export async function deleteStack(call: StateCall, path: StackPath) {
  const found = await findStackOf(call, path);
  assertMay(principalOf(call), 'change', 'remove stacks');
  refuseEngineStack(found, 'remove');
  await inTransaction(call.db, async (tx) => {
    const stack = await holdIdle(tx, found);
    const state = await readStateVersion(tx, stack);
    // Letter by letter: the CLI then says how to go on.
    if (call.query.get('force') !== 'true' && state !== null && countResources(state) > 0)
      throw new StateError(400, 'Bad Request: Stack still contains resources.');
    await audit(call, tx, stack, 'stack.remove');
    await deleteStateStack(tx, stack.uuid);
  });
  return {};
}

export async function exportStack(call: StateCall, path: StackPath, version: string | null) {
  const stack = await findStackOf(call, path);
  const number = version === null ? null : /^\d{1,9}$/.test(version) ? Number(version) : NaN;
  const state =
    number === null ? await readCurrentState(call.db, stack) : await readStateVersion(call.db, stack, number);
  if (!state || Number.isNaN(number)) throw notFound(`version ${version}`);
  return atHome(state, { baseUrl: call.baseUrl, stack });
}

/** What an update that cannot be replayed has written is given up: the imported state is the whole truth. */
export async function importStack(call: StateCall, path: StackPath) {
  const found = await findStackOf(call, path);
  assertMay(principalOf(call), 'change', 'import a state');
  const given = atHome(asDeployment(await call.json(versionedDeployment)), { baseUrl: call.baseUrl, stack: found });
  return inTransaction(call.db, async (tx) => {
    const stack = await lockStateStack(tx, found.uuid);
    if (!stack) throw notFound(`stack ${found.name}`);
    const { id } = call.fresh();
    if (await findStateUpdate(tx, stack.uuid, id)) return { updateId: id };
    const active = await findActiveUpdate(tx, stack);
    if (active && !isLeaseOver(active)) throw stackHeld();
    if (active) await abandonStateUpdate(tx, stack, active, 'its lease ran out, and a state was imported');
    const update = await insertStateUpdate(tx, {
      id,
      stackUuid: stack.uuid,
      kind: 'import',
      isDryRun: false,
      request: {},
      engineVersion: '',
      requestedBy: requesterOf(call),
      runId: null,
    });
    const kept = await readStateVersion(tx, stack);
    const deployment = withAdoptedImports(kept?.deployment ?? {}, given.deployment);
    const version = await appendStateVersion(tx, stack, { ...given, deployment }, update.id);
    await abandonStateUpdate(tx, stack, update, null, version);
    await audit(call, tx, stack, 'stack.import', { version });
    return { updateId: update.id };
  });
}

export async function setTags(call: StateCall, path: StackPath) {
  const stack = await findStackOf(call, path);
  assertMay(principalOf(call), 'change', 'tag stacks');
  const tags = await call.json(tagsBody);
  await inTransaction(call.db, (tx) => setStateTags(tx, stack.uuid, tags));
  return {};
}

export async function renameStack(call: StateCall, path: StackPath) {
  const found = await findStackOf(call, path);
  assertMay(principalOf(call), 'change', 'rename stacks');
  refuseEngineStack(found, 'rename');
  const body = await call.json(renameBody);
  const to = { project: body.newProject || found.project, name: body.newName || found.name };
  await inTransaction(call.db, async (tx) => {
    const stack = await holdIdle(tx, found);
    if (!(await renameStateStack(tx, stack, to)))
      throw new StateError(409, `Conflict: stack ${to.project}/${to.name} already exists`);
    await audit(call, tx, stack, 'stack.rename', to);
  });
  return {};
}

export async function encrypt(call: StateCall, path: StackPath) {
  const stack = await findStackOf(call, path);
  const { plaintext } = await call.json(encryptBody);
  return { ciphertext: cipherOf(call, stack).encrypt(Buffer.from(plaintext, 'base64')).toString('base64') };
}

export async function batchEncrypt(call: StateCall, path: StackPath) {
  const stack = await findStackOf(call, path);
  const { plaintexts } = await call.json(batchEncryptBody);
  const cipher = cipherOf(call, stack);
  return { ciphertexts: plaintexts.map((text) => cipher.encrypt(Buffer.from(text, 'base64')).toString('base64')) };
}

export async function decrypt(call: StateCall, path: StackPath) {
  const stack = await openForSecrets(call, path, 1);
  const { ciphertext } = await call.json(decryptBody);
  return { plaintext: open(call, stack, [ciphertext])[0] };
}

export async function batchDecrypt(call: StateCall, path: StackPath) {
  const { ciphertexts } = await call.json(batchDecryptBody);
  const stack = await openForSecrets(call, path, ciphertexts.length);
  const plaintexts = open(call, stack, ciphertexts);
  return { plaintexts: Object.fromEntries(ciphertexts.map((text, index) => [text, plaintexts[index]])) };
}

/** The CLI tells which command or which secret was shown. */
export async function logDecryption(call: StateCall, path: StackPath) {
  await findStackOf(call, path);
  return {};
}

async function openForSecrets(call: StateCall, path: StackPath, count: number): Promise<StateStackRow> {
  const stack = await findStackOf(call, path);
  const principal = principalOf(call);
  assertMay(principal, 'change', 'see secrets');
  if (principal.kind === 'person') await audit(call, call.db, stack, 'stack.decrypt', { secrets: count });
  return stack;
}

function open(call: StateCall, stack: StateStackRow, ciphertexts: readonly string[]): string[] {
  const cipher = cipherOf(call, stack);
  try {
    return ciphertexts.map((text) => cipher.decrypt(Buffer.from(text, 'base64')).toString('base64'));
  } catch (error) {
    if (error instanceof SealError) throw badRequest(error.message);
    throw error;
  }
}

export async function listUpdates(call: StateCall, path: StackPath) {
  const stack = await findStackOf(call, path);
  const limit = Math.min(Number(call.query.get('pageSize') ?? 100) || 100, 1_000);
  const page = Math.max(1, Number(call.query.get('page') ?? 1) || 1);
  const rows = await listStateUpdates(call.db, stack.uuid, { limit, offset: (page - 1) * limit });
  return { updates: await describeUpdates(call, rows) };
}

export async function latestUpdate(call: StateCall, path: StackPath) {
  const stack = await findStackOf(call, path);
  const [info] = await describeUpdates(call, await listStateUpdates(call.db, stack.uuid, { limit: 1, offset: 0 }));
  if (!info) throw notFound('an update');
  return { info };
}

async function describeUpdates(call: StateCall, rows: StateUpdateRow[]) {
  const changes = await readChanges(
    call.db,
    rows.map(({ id }) => id),
  );
  return rows.map((row) => ({
    kind: row.kind,
    startTime: toSeconds(row.started_at ?? row.created_at),
    endTime: toSeconds(row.ended_at),
    message: row.request.message ?? '',
    environment: row.request.environment ?? {},
    config: row.request.config ?? {},
    result: row.status === 'running' ? 'in-progress' : row.status === 'succeeded' ? 'succeeded' : 'failed',
    version: row.version ?? 0,
    resourceChanges: changes.get(row.id) ?? {},
  }));
}

/** Letter by letter: the Automation API knows it by this text. */
export function stackHeld(): StateError {
  return new StateError(409, 'Conflict: Another update is currently in progress.');
}

async function holdIdle(tx: Tx, found: StateStackRow): Promise<StateStackRow> {
  const stack = await lockStateStack(tx, found.uuid);
  if (!stack) throw notFound(`stack ${found.name}`);
  const active = await findActiveUpdate(tx, stack);
  if (active && !isLeaseOver(active)) throw stackHeld();
  return stack;
}

function refuseEngineStack(stack: StateStackRow, what: string): void {
  if (stack.is_engine)
    throw new StateError(
      409,
      `Conflict: stack ${stack.name} is Muster's own: ${what} it there (DELETE /api/v1/stacks/…), not here`,
    );
}

function asDeployment(given: {
  version: number;
  features?: string[] | null | undefined;
  deployment?: object | null | undefined;
}): VersionedDeployment {
  return {
    version: given.version,
    ...(given.features && given.features.length > 0 ? { features: given.features } : {}),
    deployment: (given.deployment ?? emptyDeployment().deployment) as VersionedDeployment['deployment'],
  };
}

export function requesterOf(call: StateCall): string {
  const principal = principalOf(call);
  return principal.kind === 'person' ? principal.actor.id : 'muster';
}

/** What our own runs do is told by their operations. */
export async function audit(
  call: StateCall,
  executor: Parameters<typeof appendAudit>[0],
  stack: StateStackRow,
  action: string,
  detail: Record<string, unknown> = {},
): Promise<void> {
  const principal = principalOf(call);
  if (principal.kind === 'run') return;
  await appendAudit(executor, {
    orgId: principal.orgId,
    actor: principal.actor,
    action,
    targetKind: 'state_stack',
    targetId: `${stack.project}/${stack.name}`,
    detail,
  });
}
