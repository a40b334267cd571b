/**
 * The sandbox's control server: admin routes for programs under /__sandbox, and the page for a person at /.
 * It listens on loopback without a key; requests that a foreign web page makes a browser send are refused.
 */
import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import { GPU_TROUBLES } from './agent/fake-smi.ts';
import { CALL_FAULT_KINDS, type FaultInput, isMachineFault, MACHINE_FAULT_KINDS } from './faults.ts';
import { type HttpListener, type HttpReply, listenHttp, readBody, sendReply, toErrorReply } from './http-listener.ts';
import { renderPage } from './page.ts';
import { answerArm } from './pulumi/azure/arm.ts';
import { CLOUD_FAULT_KINDS, CLOUD_OPERATIONS } from './pulumi/cloud-faults.ts';
import { CLOUD_PACKAGES } from './pulumi/tables/simulated-types.ts';
import type { Sandbox, VendorFacts } from './server.ts';

const faultShape = z.strictObject({
  provider: z.string(),
  endpoint: z.string(),
  kind: z.enum([...CALL_FAULT_KINDS, ...MACHINE_FAULT_KINDS]),
  probability: z.number().min(0).max(1).optional(),
  times: z.number().int().min(1).optional(),
  forMs: z.number().int().min(1).optional(),
  match: z
    .strictObject({
      label: z.string().optional(),
      labelPrefix: z.string().optional(),
      instanceId: z.union([z.number().int(), z.string()]).optional(),
    })
    .optional(),
  status: z.number().int().min(200).max(599).optional(),
  body: z.unknown().optional(),
  delayMs: z.number().int().min(0).optional(),
  keepShare: z.number().min(0).max(1).optional(),
  factor: z.number().min(0).max(10_000).optional(),
  mode: z.enum(['silent', 'refused']).optional(),
  gpuName: z.string().optional(),
  numGpus: z.number().int().min(0).max(16).optional(),
});

function faultSchemaFor({ vendors }: Sandbox) {
  return faultShape
    .extend({ provider: providerSchema(vendors) })
    .superRefine(({ provider, endpoint, kind }, context) => {
      const vendor = vendors.find(({ name }) => name === provider);
      if (vendor === undefined) return;
      const complain = (path: string, value: string, allowed: readonly string[]): void => {
        const message = `${JSON.stringify(value)} is not for ${kind} of ${vendor.title}; allowed: ${allowed.join(', ')}`;
        context.addIssue({ code: 'custom', path: [path], message });
      };
      const endpoints = isMachineFault(kind) ? ['machine'] : [...vendor.endpoints, '*'];
      if (!endpoints.includes(endpoint)) complain('endpoint', endpoint, endpoints);
      if (isMachineFault(kind) && !vendor.machineFaults.includes(kind)) complain('kind', kind, vendor.machineFaults);
    });
}

const clockSchema = z.strictObject({ advanceMs: z.number().int().min(0) });
const machineSchema = z.strictObject({
  provider: z.string(),
  label: z.string(),
  origin: z.enum(['foreign', 'orphan']).default('orphan'),
  state: z.enum(['running', 'stopped']).default('running'),
});
const gpuTroubleSchema = z.strictObject({
  provider: z.string(),
  instanceId: z.union([z.number().int(), z.string()]),
  trouble: z.enum(GPU_TROUBLES).nullable(),
});
const agentSchema = z.strictObject({
  provider: z.string(),
  instanceId: z.union([z.number().int(), z.string()]),
  isPartitioned: z.boolean().optional(),
  gpuPercent: z.number().min(0).max(100).nullable().optional(),
  declareActivity: z.literal(true).optional(),
  isKilled: z.boolean().optional(),
});
const nothingSchema = z.strictObject({});

