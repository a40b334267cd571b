/**
 * Images of pods: fetched where they are not there, with progress and the login of their own registry; those that we fetched and no
 * container needs any more are removed, with bounds. Images that somebody else brought are never removed.
 */
import { join } from 'node:path';
import type { DesiredPod } from '../../api/contract/pods.ts';
import { readJson, writePrivately } from '../private-file.ts';
import { EngineError, type Engine } from './engine.ts';

export interface Images {
  /** @returns its digest, or the engine's id of it. Throws PullError; `signal` gives it up. */
  ensure(
    pod: DesiredPod,
    options: { signal: AbortSignal; progress: (percent: number | null) => void },
  ): Promise<string | null>;
  /** Removes what we fetched and nobody has needed for long, or beyond so many. Never throws. */
  clean(inUse: ReadonlySet<string>): Promise<void>;
}

export class PullError extends Error {
  /** Another try would end the same way. */
  readonly isFinal: boolean;

  constructor(message: string, isFinal: boolean) {
    super(message);
    this.name = 'PullError';
    this.isFinal = isFinal;
  }
}

const MAX_UNUSED = 20;
const MAX_UNUSED_MS = 7 * 86_400_000;
/** A registry that sends nothing for so long has hung. */
const SILENCE_MS = 120_000;
const MAX_LINE = 1_000_000;

export function createImages(engine: Engine, directory: string, now: () => number): Images {
  const file = join(directory, 'containers', 'images.json');
  /** Those that we fetched, and when one was needed last. */
  const fetched = new Map(Object.entries((readJson(file) as Record<string, number> | null) ?? {}));

  async function find(image: string): Promise<{ Id: string; RepoDigests?: string[] | null } | null> {
    try {
      return (await engine.call('GET', `/images/${encodePath(image)}/json`)) as { Id: string };
    } catch (error) {
      if (error instanceof EngineError && error.status === 404) return null;
      throw new PullError(error instanceof Error ? error.message : String(error), false);
    }
  }

  function keep(): void {
    try {
      writePrivately(file, JSON.stringify(Object.fromEntries(fetched)));
    } catch {
      // An image too many stays: no reason to run no pod.
    }
  }

  return {
    async ensure(pod, options) {
      const { image } = pod.spec;
      const known = await find(image);
      if (known === null) {
        await pull(engine, pod, options);
        fetched.set(image, now());
        keep();
      } else if (fetched.has(image)) {
        fetched.set(image, now());
        keep();
      }
      const found = known ?? (await find(image));
      if (found === null) throw new PullError(`${image} is not there after it was fetched`, false);
      return (found.RepoDigests?.[0]?.split('@')[1] ?? found.Id).slice(0, 200);
    },
    async clean(inUse) {
      const unused = [...fetched].filter(([image]) => !inUse.has(image)).sort(([, a], [, b]) => b - a);
      const over = unused.filter(([, at], place) => place >= MAX_UNUSED || now() - at > MAX_UNUSED_MS);
      for (const [image] of over) {
        try {
          await engine.call('DELETE', `/images/${encodePath(image)}`, { timeoutMs: 120_000 });
        } catch (error) {
          // In use by somebody else: his from now on.
          if (!(error instanceof EngineError) || (error.status !== 404 && error.status !== 409)) continue;
        }
        fetched.delete(image);
      }
      if (over.length > 0) keep();
    },
  };
}

async function pull(
  engine: Engine,
  { spec: { image }, registryLogin }: DesiredPod,
  { signal, progress }: { signal: AbortSignal; progress: (percent: number | null) => void },
): Promise<void> {
  const { name, tag } = splitReference(image);
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  progress(null);
  try {
    const query = new URLSearchParams({ fromImage: name, ...(tag === null ? {} : { tag }) });
    const response = await engine.open('POST', `/images/create?${query.toString()}`, {
      signal: AbortSignal.any([signal, silence.signal]),
      timeoutMs: SILENCE_MS,
      headers: registryLogin === null ? {} : { 'x-registry-auth': encodeLogin(registryLogin) },
    });
    const layers = new Map<string, { current: number; total: number }>();
    for await (const line of linesOf(response)) {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      const said = parseLine(line);
      if (said.error !== null) throw new PullError(said.error, isFinal(said.error));
      if (said.layer !== null) layers.set(said.layer.id, said.layer);
      progress(percentOf(layers.values()));
    }
  } catch (error) {
    if (signal.aborted) throw new PullError('it is not wanted any more', true);
    if (error instanceof PullError) throw error;
    const text = silence.signal.aborted
      ? 'the registry sends nothing'
      : error instanceof Error
        ? error.message
        : String(error);
    throw new PullError(text, error instanceof EngineError && error.status >= 400 && isFinal(text));
  } finally {
    clearTimeout(timer);
  }
}

/** A registry that refuses us, or has no such image, will in a minute too. */
function isFinal(message: string): boolean {
  return /unauthorized|denied|authentication required|manifest unknown|not found|no such (?:image|host)|invalid reference/i.test(
    message,
  );
}

function percentOf(layers: Iterable<{ current: number; total: number }>): number | null {
  let current = 0;
  let total = 0;
  for (const layer of layers) {
    current += Math.min(layer.current, layer.total);
    total += layer.total;
  }
  return total === 0 ? null : Math.floor((100 * current) / total);
}

interface PullLine {
  error: string | null;
  layer: { id: string; current: number; total: number } | null;
}

function parseLine(line: string): PullLine {
  try {
    const { id, error, status, progressDetail } = JSON.parse(line) as {
      id?: string;
      error?: string;
      status?: string;
      progressDetail?: { current?: number; total?: number };
    };
    if (typeof error === 'string') return { error: error.slice(0, 400), layer: null };
    const { current, total } = progressDetail ?? {};
    const isCounted =
      id !== undefined && status === 'Downloading' && current !== undefined && total !== undefined && total > 0;
    return { error: null, layer: isCounted ? { id, current, total } : null };
  } catch {
    return { error: null, layer: null };
  }
}

async function* linesOf(
  response: AsyncIterable<unknown> & { setEncoding(encoding: 'utf8'): unknown },
): AsyncGenerator<string> {
  response.setEncoding('utf8');
  let rest = '';
  for await (const part of response) {
    rest += String(part);
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > MAX_LINE) throw new Error('the engine sends no lines');
    for (const line of lines) if (line.trim() !== '') yield line;
  }
  if (rest.trim() !== '') yield rest;
}

/** With a digest there is no tag to ask for; without either it is `latest`, or the engine would fetch all tags. */
function splitReference(image: string): { name: string; tag: string | null } {
  if (image.includes('@')) return { name: image, tag: null };
  const colon = image.indexOf(':', image.lastIndexOf('/') + 1);
  return colon < 0 ? { name: image, tag: 'latest' } : { name: image.slice(0, colon), tag: image.slice(colon + 1) };
}

function encodeLogin({ registry, username, password }: NonNullable<DesiredPod['registryLogin']>): string {
  const serveraddress = registry === 'docker.io' ? 'https://index.docker.io/v1/' : registry;
  return Buffer.from(JSON.stringify({ username, password, serveraddress })).toString('base64url');
}

function encodePath(image: string): string {
  return image.split('/').map(encodeURIComponent).join('/');
}
