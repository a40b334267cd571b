/**
 * The OpenAPI document, from the routes and the schemas that validate. Run as a program it writes openapi.json; with `--check` it
 * exits 1 when the committed one is another. The server never runs this: it serves the file.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import {
  createDocument,
  type ZodOpenApiOperationObject,
  type ZodOpenApiPathsObject,
  type ZodOpenApiResponseObject,
  type ZodOpenApiResponsesObject,
} from 'zod-openapi';
import { ERROR_TABLE, type ErrorCode } from '../domain/error-table.ts';
import { problem, PROBLEM_TYPE } from './contract/problem.ts';
import { OPENAPI_FILE } from './openapi-file.ts';
import { pathsOf, type Route } from './route.ts';
import { ALL_ROUTES } from './routes/all-routes.ts';

const DESCRIPTION =
  'Rents GPU machines by durable operations. What takes time answers 202 with an operation to watch. Errors are RFC 9457 problem documents.';

export function renderOpenApi(routes: readonly Route[] = ALL_ROUTES): string {
  const paths: ZodOpenApiPathsObject = {};
  const shared = new Map<string, ZodOpenApiResponseObject>();
  for (const route of routes) {
    for (const path of pathsOf(route)) {
      const name = path.replace(/:(\w+)/g, '{$1}');
      paths[name] = { ...paths[name], [route.method]: describeRoute(route, shared) };
    }
  }
  const document = createDocument({
    openapi: '3.1.0',
    info: {
      title: 'Muster',
      version: '1',
      description: DESCRIPTION,
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      securitySchemes: {
        bearer: {
          type: 'http',
          scheme: 'bearer',
          description: 'An access token (POST /auth/login) or an API key (`mk_…`)',
        },
        agentKey: {
          type: 'apiKey',
          in: 'header',
          name: 'X-Agent-API-Key',
          description: "An agent's one-time token (`mn_…`) to register, its key (`ma_…`) after that",
        },
        repositoryToken: {
          type: 'http',
          scheme: 'basic',
          description: "A short-lived token of one workspace's repository (`mw_…`), as the password",
        },
      },
    },
  });
  return `${JSON.stringify(document, null, 2)}\n`;
}

const SCHEMES: Partial<Record<string, string>> = { agent: 'agentKey', workspace: 'repositoryToken' };

function describeRoute(route: Route, shared: Map<string, ZodOpenApiResponseObject>): ZodOpenApiOperationObject {
  const needsCaller = route.access !== 'public';
  return {
    tags: [route.area],
    summary: route.summary,
    ...(route.description === undefined ? {} : { description: route.description }),
    security: needsCaller ? [{ [SCHEMES[route.access] ?? 'bearer']: [] }] : [],
    'x-access': route.access,
    requestParams: {
      ...(route.params ? { path: route.params } : {}),
      ...(route.query ? { query: route.query } : {}),
      ...(route.isIdempotent === true ? { header: IDEMPOTENCY_HEADER } : {}),
    },
    ...(route.body
      ? {
          requestBody: {
            required: route.isBodyOptional !== true,
            content: { 'application/json': { schema: route.body } },
          },
        }
      : {}),
    responses: describeReplies(route, shared),
  };
}

const IDEMPOTENCY_HEADER = z.object({
  'Idempotency-Key': z
    .string()
    .max(255)
    .optional()
    .meta({ description: 'Same key and body within 24 hours: the first answer again. Same key, other body: 409' }),
});

function describeReplies(route: Route, shared: Map<string, ZodOpenApiResponseObject>): ZodOpenApiResponsesObject {
  const replies: ZodOpenApiResponsesObject = {};
  for (const [status, schema] of Object.entries(route.replies)) {
    const description = Number(status) === 202 ? 'Accepted: the operation does it' : 'Done';
    if (schema === null) replies[status as `${1 | 2}${string}`] = { description };
    else if (typeof schema === 'string') {
      replies[status as '200'] = { description, content: { [schema.split(';')[0] as string]: { schema: z.string() } } };
    } else replies[status as '200'] = { description, content: { 'application/json': { schema } } };
  }
  for (const [status, codes] of Map.groupBy(problemsOf(route), (code) => ERROR_TABLE[code].status)) {
    replies[String(status) as '400'] ??= describeProblems(codes, shared);
  }
  return replies;
}

/** Routes with the same codes of a status share one response. */
function describeProblems(codes: ErrorCode[], shared: Map<string, ZodOpenApiResponseObject>): ZodOpenApiResponseObject {
  const id = ['problem', ...codes].join('_');
  const kept = shared.get(id) ?? {
    id,
    description: codes.map((code) => `\`${code}\``).join(', '),
    content: { [PROBLEM_TYPE]: { schema: problem } },
  };
  shared.set(id, kept);
  return kept;
}

function problemsOf(route: Route): ErrorCode[] {
  const codes: ErrorCode[] = [];
  if (route.access !== 'public') codes.push('unauthenticated', 'forbidden', 'rate_limited');
  if (route.params) codes.push('not_found');
  if (route.body) codes.push('malformed_request', 'body_too_large', 'unsupported_media_type', 'invalid_request');
  if (route.query) codes.push('invalid_request');
  if (route.isIdempotent === true) codes.push('malformed_request', 'idempotency_key_reused', 'idempotency_in_progress');
  codes.push(...(route.problems ?? []), 'internal', 'unavailable');
  return [...new Set(codes)].sort((a, b) => ERROR_TABLE[a].status - ERROR_TABLE[b].status);
}

if (import.meta.main) {
  const made = renderOpenApi();
  if (!process.argv.includes('--check')) await writeFile(OPENAPI_FILE, made);
  else if ((await readFile(OPENAPI_FILE, 'utf8').catch(() => '')) !== made) {
    process.stderr.write('api/openapi.json is not what the routes say: run `node api/openapi.ts`\n');
    process.exitCode = 1;
  }
}
