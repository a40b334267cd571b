/**
 * Muster's process: reads the configuration, brings up what the roles need and takes it down again. It composes; what the parts do
 * stands in their own files. Nothing that it imports reaches a Pulumi package: only operation children load those.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import pino, { type Logger } from 'pino';
import { Registry } from 'prom-client';
import { ConfigError, loadConfig, PROJECT_DIR, readEnvironment, type Config, type RateLimits } from './config.ts';
import { createBundleCache } from './agent/bundle-cache.ts';
import { createNodePrograms, createResticPrograms } from './agent/node-programs.ts';
import { findProgram } from './agent/snapshots/obtain-restic.ts';
import { isResticNewEnough, readResticVersion, runRestic } from './agent/snapshots/run-restic.ts';
import type { Automation, ProviderAccount } from './automation/automation.ts';
import type { CloudCredentials } from './automation/clusters/cloud-token.ts';
import type { EngineStateService } from './automation/engine/state-backend.ts';
import type { SandboxProcess } from './automation/sandbox-process.ts';
import type { SnapshotServices } from './automation/snapshots/restic-port.ts';
import { openDatabase, type Database } from './db/database.ts';
import { holdMasterKeys } from './db/key-holders.ts';
import { registerDeployment } from './db/deployment.ts';
import { migrateDatabase } from './db/migrate.ts';
import { registerProvider } from './db/providers.ts';
import { MusterError } from './domain/error-table.ts';
import { PROVIDER_NAMES, type ProviderName } from './domain/provider.ts';
import { createQueue, type Queue } from './db/queue.ts';
import { ensureSealedSecret } from './db/sealed-secrets.ts';
import { crashPoint } from './automation/crash-point.ts';
import { createLabelMac, makeLabelKey, makeSshKeyPair, makeTokenSigningKey } from './secrets/deployment-secrets.ts';
import type { Envelope } from './secrets/envelope.ts';
import { openEnvelope } from './secrets/key-file.ts';

/** Long enough to wind down running updates, short enough for whoever waits at a terminal. */
const STOP_LIMIT_MS = 9_500;
/** A second signal of the same kind within this time is the terminal's and npm's copy of the first. */
const SIGNAL_ECHO_MS = 2_000;

/** Longer than the usual interval of heartbeats, so that an agent's connection is there for the next one. */
const KEPT_CONNECTION_MS = 15_000;
/** Of one request with its body. */
const UPLOAD_LIMIT_MS = 3_600_000;
/** Of snapshots: each is three processes of about 100 MB. */
const READ_BACKS = 2;

type Stop = () => Promise<void>;

async function main(): Promise<void> {
  const config = readConfig();
  const log = pino({ level: config.logLevel, base: null }, pino.destination({ dest: 2, sync: true }));
  const stops: Stop[] = [];
  const lifecycle = watchLifecycle(stops, log);
  try {
    await bringUp(config, log, stops, lifecycle.aborted);
  } catch (error) {
    if (lifecycle.aborted.aborted) return;
    process.stderr.write(`muster: ${error instanceof Error ? error.message : String(error)}\n`);
    log.debug({ err: error }, 'start failed');
    await lifecycle.stop(1);
  }
}

function readConfig(): Config {
  try {
    return loadConfig(readEnvironment());
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(2);
  }
}