const cloudFaultSchema = z.strictObject({
  kind: z.enum(CLOUD_FAULT_KINDS),
  package: z.enum(CLOUD_PACKAGES).optional(),
  type: z.string().optional(),
  name: z.string().optional(),
  operation: z.enum(CLOUD_OPERATIONS).optional(),
  times: z.number().int().min(1).optional(),
  probability: z.number().min(0).max(1).optional(),
  delayMs: z.number().int().min(0).optional(),
  code: z.string().optional(),
  message: z.string().optional(),
});
const cloudDriftSchema = z.strictObject({
  package: z.enum(CLOUD_PACKAGES).optional(),
  type: z.string().optional(),
  name: z.string(),
  changes: z.record(z.string(), z.unknown()).optional(),
  isDeleted: z.boolean().optional(),
});
const placedResourceSchema = z.strictObject({
  package: z.enum(CLOUD_PACKAGES),
  type: z.string(),
  id: z.string(),
  scope: z.string().optional(),
  inputs: z.record(z.string(), z.unknown()).optional(),
  outputs: z.record(z.string(), z.unknown()).optional(),
});

interface ControlRoute {
  method: string;
  pattern: RegExp;
  handle: (sandbox: Sandbox, body: unknown, id: string) => HttpReply | Promise<HttpReply>;
}

const ROUTES: readonly ControlRoute[] = [
  { method: 'GET', pattern: /^\/__sandbox\/state$/, handle: (sandbox) => ok(sandbox.state()) },
  { method: 'GET', pattern: /^\/__sandbox\/faults$/, handle: (sandbox) => ok({ faults: sandbox.listFaults() }) },
  {
    method: 'POST',
    pattern: /^\/__sandbox\/faults$/,
    handle: (sandbox, body) =>
      withBody(faultSchemaFor(sandbox), body, async (input) => ok(await sandbox.addFault(input as FaultInput), 201)),
  },
  {
    method: 'DELETE',
    pattern: /^\/__sandbox\/faults$/,
    handle(sandbox) {
      sandbox.clearFaults();
      return ok({ faults: [] });
    },
  },
  {
    method: 'DELETE',
    pattern: /^\/__sandbox\/faults\/([^/]+)$/,
    handle: (sandbox, _body, id) => (sandbox.removeFault(id) ? ok({ removed: id }) : notFound(`no fault ${id}`)),
  },
  {
    method: 'POST',
    pattern: /^\/__sandbox\/clock$/,
    handle: (sandbox, body) =>
      withBody(clockSchema, body, async ({ advanceMs }) => {
        await sandbox.advance(advanceMs);
        return ok({ nowMs: sandbox.now() });
      }),
  },
  {
    method: 'GET',
    pattern: /^\/__sandbox\/switches$/,
    handle: (sandbox) => ok(Object.fromEntries(sandbox.vendors.map(({ name }) => [name, sandbox.switches(name)]))),
  },
  { method: 'POST', pattern: /^\/__sandbox\/switches$/, handle: changeSwitches },
  {
    method: 'POST',
    pattern: /^\/__sandbox\/machines$/,
    handle: (sandbox, body) =>
      withBody(
        machineSchema.extend({ provider: providerSchema(sandbox.vendors) }),
        body,
        async ({ provider, label, origin, state }) =>
          ok({ id: await sandbox.placeMachine(provider, { label, origin, isStopped: state === 'stopped' }) }, 201),
      ),
  },
  {
    method: 'POST',
    pattern: /^\/__sandbox\/gpus$/,
    handle: (sandbox, body) =>
      withBody(
        gpuTroubleSchema.extend({ provider: providerSchema(sandbox.vendors) }),
        body,
        ({ provider, instanceId, trouble }) =>
          sandbox.troubleGpus(provider, instanceId, trouble)
            ? ok({ provider, instanceId, trouble })
            : notFound(`no agent runs on ${provider}/${instanceId}`),
      ),
  },
  { method: 'GET', pattern: /^\/__sandbox\/agents$/, handle: (sandbox) => ok({ agents: sandbox.agents() }) },
  {
    method: 'POST',
    pattern: /^\/__sandbox\/agents$/,
    handle: (sandbox, body) =>
      withBody(agentSchema, body, ({ provider, instanceId, ...change }) => {
        const seat = sandbox.changeAgent({ provider, instanceId }, change);
        return seat === null ? notFound(`no agent is on ${provider}/${instanceId}`) : ok(seat);
      }),
  },
  {
    method: 'POST',
    pattern: /^\/__sandbox\/reset$/,
    handle: (sandbox, body) =>
      withBody(nothingSchema, body ?? {}, async () => {
        await sandbox.reset();
        return ok({ nowMs: sandbox.now() });
      }),
  },
];

