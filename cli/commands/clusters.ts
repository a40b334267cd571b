/** `muster clusters …`: Kubernetes clusters. The plan with its price comes before what is made, and what was shown is what is made. */
import type { z } from 'zod';
import type {
  ClusterAccepted,
  clusterEnrolment,
  clusterEvents,
  ClusterHealthReply,
  clusterKubeconfig,
  ClusterNodesReply,
  ClusterReply,
  clusterStorageClasses,
} from '../../api/contract/clusters.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatAge, orDash } from '../format.ts';
import { reportEnd, watchOperation } from '../watch-operation.ts';
import { readJson, readText } from './input-file.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';
import { awaitPlan, confirmPlan, planOf, showPlan } from './stack-plan.ts';

const HEAD = ['CLUSTER', 'NAME', 'KIND', 'STATUS', 'PLATFORM', 'KUBERNETES', 'NODES', 'GPUS', 'CHECKED'];

export interface ClusterListOptions extends PageOptions {
  kind?: string;
  status?: string;
}

export function listClusters(context: Context, _args: string[], options: ClusterListOptions): Promise<ExitCode> {
  const { kind, status } = options;
  return showPage<ClusterReply>(context, '/clusters', { kind, status }, options, HEAD, (cluster) => [
    cluster.id,
    cluster.name,
    cluster.kind,
    cluster.status,
    orDash(cluster.platform),
    orDash(cluster.kubernetesVersion),
    cluster.nodes === null ? '-' : `${cluster.nodes.ready}/${cluster.nodes.total}`,
    gpusOf(cluster),
    formatAge(cluster.checkedAt, Date.now()),
  ]);
}

export async function getCluster(context: Context, [id]: string[]): Promise<ExitCode> {
  return showCluster(context, await context.api.get<ClusterReply>(pathOf(id)));
}

interface FollowOptions {
  yes?: boolean;
  watch?: boolean;
}

export interface CreateClusterOptions extends FollowOptions {
  name: string;
  kind: string;
  place?: string;
  kubernetesVersion?: string;
  nodeGroup?: string[];
  config?: string;
  costCentre?: string;
  owner?: string;
  ceilingUsdPerHour?: string;
  protect?: boolean;
  dryRun?: boolean;
}

/** Always planned first: what it would cost is shown, asked for, and then exactly that is made. */
export async function createCluster(
  context: Context,
  _args: string[],
  options: CreateClusterOptions,
): Promise<ExitCode> {
  const body = await bodyOf(options);
  const plan = await planOf(context, '/clusters', body);
  if (!(await confirmPlan(context, plan, options))) return EXIT.done;
  const accepted = await context.api.post<ClusterAccepted>('/clusters', { ...body, planHash: plan.planHash });
  return follow(context, accepted, options);
}

export async function registerCluster(
  context: Context,
  _args: string[],
  options: { name: string; kubeconfig: string },
): Promise<ExitCode> {
  const kubeconfig = await readText(options.kubeconfig);
  const body = { kind: 'registered', name: options.name, kubeconfig };
  const { cluster, operation } = await context.api.post<ClusterAccepted>('/clusters', body);
  if (cluster && cluster.status !== 'creating') return showCluster(context, cluster);
  return follow(context, { cluster, operation }, { watch: true });
}

export async function replaceKubeconfig(
  context: Context,
  [id]: string[],
  options: { kubeconfig: string },
): Promise<ExitCode> {
  const kubeconfig = await readText(options.kubeconfig);
  const { cluster } = await context.api.post<ClusterAccepted>(`${pathOf(id)}/kubeconfig`, { kubeconfig });
  return showCluster(context, cluster as ClusterReply);
}

/** On standard output as it is, so that it can be sent into a file; when the token ends is said beside it. */
export async function showKubeconfig(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal, api } = context;
  const reply = await api.get<z.infer<typeof clusterKubeconfig>>(`${pathOf(id)}/kubeconfig`);
  if (terminal.isJson) terminal.printJson(reply);
  else {
    terminal.print(reply.kubeconfig.trimEnd());
    if (reply.expiresAt !== null) terminal.say(`Its token ends at ${reply.expiresAt}.`);
  }
  return EXIT.done;
}

interface ChangeOptions extends FollowOptions {
  dryRun?: boolean;
}

export interface ScaleOptions extends ChangeOptions {
  nodeGroup: string;
  min?: string;
  max?: string;
  desired?: string;
}

