/**
 * The settings: name, meaning, what is allowed and the default of each, as one table. config.ts reads the environment by it and
 * docs/configuration.md is printed from it. A setting appears here when the feature behind it exists, not before.
 */
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  duration,
  httpUrl,
  integer,
  isPostgresUrl,
  matching,
  oneOf,
  origin,
  rateLimits,
  secret,
  secrets,
  someOf,
} from './config-values.ts';
import type { Parse, RateLimits, Secret } from './config-values.ts';
import { DEPLOYMENT_ID_PATTERN } from './domain/label.ts';
import { parseUsd } from './domain/money.ts';
import { IMAGE_PATTERN } from './domain/pods/image.ts';
import type { MicroUsd } from './domain/money.ts';
import { PROVIDER_FACTS, PROVIDER_NAMES, type ProviderName } from './domain/provider.ts';
import { parseStoreUrl } from './domain/snapshots/store.ts';

export const PROJECT_DIR = dirname(fileURLToPath(import.meta.url));
/** Where the vendors answer; the adapters add their paths. */
export const LIVE_URLS: Readonly<Record<ProviderName, string>> = {
  vastai: 'https://console.vast.ai',
  tensordock: 'https://dashboard.tensordock.com',
  runpod: 'https://api.runpod.io',
  lambda: 'https://cloud.lambda.ai',
};
/** The simulated vendors listen on the ports after the sandbox's control page, in the order of PROVIDER_NAMES. */
export function sandboxPortOffset(provider: ProviderName): number {
  return 1 + PROVIDER_NAMES.indexOf(provider);
}
const SANDBOX_PORT = 8090;
const isMasterKey = (text: string) => /^[A-Za-z0-9+/]{43}=$/.test(text);
const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

export const MODES = ['sandbox', 'live'] as const;
export type Mode = (typeof MODES)[number];
export const ROLES = ['api', 'worker', 'cron'] as const;
export type Role = (typeof ROLES)[number];

/** One setting. Defaults are texts that go through the same parser as a user's own. */
export interface Variable<T> {
  readonly section: string;
  readonly meaning: string;
  readonly allowed: string;
  readonly parse: Parse<T>;
  /** What holds when unset; it may differ by mode. Absent: the value is null, and `unset` says what then happens. */
  readonly default?: string | Readonly<Record<Mode, string>>;
  readonly unset?: string;
  /** Never printed, and also read from the file named by `<NAME>_FILE`. */
  readonly isSecret?: true;
  /** Names that are read, in this order, when ours is unset. */
  readonly otherNames?: readonly string[];
}

type Defaulted<T> = Variable<T> & { readonly default: string | Readonly<Record<Mode, string>> };
const defaulted = <T>(variable: Defaulted<T>): Defaulted<T> => variable;
const optional = <T>(variable: Variable<T> & { readonly unset: string }): Variable<T> & { readonly default?: never } =>
  variable as Variable<T> & { readonly default?: never };