/** The simulated clouds: their ports, what is in them, and what goes wrong there. */
const CLOUD_ROUTES: readonly ControlRoute[] = [
  {
    method: 'GET',
    pattern: /^\/__sandbox\/clouds$/,
    handle: (sandbox) => withClouds(sandbox, (clouds) => ok({ ports: clouds.ports, ...clouds.state() })),
  },
  {
    method: 'GET',
    pattern: /^\/__sandbox\/clouds\/faults$/,
    handle: (sandbox) => withClouds(sandbox, (clouds) => ok({ faults: clouds.faults() })),
  },
  {
    method: 'POST',
    pattern: /^\/__sandbox\/clouds\/faults$/,
    handle: (sandbox, body) =>
      withClouds(sandbox, (clouds) => withBody(cloudFaultSchema, body, (input) => ok(clouds.fault(input), 201))),
  },
  {
    method: 'DELETE',
    pattern: /^\/__sandbox\/clouds\/faults$/,
    handle: (sandbox) =>
      withClouds(sandbox, (clouds) => {
        clouds.clearFaults();
        return ok({ faults: [] });
      }),
  },
  {
    method: 'DELETE',
    pattern: /^\/__sandbox\/clouds\/faults\/([^/]+)$/,
    handle: (sandbox, _body, id) =>
      withClouds(sandbox, (clouds) => (clouds.removeFault(id) ? ok({ removed: id }) : notFound(`no fault ${id}`))),
  },
  {
    method: 'POST',
    pattern: /^\/__sandbox\/clouds\/drift$/,
    handle: (sandbox, body) =>
      withClouds(sandbox, (clouds) =>
        withBody(cloudDriftSchema, body, (change) => {
          const changed = clouds.drift(change);
          return changed > 0 ? ok({ changed }) : notFound(`no resource ${change.name} in the simulated clouds`);
        }),
      ),
  },
  {
    method: 'POST',
    pattern: /^\/__sandbox\/clouds\/resources$/,
    handle: (sandbox, body) =>
      withClouds(sandbox, (clouds) =>
        withBody(placedResourceSchema, body, (resource) => {
          clouds.place(resource);
          return ok({ id: resource.id }, 201);
        }),
      ),
  },
];

const ALL_ROUTES = [...ROUTES, ...CLOUD_ROUTES];

function withClouds(
  { clouds }: Sandbox,
  act: (clouds: NonNullable<Sandbox['clouds']>) => HttpReply | Promise<HttpReply>,
): HttpReply | Promise<HttpReply> {
  return clouds === null ? notFound('this sandbox has no simulated clouds') : act(clouds);
}

function providerSchema(vendors: readonly VendorFacts[]) {
  return z.enum(vendors.map(({ name }) => name));
}

/** Which switches there are depends on the vendor, so the vendor is read first. */
function changeSwitches(sandbox: Sandbox, body: unknown): HttpReply | Promise<HttpReply> {
  const { vendors } = sandbox;
  return withBody(z.looseObject({ provider: providerSchema(vendors) }), body, ({ provider }) => {
    const vendor = vendors.find(({ name }) => name === provider)!;
    const schema = z.strictObject({ provider: z.literal(provider), ...vendor.switchesSchema.partial().shape });
    return withBody(schema, body, ({ provider: _provider, ...changes }) => {
      const given = Object.entries(changes).filter(([, value]) => value !== undefined);
      sandbox.setSwitches(provider, Object.fromEntries(given));
      return ok({ [provider]: sandbox.switches(provider) });
    });
  });
}

