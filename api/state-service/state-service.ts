/**
 * The state service: the HTTP API that the engine's CLI speaks to a service backend, under /api. Facts about the routes and payloads are in
 * docs/state-service.md. What it does not know answers 404, which the CLI takes for "not offered".
 */
import { randomBytes, randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import { MusterError } from '../../domain/error-table.ts';
import { isConnectionError, retryWhileAway, type Database } from '../../db/database.ts';
import type { Envelope } from '../../secrets/envelope.ts';
import type { Authenticator } from '../authentication.ts';
import { actorOf } from '../caller.ts';
import { getCapabilities, getDefaultOrganization, getUser, getUserStacks, headProject } from './account-routes.ts';
import * as stacks from './stack-routes.ts';
import type { StateCall } from './state-call.ts';
import { badRequest, databaseAway, leaseLost, notFound, StateError } from './state-error.ts';
import type { RunTokens, StatePrincipal } from './state-principal.ts';
import { createBodyReader, sendJson, type BodyReader } from './state-request.ts';
import * as updates from './update-routes.ts';

export interface StateServiceOptions {
  database: Pick<Database, 'kysely' | 'pool'>;
  envelope: Envelope;
  /** null: no API keys are taken here. */
  authenticator: Authenticator | null;
  /** null: no run of our own comes here. */
  runTokens: RunTokens | null;
  log: Logger;
}

export type StateService = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

/** Whether a request is the state service's; everything under /api/v1 is ours. */
export function isStatePath(path: string): boolean {
  return path.startsWith('/api/') && !/^\/api\/v\d+(\/|$)/.test(path);
}

/**
 * While the database is away a request waits for it: the CLI has no limit of its own for an answer, repeats what it may repeat three times
 * within 7 s, and never repeats the making and the start of an update. Below the least that proxies usually allow (30 s).
 */
const AWAY_PATIENCE_MS = 20_000;

export function createStateService(
  options: StateServiceOptions,
  { awayPatienceMs = AWAY_PATIENCE_MS } = {},
): StateService {
  return async (request, response) => {
    const fixed = { json: createBodyReader(request), fresh: createFresh() };
    try {
      const segments = segmentsOf(request.url ?? '/');
      // Each route is one transaction or less, and what it makes has the same names each time: a commit whose answer was lost is found.
      let tries = 0;
      const answer = await retryWhileAway(async () => {
        const isAgain = tries++ > 0;
        return route(await openCall(options, request, { ...fixed, isAgain }), request.method ?? 'GET', segments);
      }, awayPatienceMs);
      await sendJson(request, response, 200, answer);
    } catch (error) {
      const { code, message } = describe(error, options.log);
      request.resume();
      await sendJson(request, response, code, { code, message });
    }
  };
}

function createFresh(): StateCall['fresh'] {
  let made: ReturnType<StateCall['fresh']> | null = null;
  return () => (made ??= { id: randomUUID(), token: randomBytes(32).toString('base64url') });
}

async function openCall(
  options: StateServiceOptions,
  request: IncomingMessage,
  fixed: { json: BodyReader } & Pick<StateCall, 'fresh' | 'isAgain'>,
): Promise<StateCall> {
  const authorization = request.headers.authorization ?? '';
  const [, scheme = '', credential = ''] = /^(\S+) +([\x21-\x7e]{1,4096})$/.exec(authorization) ?? [];
  const url = new URL(request.url ?? '/', 'http://localhost');
  return {
    database: options.database,
    db: options.database.kysely,
    envelope: options.envelope,
    log: options.log,
    request,
    query: url.searchParams,
    principal: scheme === 'token' ? await findPrincipal(options, credential) : null,
    updateToken: scheme === 'update-token' ? credential : '',
    baseUrl: baseUrlOf(request),
    ...fixed,
  };
}

async function findPrincipal(options: StateServiceOptions, credential: string): Promise<StatePrincipal | null> {
  const run = options.runTokens?.find(credential);
  if (run) return { kind: 'run', ...run };
  if (!options.authenticator) return null;
  const caller = await options.authenticator.authenticate(credential);
  return {
    kind: 'person',
    orgId: caller.orgId,
    actor: actorOf(caller, randomUUID()),
    role: caller.role,
    isAdmin: caller.isAdmin,
  };
}

const UPDATE_KINDS = ['update', 'preview', 'refresh', 'destroy'] as const;

function route(call: StateCall, method: string, segments: string[]): Promise<unknown> {
  const [first, second, third, fourth, ...rest] = segments;
  const at = `${method} /${segments.join('/')}`;
  if (at === 'GET /capabilities') return getCapabilities();
  if (at === 'GET /user') return getUser(call);
  if (at === 'GET /user/organizations/default') return getDefaultOrganization();
  if (at === 'GET /user/stacks') return getUserStacks(call);
  if (first !== 'stacks' || second === undefined || third === undefined) throw notFound(at);
  if (fourth === undefined) {
    if (method === 'HEAD') return headProject(call, third);
    if (method === 'POST') return stacks.createStack(call, second, third);
    throw notFound(at);
  }
  const path = { org: second, project: third, name: fourth };
  const [verb, updateId, part, last] = rest;
  if (verb === 'update' && updateId !== undefined) return routeUpdate(call, method, path, updateId, [part, last]);
  return routeStack(call, method, path, rest);
}

function routeStack(call: StateCall, method: string, path: stacks.StackPath, rest: string[]): Promise<unknown> {
  const kind = UPDATE_KINDS.find((one) => one === rest[0]);
  if (method === 'POST' && kind !== undefined && rest.length === 1) return updates.createUpdate(call, path, kind);
  if (method === 'GET' && rest[0] === 'export' && rest.length <= 2)
    return stacks.exportStack(call, path, rest[1] ?? null);
  switch (`${method} ${rest.join('/')}`) {
    case 'GET ':
      return stacks.getStack(call, path);
    case 'DELETE ':
      return stacks.deleteStack(call, path);
    case 'POST import':
      return stacks.importStack(call, path);
    case 'POST encrypt':
      return stacks.encrypt(call, path);
    case 'POST decrypt':
      return stacks.decrypt(call, path);
    case 'POST batch-encrypt':
      return stacks.batchEncrypt(call, path);
    case 'POST batch-decrypt':
      return stacks.batchDecrypt(call, path);
    case 'POST decrypt/log-decryption':
    case 'POST decrypt/log-batch-decryption':
      return stacks.logDecryption(call, path);
    case 'GET updates':
      return stacks.listUpdates(call, path);
    case 'GET updates/latest':
      return stacks.latestUpdate(call, path);
    case 'PATCH tags':
      return stacks.setTags(call, path);
    case 'POST rename':
      return stacks.renameStack(call, path);
    default:
      throw notFound(`${method} ${rest.join('/')}`);
  }
}

function routeUpdate(
  call: StateCall,
  method: string,
  path: stacks.StackPath,
  updateId: string,
  [part, last]: (string | undefined)[],
): Promise<unknown> {
  const at = `${method} ${[part, last].filter((one) => one !== undefined).join('/')}`;
  switch (at) {
    case 'POST ':
      return updates.startUpdate(call, path, updateId);
    case 'GET ':
      return updates.getUpdate(call, path, updateId);
    case 'GET events':
      return updates.getEvents(call, path, updateId);
    case 'POST cancel':
      return updates.cancelUpdate(call, path, updateId);
  }
  // From here on the update's own token decides.
  if (call.updateToken === '') throw leaseLost();
  switch (at) {
    case 'POST renew_lease':
      return updates.renewLease(call, updateId);
    case 'PATCH journalentries':
      return updates.writeJournal(call, updateId);
    case 'PATCH checkpoint':
      return updates.putCheckpoint(call, updateId);
    case 'POST events/batch':
      return updates.putEvents(call, updateId);
    case 'POST complete':
      return updates.completeUpdate(call, updateId);
    default:
      throw notFound(at);
  }
}

function segmentsOf(url: string): string[] {
  const path = url.split('?')[0] ?? '';
  try {
    return path
      .replace(/^\/api\//, '')
      .split('/')
      .filter((segment) => segment !== '')
      .map(decodeURIComponent);
  } catch {
    throw notFound(path.slice(0, 200));
  }
}

function baseUrlOf(request: IncomingMessage): string {
  const forwarded = request.headers['x-forwarded-proto'];
  const isTls = 'encrypted' in request.socket || forwarded === 'https';
  return `${isTls ? 'https' : 'http'}://${request.headers.host ?? 'localhost'}`;
}

function describe(error: unknown, log: Logger): { code: number; message: string } {
  if (error instanceof StateError) return { code: error.code, message: error.message };
  if (error instanceof MusterError && error.code === 'unauthenticated')
    return { code: 401, message: `Unauthorized: ${error.message}` };
  if (isConnectionError(error)) {
    log.warn({ err: error }, 'state service: the database is away');
    return databaseAway();
  }
  // What the database cannot hold, such as a NUL in a name.
  if (isDataError(error)) return badRequest(`${error.message}`);
  log.error({ err: error }, 'state service');
  return { code: 500, message: 'Internal Server Error' };
}

/** SQLSTATE class 22: the values were wrong, and nothing was written. */
function isDataError(error: unknown): error is Error {
  return error instanceof Error && /^22...$/.test((error as { code?: string }).code ?? '');
}