export const VARIABLES = {
  MUSTER_DEPLOYMENT_ID: optional({
    section: 'Deployment',
    meaning: 'Who we are at the providers. It is part of the label of every machine we buy: keep it for ever.',
    allowed: '3 to 20 lower-case letters, digits and inner dashes, not "ext"',
    parse: (text) => (text === 'ext' ? undefined : matching(DEPLOYMENT_ID_PATTERN)(text)),
    unset: '`sandbox` in the sandbox; required outside it',
  }),
  MUSTER_SANDBOX: defaulted({
    section: 'Deployment',
    meaning:
      '`on`: every provider is simulated and nothing real is ever bought. `off`: machines are bought for real money.',
    allowed: '"on" or "off"',
    parse: oneOf('on', 'off'),
    default: 'on',
  }),
  MUSTER_ROLES: defaulted({
    section: 'Deployment',
    meaning: 'Which roles this process runs. Any number of processes with any roles may share one database.',
    allowed: 'a comma-separated list of "api", "worker" and "cron"',
    parse: someOf(...ROLES),
    default: 'api,worker,cron',
  }),
  MUSTER_DATA_DIR: defaulted({
    section: 'Deployment',
    meaning:
      'Where the embedded Postgres, the state of the engine and the sandbox live. It remembers whether it was made for the sandbox or for live use and refuses the other.',
    allowed: 'a path; a relative one starts at the project',
    parse: (text) => resolve(PROJECT_DIR, text),
    default: '.muster',
  }),
  MUSTER_LOG_LEVEL: defaulted({
    section: 'Deployment',
    meaning: 'The least severe messages that are logged.',
    allowed: '"trace", "debug", "info", "warn", "error", "fatal" or "silent"',
    parse: oneOf('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'),
    default: 'info',
  }),
  MUSTER_PORT: defaulted({
    section: 'HTTP',
    meaning: 'Port of the API.',
    allowed: 'an integer from 0 to 65535; 0 takes a free one',
    parse: integer(0, 65_535),
    default: '8080',
  }),
  MUSTER_HOST: defaulted({
    section: 'HTTP',
    meaning: 'Address that the API listens on. `0.0.0.0` opens it to the network: put TLS in front of it.',
    allowed: 'an IP address or a host name',
    parse: matching(/^[A-Za-z0-9.:_-]{1,253}$/),
    default: '127.0.0.1',
  }),
  MUSTER_PUBLIC_URL: optional({
    section: 'HTTP',
    meaning: "How agents, webhooks and other people's command lines reach us.",
    allowed: 'an http or https URL without credentials, query and fragment',
    parse: httpUrl,
    unset: '`http://127.0.0.1:PORT` in the sandbox; none outside it',
  }),
  MUSTER_API_RATE_LIMIT: defaulted({
    section: 'HTTP',
    meaning: 'Requests a second that one API key or user may make.',
    allowed: 'an integer from 1 to 100000',
    parse: integer(1, 100_000),
    default: '300',
  }),
  MUSTER_AGENT: defaulted({
    section: 'Agents',
    meaning:
      '`on`: rented machines carry our agent, and one is ready only when its agent has registered. Outside the sandbox it is off all the same where MUSTER_PUBLIC_URL is unset or leads to this very machine, and, unless `on` is given in words, where it leads to a private network.',
    allowed: '"on" or "off"',
    parse: oneOf('on', 'off'),
    default: 'on',
  }),
  MUSTER_AGENT_INTERVAL: defaulted({
    section: 'Agents',
    meaning: 'Time between two heartbeats of an agent; a node not heard of for three of them is stale.',
    allowed: 'a duration from 1 second to 5 minutes',
    parse: duration(SECOND, 5 * MINUTE),
    default: '10 seconds',
  }),
  MUSTER_AGENT_DEAD_MAN: defaulted({
    section: 'Agents',
    meaning:
      'A rented machine whose agent heard nothing of us for so long stops its pods and switches itself off, for nobody else would. Hosts of your own never do.',
    allowed: '"off", or a duration from 5 seconds to 30 days',
    parse: (text) => (text === 'off' ? null : duration(5 * SECOND, 30 * DAY)(text)),
    default: '1 hour',
  }),
  MUSTER_POD_IMAGES: defaulted({
    section: 'Agents',
    meaning:
      'Images that pods may have: whole names with or without a tag (`docker.io/library/busybox`), everything below a place (`ghcr.io/acme/*`), or `*` for any.',
    allowed: 'patterns of images, separated by commas',
    parse: (text) => {
      const patterns = text.split(',').map((pattern) => pattern.trim());
      return patterns.every((pattern) => IMAGE_PATTERN.test(pattern)) ? patterns : undefined;
    },
    default: '*',
  }),
  MUSTER_AGENT_KEY_LIFETIME: defaulted({
    section: 'Agents',
    meaning: "Age at which an agent's key is replaced. The old one works until the new one is used.",
    allowed: 'a duration from 1 minute to 365 days',
    parse: duration(MINUTE, 365 * DAY),
    default: '24 hours',
  }),
  MUSTER_AGENT_NODE_X64: optional({
    section: 'Agents',
    meaning: 'The Node program (20.16 or newer) that machines on x64 without one get from us.',
    allowed: 'the path of a Linux program for x64',
    parse: (text) => resolve(PROJECT_DIR, text),
    unset: 'the Node that runs us, where it is one for x64',
  }),
  MUSTER_AGENT_NODE_ARM64: optional({
    section: 'Agents',
    meaning: 'The same for machines on arm64.',
    allowed: 'the path of a Linux program for arm64',
    parse: (text) => resolve(PROJECT_DIR, text),
    unset: 'the Node that runs us, where it is one for arm64; else machines on arm64 need a Node of their own',
  }),
  MUSTER_SNAPSHOT_URL: optional({
    section: 'Snapshots',
    meaning:
      'Where the snapshots of workspaces are stored. Workspaces that have a repository already stay where it is.',
    allowed:
      'file:///folder, s3://bucket/prefix?region=…&endpoint=…, r2://bucket/prefix?account=…, b2://bucket/prefix?region=… or wasabi://bucket/prefix?region=…',
    parse: (text) => (parseStoreUrl(text) === undefined ? undefined : text),
    unset: 'the folder `snapshots` in the data directory',
  }),
  MUSTER_SNAPSHOT_ACCESS_KEY_ID: optional({
    section: 'Snapshots',
    meaning: "The bucket's access key.",
    allowed: '3 to 128 letters, digits and "._/-"',
    parse: matching(/^[A-Za-z0-9._/-]{3,128}$/),
    unset: 'none; needed for a bucket',
  }),
  MUSTER_SNAPSHOT_SECRET_ACCESS_KEY: optional({
    section: 'Snapshots',
    meaning: 'The secret of that key.',
    allowed: '8 to 256 printable characters',
    parse: secret((text) => /^[\x21-\x7e]{8,256}$/.test(text)),
    unset: 'none; needed for a bucket',
    isSecret: true,
  }),
  MUSTER_SNAPSHOT_ACCESS: defaulted({
    section: 'Snapshots',
    meaning:
      '`gateway`: nodes reach the store through us, and can only add. `direct`: nodes go to the bucket themselves, with keys for one prefix that live an hour; see docs/snapshots.md for what each store can.',
    allowed: '"gateway" or "direct"',
    parse: oneOf('gateway', 'direct'),
    default: 'gateway',
  }),
  MUSTER_SNAPSHOT_ROLE_ARN: optional({
    section: 'Snapshots',
    meaning: 'With `direct` at S3 and Wasabi: the role that short-lived keys are of.',
    allowed: 'an ARN of a role',
    parse: matching(/^arn:aws[a-z-]*:iam::\d{12}:role\/[A-Za-z0-9+=,.@_/-]{1,512}$/),
    unset: 'none; needed for `direct` there',
  }),
  MUSTER_SNAPSHOT_API_TOKEN: optional({
    section: 'Snapshots',
    meaning: "With `direct` at R2: Cloudflare's API token that may make temporary credentials.",
    allowed: '8 to 256 printable characters',
    parse: secret((text) => /^[\x21-\x7e]{8,256}$/.test(text)),
    unset: 'none; needed for `direct` there',
    isSecret: true,
  }),
  MUSTER_RESTIC_PATH: optional({
    section: 'Snapshots',
    meaning:
      'The restic program (0.14 or newer) that reads snapshots back here, and that nodes without one get from us.',
    allowed: 'the path of a program',
    parse: (text) => resolve(PROJECT_DIR, text),
    unset: 'restic on the PATH; without it no snapshot can be taken',
  }),
  MUSTER_RESTIC_ARM64: optional({
    section: 'Snapshots',
    meaning: 'The same for nodes on arm64.',
    allowed: 'the path of a Linux program for arm64',
    parse: (text) => resolve(PROJECT_DIR, text),
    unset: 'the one above, where it is one for arm64; else nodes on arm64 need a restic of their own',
  }),
  MUSTER_REGISTRATION: defaulted({
    section: 'Access',
    meaning:
      '`closed`: nobody registers. `invite`: with an invite of an owner. `open`: anybody, each into an org of their own.',
    allowed: '"closed", "invite" or "open"',
    parse: oneOf('closed', 'invite', 'open'),
    default: 'invite',
  }),
  MUSTER_ADMIN_API_KEY: optional({
    section: 'Access',
    meaning: "The first admin's API key.",
    allowed: '"mk_" and letters, digits, "_" or "-", at least 32 characters in all',
    parse: secret((text) => /^mk_[A-Za-z0-9_-]{29,509}$/.test(text)),
    unset: 'one is made at the first start and printed once',
    isSecret: true,
  }),
  MUSTER_SECRETS_KEY: optional({
    section: 'Access',
    meaning: 'The key that encrypts what is secret in the database. Losing it loses those secrets.',
    allowed: '32 bytes in base64 (44 characters, `openssl rand -base64 32`)',
    parse: secret(isMasterKey),
    unset: 'one is made and kept in the data directory, mode 600',
    isSecret: true,
  }),
  MUSTER_SECRETS_OTHER_KEYS: optional({
    section: 'Access',
    meaning:
      'Keys that open what was sealed with them and seal nothing: the next key before a rotation, the previous one after it (docs/runbooks/rotate-keys.md).',
    allowed: 'keys like `MUSTER_SECRETS_KEY`, separated by commas or lines',
    parse: secrets(isMasterKey),
    unset: 'none',
    isSecret: true,
  }),
  DATABASE_URL: optional({
    section: 'Database',
    meaning: 'The Postgres to use; `sslmode` is honoured.',
    allowed: "postgres://user:password@host:port/database, `sslmode` one of libpq's",
    parse: secret(isPostgresUrl),
    unset: 'an embedded Postgres under the data directory',
    isSecret: true,
  }),
  MUSTER_DATABASE_CA_FILE: optional({
    section: 'Database',
    meaning: 'Certificate authority (PEM) that the server of DATABASE_URL must be signed by.',
    allowed: 'the path of a readable file',
    parse: (text) => resolve(text),
    unset: "the system's authorities",
  }),
  MUSTER_WORKER_CONCURRENCY: optional({
    section: 'Work',
    meaning: 'Operation children: how many engine runs this worker does at once. Each takes about 200 MB.',
    allowed: 'an integer from 1 to 64',
    parse: integer(1, 64),
    unset: 'the number of cores, but 2 to 8',
  }),
  MUSTER_PULUMI_BACKEND_URL: optional({
    section: 'Work',
    meaning: 'Where the state of stacks lives.',
    allowed: 'nothing any more: states live in the database (docs/runbooks/move-stacks.md moves stacks in and out)',
    parse: () => undefined,
    unset: "Muster's own state service, in its database",
  }),
  MUSTER_BOOT_TIMEOUT: defaulted({
    section: 'Work',
    meaning: 'How long a bought machine may take to become ready before the next candidate is tried.',
    allowed: 'a duration from 10 seconds to 24 hours',
    parse: duration(10 * SECOND, DAY),
    default: '15 minutes',
  }),
  MUSTER_OFFER_SYNC_INTERVAL: defaulted({
    section: 'Work',
    meaning: "How often each provider's offers are listed.",
    allowed: 'a duration from 1 second to 1 hour',
    parse: duration(SECOND, HOUR),
    default: '60 seconds',
  }),
  MUSTER_READINESS_INTERVAL: defaulted({
    section: 'Work',
    meaning: "How often a provider's machines are listed while something boots there.",
    allowed: 'a duration from 100 ms to 1 minute',
    parse: duration(100, MINUTE),
    default: '2 seconds',
  }),
  MUSTER_RECONCILE_INTERVAL: defaulted({
    section: 'Work',
    meaning: 'How often what is recorded is compared with what the providers list.',
    allowed: 'a duration from 1 second to 1 hour',
    parse: duration(SECOND, HOUR),
    default: '5 minutes',
  }),
  MUSTER_SOURCING: defaulted({
    section: 'Sourcing',
    meaning:
      'What the sourcing rules of orgs lead to, every 5 minutes: nothing; `search` finds candidates and shows them; `provision` buys what is missing.',
    allowed: '"off", "search" or "provision"',
    parse: oneOf('off', 'search', 'provision'),
    default: 'off',
  }),
  MUSTER_SOURCING_MAX_INSTANCES: defaulted({
    section: 'Sourcing',
    meaning: 'Hard cap of the instances that rules bought and that are not proven gone, over all orgs.',
    allowed: 'an integer from 0 to 1000',
    parse: integer(0, 1_000),
    default: '5',
  }),
  MUSTER_ORPHAN_POLICY: defaulted({
    section: 'Safety',
    meaning:
      'What happens to a machine with our signed label that no live row wants, once two believable listings and its grace have passed: `destroy` it by an operation, or only `alert`.',
    allowed: '"destroy" or "alert"',
    parse: oneOf('destroy', 'alert'),
    default: 'destroy',
  }),
  MUSTER_ORPHAN_GRACE: defaulted({
    section: 'Safety',
    meaning: 'How long such a machine is left alone after it was first seen.',
    allowed: 'a duration from 1 second to 7 days',
    parse: duration(SECOND, 7 * DAY),
    default: { sandbox: '1 minute', live: '10 minutes' },
  }),
  MUSTER_WEBHOOK_TARGETS: defaulted({
    section: 'Safety',
    meaning:
      'Where outgoing webhooks may lead: by https to `public` addresses only, or to `any`, those of our own network and this machine too.',
    allowed: '"public" or "any"',
    parse: oneOf('public', 'any'),
    default: { sandbox: 'any', live: 'public' },
  }),
  MUSTER_FAILOVER_STORM_LIMIT: defaulted({
    section: 'Safety',
    meaning:
      'Failovers that may begin by themselves within 10 minutes, over all orgs: so many losses at once have one cause. The others wait; a person may begin them.',
    allowed: 'an integer from 0 to 1000',
    parse: integer(0, 1_000),
    default: '10',
  }),
  MUSTER_MAX_INSTANCES: defaulted({
    section: 'Safety',
    meaning: 'Hard cap of live instances in the whole deployment.',
    allowed: 'an integer from 0 to 100000',
    parse: integer(0, 100_000),
    default: '20',
  }),
  MUSTER_MAX_BURN_USD_PER_HOUR: defaulted({
    section: 'Safety',
    meaning: 'Hard cap of what everything live may cost in an hour.',
    allowed: 'dollars, up to six decimals, such as "50" or "0.60"',
    parse: (text): MicroUsd | undefined => parseUsd(text) ?? undefined,
    default: '50',
  }),
  MUSTER_MAX_LIFETIME: defaulted({
    section: 'Safety',
    meaning: 'Hard maximum of every rented instance; an operator may lift it for one instance, with a reason.',
    allowed: 'a duration from 1 minute to 365 days',
    parse: duration(MINUTE, 365 * DAY),
    default: '12 hours',
  }),
  MUSTER_PROVIDERS: defaulted({
    section: 'Providers',
    meaning: 'Which marketplaces are used; one without a key is off all the same.',
    allowed: `a comma-separated list of ${PROVIDER_NAMES.map((name) => `"${name}"`).join(', ')}`,
    parse: someOf(...PROVIDER_NAMES),
    default: PROVIDER_NAMES.join(','),
  }),
  ...providerVariables('VASTAI', 'API_KEY', {
    provider: 'vastai',
    otherNames: ['VASTAI_API_KEY', 'VAST_API_KEY'],
    listLag: '15 seconds',
  }),
  ...providerVariables('TENSORDOCK', 'API_TOKEN', {
    provider: 'tensordock',
    otherNames: ['TENSORDOCK_API_TOKEN', 'TENSORDOCK_API_KEY'],
    // Its users report creations that show up in the list a minute or two after the call timed out.
    listLag: '2 minutes',
  }),
  ...providerVariables('RUNPOD', 'API_KEY', {
    provider: 'runpod',
    otherNames: ['RUNPOD_API_KEY'],
    listLag: '15 seconds',
  }),
  ...providerVariables('LAMBDA', 'API_KEY', {
    provider: 'lambda',
    otherNames: ['LAMBDA_API_KEY'],
    listLag: '30 seconds',
  }),
  ...cloudVariable('AWS', 'AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or a profile'),
  ...cloudVariable('AZURE', 'ARM_SUBSCRIPTION_ID, ARM_TENANT_ID, ARM_CLIENT_ID and ARM_CLIENT_SECRET'),
  ...cloudVariable('GCP', 'GOOGLE_CREDENTIALS or GOOGLE_APPLICATION_CREDENTIALS, and GOOGLE_PROJECT'),
  MUSTER_SANDBOX_PORT: defaulted({
    section: 'Sandbox',
    meaning:
      "Port of the sandbox's control page; the simulated vendors and clouds listen on the ports after it (+1 Vast.ai, +2 TensorDock, +3 RunPod, +4 Lambda, +5 AWS, +6 Azure, +7 Google Cloud, +8 Kubernetes, +9 the clusters of the simulated clouds).",
    allowed: 'an integer from 1024 to 65526',
    parse: integer(1024, 65_526),
    default: String(SANDBOX_PORT),
  }),
  MUSTER_SANDBOX_DIR: optional({
    section: 'Sandbox',
    meaning: 'Where the simulated vendors keep what they sold.',
    allowed: 'a path; a relative one starts at the project',
    parse: (text) => resolve(PROJECT_DIR, text),
    unset: '`sandbox` in the data directory',
  }),
  MUSTER_SANDBOX_TIME: defaulted({
    section: 'Sandbox',
    meaning:
      "`auto`: machines boot within seconds. `real`: with the timings of the vendor's contract. `explicit`: time moves only when told to.",
    allowed: '"auto", "real" or "explicit"',
    parse: oneOf('auto', 'real', 'explicit'),
    default: 'auto',
  }),
} as const;

