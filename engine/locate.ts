/**
 * Where the engine is, looked up without fetching or building anything: a `pulumi` on PATH that is new enough, else the one in our cache.
 */
import { access, constants, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { delimiter, isAbsolute, join } from 'node:path';
import semver from 'semver';
import { runProgram } from './run-program.ts';
import { ENGINE_VERSION } from './version.ts';

export interface Engine {
  /** The absolute path of the `pulumi` program. */
  path: string;
  version: string;
  source: 'path' | 'cache' | 'download' | 'build';
}

export interface EngineSearch {
  /** The environment of the process: PATH, HOME and what proxies and Go need. Only entry points read it and pass it in. */
  env: NodeJS.ProcessEnv;
  /** Muster's cache folder. @default `${XDG_CACHE_HOME:-~/.cache}/muster` */
  cacheDir?: string;
  signal?: AbortSignal;
}

const VERSION_LIMIT_MS = 20_000;

/** The engine, or null; `tried` takes one line for each place that had none. */
export async function locateEngine(search: EngineSearch, tried: string[] = []): Promise<Engine | null> {
  return (await locateOnPath(search, tried)) ?? (await locateInCache(search, tried));
}

/** The folder of the cached engine: the layout that the Automation API's `root` option expects, `bin/pulumi` inside. */
export function engineRoot({ env, cacheDir }: EngineSearch): string {
  const base = cacheDir ?? join(env.XDG_CACHE_HOME || join(env.HOME || homedir(), '.cache'), 'muster');
  return join(base, 'engine', ENGINE_VERSION);
}

export async function locateInCache(search: EngineSearch, tried: string[] = []): Promise<Engine | null> {
  const path = join(engineRoot(search), 'bin', 'pulumi');
  if (!(await isProgram(path))) {
    tried.push(`cache: no ${path}`);
    return null;
  }
  const version = await acceptVersion(path, 'cache', search, tried);
  return version ? { path, version, source: 'cache' } : null;
}

async function locateOnPath(search: EngineSearch, tried: string[]): Promise<Engine | null> {
  const paths = (search.env.PATH ?? '').split(delimiter).filter((entry) => isAbsolute(entry));
  let seen = 0;
  for (const folder of new Set(paths)) {
    const path = join(folder, 'pulumi');
    if (!(await isProgram(path))) continue;
    seen += 1;
    const version = await acceptVersion(path, 'PATH', search, tried);
    if (version) return { path, version, source: 'path' };
  }
  if (seen === 0) tried.push('PATH: no pulumi');
  return null;
}

/** The version of a program that is usable: the pinned one or newer of the same major (the Automation API refuses another). */
export async function acceptVersion(
  path: string,
  place: string,
  search: EngineSearch,
  tried: string[],
): Promise<string | null> {
  try {
    const env = { ...search.env, PULUMI_SKIP_UPDATE_CHECK: 'true' };
    const output = await runProgram(path, ['version'], { env, limitMs: VERSION_LIMIT_MS, signal: search.signal });
    const version = semver.parse(output.trim());
    if (version && version.major === semver.major(ENGINE_VERSION) && semver.gte(version, ENGINE_VERSION))
      return version.version;
    tried.push(
      `${place}: ${path} is ${output.trim().slice(0, 40) || 'of unknown version'}, needed is ${ENGINE_VERSION} or a newer ${semver.major(ENGINE_VERSION)}.x`,
    );
  } catch (error) {
    search.signal?.throwIfAborted();
    tried.push(`${place}: ${path} does not run (${(error as Error).message})`);
  }
  return null;
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}
