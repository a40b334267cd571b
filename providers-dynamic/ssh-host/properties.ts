/** The properties of a host of ours as a dynamic resource: inputs, outputs, their check and their diff. Pure. */
import {
  CREDENTIAL_REF_PATTERN,
  CREDENTIAL_REF_RULE,
  DEFAULT_AGENT_DIRECTORY,
  DEFAULT_SSH_PORT,
  HOST_ADDRESS_PATTERN,
  HOST_ADDRESS_RULE,
  HOST_DIRECTORY_PATTERN,
  HOST_DIRECTORY_RULE,
  HOST_KEY_PATTERN,
  HOST_KEY_RULE,
  HOST_PATH_PATTERN,
  HOST_PATH_RULE,
  HOST_USER_PATTERN,
  HOST_USER_RULE,
} from '../../domain/on-prem-host.ts';
import { UNKNOWN_VALUE, type CheckFailure, type DiffResult, type Properties } from '../dynamic-crud.ts';
import type { HostTarget } from './connection.ts';
import type { AgentState, HostFacts } from './wire.ts';

/** How a host is reached: what every resource on hosts of ours has among its inputs. */
export interface HostAccess extends HostTarget {
  /** Its name in the stack. */
  host: string;
  /** Names the private key; never the key itself. */
  credentialRef: string;
}

export interface HostInputs extends HostAccess {
  /** Our agent belongs on it. */
  agent: boolean;
  agentDir: string;
  nodePath: string | null;
  labels: Record<string, string>;
}

export interface HostOutputs extends HostInputs {
  /** `not_managed`: none is wanted, or there is no control plane for it to report to. */
  agentState: AgentState | 'not_managed';
  nodeId: string | null;
  controlPlaneUrl: string | null;
  /** null: it was not looked at yet. */
  facts: HostFacts | null;
}

export type HostRule = [property: string, isGood: (value: unknown) => boolean, rule: string];

const matches = (pattern: RegExp) => (value: unknown) => typeof value === 'string' && pattern.test(value);

export const ACCESS_RULES: HostRule[] = [
  ['host', matches(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/), 'must be 1 to 63 lower-case letters, digits and dashes'],
  ['address', matches(HOST_ADDRESS_PATTERN), HOST_ADDRESS_RULE],
  [
    'port',
    (value) => Number.isInteger(value) && (value as number) > 0 && (value as number) < 65_536,
    'must be a port from 1 to 65535',
  ],
  ['user', matches(HOST_USER_PATTERN), HOST_USER_RULE],
  ['hostKeySha256', matches(HOST_KEY_PATTERN), HOST_KEY_RULE],
  ['credentialRef', matches(CREDENTIAL_REF_PATTERN), CREDENTIAL_REF_RULE],
];

const RULES: HostRule[] = [
  ...ACCESS_RULES,
  ['agent', (value) => typeof value === 'boolean', 'must be true or false'],
  ['agentDir', matches(HOST_DIRECTORY_PATTERN), HOST_DIRECTORY_RULE],
  ['nodePath', (value) => value === null || matches(HOST_PATH_PATTERN)(value), HOST_PATH_RULE],
  [
    'labels',
    (value) =>
      typeof value === 'object' && value !== null && Object.values(value).every((each) => typeof each === 'string'),
    'must be texts by name',
  ],
];

export const ACCESS_DEFAULTS = { port: DEFAULT_SSH_PORT, user: 'root' };
const DEFAULTS = { ...ACCESS_DEFAULTS, agent: true, agentDir: DEFAULT_AGENT_DIRECTORY, nodePath: null, labels: {} };

export function checkHost(news: Properties): { inputs: Properties; failures: CheckFailure[] } {
  return checkBy(RULES, DEFAULTS, news);
}

/** Fills defaults in and names everything that is wrong; values not known yet (in a preview) are passed as they are. */
export function checkBy(
  rules: readonly HostRule[],
  defaults: Properties,
  news: Properties,
): { inputs: Properties; failures: CheckFailure[] } {
  const given = Object.fromEntries(Object.entries(news).filter(([, value]) => value !== null && value !== undefined));
  const inputs: Properties = { ...defaults, ...given };
  const failures = rules
    .filter(([property, isGood]) => inputs[property] !== UNKNOWN_VALUE && !isGood(inputs[property]))
    .map(([property, , reason]) => ({ property, reason }));
  return { inputs, failures };
}

/** Throws TypeError where the properties were never checked. */
export function readBy<T>(check: (news: Properties) => ReturnType<typeof checkHost>, properties: Properties): T {
  const { inputs, failures } = check(properties);
  const [failure] = failures;
  if (failure) throw new TypeError(`${failure.property} ${failure.reason}`);
  return inputs as T;
}

/** What is wanted, with what was known before; adopted state holds inputs only. */
export function hostOutputs(properties: Properties, known: Properties = {}): HostOutputs {
  const inputs = readBy<HostInputs>(checkHost, properties);
  const { host, address, port, user, hostKeySha256, credentialRef, agent, agentDir, nodePath, labels } = inputs;
  const before = known as Partial<HostOutputs>;
  return {
    host,
    address,
    port,
    user,
    hostKeySha256,
    credentialRef,
    agent,
    agentDir,
    nodePath,
    labels,
    agentState: before.agentState ?? (agent ? 'missing' : 'not_managed'),
    nodeId: before.nodeId ?? null,
    controlPlaneUrl: before.controlPlaneUrl ?? null,
    facts: before.facts ?? null,
  };
}

/** Where a host is and where its agent lies cannot be changed on the way: the old place is cleaned first. */
const REPLACING = ['address', 'port', 'agentDir', 'host'] as const;
const CHANGING = ['user', 'hostKeySha256', 'credentialRef', 'agent', 'nodePath', 'labels'] as const;

/** Facts never change a host: a refresh learns them. */
export function diffHost(olds: Properties, news: Properties): DiffResult {
  const known = olds as Partial<HostOutputs>;
  const wanted = checkHost(news).inputs;
  const updates: string[] = differing(olds, wanted, CHANGING);
  const isAgentAway = known.agentState !== 'running' && known.agentState !== 'not_managed';
  if (wanted.agent === true && known.agentState !== undefined && isAgentAway) updates.push('agentState');
  return diffOf(differing(olds, wanted, REPLACING), updates);
}

export function differing(olds: Properties, wanted: Properties, names: readonly string[]): string[] {
  return names.filter(
    (name) => name in olds && JSON.stringify(sorted(olds[name])) !== JSON.stringify(sorted(wanted[name])),
  );
}

export function diffOf(replaces: string[], updates: string[]): DiffResult {
  const changed = [...replaces, ...updates];
  return { changes: changed.length > 0, replaces, deleteBeforeReplace: true, changed };
}

function sorted(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value ?? null;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
