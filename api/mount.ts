/**
 * Mounting: puts routes on Express. For each request in this order: who calls, how often, may they, is the path's id one, is the
 * body one, does it fit the schema; then the handler; then the reply. Anything thrown goes to problems.ts.
 */
import type { Express, Request, RequestHandler, Response } from 'express';
import type { z } from 'zod';
import { isAllowed, rolesFor, type AccessRule } from '../domain/access.ts';
import { MusterError } from '../domain/error-table.ts';
import { doOnce } from '../db/idempotency.ts';
import type { RateLimit } from '../db/rate-limits.ts';
import { SYSTEM } from '../db/audit.ts';
import type { ApiContext } from './api-deps.ts';
import { credentialOf, hasAgentKey, hasRepositoryToken, type Authenticator } from './authentication.ts';
import { actorOf, type Caller } from './caller.ts';
import { invalidRequest, requestIdOf } from './problems.ts';
import { readBody } from './request-body.ts';
import { API_PREFIX, pathsOf, type Answer, type Call, type Route } from './route.ts';

export interface Mounting {
  deps: ApiContext;
  authenticator: Authenticator;
  /** null: no limit. */
  rateLimit: RateLimit | null;
  observe(route: Route, status: number, seconds: number): void;
}

export function mountRoutes(app: Express, routes: readonly Route[], mounting: Mounting): void {
  const byPath = Map.groupBy(
    routes.flatMap((route) => pathsOf(route).map((path) => ({ path, route }))),
    (entry) => entry.path,
  );
  // A literal path comes before one with a parameter in its place.
  const paths = [...byPath.keys()].sort((a, b) => Number(a.includes(':')) - Number(b.includes(':')));
  for (const path of paths) {
    const entries = byPath.get(path) ?? [];
    const place = app.route(path);
    for (const { route } of entries) place[route.method](createHandler(route, mounting));
    const allowed = entries.flatMap(({ route }) =>
      route.method === 'get' ? ['GET', 'HEAD'] : [route.method.toUpperCase()],
    );
    place.all((request, response) => {
      response.setHeader('allow', allowed.join(', '));
      throw new MusterError(
        'method_not_allowed',
        `${request.method} is not allowed here; allowed: ${allowed.join(', ')}`,
      );
    });
  }
  app.use((request) => {
    throw new MusterError('not_found', `there is no route ${request.path.slice(0, 200)}`);
  });
}

function createHandler(route: Route, mounting: Mounting): RequestHandler {
  return async (request, response) => {
    const start = performance.now();
    response.on('close', () => mounting.observe(route, response.statusCode, (performance.now() - start) / 1000));
    const caller = await admit(route, request, mounting);
    const requestId = requestIdOf(request);
    const params = route.params ? parseParams(route.params, request.params) : undefined;
    const rawBody = route.body ? await readBody(request, response) : undefined;
    const query = parseQuery(route.query, request.query);
    const body = route.body ? parseBody(route, rawBody) : undefined;
    const scope = idempotencyScope(route, request, caller, { params, body: rawBody ?? null });
    const call: Call = {
      caller,
      actor: caller ? actorOf(caller, requestId) : { ...SYSTEM, requestId },
      params,
      query,
      body,
      requestId,
      deps: mounting.deps,
      request,
      response,
      async once(work) {
        const answer = await doOnce(mounting.deps.database.kysely, scope, async (tx) => {
          const { status, body: reply, location } = await work(tx);
          return { status, body: reply, location: location ?? null };
        });
        if (answer.isReplay) response.setHeader('idempotency-replayed', 'true');
        return {
          status: answer.status,
          body: answer.body,
          ...(answer.location === null ? {} : { location: answer.location }),
        };
      },
    };
    const answer = await route.handle(call);
    if (answer !== undefined) sendAnswer(route, response, answer, mounting.deps.checkReplies === true);
  };
}