export type VariableName = keyof typeof VARIABLES;

/** Stacks at a cloud take its credentials from the variables that its own tools read. */
function cloudVariable<const Name extends string>(
  name: Name,
  credentials: string,
): { [P in `MUSTER_${Name}_ENABLED`]: Defaulted<'on' | 'off'> } {
  return {
    [`MUSTER_${name}_ENABLED`]: defaulted({
      section: 'Clouds',
      meaning: `Whether stacks and clusters may use ${name} with the credentials of the environment (${credentials}). Not used while the sandbox is on.`,
      allowed: '"on" or "off"',
      parse: oneOf('on', 'off'),
      default: 'off',
    }),
  } as unknown as { [P in `MUSTER_${Name}_ENABLED`]: Defaulted<'on' | 'off'> };
}

interface ProviderVariableFacts {
  provider: ProviderName;
  otherNames: readonly string[];
  /** When live. */
  listLag: string;
}

type ProviderVariables<Name extends string, Key extends string> = {
  [P in `MUSTER_${Name}_${Key}`]: ReturnType<typeof optional<Secret>>;
} & { [P in `MUSTER_${Name}_URL`]: Defaulted<string> } & {
  [P in `MUSTER_${Name}_RATE_LIMITS`]: Defaulted<RateLimits>;
} & { [P in `MUSTER_${Name}_LIST_LAG`]: Defaulted<number> };

