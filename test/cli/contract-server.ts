/**
 * A small API for the tests of the command line: it keeps rows in memory, takes only what the contract allows and answers only what the
 * contract allows. It can lose answers and break streams. What the real routes do is tested with them.
 */
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { z } from 'zod';
import { loginBody, me, refreshBody, tokens } from '../../api/contract/auth.ts';
import { fleet } from '../../api/contract/findings.ts';
import {
  createInstancesBody,
  destroyAccepted,
  instance,
  instancePage,
  instancesAccepted,
  instanceSsh,
  provisionPlan,
} from '../../api/contract/instances.ts';
import type { Instance } from '../../api/contract/instances.ts';
import { inventoryQuery, offerPage } from '../../api/contract/inventory.ts';
import { instanceMetrics } from '../../api/contract/metrics.ts';
import { operation, operationEvent } from '../../api/contract/operations.ts';
import type { Operation, OperationEvent } from '../../api/contract/operations.ts';
import { problem } from '../../api/contract/problem.ts';
import { providerPage } from '../../api/contract/providers.ts';
import { ERROR_TABLE } from '../../domain/error-table.ts';
import type { ErrorCode } from '../../domain/error-table.ts';
import {
  makeInstance,
  makeMetrics,
  makeOffer,
  makeOperation,
  makePlan,
  makeProvider,
  makeSource,
} from './contract-rows.ts';

export const API_KEY = `mk_${'t'.repeat(40)}`;
export const PASSWORD = 'correct horse battery';
export const NOW = '2026-11-21T09:00:00.000Z';

export interface SeenRequest {
  method: string;
  path: string;
  authorization: string | undefined;
  idempotencyKey: string | undefined;
  lastEventId: string | undefined;
  body: unknown;
}

export interface ContractServer {
  readonly url: string;
  readonly requests: SeenRequest[];
  readonly instances: Map<string, Instance>;
  readonly operations: Map<string, Operation>;
  /** Events of every operation; a stream sends those after Last-Event-ID. */
  readonly events: OperationEvent[];
  /** How many events a connection of the stream sends before it breaks; one entry for each connection, then all. */
  readonly breakAfter: number[];
  /** Requests (by method and path) that take effect and whose answer is then lost, once each. */
  readonly loseAnswers: Set<string>;
  /** Answers requests to a path by this error, until taken away. */
  readonly refusals: Map<string, { code: ErrorCode; detail: string; errors?: { path: string; message: string }[] }>;
  candidates: number;
  accessTokenExpiresAt: string;
  close(): Promise<void>;
}

type Reply = { status: number; body: unknown } | 'stream' | 'none';