/** Throws MusterError `unauthenticated`, `rate_limited` or `forbidden`. */
async function admit(route: Route, request: Request, mounting: Mounting): Promise<Caller | null> {
  if (route.access === 'public' || (route.access === 'agent' && hasAgentKey(request))) return null;
  if (route.access === 'workspace' && hasRepositoryToken(request)) return null;
  const caller = await mounting.authenticator.authenticate(credentialOf(request));
  const waitMs = mounting.rateLimit ? await mounting.rateLimit.take(caller.id) : null;
  if (waitMs !== null) throw tooManyRequests(request, waitMs);
  if (!isAllowed(route.access, caller)) {
    throw new MusterError('forbidden', `this needs ${describeNeed(route.access)}; the caller is ${caller.role}`, {
      facts: { role: caller.role, needed: route.access },
    });
  }
  return caller;
}

function describeNeed(rule: Exclude<AccessRule, 'public'>): string {
  if (rule === 'agent') return "an agent's key";
  if (rule === 'workspace') return "a token of the workspace's repository";
  return rule === 'admin' ? "the deployment's admin" : `one of the roles ${rolesFor(rule).join(', ')}`;
}

export function tooManyRequests(request: Request, waitMs: number): MusterError {
  request.res?.setHeader('retry-after', String(Math.ceil(waitMs / 1000)));
  return new MusterError('rate_limited', `too many requests: try again in ${Math.ceil(waitMs / 1000)} s`);
}

function parseParams(schema: z.ZodObject, raw: unknown): unknown {
  const parsed = schema.safeParse(raw);
  if (parsed.success) return parsed.data;
  throw new MusterError(
    'not_found',
    parsed.error.issues.map((issue) => `"${String(issue.path[0])}" ${issue.message}`).join('; '),
  );
}

function parseQuery(schema: z.ZodObject | undefined, raw: Request['query']): unknown {
  if (!schema) {
    const [name] = Object.keys(raw);
    if (name === undefined) return undefined;
    throw new MusterError('invalid_request', `${name.slice(0, 100)} is not a known query parameter`, {
      errors: [{ path: name.slice(0, 100), message: 'is not a known query parameter' }],
    });
  }
  const parsed = schema.safeParse(raw, { reportInput: true });
  if (parsed.success) return parsed.data;
  throw invalidRequest(parsed.error.issues);
}

function parseBody(route: Route, raw: unknown): unknown {
  if (raw === undefined && route.isBodyOptional !== true) {
    throw new MusterError('malformed_request', 'a JSON body is needed');
  }
  const parsed = (route.body as z.ZodType).safeParse(raw === undefined ? {} : raw, { reportInput: true });
  if (parsed.success) return parsed.data;
  throw invalidRequest(parsed.error.issues);
}

function idempotencyScope(route: Route, request: Request, caller: Caller | null, content: unknown) {
  const key = request.headers['idempotency-key'];
  if (key === undefined || caller === null || route.isIdempotent !== true) return null;
  if (typeof key !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new MusterError('malformed_request', 'Idempotency-Key must be 1 to 255 printable characters without blanks', {
      errors: [{ path: 'Idempotency-Key', message: 'must be 1 to 255 printable characters without blanks' }],
    });
  }
  return { principalId: caller.id, route: `${route.method} ${API_PREFIX}${route.path}`, key, content };
}

function sendAnswer(route: Route, response: Response, answer: Answer, isChecked: boolean): void {
  const schema = route.replies[answer.status];
  if (schema === undefined) throw new Error(`${route.method} ${route.path} answered an undeclared ${answer.status}`);
  if (answer.location !== undefined) response.setHeader('location', answer.location);
  response.status(answer.status);
  if (schema === null) response.end();
  else if (typeof schema === 'string') response.type(schema).send(answer.body);
  else {
    const text = JSON.stringify(answer.body);
    if (isChecked) schema.parse(JSON.parse(text));
    response.type('application/json').send(text);
  }
}