export function scaleCluster(context: Context, [id]: string[], options: ScaleOptions): Promise<ExitCode> {
  const { nodeGroup, min, max, desired } = options;
  const sizes = { minSize: min, maxSize: max, desiredSize: desired };
  const given = Object.entries(sizes).filter(([, text]) => text !== undefined);
  if (given.length === 0) throw new CliError('Say --min, --max or --desired.', EXIT.wrongUse);
  const body = { nodeGroup, ...Object.fromEntries(given.map(([name, text]) => [name, Number(text)])) };
  const question = `Scale ${nodeGroup} to ${given.map(([name, text]) => `${name} ${text as string}`).join(', ')}?`;
  return change(context, id, 'scale', body, question, options);
}

export function upgradeCluster(
  context: Context,
  [id]: string[],
  options: ChangeOptions & { kubernetesVersion: string },
): Promise<ExitCode> {
  const { kubernetesVersion } = options;
  const question = `Upgrade to Kubernetes ${kubernetesVersion}? There is no way back.`;
  return change(context, id, 'upgrade', { kubernetesVersion }, question, options);
}

export function startCluster(context: Context, [id]: string[], options: FollowOptions): Promise<ExitCode> {
  return switchPower(context, id, 'start', 'Start it, which then costs again?', options);
}

export function stopCluster(context: Context, [id]: string[], options: FollowOptions): Promise<ExitCode> {
  return switchPower(context, id, 'stop', 'Stop the whole of it, with everything that runs on it?', options);
}

export async function deleteCluster(context: Context, [id]: string[], options: FollowOptions): Promise<ExitCode> {
  const { terminal, api } = context;
  if (!options.yes) {
    const { name, kind } = await api.get<ClusterReply>(pathOf(id));
    const question =
      kind === 'registered'
        ? `Forget ${name}? Nothing at it changes.`
        : `Destroy ${kind} cluster ${name} with all its nodes?`;
    if (!(await terminal.confirm(question, 'Say --yes.'))) throw new CliError('Nothing was destroyed.', EXIT.failed);
  }
  const reply = await api.delete<ClusterAccepted | ClusterReply>(pathOf(id));
  if ('operation' in reply && 'cluster' in reply) return follow(context, reply, options);
  if (terminal.isJson) terminal.printJson(reply);
  else terminal.print(`${reply.name} is forgotten; nothing at it has changed.`);
  return EXIT.done;
}

export async function showNodes(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal, api } = context;
  const reply = await api.get<ClusterNodesReply>(`${pathOf(id)}/nodes`);
  if (terminal.isJson) terminal.printJson(reply);
  else if (reply.takenAt === null) terminal.print('Nobody has read its nodes yet.');
  else
    await terminal.printTable(
      ['NODE', 'READY', 'HARDWARE', 'MODEL', 'COUNT', 'MIB EACH', 'DRIVER', 'MIG', 'TYPE', 'GROUP', 'AGENT', 'TROUBLE'],
      reply.items.map((node) => [
        node.name,
        node.isReady ? (node.isSchedulable ? 'yes' : 'cordoned') : 'no',
        node.hardwareType,
        orDash(node.gpuModel),
        node.gpuCount === null ? 'unknown' : String(node.gpuCount),
        node.gpuMemoryMib === null ? '-' : String(node.gpuMemoryMib),
        orDash(node.driverVersion),
        node.mig === null
          ? '-'
          : node.mig.profiles.map((one) => `${one.count}x ${one.profile}`).join(' ') || node.mig.strategy,
        orDash(node.instanceType),
        orDash(node.nodeGroup),
        node.agent === null ? '-' : `${node.agent.status}, ${node.agent.health}`,
        [...node.pressures, ...(node.isReady ? [] : [orDash(node.notReadyReason)])].join(' ') || '-',
      ]),
    );
  return EXIT.done;
}

/** For agents that somebody installs by hand: on standard output the token alone, so that it can be sent into a Secret. */
export async function enrolCluster(
  context: Context,
  [id]: string[],
  options: { namespace?: string },
): Promise<ExitCode> {
  const { terminal, api } = context;
  const { namespace } = options;
  const reply = await api.post<z.infer<typeof clusterEnrolment>>(
    `${pathOf(id)}/enrolment`,
    namespace === undefined ? {} : { namespace },
  );
  if (terminal.isJson) terminal.printJson(reply);
  else {
    terminal.print(reply.token);
    const { serviceAccount, audience, previousUntil } = reply;
    terminal.say(
      `For ${reply.namespace}/${serviceAccount}, whose Pods show a service account token for "${audience}".`,
    );
    if (previousUntil !== null) terminal.say(`The token before works until ${previousUntil}.`);
  }
  return EXIT.done;
}