async function bringUp(config: Config, log: Logger, stops: Stop[], aborted: AbortSignal): Promise<void> {
  for (const warning of config.warnings) print(`warning: ${warning}`);
  claimDataDir(config);
  const needsProviders = config.roles.includes('worker') || config.roles.includes('cron');
  const sandbox = config.sandbox.isOn && needsProviders ? startSandbox(config, log, stops) : null;
  sandbox?.catch(() => {}); // reported where it is awaited
  const ownerUrl = config.database.url?.reveal() ?? (await startPostgres(config, log, stops, aborted));
  await migrateDatabase(ownerUrl, config.database.ca);
  const database = openDatabase({
    url: ownerUrl,
    ca: config.database.ca,
    applicationName: `muster-${config.roles.join('-')}`,
    poolSize: 12,
    onIdleError: (error) => log.debug({ err: error }, 'a database connection ended'),
  });
  stops.unshift(() => database.close());
  const queue = createQueue(database.kysely, config.roles.includes('cron'));
  await queue.start();
  stops.unshift(() => queue.stop());
  await registerDeployment(database.kysely, {
    deploymentId: config.deploymentId,
    mode: config.mode,
    maxInstances: config.safety.maxInstances,
    maxBurnMicroUsdPerHour: config.safety.maxBurnMicroUsdPerHour,
  });
  for (const name of PROVIDER_NAMES) {
    const { state } = config.providers[name];
    await registerProvider(database.kysely, name, state);
    print(`provider ${name}: ${state}${state === 'live' ? ' (real machines, real money)' : ''}`);
  }

  const envelope = openEnvelope(config);
  const holder = await holdMasterKeys(database.kysely, envelope, {
    onWait: (message) => print(`waiting: ${message}`),
    onTrouble: (message) => log.error(message),
    signal: aborted,
  });
  stops.unshift(() => holder.release());
  const port = config.roles.includes('api') ? await startApi(config, database, queue, envelope, log, stops) : null;
  if (needsProviders) {
    const agentUrl = findAgentUrl(config, port);
    print(agentUrl === null ? 'agents: off' : `agents: on machines, calling ${agentUrl}`);
    const stateService = config.roles.includes('worker')
      ? await startStateService(config, database, envelope, log, stops)
      : null;
    const parts = { sandbox: (await sandbox) ?? null, agentUrl, stateService };
    const automation = await startAutomation(config, database, queue, envelope, parts, log);
    stops.unshift(() => automation.stop());
    if (config.roles.includes('worker')) void findEngine(config, automation, log, aborted);
  }
  print('muster is up');
}

