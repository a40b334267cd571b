/**
 * How the engine is obtained: found on PATH or in the cache, else downloaded, else built from the published Go modules. Run as a program it does so and
 * prints its progress.
 *
 * Downloading and building happen in a folder beside the final one and are renamed into place, under a lock: processes that need the engine at the same
 * time wait for one of them, and go on if it dies.
 */
import { chmod, copyFile, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createRequire } from 'node:module';
import { acquireProcessLock } from '../scripts/process-lock.mjs';
import type { Engine, EngineSearch } from './locate.ts';
import { acceptVersion, engineRoot, locateEngine, locateInCache } from './locate.ts';
import { runProgram } from './run-program.ts';
import { ENGINE_VERSION } from './version.ts';

export interface ObtainOptions extends EngineSearch {
  onProgress?: (message: string) => void;
  /** The ways left when nothing is found, in order. @default ['download', 'build'] */
  ways?: readonly Way[];
}

/** The engine cannot be had; `tried` has one line for each way. */
export class EngineUnavailable extends Error {
  readonly tried: readonly string[];

  constructor(tried: readonly string[]) {
    super(
      `The Pulumi engine ${ENGINE_VERSION} cannot be had. Tried:\n${tried.map((line) => `  - ${line}`).join('\n')}\n` +
        'Give the machine access to get.pulumi.com, or install Go 1.26 or newer with access to a Go module proxy, or put pulumi on PATH.',
    );
    this.name = 'EngineUnavailable';
    this.tried = tried;
  }
}

type Way = 'download' | 'build';

const DOWNLOAD_LIMIT_MS = 5 * 60_000;
/** A build took 3 minutes on two cores; a slow laptop with an empty module cache needs several times that. */
const BUILD_LIMIT_MS = 30 * 60_000;
const PROGRESS_EVERY_MS = 10_000;
const PACKAGE = 'github.com/pulumi/pulumi/pkg/v3/cmd/pulumi';
const VERSION_VARIABLE = 'github.com/pulumi/pulumi/sdk/v3/go/common/version.Version';
/** The plugin of stock dynamic providers, which the engine looks for beside itself. */
const DYNAMIC_PLUGIN = 'pulumi-resource-pulumi-nodejs';

/** Throws EngineUnavailable with all that was tried, or the signal's reason. */
export async function obtainEngine(options: ObtainOptions): Promise<Engine> {
  const tried: string[] = [];
  const found = await locateEngine(options, tried);
  if (found) return withDynamicPlugin(found);
  const root = engineRoot(options);
  const say = options.onProgress ?? (() => {});
  const onWait = () => say('Another process is fetching or building the engine; waiting for it');
  const release = await acquireProcessLock(`engine:${root}`, { onWait, signal: options.signal });
  try {
    // While we waited, the other one may have done it.
    const made = await locateInCache(options);
    if (made) return await withDynamicPlugin(made);
    for (const way of options.ways ?? (['download', 'build'] as const)) {
      const engine = await tryWay(way, root, options, say, tried);
      if (engine) return engine;
    }
    throw new EngineUnavailable(tried);
  } finally {
    await release();
  }
}

