/**
 * What a request for a cluster becomes: the configuration of the stack that makes it, or the access of a registered one. Everything that
 * can be known to be wrong is said here, all at once and with its path, before anything is written.
 */
import { isDeepStrictEqual } from 'node:util';
import { MusterError, type FieldError } from '../domain/error-table.ts';
import { parseKubeconfig, type ClusterAccess } from '../domain/clusters/kubeconfig.ts';
import type { MadeClusterKind } from '../domain/clusters/change.ts';
import { parseUsd } from '../domain/money.ts';
import type { StackKind } from '../domain/stack-kind.ts';
import { TAG_VALUE_PATTERN } from '../domain/stack-tags.ts';
import type { Tx } from '../db/database.ts';
import {
  insertStack,
  lockShelvedStack,
  shelveStack,
  unshelveStack,
  type NewStack,
  type StackRow,
} from '../db/stacks.ts';
import { findCredential } from '../db/credentials.ts';
import { readKubeconfig } from '../secrets/kubeconfig.ts';
import { SECRET_CONFIG_FIELDS, STACK_CONFIG_SCHEMAS } from '../stacks/schemas.ts';
import type { Caller } from './caller.ts';
import type { CreateClusterInput } from './contract/clusters.ts';

export type MadeClusterInput = Extract<CreateClusterInput, { kind: MadeClusterKind }>;

/** Throws MusterError `invalid_request` with every problem of the configuration, each with its path in the request. */
export function stackOf(body: MadeClusterInput, caller: Caller & { name?: string }): NewStack {
  return newStackOf({ ...body, config: configOf(body) }, caller);
}

/** What a request may say of the stack that makes what it asks for. */
interface StackWish {
  kind: StackKind;
  name: string;
  config: Record<string, unknown>;
  owner?: string | undefined;
  costCentre?: string | undefined;
  ceilingUsdPerHour?: string | undefined;
  protect: boolean;
}

export function newStackOf(wish: StackWish, caller: Caller & { name?: string }): NewStack {
  return {
    orgId: caller.orgId,
    kind: wish.kind,
    title: wish.name,
    config: wish.config,
    owner: wish.owner ?? ownerOf(caller),
    costCentre: wish.costCentre ?? caller.orgId,
    ceilingMicroUsdPerHour: wish.ceilingUsdPerHour === undefined ? null : parseUsd(wish.ceilingUsdPerHour),
    protect: wish.protect,
    onDrift: 'report',
    createdBy: caller.id,
  };
}

function configOf(body: MadeClusterInput): Record<string, unknown> {
  const { config = {} } = body;
  const named = namedFields(body);
  const twice = Object.keys(named).filter((name) => name in config);
  const given = Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined));
  const parsed = STACK_CONFIG_SCHEMAS[body.kind].safeParse({ ...config, ...given });
  const errors: FieldError[] = [
    ...secretFields(body).map(([name, message]) => ({ path: `config.${name}`, message })),
    ...twice.map((name) => ({ path: `config.${name}`, message: `is a field of the request itself: ${name}` })),
    ...(parsed.error?.issues ?? []).flatMap((issue) => {
      // An unknown field is told of its parent, with its name apart.
      const paths = issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...issue.path, key]) : [issue.path];
      return paths.map((path) => ({
        path: [...(String(path[0] ?? '') in config ? ['config'] : []), ...path].join('.'),
        message: issue.message,
      }));
    }),
  ];
  if (errors.length > 0 || !parsed.success)
    throw new MusterError('invalid_request', `the configuration of this ${body.kind} cluster is wrong`, { errors });
  return parsed.data;
}

/** Of the request, as the stack's configuration names them. */
function namedFields(body: MadeClusterInput): Record<string, unknown> {
  switch (body.kind) {
    case 'eks':
      return { region: body.region, kubernetesVersion: body.kubernetesVersion, gpuNodeGroups: body.gpuNodeGroups };
    case 'aks':
      return { location: body.location, kubernetesVersion: body.kubernetesVersion, gpuNodePools: body.gpuNodePools };
    case 'onprem':
      return { hosts: body.hosts, credentialRef: body.credentialRef, k3s: body.k3s };
  }
}