export async function revokeEnrolment(context: Context, [id]: string[]): Promise<ExitCode> {
  await context.api.delete(`${pathOf(id)}/enrolment`);
  context.terminal.print('No agent can join it any more; those that have stay.');
  return EXIT.done;
}

export async function showHealth(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal, api } = context;
  const health = await api.get<ClusterHealthReply>(`${pathOf(id)}/health`);
  if (terminal.isJson) {
    terminal.printJson(health);
    return EXIT.done;
  }
  terminal.print(`status        ${health.status}${health.reason === null ? '' : `: ${health.reason}`}`);
  if (health.changing) {
    const { direction, to, looks, of } = health.changing;
    terminal.print(`changing      ${direction}: ${looks} of ${of} looks say ${to}`);
  }
  terminal.print(
    `checked       ${formatAge(health.checkedAt, Date.now())} ago, answered ${formatAge(health.answeredAt, Date.now())} ago`,
  );
  for (const node of health.unfitNodes)
    terminal.print(
      `node          ${node.name}: ${[...node.pressures, ...(node.reason === null ? [] : [node.reason])].join(', ')}`,
    );
  return EXIT.done;
}

export async function showEvents(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal, api } = context;
  const reply = await api.get<z.infer<typeof clusterEvents>>(`${pathOf(id)}/events`);
  if (terminal.isJson) terminal.printJson(reply);
  else
    await terminal.printTable(
      ['SEEN', 'TIMES', 'REASON', 'OBJECT', 'MESSAGE'],
      reply.items.map((one) => [
        formatAge(one.lastSeenAt, Date.now()),
        String(one.count),
        one.reason,
        `${one.objectKind} ${one.namespace === null ? '' : `${one.namespace}/`}${one.objectName}`,
        one.message,
      ]),
    );
  return EXIT.done;
}

export async function showStorageClasses(context: Context, [id]: string[]): Promise<ExitCode> {
  const { terminal, api } = context;
  const reply = await api.get<z.infer<typeof clusterStorageClasses>>(`${pathOf(id)}/storage-classes`);
  if (terminal.isJson) terminal.printJson(reply);
  else
    await terminal.printTable(
      ['NAME', 'PROVISIONER', 'DEFAULT', 'RECLAIM', 'GROWS'],
      reply.items.map((one) => [
        one.name,
        one.provisioner,
        one.isDefault ? 'yes' : 'no',
        orDash(one.reclaimPolicy),
        one.allowsExpansion ? 'yes' : 'no',
      ]),
    );
  return EXIT.done;
}

/** Always planned first, as a new one is. */
async function change(
  context: Context,
  id: string | undefined,
  verb: string,
  body: object,
  question: string,
  options: ChangeOptions,
): Promise<ExitCode> {
  const { terminal, api } = context;
  const path = `${pathOf(id)}/${verb}`;
  const plan = await awaitPlan(context, await api.post(path, { ...body, dryRun: true }));
  if (terminal.isJson && options.dryRun) terminal.printJson(plan);
  else if (!terminal.isJson) await showPlan(context, plan);
  if (plan.violations.length > 0) throw new CliError('Nothing was changed: a policy would be broken.', EXIT.wrongUse);
  if (options.dryRun) return EXIT.done;
  if (!options.yes && !(await terminal.confirm(question, 'Say --yes, or --dry-run to see the plan only.')))
    throw new CliError('Nothing was changed.', EXIT.failed);
  return follow(context, await api.post<ClusterAccepted>(path, { ...body, planHash: plan.planHash }), options);
}

async function switchPower(
  context: Context,
  id: string | undefined,
  verb: 'start' | 'stop',
  question: string,
  options: FollowOptions,
): Promise<ExitCode> {
  const { terminal, api } = context;
  if (!options.yes && !(await terminal.confirm(question, 'Say --yes.')))
    throw new CliError('Nothing was changed.', EXIT.failed);
  return follow(context, await api.post<ClusterAccepted>(`${pathOf(id)}/${verb}`, {}), options);
}

async function follow(
  { api, terminal }: Context,
  accepted: ClusterAccepted,
  options: { watch?: boolean },
): Promise<ExitCode> {
  const { id } = accepted.operation;
  if (options.watch) return reportEnd(terminal, await watchOperation(api, terminal, id));
  if (terminal.isJson) terminal.printJson(accepted);
  else
    terminal.print(`${accepted.cluster?.name ?? 'It'} is accepted as ${id}. Watch it: muster operations watch ${id}`);
  return EXIT.done;
}