export async function startContractServer(): Promise<ContractServer> {
  const firstAnswers = new Map<string, Reply>();
  let refreshToken = 'refresh-1';
  let accessToken = 'access-1';
  let counter = 1;

  const server = createServer((request, response) => {
    // A row that is not as the contract has it must fail the test, not hang it.
    handle(request, response).catch((error: unknown) => response.writeHead(418).end(String(error)));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const state: ContractServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: [],
    instances: new Map(),
    operations: new Map(),
    events: [],
    breakAfter: [],
    loseAnswers: new Set(),
    refusals: new Map(),
    candidates: 3,
    accessTokenExpiresAt: '2099-01-01T00:00:00.000Z',
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url as string, state.url);
    const path = url.pathname.replace(/^\/api\/v1/, '');
    const text = await readBody(request);
    const seen: SeenRequest = {
      method: request.method as string,
      path,
      authorization: request.headers.authorization,
      idempotencyKey: request.headers['idempotency-key'] as string | undefined,
      lastEventId: request.headers['last-event-id'] as string | undefined,
      body: text === '' ? undefined : JSON.parse(text),
    };
    state.requests.push(seen);
    const known = seen.idempotencyKey === undefined ? undefined : firstAnswers.get(seen.idempotencyKey);
    const reply = known ?? answer(seen, url);
    if (seen.idempotencyKey !== undefined) firstAnswers.set(seen.idempotencyKey, reply);
    if (state.loseAnswers.delete(`${seen.method} ${path}`)) return void response.destroy();
    if (reply === 'stream') return stream(path, seen, response);
    const { status, body } = reply as { status: number; body: unknown };
    const type = status >= 400 ? 'application/problem+json' : 'application/json';
    response.writeHead(status, { 'content-type': type }).end(JSON.stringify(body));
  }

  function answer(seen: SeenRequest, url: URL): Reply {
    const { method, path } = seen;
    const refusal = state.refusals.get(`${method} ${path}`);
    if (refusal) return refuse(refusal.code, refusal.detail, refusal.errors);
    if (path === '/auth/login') return logIn(seen);
    if (path === '/auth/refresh') return refresh(seen);
    const bearer = seen.authorization?.replace('Bearer ', '');
    if (bearer !== API_KEY && bearer !== accessToken) return refuse('unauthenticated', 'the credentials are not valid');
    if (path === '/auth/logout') {
      return isEmpty(seen.body) ? { status: 204, body: null } : refuse('invalid_request', 'there is no such field');
    }
    if (path === '/users/me') return send(me, meReply());
    if (path === '/inventory') {
      const query = inventoryQuery.safeParse(Object.fromEntries(url.searchParams));
      if (!query.success) return refuseShape(query.error);
      return send(offerPage, { items: [makeOffer(1), makeOffer(2)], nextCursor: null, providers: [makeSource()] });
    }
    if (path === '/providers') return send(providerPage, { items: [makeProvider()], nextCursor: null });
    if (path === '/fleet') return send(fleet, fleetReply());
    if (path === '/instances' && method === 'POST') return create(seen);
    if (path === '/instances') return send(instancePage, { items: [...state.instances.values()], nextCursor: null });
    return answerOne(method, path);
  }

  function answerOne(method: string, path: string): Reply {
    const [, noun, id = '', verb] = path.split('/');
    const found = noun === 'instances' ? state.instances.get(id) : state.operations.get(id);
    if (!found) return refuse('not_found', `there is no ${noun === 'instances' ? 'instance' : 'operation'} ${id}`);
    if (verb === 'events') return 'stream';
    if (noun === 'operations') {
      if (verb === 'cancel') (found as Operation).cancelRequestedAt = NOW;
      return verb === 'cancel'
        ? { status: 202, body: { operation: operation.parse(found) } }
        : send(operation, found as Operation);
    }
    if (verb === 'ssh') {
      const ssh = { host: '127.0.0.1', port: 41022, user: 'root', command: 'ssh -p 41022 root@127.0.0.1' };
      return send(instanceSsh, ssh);
    }
    if (verb === 'metrics') return send(instanceMetrics, makeMetrics(id));
    if (method !== 'DELETE') return send(instance, found as Instance);
    const made = makeOperation('op_destroydestroyde', 'destroy_instance', id);
    state.operations.set(made.id, made);
    const { kind, status } = made;
    return { status: 202, body: destroyAccepted.parse({ operation: { id: made.id, kind, status }, instance: found }) };
  }

  function create(seen: SeenRequest): Reply {
    const body = createInstancesBody.safeParse(seen.body);
    if (!body.success) return refuseShape(body.error);
    if (body.data.dryRun) return send(provisionPlan, makePlan(state.candidates));
    const made = makeOperation('op_createcreatecrea', 'provision_instance', 'ins_aaaaaaaaaaaaaaaa');
    const row = makeInstance('ins_aaaaaaaaaaaaaaaa', body.data.name ?? 'calm-otter', 'requested');
    // What a test has put there already is what a worker makes of it.
    if (!state.operations.has(made.id)) state.operations.set(made.id, made);
    if (!state.instances.has(row.id)) state.instances.set(row.id, row);
    const { id, kind, status } = made;
    return { status: 202, body: instancesAccepted.parse({ operation: { id, kind, status }, instances: [row] }) };
  }

  function logIn(seen: SeenRequest): Reply {
    const body = loginBody.safeParse(seen.body);
    if (!body.success) return refuseShape(body.error);
    if (body.data.password !== PASSWORD) return refuse('unauthenticated', 'e-mail or password is wrong');
    return send(tokens, { accessToken, refreshToken, expiresAt: state.accessTokenExpiresAt });
  }

  function refresh(seen: SeenRequest): Reply {
    const body = refreshBody.safeParse(seen.body);
    if (!body.success || body.data.refreshToken !== refreshToken)
      return refuse('unauthenticated', 'the token was used');
    counter += 1;
    refreshToken = `refresh-${counter}`;
    accessToken = `access-${counter}`;
    return send(tokens, { accessToken, refreshToken, expiresAt: '2099-01-01T00:00:00.000Z' });
  }

  function stream(path: string, seen: SeenRequest, response: ServerResponse): void {
    const id = path.split('/')[2] as string;
    const after = Number(seen.lastEventId ?? 0);
    const mine = state.events.filter(
      (event) => event.seq > after && (event.operationId === id || id.startsWith('ins_')),
    );
    const limit = state.breakAfter.shift();
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    response.write(': hello\n\n');
    for (const event of mine.slice(0, limit)) {
      response.write(
        `id: ${event.seq}\nevent: ${event.type}\ndata: ${JSON.stringify(operationEvent.parse(event))}\n\n`,
      );
    }
    const isOver = state.operations.get(id)?.finishedAt != null || state.instances.get(id)?.status === 'destroyed';
    if (limit === undefined && isOver) return void response.end('event: end\ndata: {}\n\n');
    // A stream that breaks goes in the middle of an event; the others stay open, as a live one does.
    if (limit !== undefined) response.write('id: 99\ndata: {"ha', () => response.destroy());
  }

  return state;
}

function send<T extends z.ZodType>(schema: T, value: z.input<T>): Reply {
  return { status: 200, body: schema.parse(value) };
}

function refuse(code: ErrorCode, detail: string, errors?: { path: string; message: string }[]): Reply {
  const { status, title } = ERROR_TABLE[code];
  const body = { type: `/api/v1/docs/errors#${code}`, title, status, code, detail, errors, requestId: 'req-7' };
  return { status, body: problem.parse(body) };
}

function refuseShape(error: z.ZodError): Reply {
  const errors = error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message }));
  return refuse('invalid_request', 'the request is not valid', errors);
}

function isEmpty(body: unknown): boolean {
  return body === undefined || JSON.stringify(body) === '{}';
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  return text;
}

function meReply(): z.input<typeof me> {
  return {
    principal: { kind: 'api_key', id: 'key_aaaaaaaaaaaaaaaa' },
    user: null,
    org: { id: 'org_aaaaaaaaaaaaaaaa', name: 'acme', role: 'operator', createdAt: NOW },
    role: 'operator',
    isAdmin: false,
  };
}

function fleetReply(): z.input<typeof fleet> {
  return {
    instances: { live: 2, byStatus: { ready: 1, booting: 1 } },
    machines: 6,
    burnMicroUsdPerHour: 2_070_000,
    accruedMicroUsd: 512_345,
    byProvider: [{ provider: 'vastai', machines: 6, burnMicroUsdPerHour: 2_070_000 }],
    openFindings: 1,
    unbounded: [],
    asOf: NOW,
  };
}