/** The settings that every marketplace has. */
function providerVariables<const Name extends string, const Key extends string>(
  name: Name,
  keyName: Key,
  { provider, otherNames, listLag }: ProviderVariableFacts,
): ProviderVariables<Name, Key> {
  const { title } = PROVIDER_FACTS[provider];
  const liveUrl = LIVE_URLS[provider];
  return {
    [`MUSTER_${name}_${keyName}`]: optional({
      section: 'Providers',
      meaning: `Key of the ${title} account that pays. Not used while the sandbox is on.`,
      allowed: '8 to 512 printable characters without spaces',
      parse: secret((text) => /^[\x21-\x7e]{8,512}$/.test(text)),
      unset: `nothing is rented from ${title}`,
      isSecret: true,
      otherNames,
    }),
    [`MUSTER_${name}_URL`]: defaulted({
      section: 'Providers',
      meaning: `Where ${title} is reached. In the sandbox it must be on this machine, so that nothing real is ever asked.`,
      allowed: `scheme, host and port only, such as "${liveUrl}" (the adapter adds the path)`,
      parse: origin,
      default: { sandbox: `http://127.0.0.1:${SANDBOX_PORT + sandboxPortOffset(provider)}`, live: liveUrl },
    }),
    [`MUSTER_${name}_RATE_LIMITS`]: defaulted({
      section: 'Providers',
      meaning: `Pace of our calls to ${title}: the vendor's documented one, none, or one's own. A 429 slows us down in every mode.`,
      allowed: '"documented", "off", or a JSON object of seconds (0 to 3600) per endpoint',
      parse: rateLimits,
      default: { sandbox: 'off', live: 'documented' },
    }),
    [`MUSTER_${name}_LIST_LAG`]: defaulted({
      section: 'Providers',
      meaning: `How long ${title}'s list may lag after a purchase: so long we look for a label before we buy again under it.`,
      allowed: 'a duration from 0 seconds to 10 minutes',
      parse: duration(0, 10 * MINUTE),
      default: { sandbox: '0 seconds', live: listLag },
    }),
  } as unknown as ProviderVariables<Name, Key>;
}
