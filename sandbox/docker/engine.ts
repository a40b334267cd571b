/**
 * A simulated container engine: as much of the Docker Engine API as an agent uses, on a unix socket of a simulated machine. Containers are told
 * (program.ts), not run. Every image can be pulled, but those with `missing` in their name, and those with `private` only with a login.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import {
  end,
  endAllOfEarlierBoots,
  isRunning,
  linesOf,
  newId,
  openStore,
  settle,
  start,
  type Store,
  type StoredContainer,
} from './store.ts';

export interface SimulatedEngine {
  close(): Promise<void>;
}

export interface EngineOptions {
  socket: string;
  /** Where it keeps what it has. */
  file: string;
  /** The machine's boot: where it is another than when the engine was here last, what ran has ended. */
  boot: string;
  now?: () => number;
}

const PULL_STEPS = 4;
const PULL_STEP_MS = 60;
const FOLLOW_MS = 100;
const FIRST_PORT = 49_152;

export async function startSimulatedEngine(options: EngineOptions): Promise<SimulatedEngine> {
  const now = options.now ?? Date.now;
  const store = openStore(options.file);
  endAllOfEarlierBoots(store, options.boot, now());
  mkdirSync(dirname(options.socket), { recursive: true });
  rmSync(options.socket, { force: true });
  const server = createServer((request, response) => {
    answer({ store, now, request, response }).catch((error: unknown) => {
      if (response.headersSent) {
        response.destroy();
        return;
      }
      const { status, message } = error instanceof Refusal ? error : { status: 500, message: String(error) };
      send(response, status, { message });
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.on('error', reject);
    server.listen(options.socket, resolve);
  });
  return {
    async close() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

interface Asked {
  store: Store;
  now: () => number;
  request: IncomingMessage;
  response: ServerResponse;
}

interface Call extends Asked {
  /** Of the path. */
  name: string;
  query: URLSearchParams;
}

type Handler = (call: Call) => Promise<void> | void;

const ROUTES: [method: string, path: RegExp, handle: Handler][] = [
  ['GET', /^\/version$/, ({ response }) => send(response, 200, VERSION)],
  ['GET', /^\/containers\/json$/, listContainers],
  ['POST', /^\/containers\/create$/, createContainer],
  ['GET', /^\/containers\/([^/]+)\/json$/, inspectContainer],
  ['POST', /^\/containers\/([^/]+)\/start$/, startContainer],
  ['POST', /^\/containers\/([^/]+)\/stop$/, stopContainer],
  ['GET', /^\/containers\/([^/]+)\/logs$/, readLogs],
  ['DELETE', /^\/containers\/([^/]+)$/, removeContainer],
  ['POST', /^\/images\/create$/, pullImage],
  ['GET', /^\/images\/(.+)\/json$/, inspectImage],
  ['DELETE', /^\/images\/(.+)$/, removeImage],
  ['GET', /^\/volumes$/, listVolumes],
  ['DELETE', /^\/volumes\/([^/]+)$/, removeVolume],
];

const VERSION = {
  Version: '28.1.0',
  ApiVersion: '1.49',
  MinAPIVersion: '1.24',
  Components: [{ Name: 'Engine', Version: '28.1.0' }],
};

async function answer(asked: Asked): Promise<void> {
  const { request, store, now } = asked;
  const url = new URL(request.url ?? '/', 'http://engine');
  const path = url.pathname.replace(/^\/v1\.\d+/, '');
  let hasChanged = false;
  for (const one of store.containers) hasChanged = settle(one, now()) || hasChanged;
  if (hasChanged) store.save();
  for (const [method, pattern, handle] of ROUTES) {
    const match = method === request.method ? pattern.exec(path) : null;
    if (match) return handle({ ...asked, name: decodeURIComponent(match[1] ?? ''), query: url.searchParams });
  }
  throw new Refusal(404, `page not found: ${request.method} ${path}`);
}

function listContainers({ store, query, response }: Call): void {
  const { label = [] } = JSON.parse(query.get('filters') ?? '{}') as { label?: string[] };
  const isAll = query.get('all') === '1';
  const found = store.containers.filter(
    (one) =>
      (isAll || isRunning(one)) &&
      label.every((wanted) => {
        const at = wanted.indexOf('=');
        return at < 0 ? wanted in one.labels : one.labels[wanted.slice(0, at)] === wanted.slice(at + 1);
      }),
  );
  send(
    response,
    200,
    found.map((one) => ({
      Id: one.id,
      Names: [`/${one.name}`],
      Image: one.image,
      Labels: one.labels,
      State: stateOf(one),
    })),
  );
}

interface CreateBody {
  Image: string;
  Entrypoint?: string[];
  Cmd?: string[];
  Labels?: Record<string, string>;
  ExposedPorts?: Record<string, unknown>;
  HostConfig?: {
    PortBindings?: Record<string, { HostPort: string }[]>;
    Mounts?: { Type: string; Source: string }[];
  };
}

async function createContainer({ store, now, query, request, response }: Call): Promise<void> {
  const body = JSON.parse(await readBody(request)) as CreateBody;
  const name = query.get('name') ?? newId().slice(0, 12);
  if (!store.images[normalize(body.Image)]) throw new Refusal(404, `No such image: ${body.Image}`);
  if (store.containers.some((one) => one.name === name))
    throw new Refusal(409, `Conflict. The container name "/${name}" is already in use`);
  const volumes = (body.HostConfig?.Mounts ?? [])
    .filter(({ Type: type }) => type === 'volume')
    .map(({ Source: source }) => source);
  for (const volume of volumes) if (!store.volumes.includes(volume)) store.volumes.push(volume);
  const one: StoredContainer = {
    id: newId(),
    name,
    image: body.Image,
    labels: body.Labels ?? {},
    command: [...(body.Entrypoint ?? []), ...(body.Cmd ?? [])],
    exposed: Object.keys(body.ExposedPorts ?? {}),
    published: publish(store, body.HostConfig?.PortBindings ?? {}),
    volumes,
    createdAt: now(),
    startedAt: null,
    endedAt: null,
    exitCode: 0,
    earlier: [],
  };
  store.containers.push(one);
  store.save();
  send(response, 201, { Id: one.id, Warnings: [] });
}

/** Nothing listens there: a simulated container answers nobody. */
function publish(store: Store, bindings: Record<string, { HostPort: string }[]>): Record<string, string> {
  const taken = new Set(store.containers.flatMap(({ published }) => Object.values(published)));
  const free = () => {
    for (let port = FIRST_PORT; ; port++) if (!taken.has(String(port))) return String(port);
  };
  return Object.fromEntries(
    Object.entries(bindings).map(([key, places]) => {
      const port = places[0]?.HostPort || free();
      taken.add(port);
      return [key, port];
    }),
  );
}

function inspectContainer({ store, name, response }: Call): void {
  const one = find(store, name);
  send(response, 200, {
    Id: one.id,
    Name: `/${one.name}`,
    Image: one.image,
    State: {
      Status: stateOf(one),
      Running: isRunning(one),
      ExitCode: one.exitCode,
      OOMKilled: false,
      StartedAt: timeOf(one.startedAt),
      FinishedAt: timeOf(one.endedAt),
    },
    HostConfig: { NetworkMode: 'bridge' },
    NetworkSettings: {
      Ports: Object.fromEntries(
        Object.entries(one.published).map(([key, port]) => [
          key,
          isRunning(one) ? [{ HostIp: '0.0.0.0', HostPort: port }] : null,
        ]),
      ),
    },
    Config: { ExposedPorts: Object.fromEntries(one.exposed.map((key) => [key, {}])) },
  });
}

function startContainer({ store, now, name, response }: Call): void {
  const one = find(store, name);
  if (isRunning(one)) return send(response, 304);
  const rivals = store.containers
    .filter((other) => other !== one && isRunning(other))
    .flatMap(({ published }) => Object.values(published));
  const taken = Object.values(one.published).find((port) => rivals.includes(port));
  if (taken !== undefined) throw new Refusal(500, `Bind for 0.0.0.0:${taken} failed: port is already allocated`);
  start(one, now());
  store.save();
  send(response, 204);
}

function stopContainer({ store, now, name, response }: Call): void {
  const one = find(store, name);
  if (!isRunning(one)) return send(response, 304);
  end(one, now(), 143);
  store.save();
  send(response, 204);
}

function removeContainer({ store, name, query, response }: Call): void {
  const one = find(store, name);
  if (isRunning(one) && query.get('force') !== '1') throw new Refusal(409, 'You cannot remove a running container');
  store.containers.splice(store.containers.indexOf(one), 1);
  store.save();
  send(response, 204);
}

async function readLogs({ store, now, name, query, request, response }: Call): Promise<void> {
  const one = find(store, name);
  const since = Number(query.get('since') ?? 0) * 1_000;
  const tail = query.get('tail') ?? 'all';
  const before = linesOf(one, now()).filter(({ at }) => at >= since);
  let sent = before.at(-1)?.at ?? since;
  response.writeHead(200, { 'content-type': 'application/vnd.docker.multiplexed-stream' });
  for (const line of tail === 'all' ? before : before.slice(before.length - Math.min(before.length, Number(tail))))
    response.write(frame(line));
  while (query.get('follow') === '1' && !request.destroyed && !response.destroyed) {
    settle(one, now());
    const fresh = linesOf(one, now()).filter(({ at }) => at > sent);
    for (const line of fresh) response.write(frame(line));
    sent = fresh.at(-1)?.at ?? sent;
    if (!isRunning(one) || !store.containers.includes(one)) break;
    await pause(FOLLOW_MS);
  }
  response.end();
}

function frame({ at, stream, text }: { at: number; stream: string; text: string }): Buffer {
  const body = Buffer.from(`${new Date(at).toISOString().replace('Z', '000000Z')} ${text}\n`);
  const head = Buffer.alloc(8);
  head[0] = stream === 'stderr' ? 2 : 1;
  head.writeUInt32BE(body.length, 4);
  return Buffer.concat([head, body]);
}

async function pullImage({ store, query, request, response }: Call): Promise<void> {
  const from = query.get('fromImage') ?? '';
  const tag = query.get('tag');
  const image = normalize(tag === null ? from : `${from}:${tag}`);
  if (image.includes('missing')) throw new Refusal(404, `manifest for ${image} not found: manifest unknown`);
  const login = request.headers['x-registry-auth'];
  if (image.includes('private') && (typeof login !== 'string' || !hasPassword(login)))
    throw new Refusal(500, `pull access denied for ${image}: unauthorized`);
  response.writeHead(200, { 'content-type': 'application/json' });
  const total = 1_000_000;
  for (let step = 1; step <= PULL_STEPS; step++) {
    await pause(PULL_STEP_MS);
    const progressDetail = { current: (total * step) / PULL_STEPS, total };
    response.write(`${JSON.stringify({ status: 'Downloading', id: 'layer1', progressDetail })}\n`);
  }
  const digest = `sha256:${createHash('sha256').update(image).digest('hex')}`;
  store.images[image] = { id: digest, digest };
  store.save();
  response.end(`${JSON.stringify({ status: `Digest: ${digest}` })}\n`);
}

function hasPassword(login: string): boolean {
  try {
    const { password } = JSON.parse(Buffer.from(login, 'base64url').toString('utf8')) as { password?: string };
    return typeof password === 'string' && password !== '';
  } catch {
    return false;
  }
}

function inspectImage({ store, name, response }: Call): void {
  const image = store.images[normalize(name)];
  if (!image) throw new Refusal(404, `No such image: ${name}`);
  send(response, 200, { Id: image.id, RepoDigests: [`${name.split(':')[0]}@${image.digest}`] });
}

function removeImage({ store, name, response }: Call): void {
  if (!store.images[normalize(name)]) throw new Refusal(404, `No such image: ${name}`);
  if (store.containers.some((one) => normalize(one.image) === normalize(name)))
    throw new Refusal(409, 'image is in use');
  store.images = Object.fromEntries(Object.entries(store.images).filter(([image]) => image !== normalize(name)));
  store.save();
  send(response, 200, []);
}

function listVolumes({ store, query, response }: Call): void {
  const { name = [] } = JSON.parse(query.get('filters') ?? '{}') as { name?: string[] };
  const found = store.volumes.filter((volume) => name.every((part) => volume.includes(part)));
  send(response, 200, { Volumes: found.map((volume) => ({ Name: volume })) });
}

function removeVolume({ store, name, response }: Call): void {
  if (!store.volumes.includes(name)) throw new Refusal(404, `get ${name}: no such volume`);
  if (store.containers.some(({ volumes }) => volumes.includes(name))) throw new Refusal(409, 'volume is in use');
  store.volumes = store.volumes.filter((volume) => volume !== name);
  store.save();
  send(response, 204);
}

function find(store: Store, name: string): StoredContainer {
  const one = store.containers.find((other) => other.id === name || other.name === name);
  if (!one) throw new Refusal(404, `No such container: ${name}`);
  return one;
}

function stateOf(one: StoredContainer): string {
  return one.startedAt === null ? 'created' : isRunning(one) ? 'running' : 'exited';
}

function timeOf(at: number | null): string {
  return at === null ? '0001-01-01T00:00:00Z' : new Date(at).toISOString();
}

/** One name for an image: with its tag. */
function normalize(image: string): string {
  return image.includes('@') || image.lastIndexOf(':') > image.lastIndexOf('/') ? image : `${image}:latest`;
}

function send(response: ServerResponse, status: number, body?: unknown): void {
  response.writeHead(status, body === undefined ? {} : { 'content-type': 'application/json' });
  response.end(body === undefined ? undefined : JSON.stringify(body));
}

async function readBody(request: IncomingMessage): Promise<string> {
  let text = '';
  request.setEncoding('utf8');
  for await (const part of request) text += String(part);
  return text;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
