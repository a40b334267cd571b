/**
 * The configuration: every setting of the control plane, read once at start, validated, all problems reported at once.
 * This is the only reader of process.env in the control plane (providers-dynamic/entry.ts is the one of the engine's side);
 * everything else is given values. It starts nothing and opens nothing but `.env` and the files that secrets are kept in.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseEnv } from 'node:util';
import { isLoopback, isRemoteWithoutTls, Secret } from './config-values.ts';
import type { RateLimits } from './config-values.ts';
import { PROJECT_DIR, sandboxPortOffset, VARIABLES } from './config-variables.ts';
import type { Mode, Role, Variable, VariableName } from './config-variables.ts';
import type { MicroUsd } from './domain/money.ts';
import { PROVIDER_FACTS, PROVIDER_NAMES, type ProviderName } from './domain/provider.ts';
import { reachOfHost } from './domain/public-address.ts';
import { parseStoreUrl } from './domain/snapshots/store.ts';

export { Secret } from './config-values.ts';
export type { RateLimits } from './config-values.ts';
export { PROJECT_DIR } from './config-variables.ts';
export type { Mode, Role } from './config-variables.ts';

/** Variables that other programs of this project read; they are none of ours, and no typing error either. */
const OTHER_PROGRAMS = /^MUSTER_(URL|API_KEY|API_KEY_FILE|PROFILE|PASSWORD_FILE|PROVIDER_ENTRY|TEST_.*|BENCH_.*)$/;

export interface ProviderConfig {
  readonly state: 'live' | 'sandbox' | 'off';
  /** The key to send. In the sandbox the simulated vendor's own, never a real one; null where the provider is off. */
  readonly apiKey: Secret | null;
  readonly url: string;
  readonly rateLimits: RateLimits;
  readonly listLagMs: number;
}

/** Everything is frozen. Secrets print as `[secret]`; `JSON.stringify` of the whole works (bigint as decimal text). */
export interface Config {
  readonly mode: Mode;
  readonly deploymentId: string;
  readonly roles: readonly Role[];
  /** Absolute. */
  readonly dataDir: string;
  /** Absolute. What is kept there can be had again. */
  readonly cacheDir: string;
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
  /** `publicUrl` null: in the sandbox the address listened on, outside it there is none. */
  readonly http: {
    readonly host: string;
    readonly port: number;
    readonly publicUrl: string | null;
    readonly requestsPerSecond: number;
  };
  /** `isOn` false: no machine carries an agent. Where it is true, `http.publicUrl` or the sandbox's own address is known. */
  readonly agents: {
    readonly isOn: boolean;
    readonly intervalMs: number;
    readonly rotateKeyAfterMs: number;
    /** null: never. */
    readonly deadManMs: number | null;
    /** Images that pods may have, as patterns. */
    readonly podImages: readonly string[];
    /** Node for machines that have none, as far as the operator has named it. */
    readonly nodePrograms: Readonly<Record<'linux-x64' | 'linux-arm64', string | null>>;
  };
  readonly snapshots: {
    /** domain/snapshots/store.ts reads it. */
    readonly url: string;
    /** null: a folder. */
    readonly key: { readonly accessKeyId: string; readonly secretAccessKey: Secret } | null;
    readonly access: 'gateway' | 'direct';
    readonly roleArn: string | null;
    readonly apiToken: Secret | null;
    /** null: the one on the PATH. */
    readonly resticPath: string | null;
    readonly resticArm64: string | null;
  };
  readonly access: {
    readonly registration: 'closed' | 'invite' | 'open';
    readonly adminApiKey: Secret | null;
    /** Base64 of 32 bytes; null: made and kept in the data directory. */
    readonly secretsKey: Secret | null;
    /** They open and do not seal. */
    readonly otherSecretsKeys: readonly Secret[];
  };
  /** `url` null: the embedded Postgres. `ca` is the PEM text. */
  readonly database: { readonly url: Secret | null; readonly ca: string | null };
  readonly work: {
    readonly concurrency: number;
    readonly bootTimeoutMs: number;
    readonly offerSyncMs: number;
    readonly readinessMs: number;
    readonly reconcileMs: number;
  };
  readonly safety: {
    readonly orphanPolicy: 'destroy' | 'alert';
    readonly webhookTargets: 'public' | 'any';
    readonly orphanGraceMs: number;
    readonly failoverStormLimit: number;
    readonly maxInstances: number;
    readonly maxBurnMicroUsdPerHour: MicroUsd;
    readonly maxLifetimeMs: number;
  };
  readonly sourcing: { readonly mode: 'off' | 'search' | 'provision'; readonly maxInstances: number };
  readonly providers: Readonly<Record<ProviderName, ProviderConfig>>;
  /** Null and empty in the sandbox, and for a cloud that is off. */
  readonly clouds: {
    readonly aws: {
      readonly accessKeyId: string;
      readonly secretAccessKey: Secret;
      readonly sessionToken: Secret | null;
    } | null;
    readonly azure: { readonly tenantId: string; readonly clientId: string; readonly clientSecret: Secret } | null;
    /** The clouds' own variables, for the engine's plugins. */
    readonly environment: Readonly<Record<string, Secret>>;
  };
  readonly sandbox: {
    readonly isOn: boolean;
    readonly port: number;
    readonly dir: string;
    readonly time: 'auto' | 'real' | 'explicit';
  };
  /** What child programs (the engine, Postgres, Go) may see of our environment: no setting and no secret of ours. */
  readonly childEnvironment: Readonly<Record<string, string>>;
  /** Worth a person's attention, but no reason not to start. */
  readonly warnings: readonly string[];
}