/** The directory remembers whether it belongs to the sandbox or to real machines: the records of one must never meet the other. */
function claimDataDir(config: Config): void {
  mkdirSync(config.dataDir, { recursive: true, mode: 0o700 });
  const file = join(config.dataDir, 'mode');
  try {
    writeFileSync(file, config.mode, { flag: 'wx' });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
  const kept = readFileSync(file, 'utf8').trim();
  if (kept !== config.mode) {
    throw new Error(
      `the data directory ${config.dataDir} belongs to the ${kept} mode and the configuration says ${config.mode}: set MUSTER_DATA_DIR to another directory`,
    );
  }
}

async function startSandbox(config: Config, log: Logger, stops: Stop[]) {
  const { startSandboxProcess } = await import('./automation/sandbox-process.ts');
  const sandbox = await startSandboxProcess({
    projectDir: PROJECT_DIR,
    port: config.sandbox.port,
    dir: config.sandbox.dir,
    time: config.sandbox.time,
    environment: config.childEnvironment,
    onTrouble: (message) => log.warn(message),
  });
  stops.push(() => sandbox.stop()); // last: destroys that are under way still need their vendor
  print(`sandbox: ${sandbox.urls.control} (nothing real is bought)`);
  return sandbox;
}

async function startPostgres(config: Config, log: Logger, stops: Stop[], aborted: AbortSignal): Promise<string> {
  const { startEmbeddedPostgres } = await import('./db/embedded-postgres.ts');
  const postgres = await startEmbeddedPostgres({
    dataDir: config.dataDir,
    cacheDir: config.cacheDir,
    log: (message) => log.info(`postgres: ${message}`),
    onStateChange: (state, detail) => log.debug({ state, detail }, 'postgres'),
    signal: aborted,
  });
  stops.push(() => postgres.stop());
  return postgres.url;
}

async function startApi(
  config: Config,
  database: Database,
  queue: Queue,
  envelope: Envelope,
  log: Logger,
  stops: Stop[],
): Promise<number> {
  const [{ createApp }, { ensureFirstAdmin }, { startPulse }, { createFilesOpener }] = await Promise.all([
    import('./api/app.ts'),
    import('./api/first-admin.ts'),
    import('./api/pulse.ts'),
    import('./api/repository/open-files.ts'),
  ]);
  const signingKey = await ensureSealedSecret(database.kysely, envelope, 'token_signing_key', makeTokenSigningKey);
  const adminKey = await ensureFirstAdmin(database.kysely, config.access.adminApiKey?.reveal() ?? null);
  const api = createApp({
    database,
    queue,
    envelope,
    tokenSigningKey: { privatePem: signingKey.secret, publicPem: signingKey.publicPart ?? '' },
    deploymentId: config.deploymentId,
    agents: {
      isOn: config.agents.isOn,
      bundle: createBundleCache(join(config.cacheDir, 'agent')),
      nodePrograms: createNodePrograms({
        cacheDir: join(config.cacheDir, 'agent'),
        configured: config.agents.nodePrograms,
        packagesDir: join(PROJECT_DIR, 'node_modules'),
      }),
      resticPrograms: resticPrograms(config),
      intervalMs: config.agents.intervalMs,
      rotateKeyAfterMs: config.agents.rotateKeyAfterMs,
      deadManMs: config.agents.deadManMs,
    },
    openRepositoryFiles: createFilesOpener(storeKeyOf(config)),
    registration: config.access.registration,
    rateLimitPerSecond: config.http.requestsPerSecond,
    maxLifetimeMs: config.safety.maxLifetimeMs,
    webhookTargets: config.safety.webhookTargets,
    bootTimeoutMs: config.work.bootTimeoutMs,
    podImages: config.agents.podImages,
    sourcingMode: config.sourcing.mode,
    logger: log,
    metrics: new Registry(),
  });
  // A pack comes slowly over a thin line; whoever falls silent is cut off by the route itself.
  const server = createServer({ requestTimeout: UPLOAD_LIMIT_MS, keepAliveTimeout: KEPT_CONNECTION_MS }, api.express);
  await listen(server, config);
  const pulse = startPulse(database.kysely);
  stops.unshift(async () => {
    await pulse.stop();
    const closed = closeServer(server);
    await api.close();
    await closed;
  });
  if (adminKey !== null) print(`first admin's API key (shown only now): ${adminKey}`);
  print(`API: http://${config.http.host}:${portOf(server)}/api/v1 (docs at /api/v1/docs)`);
  return portOf(server);
}

/** For the engines of this process. It outlives them: what they write at their end must find it. */
async function startStateService(config: Config, database: Database, envelope: Envelope, log: Logger, stops: Stop[]) {
  const [{ openStateListener }, { listFileStates }] = await Promise.all([
    import('./api/state-service/state-listener.ts'),
    import('./automation/engine/file-states.ts'),
  ]);
  const left = await listFileStates(config.dataDir);
  if (left.length > 0)
    throw new Error(
      `${config.dataDir} holds states of ${left.length} stacks in files, which are not read any more (${left.slice(0, 5).join(', ')}): docs/runbooks/move-stacks.md says what to do`,
    );
  const listener = await openStateListener({ database, envelope, log });
  stops.unshift(() => listener.close());
  return listener;
}

async function startAutomation(
  config: Config,
  database: Database,
  queue: Queue,
  envelope: Envelope,
  {
    sandbox,
    agentUrl,
    stateService,
  }: { sandbox: SandboxProcess | null; agentUrl: string | null; stateService: EngineStateService | null },
  log: Logger,
): Promise<Automation> {
  const [{ createAutomation }, { documentedRateLimits }, { describeOwner }] = await Promise.all([
    import('./automation/automation.ts'),
    import('./providers-dynamic/provider-clients.ts'),
    import('./automation/operations/owner.ts'),
  ]);
  const db = database.kysely;
  const labelKey = await ensureSealedSecret(db, envelope, 'label_key', makeLabelKey);
  const sshKey = await ensureSealedSecret(db, envelope, 'ssh_key', () =>
    makeSshKeyPair(`muster-${config.deploymentId}`),
  );
  const automation = await createAutomation({
    roles: config.roles.filter((role) => role !== 'api'),
    database,
    queue,
    envelope,
    agentUrl,
    labelMac: createLabelMac(labelKey.secret),
    deploymentId: config.deploymentId,
    sshKey: { privateKey: sshKey.secret, publicKey: sshKey.publicPart ?? '' },
    stateService,
    owner: describeOwner(config.dataDir),
    projectDir: PROJECT_DIR,
    dataDir: config.dataDir,
    concurrency: config.work.concurrency,
    providers: accountsOf(config, sandbox?.urls ?? {}, documentedRateLimits),
    ...(sandbox ? { cloudPorts: sandbox.cloudPorts, sandboxUrl: sandbox.urls.control } : {}),
    cloudCredentials: {
      ...cloudCredentialsOf(config),
      ...(sandbox ? { sandboxAzureUrl: `${sandbox.urls.control}/arm` } : {}),
    },
    cloudEnvironment: Object.fromEntries(
      Object.entries(config.clouds.environment).map(([name, value]) => [name, value.reveal()]),
    ),
    intervals: {
      offerSyncMs: config.work.offerSyncMs,
      readinessMs: config.work.readinessMs,
      reconcileMs: config.work.reconcileMs,
    },
    orphans: { policy: config.safety.orphanPolicy, graceMs: config.safety.orphanGraceMs },
    nodes: {
      intervalMs: config.agents.intervalMs,
      stormLimit: config.safety.failoverStormLimit,
      deadManMs: config.agents.deadManMs,
    },
    bootTimeoutMs: config.work.bootTimeoutMs,
    sourcing: {
      ...config.sourcing,
      maxLifetimeMs: config.safety.maxLifetimeMs,
      bootTimeoutMs: config.work.bootTimeoutMs,
    },
    snapshots: await createSnapshots(config),
    webhookTargets: config.safety.webhookTargets,
    log,
    crashPoint,
  });
  await automation.start();
  return automation;
}

function resticPath(config: Config): string | null {
  return config.snapshots.resticPath ?? findProgram('restic', config.childEnvironment['PATH'] ?? '');
}

function resticPrograms(config: Config) {
  return createResticPrograms({
    cacheDir: join(config.cacheDir, 'agent'),
    own: resticPath(config),
    arm64: config.snapshots.resticArm64,
  });
}

function storeKeyOf({ snapshots: { key } }: Config) {
  return key && { accessKeyId: key.accessKeyId, secretAccessKey: key.secretAccessKey.reveal() };
}

/** What takes, reads back and removes snapshots. restic is looked for whenever it is needed, so it may be installed later. */
async function createSnapshots(config: Config): Promise<SnapshotServices> {
  const [{ createKeyIssuer }, { createSlots }] = await Promise.all([
    import('./automation/snapshots/direct-keys.ts'),
    import('./automation/snapshots/restic-port.ts'),
  ]);
  const { access, url, roleArn, apiToken } = config.snapshots;
  const storeKey = storeKeyOf(config);
  const now = () => new Date();
  return {
    async restic() {
      const program = resticPath(config);
      const version = program === null ? null : await readResticVersion(program);
      if (program !== null && version !== null && isResticNewEnough(version)) {
        return { version, run: (run) => runRestic(program, run) };
      }
      const found = version === null ? 'there is none that runs' : `there is ${version}`;
      throw new MusterError(
        'unavailable',
        `restic 0.14 or newer is needed on the PATH or as MUSTER_RESTIC_PATH; ${found}`,
      );
    },
    storeUrl: url,
    storeKey,
    access,
    issueKey:
      storeKey && access === 'direct'
        ? createKeyIssuer({ key: storeKey, roleArn, apiToken: apiToken?.reveal() ?? null, now })
        : null,
    readBacks: createSlots(READ_BACKS),
    resticDigests: () => resticPrograms(config).digests(),
  };
}

/** For short-lived tokens of clusters. The simulated clusters take the sandbox's key, as its vendors do. */
function cloudCredentialsOf({ clouds: { aws, azure }, sandbox }: Config): CloudCredentials {
  return {
    aws: aws && {
      accessKeyId: aws.accessKeyId,
      secretAccessKey: aws.secretAccessKey.reveal(),
      sessionToken: aws.sessionToken?.reveal() ?? null,
    },
    azure: azure && { ...azure, clientSecret: azure.clientSecret.reveal() },
    sandboxToken: sandbox.isOn ? 'sandbox' : null,
  };
}

/** The marketplaces that are used. Those of a sandbox that we started are where it says. */
function accountsOf(
  config: Config,
  sandboxUrls: Partial<Record<ProviderName, string>>,
  documented: (provider: ProviderName) => Record<string, number>,
): Partial<Record<ProviderName, ProviderAccount>> {
  const accounts: Partial<Record<ProviderName, ProviderAccount>> = {};
  for (const name of PROVIDER_NAMES) {
    const { state, apiKey, url, listLagMs, rateLimits } = config.providers[name];
    if (state === 'off' || apiKey === null) continue;
    accounts[name] = {
      mode: state,
      apiKey: apiKey.reveal(),
      baseUrl: sandboxUrls[name] ?? url,
      listLagMs,
      rateLimits: spacing(rateLimits, () => documented(name)),
    };
  }
  return accounts;
}

/**
 * Where agents reach us; null: machines carry none. In the sandbox they run on this very machine and come the shortest way.
 * @param port that our API listens on; null: another process has it
 */
function findAgentUrl(config: Config, port: number | null): string | null {
  const { host, port: configuredPort, publicUrl } = config.http;
  if (!config.agents.isOn) return null;
  if (publicUrl !== null && (config.mode === 'live' || port === null)) return publicUrl;
  const own = port ?? configuredPort;
  const isEverywhere = host === '0.0.0.0' || host === '::';
  return own === 0 ? null : `http://${isEverywhere ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host}:${own}`;
}

/** Operations wait until the engine is there; a failure is kept for /ready and tried again with the next start. */
async function findEngine(config: Config, automation: Automation, log: Logger, aborted: AbortSignal): Promise<void> {
  const { obtainEngine } = await import('./engine/obtain.ts');
  try {
    const engine = await obtainEngine({
      env: { ...config.childEnvironment },
      signal: aborted,
      onProgress: (message) => {
        print(`engine: ${message}`);
        automation.engineMissing(message).catch(() => {});
      },
    });
    await automation.engineFound(engine);
    print(`engine: pulumi ${engine.version} (${engine.source})`);
  } catch (error) {
    if (aborted.aborted) return;
    const reason = error instanceof Error ? error.message : String(error);
    log.error(reason);
    await automation.engineMissing(reason).catch(() => {});
  }
}

/** Stops on SIGINT, SIGTERM and when the process that started us is gone; a second signal ends us at once. */
function watchLifecycle(stops: Stop[], log: Logger) {
  const aborted = new AbortController();
  let stopping: Promise<void> | undefined;
  let firstSignalAt = 0;
  async function stop(exitCode: number): Promise<void> {
    stopping ??= (async () => {
      aborted.abort();
      const limit = setTimeout(() => process.exit(exitCode || 1), STOP_LIMIT_MS);
      limit.unref();
      for (let next = stops.shift(); next; next = stops.shift()) {
        await next().catch((error: unknown) => log.warn({ err: error }, 'a part did not stop cleanly'));
      }
      process.exit(exitCode);
    })();
    return stopping;
  }
  function onSignal(signal: NodeJS.Signals): void {
    if (firstSignalAt === 0) {
      firstSignalAt = Date.now();
      print(`${signal}: stopping`);
      void stop(0);
    } else if (Date.now() - firstSignalAt > SIGNAL_ECHO_MS) process.exit(1);
  }
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal).on('SIGHUP', onSignal);
  process.on('disconnect', () => void stop(0));
  return { stop, aborted: aborted.signal };
}

async function listen(server: Server, config: Config): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'EADDRINUSE'
          ? new Error(`port ${config.http.port} on ${config.http.host} is taken: set MUSTER_PORT to another`)
          : error,
      ),
    );
    server.listen(config.http.port, config.http.host, resolve);
  });
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === 'object' && address !== null ? address.port : 0;
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
    setTimeout(() => server.closeAllConnections(), 1_000).unref();
  });
}

/** Seconds between two calls of each endpoint. */
function spacing(limits: RateLimits, documented: () => Record<string, number>): Record<string, number> {
  if (limits === 'off') return {};
  return limits === 'documented' ? documented() : { ...limits };
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

await main();
