/** An API server on a free port over a database of its own, for one test file: no workers, so operations stay queued. */
import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import type { ApiDeps } from '../../api/api-deps.ts';
import { createApp, type App } from '../../api/app.ts';
import { hashCredential, makeApiKeySecret, shownPrefix } from '../../api/credential.ts';
import { ensureFirstAdmin } from '../../api/first-admin.ts';
import { createFilesOpener } from '../../api/repository/open-files.ts';
import { insertApiKey } from '../../db/api-keys.ts';
import { openDatabase, type Database } from '../../db/database.ts';
import { registerDeployment } from '../../db/deployment.ts';
import { replaceOffers } from '../../db/offers.ts';
import { insertOrg } from '../../db/orgs.ts';
import { recordBelievable, registerProvider } from '../../db/providers.ts';
import { createQueue, type Queue } from '../../db/queue.ts';
import type { Role } from '../../domain/access.ts';
import type { Offer } from '../../domain/offer.ts';
import { makeTokenSigningKey } from '../../secrets/deployment-secrets.ts';
import { createEnvelope } from '../../secrets/envelope.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';

/** Bodies are looked into freely: a test that reads what is not there fails. */
// oxlint-disable-next-line typescript/no-explicit-any
export type Loose = any;

export interface Reply<T = Loose> {
  status: number;
  headers: Headers;
  body: T;
}

export interface ApiServer {
  url: string;
  databaseUrl: string;
  database: Database;
  queue: Queue;
  deps: ApiDeps;
  /** Of the org "default". */
  adminKey: string;
  /** What was logged, one JSON line each. */
  log: string[];
  /** A key of a new org, or of the given one. */
  makeKey(role: Role, orgId?: string): Promise<{ key: string; orgId: string }>;
  call<T = Loose>(method: string, path: string, options?: CallOptions): Promise<Reply<T>>;
  stop(): Promise<void>;
}

export interface CallOptions {
  key?: string | null;
  body?: unknown;
  /** Sent as it is, instead of `body`. */
  raw?: string;
  headers?: Record<string, string>;
}

export async function startApiServer(changes: Partial<ApiDeps> = {}): Promise<ApiServer> {
  const testDatabase: TestDatabase = await createTestDatabase();
  const database = openDatabase({ url: testDatabase.url, applicationName: 'api-test' });
  const log: string[] = [];
  const logger = pino({ level: 'debug' }, { write: (line: string) => void log.push(line) });
  const signing = makeTokenSigningKey();
  const deps: ApiDeps = {
    database,
    queue: createQueue(database.kysely),
    envelope: createEnvelope(randomBytes(32)),
    tokenSigningKey: { privatePem: signing.secret, publicPem: signing.publicPart as string },
    deploymentId: 'sandbox',
    agents: {
      bundle: () => Promise.resolve({ text: '// the agent\n', sha256: 'f'.repeat(64), version: '0.0.0' }),
      nodePrograms: NO_PROGRAMS,
      intervalMs: 10_000,
      rotateKeyAfterMs: 86_400_000,
    },
    openRepositoryFiles: createFilesOpener(null),
    registration: 'invite',
    rateLimitPerSecond: null,
    maxLifetimeMs: 12 * 3_600_000,
    webhookTargets: 'any',
    bootTimeoutMs: 900_000,
    logger,
    metrics: new Registry(),
    checkReplies: true,
    offerPatienceMs: 0,
    ...changes,
  };
  await deps.queue.start();
  await registerDeployment(database.kysely, {
    deploymentId: 'sandbox',
    mode: 'sandbox',
    maxInstances: 20,
    maxBurnMicroUsdPerHour: 50_000_000n,
  });
  await registerProvider(database.kysely, 'vastai', 'sandbox');
  const adminKey = (await ensureFirstAdmin(database.kysely, null)) as string;
  const app: App = createApp(deps);
  // A loaded machine pauses for longer than the usual five seconds, and a request must not meet the end of its connection.
  const server: Server = createServer({ keepAliveTimeout: 60_000 }, app.express);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    databaseUrl: testDatabase.url,
    database,
    queue: deps.queue,
    deps,
    adminKey,
    log,
    makeKey: (role, orgId) => makeKey(database, role, orgId),
    call: (method, path, options = {}) => call(url, method, path, { key: adminKey, ...options }),
    async stop() {
      await app.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await deps.queue.stop();
      await database.close();
      await testDatabase.drop();
    },
  };
}

async function makeKey(database: Database, role: Role, orgId?: string): Promise<{ key: string; orgId: string }> {
  const key = makeApiKeySecret();
  return database.kysely.transaction().execute(async (tx) => {
    const org = orgId ?? (await insertOrg(tx, `org-${randomBytes(5).toString('hex')}`)).id;
    await insertApiKey(tx, {
      orgId: org,
      userId: null,
      name: `test ${role}`,
      role,
      isAdmin: false,
      keyHash: hashCredential(key),
      prefix: shownPrefix(key),
      expiresAt: null,
    });
    return { key, orgId: org };
  });
}

async function call<T>(base: string, method: string, path: string, options: CallOptions): Promise<Reply<T>> {
  const payload = options.raw ?? (options.body === undefined ? undefined : JSON.stringify(options.body));
  const response = await fetch(`${base}${path}`, {
    method,
    headers: {
      ...(options.key === null || options.key === undefined ? {} : { authorization: `Bearer ${options.key}` }),
      ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
      ...options.headers,
    },
    ...(payload === undefined ? {} : { body: payload }),
  });
  const text = await response.text();
  const isJson = /json/.test(response.headers.get('content-type') ?? '');
  return { status: response.status, headers: response.headers, body: (isJson ? JSON.parse(text) : text) as T };
}

export const OFFER: Offer = {
  provider: 'vastai',
  providerOfferId: '1',
  machineId: 'm1',
  hostId: 'h1',
  gpu: 'RTX 4090',
  gpuCount: 1,
  gpuMemoryGib: 24,
  priceMicroUsdPerHour: 400_000n,
  pricedDiskGib: 10,
  diskMicroUsdPerGibHour: 200n,
  floorMicroUsdPerHour: null,
  interruptible: false,
  region: 'SE',
  location: 'Sweden',
  reliability: 0.99,
  verified: true,
  diskGib: 500,
  cpuCores: 16,
  memoryGib: 64,
  inetDownMbps: 900,
  inetUpMbps: 900,
  cudaVersion: '12.8',
  driverVersion: '570.1',
  directPorts: 10,
  maxDurationSeconds: null,
  stock: 1,
  confidence: 0.9,
};

/** Puts `offers` on the market, instead of what was there. */
export async function listOffers(server: ApiServer, offers: Partial<Offer>[]): Promise<void> {
  const all = offers.map((offer, index) => ({
    ...OFFER,
    providerOfferId: String(index + 1),
    machineId: `m${index + 1}`,
    ...offer,
  }));
  await replaceOffers(server.database.kysely, 'vastai', all, new Date());
  await recordBelievable(server.database.kysely, 'vastai', { listing: 'offers', count: all.length });
}

/** The least that POST /instances needs. */
/** Machines without a Node get none. */
export const NO_PROGRAMS: ApiDeps['agents']['nodePrograms'] = {
  digests: () => Promise.resolve({}),
  compressed: () => Promise.resolve(null),
};

export const ORDER = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.60' };
