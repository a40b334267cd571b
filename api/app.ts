/** The API as an Express application: what surrounds every route. It opens no port and reads no configuration; main.ts does. */
import { randomUUID } from 'node:crypto';
import express, { type Express } from 'express';
import helmet from 'helmet';
import { pinoHttp } from 'pino-http';
import { createRateLimit } from '../db/rate-limits.ts';
import { createAccessTokens } from './access-token.ts';
import type { ApiContext, ApiDeps } from './api-deps.ts';
import { createAuthenticator } from './authentication.ts';
import { addBootMetrics } from './boot-metrics.ts';
import { createEventHub } from './event-hub.ts';
import { addFleetMetrics } from './fleet-metrics.ts';
import { createGpuCatalogue } from './gpu-catalogue.ts';
import { createHttpMetrics } from './http-metrics.ts';
import { mountRoutes } from './mount.ts';
import { sendProblem } from './problems.ts';
import { ALL_ROUTES } from './routes/all-routes.ts';
import { addStandbyMetrics } from './standby-metrics.ts';
import { createStateService, isStatePath } from './state-service/state-service.ts';

/** Tries of a password or an invite, for one address and email. */
const GUESSES = { points: 10, seconds: 60 };
const REQUEST_ID = /^[A-Za-z0-9._-]{8,64}$/;

export interface App {
  express: Express;
  /** Ends event streams and the listening connection. Close the HTTP server for new requests first, then this, then the database. */
  close(): Promise<void>;
}

export function createApp(deps: ApiDeps): App {
  const { kysely, pool } = deps.database;
  const accessTokens = createAccessTokens(deps.tokenSigningKey, deps.deploymentId);
  const context: ApiContext = {
    ...deps,
    accessTokens,
    hub: createEventHub(deps.database, deps.logger),
    guessLimit: createRateLimit(pool, { name: 'guess', ...GUESSES }),
    gpus: createGpuCatalogue(kysely),
    agentSha256: createAgentDigest(deps.agents.bundle),
  };
  addFleetMetrics(deps.metrics, kysely);
  addBootMetrics(deps.metrics, kysely);
  addStandbyMetrics(deps.metrics, kysely);
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag'); // replies are live; hashing each costs more than it saves
  app.use(createRequestLog(deps), helmet());
  app.use((_request, response, next) => {
    response.setHeader('cache-control', 'no-store');
    next();
  });
  const authenticator = createAuthenticator(kysely, accessTokens);
  const stateService = createStateService({
    database: deps.database,
    envelope: deps.envelope,
    authenticator,
    runTokens: null,
    log: deps.logger,
  });
  app.use((request, response, next) => {
    if (isStatePath(request.path)) void stateService(request, response);
    else next();
  });
  mountRoutes(app, ALL_ROUTES, {
    deps: context,
    authenticator,
    rateLimit:
      deps.rateLimitPerSecond === null
        ? null
        : createRateLimit(pool, { name: 'rate', points: deps.rateLimitPerSecond, seconds: 1 }),
    observe: createHttpMetrics(deps.metrics),
  });
  app.use(sendProblem);
  return { express: app, close: () => context.hub.close() };
}

/** Of the bundle as soon as it is there: a heartbeat must not wait for a bundler. */
function createAgentDigest(bundle: ApiDeps['agents']['bundle']): () => string | null {
  let known: string | null = null;
  return () => {
    bundle().then(
      ({ sha256 }) => void (known = sha256),
      () => {},
    );
    return known;
  };
}

/** One line per request: no header, no body, no query value, so no secret. */
function createRequestLog(deps: ApiDeps) {
  return pinoHttp({
    logger: deps.logger,
    genReqId(request, response) {
      const given = request.headers['x-request-id'];
      const requestId = typeof given === 'string' && REQUEST_ID.test(given) ? given : randomUUID();
      response.setHeader('x-request-id', requestId);
      return requestId;
    },
    customLogLevel: (request, response, error) => {
      // Asked every few seconds by machines; that it is not ready yet is an answer, no trouble.
      if (request.url === '/health' || request.url === '/ready' || request.url === '/metrics') return 'trace';
      return error || response.statusCode >= 500 ? 'warn' : 'debug';
    },
    serializers: {
      req: (request: { id: unknown; method: string; url: string }) => ({
        id: request.id,
        method: request.method,
        path: request.url.split('?')[0],
      }),
      res: (response: { statusCode: number }) => ({ status: response.statusCode }),
    },
  });
}