export interface ConfigProblem {
  readonly variable: string;
  readonly message: string;
}

/** Every problem of the configuration, one line each. Main prints the message and exits with 2, having started nothing. */
export class ConfigError extends Error {
  readonly problems: readonly ConfigProblem[];

  constructor(problems: readonly ConfigProblem[]) {
    const lines = problems.map((problem) => `  ${problem.variable}: ${problem.message}`);
    const count = problems.length === 1 ? 'one problem' : `${problems.length} problems`;
    super(`The configuration has ${count}; nothing was started.\n${lines.join('\n')}\nSee docs/configuration.md.`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

export type Environment = Readonly<Record<string, string | undefined>>;

export interface LoadOptions {
  /** Reads the file of a `<NAME>_FILE` variable or of a certificate authority. @default from disk */
  readonly readFile?: (path: string) => string;
  /** @default of this machine */
  readonly cores?: number;
}

/** The process's environment over that of `.env` (in the project's folder), if there is one. Throws ConfigError where it cannot be read. */
export function readEnvironment(options: { env?: Environment; envFile?: string } = {}): Environment {
  const envFile = options.envFile ?? join(PROJECT_DIR, '.env');
  let text = '';
  try {
    text = readFileSync(envFile, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    if (code !== 'ENOENT')
      throw new ConfigError([{ variable: '.env', message: `cannot be read: ${envFile} (${code})` }]);
  }
  return { ...parseEnv(text), ...(options.env ?? process.env) };
}

/** Validates `env` and gives the configuration. An empty value counts as unset. Throws ConfigError with every problem. */
export function loadConfig(env: Environment, options: LoadOptions = {}): Config {
  const readFile = options.readFile ?? ((path: string) => readFileSync(path, 'utf8'));
  const problems: ConfigProblem[] = [];
  const mode: Mode = env['MUSTER_SANDBOX'] === 'off' ? 'live' : 'sandbox';
  const values = readVariables(env, mode, readFile, problems);
  const isSandbox = mode === 'sandbox';
  const deploymentId = values.MUSTER_DEPLOYMENT_ID ?? (isSandbox ? 'sandbox' : '');
  if (deploymentId === '' && !problems.some((problem) => problem.variable === 'MUSTER_DEPLOYMENT_ID')) {
    const allowed = VARIABLES.MUSTER_DEPLOYMENT_ID.allowed;
    problems.push({
      variable: 'MUSTER_DEPLOYMENT_ID',
      message: `is required with MUSTER_SANDBOX=off; allowed: ${allowed}`,
    });
  }
  const providers = readProviders(env, values, mode, problems);
  const ca = readCertificate(values.MUSTER_DATABASE_CA_FILE, readFile, problems);
  checkSnapshots(values, problems);
  if (problems.length > 0) throw new ConfigError(problems);
  const config: Config = {
    mode,
    deploymentId,
    roles: values.MUSTER_ROLES,
    dataDir: values.MUSTER_DATA_DIR,
    cacheDir: join(env['XDG_CACHE_HOME'] ?? join(env['HOME'] ?? values.MUSTER_DATA_DIR, '.cache'), 'muster'),
    logLevel: values.MUSTER_LOG_LEVEL,
    http: {
      host: values.MUSTER_HOST,
      port: values.MUSTER_PORT,
      publicUrl: values.MUSTER_PUBLIC_URL,
      requestsPerSecond: values.MUSTER_API_RATE_LIMIT,
    },
    agents: {
      isOn: values.MUSTER_AGENT === 'on' && (isSandbox || agentTrouble(env, values)?.isOff !== true),
      intervalMs: values.MUSTER_AGENT_INTERVAL,
      rotateKeyAfterMs: values.MUSTER_AGENT_KEY_LIFETIME,
      deadManMs: values.MUSTER_AGENT_DEAD_MAN,
      podImages: values.MUSTER_POD_IMAGES,
      nodePrograms: { 'linux-x64': values.MUSTER_AGENT_NODE_X64, 'linux-arm64': values.MUSTER_AGENT_NODE_ARM64 },
    },
    snapshots: readSnapshots(values),
    access: {
      registration: values.MUSTER_REGISTRATION,
      adminApiKey: values.MUSTER_ADMIN_API_KEY,
      secretsKey: values.MUSTER_SECRETS_KEY,
      otherSecretsKeys: values.MUSTER_SECRETS_OTHER_KEYS ?? [],
    },
    database: { url: values.DATABASE_URL, ca },
    work: {
      concurrency:
        values.MUSTER_WORKER_CONCURRENCY ?? Math.min(8, Math.max(2, options.cores ?? availableParallelism())),
      bootTimeoutMs: values.MUSTER_BOOT_TIMEOUT,
      offerSyncMs: values.MUSTER_OFFER_SYNC_INTERVAL,
      readinessMs: values.MUSTER_READINESS_INTERVAL,
      reconcileMs: values.MUSTER_RECONCILE_INTERVAL,
    },
    safety: {
      orphanPolicy: values.MUSTER_ORPHAN_POLICY,
      webhookTargets: values.MUSTER_WEBHOOK_TARGETS,
      orphanGraceMs: values.MUSTER_ORPHAN_GRACE,
      failoverStormLimit: values.MUSTER_FAILOVER_STORM_LIMIT,
      maxInstances: values.MUSTER_MAX_INSTANCES,
      maxBurnMicroUsdPerHour: values.MUSTER_MAX_BURN_USD_PER_HOUR,
      maxLifetimeMs: values.MUSTER_MAX_LIFETIME,
    },
    sourcing: { mode: values.MUSTER_SOURCING, maxInstances: values.MUSTER_SOURCING_MAX_INSTANCES },
    providers,
    clouds: readClouds(env, values, mode),
    sandbox: {
      isOn: isSandbox,
      port: values.MUSTER_SANDBOX_PORT,
      dir: values.MUSTER_SANDBOX_DIR ?? join(values.MUSTER_DATA_DIR, 'sandbox'),
      time: values.MUSTER_SANDBOX_TIME,
    },
    childEnvironment: pickChildEnvironment(env),
    warnings: findWarnings(env, values, providers, mode),
  };
  Object.defineProperty(config, 'toJSON', { value: () => withTextForBigInts(config) });
  return freeze(config);
}

type ValueOf<V> =
  V extends Variable<infer T>
    ? V extends { readonly default: string | Readonly<Record<Mode, string>> }
      ? T
      : T | null
    : never;
type Values = { [Name in VariableName]: ValueOf<(typeof VARIABLES)[Name]> };

function readVariables(
  env: Environment,
  mode: Mode,
  readFile: (path: string) => string,
  problems: ConfigProblem[],
): Values {
  const values: Record<string, unknown> = {};
  for (const [name, variable] of Object.entries(VARIABLES) as [string, Variable<unknown>][]) {
    const found = findText(env, name, variable, readFile, problems);
    const text = found?.text ?? (typeof variable.default === 'object' ? variable.default[mode] : variable.default);
    const value = text === undefined ? null : variable.parse(text);
    if (value === undefined) {
      const got = variable.isSecret ? `a text of ${text?.length} characters (not shown)` : JSON.stringify(text);
      problems.push({ variable: found?.name ?? name, message: `got ${got}; allowed: ${variable.allowed}` });
    }
    values[name] = value ?? null;
  }
  return values as Values;
}

/** The text of a variable and the name it was found under: its own, its `_FILE`, or one of the other names and their `_FILE`. */
function findText(
  env: Environment,
  name: string,
  variable: Variable<unknown>,
  readFile: (path: string) => string,
  problems: ConfigProblem[],
): { name: string; text: string } | undefined {
  for (const candidate of [name, ...(variable.otherNames ?? [])]) {
    const text = env[candidate]?.trim() || undefined;
    const fileName = `${candidate}_FILE`;
    const path = variable.isSecret ? env[fileName]?.trim() || undefined : undefined;
    if (text !== undefined && path !== undefined) {
      problems.push({ variable: fileName, message: `is set together with ${candidate}; set one of the two` });
    }
    if (text !== undefined) return { name: candidate, text };
    if (path === undefined) continue;
    const content = tryRead(path, readFile, fileName, problems)?.trim();
    if (content === '') problems.push({ variable: fileName, message: `the file ${JSON.stringify(path)} is empty` });
    return content ? { name: fileName, text: content } : undefined;
  }
  return undefined;
}

function tryRead(
  path: string,
  readFile: (path: string) => string,
  variable: string,
  problems: ConfigProblem[],
): string | undefined {
  try {
    return readFile(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    problems.push({ variable, message: `the file ${JSON.stringify(path)} cannot be read (${code})` });
    return undefined;
  }
}

function readSnapshots(values: Values): Config['snapshots'] {
  const { MUSTER_SNAPSHOT_ACCESS_KEY_ID: accessKeyId, MUSTER_SNAPSHOT_SECRET_ACCESS_KEY: secretAccessKey } = values;
  return {
    url: values.MUSTER_SNAPSHOT_URL ?? pathToFileURL(join(values.MUSTER_DATA_DIR, 'snapshots')).href,
    key: accessKeyId === null || secretAccessKey === null ? null : { accessKeyId, secretAccessKey },
    access: values.MUSTER_SNAPSHOT_ACCESS,
    roleArn: values.MUSTER_SNAPSHOT_ROLE_ARN,
    apiToken: values.MUSTER_SNAPSHOT_API_TOKEN,
    resticPath: values.MUSTER_RESTIC_PATH,
    resticArm64: values.MUSTER_RESTIC_ARM64,
  };
}

function checkSnapshots(values: Values, problems: ConfigProblem[]): void {
  const store = values.MUSTER_SNAPSHOT_URL === null ? undefined : parseStoreUrl(values.MUSTER_SNAPSHOT_URL);
  if (store === undefined || store.kind === 'file') return;
  const isDirect = values.MUSTER_SNAPSHOT_ACCESS === 'direct';
  const needed = [
    'MUSTER_SNAPSHOT_ACCESS_KEY_ID',
    'MUSTER_SNAPSHOT_SECRET_ACCESS_KEY',
    ...(isDirect && (store.kind === 's3' || store.kind === 'wasabi') ? ['MUSTER_SNAPSHOT_ROLE_ARN'] : []),
    ...(isDirect && store.kind === 'r2' ? ['MUSTER_SNAPSHOT_API_TOKEN'] : []),
  ] as VariableName[];
  for (const variable of needed) {
    if (values[variable] !== null || problems.some((problem) => problem.variable.startsWith(variable))) continue;
    const why =
      isDirect && variable !== needed[0] && variable !== needed[1] ? ' with MUSTER_SNAPSHOT_ACCESS=direct' : '';
    const message = `is required for ${store.kind}://${why}; allowed: ${VARIABLES[variable].allowed}`;
    problems.push({ variable, message });
  }
}

function readCertificate(
  path: string | null,
  readFile: (path: string) => string,
  problems: ConfigProblem[],
): string | null {
  if (path === null) return null;
  const pem = tryRead(path, readFile, 'MUSTER_DATABASE_CA_FILE', problems);
  if (pem !== undefined && !pem.includes('-----BEGIN CERTIFICATE-----')) {
    problems.push({
      variable: 'MUSTER_DATABASE_CA_FILE',
      message: `the file ${JSON.stringify(path)} holds no PEM certificate`,
    });
  }
  return pem ?? null;
}

function readProviders(
  env: Environment,
  values: Values,
  mode: Mode,
  problems: ConfigProblem[],
): Record<ProviderName, ProviderConfig> {
  const entries = PROVIDER_NAMES.map((name) => [name, readProvider(name, env, values, mode, problems)] as const);
  return Object.fromEntries(entries) as Record<ProviderName, ProviderConfig>;
}

/** Credentials that only a profile or a machine's role has are the plugins' to find; tokens of clusters then need the explicit ones. */
function readClouds(env: Environment, values: Values, mode: Mode): Config['clouds'] {
  const isOn = (flag: 'on' | 'off') => mode === 'live' && flag === 'on';
  const used = [
    ...(isOn(values.MUSTER_AWS_ENABLED) ? [/^AWS_/] : []),
    ...(isOn(values.MUSTER_AZURE_ENABLED) ? [/^(ARM|AZURE)_/] : []),
    ...(isOn(values.MUSTER_GCP_ENABLED) ? [/^(GOOGLE|GCLOUD|CLOUDSDK)_/] : []),
  ];
  const environment = Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) =>
      value !== undefined && used.some((pattern) => pattern.test(name)) ? [[name, new Secret(value)]] : [],
    ),
  );
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } = environment;
  const { ARM_TENANT_ID: tenantId, ARM_CLIENT_ID: clientId, ARM_CLIENT_SECRET: clientSecret } = environment;
  return {
    aws:
      accessKeyId && secretAccessKey
        ? { accessKeyId: accessKeyId.reveal(), secretAccessKey, sessionToken: environment['AWS_SESSION_TOKEN'] ?? null }
        : null,
    azure:
      tenantId && clientId && clientSecret
        ? { tenantId: tenantId.reveal(), clientId: clientId.reveal(), clientSecret }
        : null,
    environment,
  };
}

function readProvider(
  provider: ProviderName,
  env: Environment,
  values: Values,
  mode: Mode,
  problems: ConfigProblem[],
): ProviderConfig {
  const { key, url: givenUrl, rateLimits, listLagMs } = valuesOfProvider(provider, values);
  const urlName = `MUSTER_${provider.toUpperCase()}_URL`;
  const shared = { rateLimits, listLagMs };
  const isUsed = values.MUSTER_PROVIDERS.includes(provider);
  if (mode === 'live') {
    return { state: key !== null && isUsed ? 'live' : 'off', apiKey: isUsed ? key : null, url: givenUrl, ...shared };
  }
  const isUrlSet = Boolean(env[urlName]?.trim());
  const url = isUrlSet ? givenUrl : sandboxUrl(values.MUSTER_SANDBOX_PORT, sandboxPortOffset(provider));
  if (url !== null && !isLoopback(new URL(url).hostname)) {
    const message = `got ${JSON.stringify(url)}; allowed while the sandbox is on: an address of this machine`;
    problems.push({ variable: urlName, message });
  }
  if (!isUsed) return { state: 'off', apiKey: null, url, ...shared };
  return { state: 'sandbox', apiKey: new Secret('sandbox'), url, ...shared };
}

function valuesOfProvider(provider: ProviderName, values: Values) {
  switch (provider) {
    case 'vastai':
      return {
        key: values.MUSTER_VASTAI_API_KEY,
        url: values.MUSTER_VASTAI_URL,
        rateLimits: values.MUSTER_VASTAI_RATE_LIMITS,
        listLagMs: values.MUSTER_VASTAI_LIST_LAG,
      };
    case 'tensordock':
      return {
        key: values.MUSTER_TENSORDOCK_API_TOKEN,
        url: values.MUSTER_TENSORDOCK_URL,
        rateLimits: values.MUSTER_TENSORDOCK_RATE_LIMITS,
        listLagMs: values.MUSTER_TENSORDOCK_LIST_LAG,
      };
    case 'runpod':
      return {
        key: values.MUSTER_RUNPOD_API_KEY,
        url: values.MUSTER_RUNPOD_URL,
        rateLimits: values.MUSTER_RUNPOD_RATE_LIMITS,
        listLagMs: values.MUSTER_RUNPOD_LIST_LAG,
      };
    case 'lambda':
      return {
        key: values.MUSTER_LAMBDA_API_KEY,
        url: values.MUSTER_LAMBDA_URL,
        rateLimits: values.MUSTER_LAMBDA_RATE_LIMITS,
        listLagMs: values.MUSTER_LAMBDA_LIST_LAG,
      };
  }
}

function sandboxUrl(controlPort: number, offset: number): string {
  return `http://127.0.0.1:${controlPort + offset}`;
}

function findWarnings(
  env: Environment,
  values: Values,
  providers: Readonly<Record<ProviderName, ProviderConfig>>,
  mode: Mode,
): string[] {
  const warnings: string[] = [];
  for (const name of PROVIDER_NAMES) {
    if (mode === 'live' || valuesOfProvider(name, values).key === null) continue;
    warnings.push(
      `A ${PROVIDER_FACTS[name].title} key is set but not used, because the sandbox is on. MUSTER_SANDBOX=off would buy for real money.`,
    );
  }
  if (mode === 'live' && PROVIDER_NAMES.every((name) => providers[name].state === 'off')) {
    warnings.push(
      'The sandbox is off and no provider has a key: nothing can be rented. Set MUSTER_VASTAI_API_KEY or that of another provider.',
    );
  }
  const trouble = mode === 'live' && values.MUSTER_AGENT === 'on' ? agentTrouble(env, values) : null;
  if (trouble !== null) warnings.push(trouble.text);
  const url = values.DATABASE_URL?.reveal();
  if (url !== undefined && isRemoteWithoutTls(url)) {
    warnings.push(
      'DATABASE_URL names another host without TLS: rows would cross the network in clear. Add sslmode=verify-full.',
    );
  }
  if (url !== undefined && values.MUSTER_SECRETS_KEY === null) {
    warnings.push(
      'DATABASE_URL is set and MUSTER_SECRETS_KEY is not: processes with data directories of their own need one common key.',
    );
  }
  for (const name of Object.keys(env)
    .filter((name) => name.startsWith('MUSTER_'))
    .sort()) {
    if (!isKnownName(name))
      warnings.push(`${name} is no setting of this version and has no effect.${suggestName(name)}`);
  }
  return warnings;
}

/**
 * Why rented machines may not reach us; null: nothing speaks against it. An agent that cannot is a machine that is never ready, so agents
 * are off then: on a private address only as long as nobody has asked for them in words, because machines may stand in the same VPN.
 */
function agentTrouble(env: Environment, values: Values): { isOff: boolean; text: string } | null {
  const url = values.MUSTER_PUBLIC_URL;
  if (url === null) {
    const text =
      'Agents are off: without MUSTER_PUBLIC_URL rented machines cannot reach us. Set it, or MUSTER_AGENT=off to say so.';
    return { isOff: true, text };
  }
  const reach = reachOfHost(new URL(url).hostname);
  if (reach === 'public') return null;
  if (reach === 'self') {
    const text = `Agents are off: MUSTER_PUBLIC_URL=${url} is this very machine's own address, rented machines cannot reach it. Set one that they can, or MUSTER_AGENT=off to say so.`;
    return { isOff: true, text };
  }
  const isWanted = (env['MUSTER_AGENT'] ?? '').trim() !== '';
  const text = isWanted
    ? `MUSTER_PUBLIC_URL=${url} is an address of a private network: only machines in it become ready, because their agents must reach us.`
    : `Agents are off: MUSTER_PUBLIC_URL=${url} is an address of a private network. MUSTER_AGENT=on where rented machines reach it all the same, MUSTER_AGENT=off to say so.`;
  return { isOff: !isWanted, text };
}

function isKnownName(name: string): boolean {
  if (OTHER_PROGRAMS.test(name) || name in VARIABLES) return true;
  const variable = (VARIABLES as Record<string, Variable<unknown>>)[name.replace(/_FILE$/, '')];
  return variable?.isSecret === true;
}

/** The setting whose name differs in at most two places of letters, for typing errors. */
function suggestName(name: string): string {
  const close = Object.keys(VARIABLES).find((known) => countEdits(known, name) <= 2);
  return close === undefined ? '' : ` Did you mean ${close}?`;
}

function countEdits(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = (previous[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(replaced, (previous[j] as number) + 1, (row[j - 1] as number) + 1));
    }
    previous = row;
  }
  return previous[b.length] as number;
}

const CHILD_VARIABLES =
  /^(PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TZ|LANG|LC_.*|XDG_.*|(https?|no|all)_proxy|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|GO[A-Z]+)$/i;

function pickChildEnvironment(env: Environment): Record<string, string> {
  const picked = Object.entries(env).filter(([name, value]) => value !== undefined && CHILD_VARIABLES.test(name));
  return Object.fromEntries(picked) as Record<string, string>;
}

function withTextForBigInts(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Secret || value === null || typeof value !== 'object') return value;
  if (Array.isArray(value)) return value.map(withTextForBigInts);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, withTextForBigInts(item)]));
}

function freeze<T>(value: T): T {
  if (value !== null && typeof value === 'object' && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const item of Object.values(value)) freeze(item);
  }
  return value;
}