function secretFields({ kind, config = {} }: MadeClusterInput): [string, string][] {
  return Object.entries(SECRET_CONFIG_FIELDS[kind] ?? {}).filter(([name]) => name in config);
}

/**
 * Throws MusterError `invalid_request` naming each credential of the configuration that the org has not.
 * @param at path of the configuration in the request, with its dot
 */
export async function checkCredentials(tx: Tx, { orgId, config }: NewStack, at = ''): Promise<void> {
  const { credentialRef, hosts = [] } = config as { credentialRef?: string; hosts?: { credentialRef?: string }[] };
  const named = [
    { path: `${at}credentialRef`, ref: credentialRef },
    ...hosts.map((host, index) => ({ path: `${at}hosts.${index}.credentialRef`, ref: host.credentialRef })),
  ];
  const errors: FieldError[] = [];
  for (const { path, ref } of named) {
    if (ref !== undefined && !(await findCredential(tx, orgId, ref)))
      errors.push({ path, message: `names no credential of this org: "${ref}"` });
  }
  if (errors.length > 0) throw new MusterError('invalid_request', 'a host cannot be logged in to', { errors });
}

/** A tag may not hold everything that a name may. */
export function ownerOf(caller: { id: string; name?: string }): string {
  const name = caller.name ?? caller.id;
  return TAG_VALUE_PATTERN.test(name) ? name : caller.id;
}

/**
 * Throws MusterError `conflict` for a name that is taken, `plan_changed` where `planHash` is of no dry run of exactly this request.
 * @param planHash of a dry run: its stack is taken, so that its plan holds
 */
export async function openStack(tx: Tx, wanted: NewStack, planHash: string | undefined): Promise<StackRow> {
  if (planHash === undefined) {
    const made = await insertStack(tx, wanted);
    if (made === null) throw nameTaken(wanted.title);
    return made;
  }
  const shelved = await lockShelvedStack(tx, wanted.orgId, planHash);
  if (!shelved)
    throw new MusterError('plan_changed', 'no dry run of this org has shown this planHash: ask for one again');
  const other = describeDifference(shelved, wanted);
  if (other.length > 0)
    throw new MusterError('plan_changed', `the dry run was of another request: ${other.join(', ')} differ`);
  if (!(await unshelveStack(tx, shelved))) throw nameTaken(wanted.title);
  return { ...shelved, removed_at: null };
}

/** A stack that can be previewed and nothing else. */
export async function openDryRun(tx: Tx, wanted: NewStack): Promise<StackRow> {
  const made = await insertStack(tx, wanted);
  if (made === null) throw nameTaken(wanted.title);
  await shelveStack(tx, made.id);
  return made;
}

function describeDifference(shelved: StackRow, wanted: NewStack): string[] {
  const pairs: Record<string, [unknown, unknown]> = {
    kind: [shelved.kind, wanted.kind],
    name: [shelved.title, wanted.title],
    configuration: [shelved.config, JSON.parse(JSON.stringify(wanted.config))],
    owner: [shelved.owner, wanted.owner],
    costCentre: [shelved.cost_centre, wanted.costCentre],
    ceilingUsdPerHour: [shelved.ceiling_micro_usd_per_hour, wanted.ceilingMicroUsdPerHour],
    protect: [shelved.protect, wanted.protect],
  };
  return Object.entries(pairs)
    .filter(([, [before, after]]) => !isDeepStrictEqual(before, after))
    .map(([name]) => name);
}

export function nameTaken(name: string): MusterError {
  return new MusterError('conflict', `a cluster or stack named "${name}" exists already`, {
    errors: [{ path: 'name', message: 'is taken by a cluster or stack of this org' }],
  });
}

/** Throws MusterError `invalid_request` with every reason why it is not taken; none of them shows what is in it. */
export function accessOf(kubeconfig: string | Record<string, unknown>): ClusterAccess {
  const parsed =
    typeof kubeconfig === 'string'
      ? readKubeconfig(kubeconfig, 'kubeconfig')
      : parseKubeconfig(kubeconfig, 'kubeconfig');
  if ('access' in parsed) return parsed.access;
  throw new MusterError('invalid_request', 'the kubeconfig is not taken', { errors: parsed.errors });
}
