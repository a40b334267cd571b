/** `muster pods …`: containers on nodes. Secrets come from the environment or a file, never from the command line. */
import type { Pod, PodLogs } from '../../api/contract/pods.ts';
import type { Context } from '../context.ts';
import { followEvents } from '../event-stream.ts';
import { CliError, EXIT } from '../exit-code.ts';
import type { ExitCode } from '../exit-code.ts';
import { formatAge, orDash } from '../format.ts';
import { readTextOption } from '../terminal.ts';
import { readEnv } from './create-instances.ts';
import { showPage } from './page.ts';
import type { PageOptions } from './page.ts';

export interface PodListOptions extends PageOptions {
  status?: string;
  nodeId?: string;
  name?: string;
  includeRemoved?: boolean;
}

const HEAD = ['POD', 'NAME', 'STATUS', 'NODE', 'GPUS', 'IMAGE', 'RESTARTS', 'AGE'];

export function listPods(context: Context, _args: string[], options: PodListOptions): Promise<ExitCode> {
  const { status, nodeId, name, includeRemoved } = options;
  const now = Date.now();
  const filters = { status, nodeId, name, includeRemoved: includeRemoved ? 'true' : undefined };
  return showPage<Pod>(context, '/pods', filters, options, HEAD, (pod) => [
    pod.id,
    pod.name,
    pod.health === 'unhealthy' ? `${pod.status} (unhealthy)` : pod.status,
    orDash(pod.nodeId),
    String(pod.requirements.gpuCount),
    pod.spec.image,
    String(pod.restarts),
    formatAge(pod.createdAt, now),
  ]);
}

export async function getPod(context: Context, [id]: string[]): Promise<ExitCode> {
  return showPod(context, await context.api.get<Pod>(pathOf(id)));
}

export interface CreatePodOptions {
  image?: string;
  name?: string;
  file?: string;
  entrypoint?: string;
  gpuCount?: number;
  gpuModel?: string;
  minGpuMemoryGib?: number;
  cpus?: number;
  memoryMib?: number;
  nodeId?: string;
  instanceId?: string;
  label?: string[];
  env?: string[];
  secretEnv?: string[];
  port?: string[];
  mount?: string[];
  restart?: string;
  onNodeLost?: string;
  registryCredential?: string;
  watch?: boolean;
}

export async function createPod(context: Context, args: string[], options: CreatePodOptions): Promise<ExitCode> {
  const base = options.file === undefined ? {} : parseFile(await readTextOption('--file', options.file));
  const body = { ...base, ...bodyOf(options, args, context) };
  if (!('image' in body)) throw new CliError('Say --image, or a --file that has one.', EXIT.wrongUse);
  const made = await context.api.post<Pod>('/pods', body);
  if (!options.watch) return showPod(context, made);
  return watchPod(context, made);
}

function bodyOf(options: CreatePodOptions, args: string[], context: Context): Record<string, unknown> {
  const { image, name, entrypoint, gpuCount, gpuModel, minGpuMemoryGib, nodeId, instanceId, cpus, memoryMib } = options;
  const hasResources = cpus !== undefined || memoryMib !== undefined;
  const given = {
    image,
    name,
    gpuCount,
    gpuModel,
    minGpuMemoryGib,
    nodeId,
    instanceId,
    command: entrypoint === undefined ? undefined : [entrypoint],
    args: args.length === 0 ? undefined : args,
    resources: hasResources ? { cpus, memoryMib } : undefined,
    labels: options.label && readPairs('--label', options.label),
    env: options.env && readEnv(options.env, context.env),
    secretEnv: options.secretEnv && readSecrets(options.secretEnv, context),
    ports: options.port?.map(readPort),
    mounts: options.mount?.map(readMount),
    restartPolicy: options.restart,
    onNodeLost: options.onNodeLost,
    registryCredentialRef: options.registryCredential,
  };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

export const stopPod = changeBy('stop');
export const startPod = changeBy('start');
export const restartPod = changeBy('restart');

function changeBy(verb: string) {
  return async (context: Context, [id]: string[]): Promise<ExitCode> =>
    showPod(context, await context.api.post<Pod>(`${pathOf(id)}/${verb}`, {}, { isPlain: true }));
}

export async function deletePod(context: Context, [id]: string[], options: { yes?: boolean }): Promise<ExitCode> {
  const { terminal, api } = context;
  const question = `Delete ${id}, with its volumes?`;
  if (!options.yes && !(await terminal.confirm(question, 'Say --yes.')))
    throw new CliError('Nothing was deleted.', EXIT.failed);
  const pod = await api.delete<Pod>(pathOf(id));
  if (terminal.isJson) terminal.printJson(pod);
  else terminal.say(pod.status === 'removed' ? `${id} is deleted.` : `${id} is being removed by its node's agent.`);
  return EXIT.done;
}

export interface LogOptions {
  follow?: boolean;
  since?: string;
  tail?: number;
  timestamps?: boolean;
}

type Line = PodLogs['lines'][number];

export async function showLogs(context: Context, [id]: string[], options: LogOptions): Promise<ExitCode> {
  const { api, terminal } = context;
  const { since, tail } = options;
  const show = (line: Line) => {
    if (terminal.isJson) terminal.printJsonLine(line);
    else terminal.print(options.timestamps ? `${line.at}  ${line.text}` : line.text);
  };
  if (!options.follow) {
    const { lines, isTruncated } = await api.get<PodLogs>(`${pathOf(id)}/logs`, { since, tail });
    for (const line of lines) show(line);
    if (isTruncated) terminal.say('There is more: --tail for less, or --follow.');
    return EXIT.done;
  }
  const query = new URLSearchParams({ follow: 'true' });
  if (since !== undefined) query.set('since', since);
  if (tail !== undefined) query.set('tail', String(tail));
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort());
  const onLost = () => terminal.say('The connection was lost: it goes on where it broke off.');
  const path = `${pathOf(id)}/logs?${query.toString()}`;
  for await (const { event, data } of followEvents(api, path, { signal: stop.signal, onLost }))
    if (event === 'log') show(JSON.parse(data) as Line);
  return stop.signal.aborted ? EXIT.interrupted : EXIT.done;
}