/** `sandbox` is asked for at each request: it exists a moment after the port is taken. */
export async function startControlServer(sandbox: () => Sandbox, port: number): Promise<HttpListener> {
  return listenHttp(port, (request, response) => {
    answer(sandbox, request)
      .catch(toErrorReply)
      .then((reply) => sendReply(response, reply))
      .catch(() => response.destroy());
  });
}

async function answer(current: () => Sandbox, request: IncomingMessage): Promise<HttpReply> {
  const sandbox = current();
  const path = new URL(request.url ?? '/', 'http://sandbox').pathname;
  const text = await readBody(request);
  if (text === null) return { status: 413, body: { error: 'too_large', message: 'the body is too large' } };
  if (isFromAnotherSite(request)) {
    return { status: 403, body: { error: 'forbidden', message: 'requests of other web sites are refused' } };
  }
  if (path.startsWith('/arm/')) {
    const { method = '', headers } = request;
    return answerArm(sandbox.clouds, { method, path: path.slice('/arm'.length), authorization: headers.authorization });
  }
  if (request.method === 'GET' && path === '/') return html(renderPage(sandbox, null));
  if (request.method === 'POST' && path === '/') return answerForm(sandbox, text);
  const isKnownPath = ALL_ROUTES.some(({ pattern }) => pattern.test(path));
  if (!isKnownPath) return notFound(`nothing at ${path}; see sandbox/README.md for the routes`);
  for (const route of ALL_ROUTES) {
    const match = route.method === request.method ? route.pattern.exec(path) : null;
    if (match === null) continue;
    let body: unknown;
    try {
      body = text === '' ? undefined : JSON.parse(text);
    } catch {
      return { status: 400, body: { error: 'invalid_json', message: 'the body is not JSON' } };
    }
    return route.handle(sandbox, body, match[1] ?? '');
  }
  return { status: 405, body: { error: 'method_not_allowed', message: `${request.method} is not offered at ${path}` } };
}

/** The page's buttons: a form with the admin route and its JSON body, so that a button can do nothing a program cannot. */
async function answerForm(sandbox: Sandbox, text: string): Promise<HttpReply> {
  const form = new URLSearchParams(text);
  const [method = '', path = ''] = (form.get('do') ?? '').split(' ');
  const route = ALL_ROUTES.find((candidate) => candidate.method === method && candidate.pattern.test(path));
  if (route === undefined) return notFound('no such action');
  let body: unknown;
  try {
    body = form.get('body') === null ? undefined : JSON.parse(form.get('body')!);
  } catch {
    return html(renderPage(sandbox, 'That is not JSON.'), 422);
  }
  const reply = await route.handle(sandbox, body, route.pattern.exec(path)?.[1] ?? '');
  if (reply.status >= 400) return html(renderPage(sandbox, JSON.stringify(reply.body)), reply.status);
  return { status: 303, body: '', headers: { location: '/' } };
}

/** Another site's form, and a name that was pointed at loopback to get around the browser's rules. */
function isFromAnotherSite(request: IncomingMessage): boolean {
  const site = request.headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return true;
  const host = (request.headers.host ?? '').replace(/:\d+$/, '');
  return !['127.0.0.1', 'localhost', '[::1]'].includes(host);
}

function withBody<Output>(
  schema: z.ZodType<Output>,
  body: unknown,
  act: (value: Output) => HttpReply | Promise<HttpReply>,
): HttpReply | Promise<HttpReply> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return act(parsed.data);
  const problems = parsed.error.issues.map(({ path, message }) => ({ path: path.join('.'), message }));
  const message = problems
    .map((problem) => (problem.path ? `${problem.path}: ${problem.message}` : problem.message))
    .join('; ');
  return { status: 422, body: { error: 'invalid_request', message, problems } };
}

function ok(body: unknown, status = 200): HttpReply {
  return { status, body };
}

function notFound(message: string): HttpReply {
  return { status: 404, body: { error: 'not_found', message } };
}

function html(body: string, status = 200): HttpReply {
  const headers = {
    'content-type': 'text/html; charset=utf-8',
    'content-security-policy':
      "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
  };
  return { status, body, headers };
}