async function tryWay(
  way: Way,
  root: string,
  options: ObtainOptions,
  say: (message: string) => void,
  tried: string[],
): Promise<Engine | null> {
  const startedAt = Date.now();
  const staging = `${root}.partial-${process.pid}`;
  try {
    await removePartials(root);
    await mkdir(join(staging, 'bin'), { recursive: true });
    await (way === 'download' ? download : build)(staging, options, say);
    const path = join(staging, 'bin', 'pulumi');
    const version = await acceptVersion(path, way, options, tried);
    if (!version) return null;
    await placeDynamicPlugin(join(staging, 'bin'));
    await rm(root, { recursive: true, force: true });
    await rename(staging, root);
    say(`Engine ${version} ready after ${seconds(startedAt)} s (${way})`);
    return { path: join(root, 'bin', 'pulumi'), version, source: way };
  } catch (error) {
    options.signal?.throwIfAborted();
    tried.push(`${way}: ${(error as Error).message}`);
    say(
      `${way === 'download' ? 'Download' : 'Build'} of the engine failed after ${seconds(startedAt)} s: ${(error as Error).message}`,
    );
    return null;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** In a process of its own, because the installer is part of the Pulumi SDK, which costs 150 MB wherever it is imported. */
async function download(
  staging: string,
  { env, signal }: ObtainOptions,
  say: (message: string) => void,
): Promise<void> {
  say(`Downloading the Pulumi engine ${ENGINE_VERSION} …`);
  const program = join(import.meta.dirname, 'install.ts');
  await withTicks('downloading', say, () =>
    runProgram(process.execPath, [program, staging], { env, limitMs: DOWNLOAD_LIMIT_MS, signal }),
  );
}

async function build(staging: string, { env, signal }: ObtainOptions, say: (message: string) => void): Promise<void> {
  const goVersion = await runProgram('go', ['version'], { env, limitMs: 60_000, signal }).catch((error: Error) => {
    throw new Error(
      (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no go on PATH' : `go does not run (${error.message})`,
    );
  });
  say(
    `Building the Pulumi engine ${ENGINE_VERSION} from its Go modules with ${goVersion.trim()}; three to ten minutes, once …`,
  );
  let packages = 0;
  const args = [
    'build',
    '-v',
    '-trimpath',
    '-tags',
    'osusergo,grpcnotrace',
    '-ldflags',
    `-s -w -X ${VERSION_VARIABLE}=v${ENGINE_VERSION}`,
  ];
  await withTicks(
    () => `building, ${packages} packages`,
    say,
    () =>
      runProgram('go', [...args, '-o', join(staging, 'bin', 'pulumi'), PACKAGE], {
        cwd: import.meta.dirname,
        env: { ...env, CGO_ENABLED: '0' },
        limitMs: BUILD_LIMIT_MS,
        signal,
        onLine: () => (packages += 1),
      }),
  );
}

async function withTicks(
  what: string | (() => string),
  say: (message: string) => void,
  act: () => Promise<unknown>,
): Promise<void> {
  const startedAt = Date.now();
  const ticker = setInterval(
    () => say(`… ${typeof what === 'string' ? what : what()}, ${seconds(startedAt)} s`),
    PROGRESS_EVERY_MS,
  );
  try {
    await act();
  } finally {
    clearInterval(ticker);
  }
}

/** A cache filled by hand, or by an older Muster, may lack the plugin. A pulumi on PATH brings its own. */
async function withDynamicPlugin(engine: Engine): Promise<Engine> {
  if (engine.source === 'cache') await placeDynamicPlugin(dirname(engine.path));
  return engine;
}

async function placeDynamicPlugin(folder: string): Promise<void> {
  const target = join(folder, DYNAMIC_PLUGIN);
  const sdk = dirname(createRequire(import.meta.url).resolve('@pulumi/pulumi/package.json'));
  const partial = `${target}.${process.pid}`;
  await copyFile(join(sdk, DYNAMIC_PLUGIN), partial);
  await chmod(partial, 0o755);
  await rename(partial, target);
}

/** What killed predecessors left; we hold the lock, so nobody is working in them. */
async function removePartials(root: string): Promise<void> {
  const folder = dirname(root);
  for (const name of await readdir(folder).catch(() => [])) {
    if (name.includes('.partial-')) await rm(join(folder, name), { recursive: true, force: true });
  }
}

function seconds(since: number): number {
  return Math.round((Date.now() - since) / 1000);
}

if (import.meta.main) {
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.once(signal, () => stopping.abort(new Error(`stopped by ${signal}`)));
  const say = (message: string) => console.error(`[muster] ${message}`);
  try {
    const engine = await obtainEngine({ env: process.env, onProgress: say, signal: stopping.signal });
    say(`Engine ${engine.version}: ${engine.path}`);
  } catch (error) {
    say((error as Error).message);
    process.exitCode = 1;
  }
}