async function bodyOf(options: CreateClusterOptions): Promise<Record<string, unknown>> {
  const { name, kind, costCentre, owner, ceilingUsdPerHour, protect } = options;
  const config = options.config === undefined ? {} : await readJson(options.config);
  const shared = { kind, name, costCentre, owner, ceilingUsdPerHour, protect };
  const body = { ...shared, ...(kind === 'onprem' ? hostFields(config) : cloudFields(kind, options, config)) };
  return Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
}

/** The file says which hosts and which k3s, beside more of the stack's configuration. */
function hostFields({ hosts, credentialRef, k3s, ...config }: Record<string, unknown>): Record<string, unknown> {
  if (hosts === undefined || k3s === undefined)
    throw new CliError('On hosts of your own, --config must say hosts and k3s.', EXIT.wrongUse);
  return { hosts, credentialRef, k3s, config };
}

function cloudFields(
  kind: string,
  { place, kubernetesVersion, nodeGroup = [] }: CreateClusterOptions,
  config: Record<string, unknown>,
): Record<string, unknown> {
  if (kind !== 'eks' && kind !== 'aks')
    throw new CliError(
      `There is no kind "${kind}" to make; there are eks, aks and onprem. Others are registered.`,
      EXIT.wrongUse,
    );
  if (place === undefined) throw new CliError('Say --place: a region at AWS, a location at Azure.', EXIT.wrongUse);
  const groups = nodeGroup.map((text) => parseGroup(kind, text));
  const words = kind === 'eks' ? (['region', 'gpuNodeGroups'] as const) : (['location', 'gpuNodePools'] as const);
  return {
    [words[0]]: place,
    [words[1]]: groups.length === 0 ? undefined : groups,
    kubernetesVersion,
    config: Object.keys(config).length === 0 ? undefined : config,
  };
}

const GROUP = /^(?<type>[^:]+):(?<min>\d+)-(?<max>\d+)(?::(?<capacity>spot|on_demand))?$/;

/** `g5.xlarge:0-4:spot` */
function parseGroup(kind: 'eks' | 'aks', text: string): Record<string, unknown> {
  const { type, min, max, capacity } = GROUP.exec(text)?.groups ?? {};
  if (type === undefined)
    throw new CliError(
      `--node-group "${text}": write type:min-max or type:min-max:spot, such as g5.xlarge:0-4:spot.`,
      EXIT.wrongUse,
    );
  const words =
    kind === 'eks' ? (['instanceType', 'minSize', 'maxSize'] as const) : (['vmSize', 'minCount', 'maxCount'] as const);
  return {
    [words[0]]: type,
    [words[1]]: Number(min),
    [words[2]]: Number(max),
    ...(capacity === undefined ? {} : { capacityType: capacity }),
  };
}

function showCluster({ terminal }: Context, cluster: ClusterReply): ExitCode {
  if (terminal.isJson) {
    terminal.printJson(cluster);
    return EXIT.done;
  }
  terminal.print(`cluster       ${cluster.id}  ${cluster.kind} ${cluster.name}  ${cluster.status}`);
  if (cluster.reason !== null) terminal.print(`reason        ${cluster.reason}`);
  terminal.print(
    `platform      ${orDash(cluster.platform)} ${cluster.platformVersion ?? ''}, Kubernetes ${orDash(cluster.kubernetesVersion)}`,
  );
  terminal.print(`endpoint      ${orDash(cluster.endpoint)}`);
  if (cluster.nodes)
    terminal.print(`nodes         ${cluster.nodes.ready} of ${cluster.nodes.total} ready; ${gpusOf(cluster)} GPUs`);
  if (cluster.stackId !== null) terminal.print(`stack         ${cluster.stackId}`);
  if (cluster.isStopped) terminal.print('power         the whole of it is stopped');
  if (cluster.operation) terminal.print(`under way     ${cluster.operation.kind} ${cluster.operation.id}`);
  if (cluster.failure) terminal.print(`failed        ${cluster.failure.detail} (${cluster.failure.code})`);
  terminal.print(`actions       ${cluster.allowedActions.join(', ') || '-'}`);
  return EXIT.done;
}

/** "8x NVIDIA-A10G, 2+? Gaudi": a question mark where nobody tells how many some nodes have. */
function gpusOf({ nodes }: ClusterReply): string {
  if (nodes === null) return '-';
  const known = nodes.accelerators.map((one) => `${one.gpus}x ${one.gpuModel ?? one.hardwareType}`).join(', ') || '0';
  return nodes.withUnknownGpuCount === 0 ? known : `${known} +?`;
}

function pathOf(id: string | undefined): string {
  return `/clusters/${encodeURIComponent(id as string)}`;
}