const WATCH_MS = 500;
const AT_REST: ReadonlySet<Pod['status']> = new Set(['running', 'exited', 'failed', 'stopped', 'lost', 'removed']);

/** Says each change until it runs or has ended; a pod that waits for a node is waited for. */
async function watchPod(context: Context, made: Pod): Promise<ExitCode> {
  const { api, terminal } = context;
  let pod = made;
  let last = '';
  for (;;) {
    const line = `${pod.id}  ${pod.status}${pod.reason === null ? '' : `: ${pod.reason}`}`;
    if (line !== last) terminal.say(line);
    last = line;
    if (AT_REST.has(pod.status)) break;
    await new Promise((resolve) => setTimeout(resolve, WATCH_MS));
    pod = await api.get<Pod>(pathOf(pod.id));
  }
  showPod(context, pod);
  return pod.status === 'running' || pod.status === 'exited' ? EXIT.done : EXIT.failed;
}

function showPod({ terminal }: Context, pod: Pod): ExitCode {
  if (terminal.isJson) {
    terminal.printJson(pod);
    return EXIT.done;
  }
  const because = pod.reason === null ? '' : `: ${pod.reason}`;
  terminal.print(`pod           ${pod.id}  ${pod.name}`);
  terminal.print(`status        ${pod.status}${because}`);
  terminal.print(`image         ${pod.spec.image}${pod.imageDigest === null ? '' : `  ${pod.imageDigest}`}`);
  terminal.print(`node          ${orDash(pod.nodeId)}${pod.isLeaving ? ', which it is to leave' : ''}`);
  if (pod.gpus.length > 0) terminal.print(`gpus          ${pod.gpus.map(({ index }) => index).join(', ')} of the node`);
  if (pod.ports.length > 0)
    terminal.print(
      `ports         ${pod.ports.map((one) => `${one.hostPort}→${one.containerPort}/${one.protocol}`).join(', ')}`,
    );
  if (pod.health !== null) terminal.print(`health        ${pod.health}`);
  terminal.print(`run           ${pod.run}, restarted ${pod.restarts} times in it, moved ${pod.moves} times`);
  if (pod.exitCode !== null) terminal.print(`exit code     ${pod.exitCode}`);
  return EXIT.done;
}

function parseFile(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // said below
  }
  throw new CliError('--file: is not a JSON object', EXIT.wrongUse);
}

function readSecrets(names: readonly string[], context: Context): Record<string, string> {
  const wrong = names.find((name) => name.includes('='));
  if (wrong !== undefined) {
    const name = wrong.slice(0, wrong.indexOf('='));
    throw new CliError(
      `--secret-env ${name}: takes a name only; its value is read from the environment`,
      EXIT.wrongUse,
    );
  }
  return readEnv([...names], context.env);
}

function readPairs(option: string, pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf('=');
      if (at < 1) throw new CliError(`${option} is NAME=value, got "${pair}".`, EXIT.wrongUse);
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

function readPort(text: string): Record<string, unknown> {
  const [, hostPort, containerPort, protocol] = /^(?:(\d{1,5}):)?(\d{1,5})(?:\/(tcp|udp))?$/.exec(text) ?? [];
  if (containerPort === undefined)
    throw new CliError(`--port is [node:]container[/udp], such as 8080:80, got "${text}".`, EXIT.wrongUse);
  return {
    containerPort: Number(containerPort),
    ...(hostPort === undefined ? {} : { hostPort: Number(hostPort) }),
    ...(protocol === undefined ? {} : { protocol }),
  };
}

function readMount(text: string): Record<string, unknown> {
  const [, kind, name, target, mode] = /^(workspace|volume)(?:\/([^:]*))?:(\/[^:]+)(?::(ro))?$/.exec(text) ?? [];
  if (target === undefined || (kind === 'volume' && !name))
    throw new CliError(
      `--mount is workspace[/path]:/target or volume/name:/target, with :ro at the end for reading only, got "${text}".`,
      EXIT.wrongUse,
    );
  const isReadOnly = mode === 'ro';
  return kind === 'volume' ? { kind, name, target, isReadOnly } : { kind, path: name ?? '', target, isReadOnly };
}

function pathOf(id: string | undefined): string {
  return `/pods/${encodeURIComponent(id as string)}`;
}
