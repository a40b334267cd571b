/** `muster nodes …`: hosts that run our agent. Those of one's own are added and removed here. */
import type { z } from 'zod';
import type { Node, nodeAccepted } from '../../api/contract/nodes.ts';
import type { Context } from '../context.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatAge, orDash } from '../format.ts';
import { reportEnd, watchOperation } from '../watch-operation.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

type NodeAccepted = z.infer<typeof nodeAccepted>;

export interface NodeListOptions extends PageOptions {
  status?: string;
  instanceId?: string;
  clusterId?: string;
}

const HEAD = ['NODE', 'STATUS', 'HEALTH', 'HOST', 'GPUS', 'CORDONED', 'HEARD OF'];

export function listNodes(context: Context, _args: string[], options: NodeListOptions): Promise<ExitCode> {
  const { status, instanceId, clusterId } = options;
  const now = Date.now();
  return showPage<Node>(context, '/nodes', { status, instanceId, clusterId }, options, HEAD, (node) => [
    node.id,
    node.status,
    node.health,
    whereOf(node),
    gpusOf(node),
    node.isCordoned ? 'yes' : 'no',
    formatAge(node.lastHeartbeatAt, now),
  ]);
}

export async function getNode(context: Context, [id]: string[]): Promise<ExitCode> {
  return showNode(context, await context.api.get<Node>(pathOf(id)));
}

export interface AddNodeOptions {
  address: string;
  hostKey: string;
  credential: string;
  port?: number;
  user?: string;
  name?: string;
  label?: string[];
  agentDir?: string;
  nodePath?: string;
  watch?: boolean;
}

export async function addNode(context: Context, _args: string[], options: AddNodeOptions): Promise<ExitCode> {
  const { address, port, user, name, agentDir, nodePath, hostKey: hostKeySha256, credential: credentialRef } = options;
  const given = { address, port, user, name, agentDir, nodePath, hostKeySha256, credentialRef };
  const body = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const accepted = await context.api.post<NodeAccepted>('/nodes', { ...body, labels: readLabels(options.label ?? []) });
  return follow(context, accepted, options.watch, `${accepted.node.id} is being installed`);
}

export interface DeleteNodeOptions {
  forget?: boolean;
  yes?: boolean;
  watch?: boolean;
}

export async function deleteNode(context: Context, [id]: string[], options: DeleteNodeOptions): Promise<ExitCode> {
  const { terminal, api } = context;
  const question = options.forget
    ? `Remove ${id}, and let it go where it cannot be reached any more?`
    : `Remove ${id}? What runs on it ends, and the agent is uninstalled.`;
  if (!options.yes && !(await terminal.confirm(question, 'Say --yes.')))
    throw new CliError('Nothing was removed.', EXIT.failed);
  const accepted = await api.delete<NodeAccepted | undefined>(`${pathOf(id)}${options.forget ? '?forget=true' : ''}`);
  if (accepted?.operation) return follow(context, accepted, options.watch, `${id} is being removed`);
  terminal.say(`${id} is forgotten.`);
  return EXIT.done;
}

export const cordonNode = changeBy('cordon');
export const uncordonNode = changeBy('uncordon');
export const drainNode = changeBy('drain');

function changeBy(verb: string) {
  return async (context: Context, [id]: string[]): Promise<ExitCode> =>
    showNode(context, await context.api.post<Node>(`${pathOf(id)}/${verb}`, {}, { isPlain: true }));
}

async function follow(
  { terminal, api }: Context,
  accepted: NodeAccepted,
  isWatched: boolean | undefined,
  what: string,
): Promise<ExitCode> {
  const { id } = accepted.operation;
  if (isWatched) return reportEnd(terminal, await watchOperation(api, terminal, id));
  if (terminal.isJson) terminal.printJson(accepted);
  else terminal.print(`${what}. Watch it: muster operations watch ${id}`);
  return EXIT.done;
}

function showNode({ terminal }: Context, node: Node): ExitCode {
  if (terminal.isJson) {
    terminal.printJson(node);
    return EXIT.done;
  }
  const { host, system } = node;
  terminal.print(
    `node          ${node.id}  ${node.status}${node.statusReason === null ? '' : `: ${node.statusReason}`}`,
  );
  terminal.print(`health        ${node.health}${node.healthReason === null ? '' : `: ${node.healthReason}`}`);
  if (host) {
    terminal.print(`host          ${placeOf(host)} as ${host.user}, host key ${host.hostKeySha256}`);
    terminal.print(`stack         ${host.stackId}`);
  } else if (node.cluster) {
    terminal.print(`cluster       ${node.cluster.name} (${node.cluster.id}), its node ${node.cluster.nodeName}`);
  } else terminal.print(`instance      ${orDash(node.instanceId)}`);
  terminal.print(`cordoned      ${node.isCordoned ? 'yes' : 'no'}`);
  terminal.print(
    `agent         ${orDash(node.agentVersion)}, heard of ${formatAge(node.lastHeartbeatAt, Date.now())} ago`,
  );
  if (system)
    terminal.print(
      `system        ${orDash(system.os)}, ${orDash(system.cpuCount)} CPUs, ${orDash(system.memoryTotalMib)} MiB`,
    );
  terminal.print(`gpus          ${gpusOf(node)}`);
  const { engine } = node;
  if (engine)
    terminal.print(
      `containers    ${engine.name} ${orDash(engine.version)}${engine.problem === null ? '' : `: ${engine.problem}`}`,
    );
  return EXIT.done;
}

/** What could not be read is not known, which is not none. */
function gpusOf({ gpu }: Node): string {
  if (gpu?.gpus == null) return '-';
  return gpu.gpus.length === 0 ? 'none' : `${gpu.gpus.length} × ${orDash(gpu.gpus[0]?.name)}`;
}

function whereOf({ host, cluster, instanceId }: Node): string {
  if (host) return placeOf(host);
  return cluster ? `${cluster.name}/${cluster.nodeName}` : orDash(instanceId);
}

function placeOf({ address, port }: NonNullable<Node['host']>): string {
  return `${address}:${port}`;
}

function readLabels(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw new CliError(`A label is NAME=value, got "${pair}".`, EXIT.wrongUse);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

function pathOf(id: string | undefined): string {
  return `/nodes/${encodeURIComponent(id as string)}`;
}
