import { spawn } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { engineRoot, locateEngine } from '../../engine/locate.ts';
import { EngineUnavailable, obtainEngine } from '../../engine/obtain.ts';
import { ENGINE_VERSION } from '../../engine/version.ts';
import { tryProcessLock } from '../../scripts/process-lock.mjs';

let folder: string;
let pathFolder: string;
let cacheDir: string;
let env: NodeJS.ProcessEnv;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-engine-'));
  pathFolder = join(folder, 'path');
  cacheDir = join(folder, 'cache');
  await mkdir(pathFolder);
  env = { PATH: `${pathFolder}:/usr/bin:/bin`, HOME: folder };
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('locating the engine', () => {
  it('prefers a pulumi on PATH of the pinned version or newer to the cache', async () => {
    await giveCached(ENGINE_VERSION);
    const path = await giveProgram(pathFolder, 'pulumi', 'echo v3.300.1');
    expect(await locateEngine({ env, cacheDir })).toEqual({ path, version: '3.300.1', source: 'path' });
  });

  it.each([
    ['older', 'echo v3.258.9', /3\.258\.9, needed is 3\.259\.0/],
    ['of another major', 'echo v4.0.0', /v4\.0\.0, needed is 3\.259\.0 or a newer 3\.x/],
    ['a pre-release of the pinned version', 'echo v3.259.0-dev.0', /needed is/],
    ['broken', 'echo cannot open shared object >&2; exit 127', /does not run \(exit 127: cannot open shared object\)/],
    ['no version', 'echo hello', /is hello, needed/],
  ])('passes over one on PATH that is %s, and says so', async (_, script, line) => {
    await giveProgram(pathFolder, 'pulumi', script);
    const cached = await giveCached(ENGINE_VERSION);
    const tried: string[] = [];
    expect(await locateEngine({ env, cacheDir }, tried)).toEqual({
      path: cached,
      version: ENGINE_VERSION,
      source: 'cache',
    });
    expect(tried).toEqual([expect.stringMatching(line)]);
  });

  it('looks further along PATH when the first one is too old', async () => {
    await giveProgram(pathFolder, 'pulumi', 'echo v3.1.0');
    const path = await giveProgram(join(folder, 'later'), 'pulumi', `echo v${ENGINE_VERSION}`);
    env.PATH = `${pathFolder}:${join(folder, 'later')}:/usr/bin:/bin`;
    expect(await locateEngine({ env, cacheDir })).toMatchObject({ path, source: 'path' });
  });

  it('is null, with a line for each place, when there is none', async () => {
    const tried: string[] = [];
    expect(await locateEngine({ env, cacheDir }, tried)).toBeNull();
    expect(tried).toEqual(['PATH: no pulumi', `cache: no ${cacheDir}/engine/${ENGINE_VERSION}/bin/pulumi`]);
  });

  it('keeps the cache under XDG_CACHE_HOME or the home', () => {
    expect(engineRoot({ env: { XDG_CACHE_HOME: '/x', HOME: '/h' } })).toBe(`/x/muster/engine/${ENGINE_VERSION}`);
    expect(engineRoot({ env: { HOME: '/h' } })).toBe(`/h/.cache/muster/engine/${ENGINE_VERSION}`);
  });
});

describe('obtaining the engine', () => {
  it('builds with the pinned modules when nothing is found, puts the dynamic plugin beside it, and leaves no partial folder', async () => {
    await giveGo('echo "some/package" >&2');
    const engine = await obtainEngine({ env, cacheDir, ways: ['build'] });
    expect(engine).toEqual({
      path: join(engineRoot({ env, cacheDir }), 'bin', 'pulumi'),
      version: ENGINE_VERSION,
      source: 'build',
    });
    const beside = await stat(join(dirname(engine.path), 'pulumi-resource-pulumi-nodejs'));
    expect(beside.mode & 0o777).toBe(0o755);
    expect(await readdir(join(cacheDir, 'engine'))).toEqual([ENGINE_VERSION]);
    const [cwd, cgo, ...args] = (await readFile(join(folder, 'go.log'), 'utf8')).trim().split('\n');
    expect(cwd).toMatch(/\/engine$/);
    expect(cgo).toBe('0');
    expect(args).toEqual([
      'build',
      '-v',
      '-trimpath',
      '-tags',
      'osusergo,grpcnotrace',
      '-ldflags',
      `-s -w -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=v${ENGINE_VERSION}`,
      '-o',
      expect.stringMatching(/bin\/pulumi$/),
      'github.com/pulumi/pulumi/pkg/v3/cmd/pulumi',
    ]);
    expect(await obtainEngine({ env, cacheDir, ways: [] })).toMatchObject({ path: engine.path, source: 'cache' });
  });

  it('says all that was tried, one line each, when it cannot be had', async () => {
    await giveProgram(pathFolder, 'pulumi', 'echo v3.2.0');
    await giveGo('echo "proxy unreachable" >&2; exit 1');
    const error = await obtainEngine({ env, cacheDir, ways: ['build'] }).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(EngineUnavailable);
    expect((error as EngineUnavailable).tried).toEqual([
      `PATH: ${pathFolder}/pulumi is v3.2.0, needed is 3.259.0 or a newer 3.x`,
      `cache: no ${engineRoot({ env, cacheDir })}/bin/pulumi`,
      'build: exit 1: proxy unreachable',
    ]);
    expect((error as EngineUnavailable).message).toContain('  - build: exit 1: proxy unreachable\n');
  });

  it('names a missing Go, and refuses a build of the wrong version', async () => {
    const noGo = await obtainEngine({ env, cacheDir, ways: ['build'] }).catch((thrown: unknown) => thrown);
    expect((noGo as EngineUnavailable).tried.at(-1)).toBe('build: no go on PATH');
    await giveGo('', '3.1.0');
    const wrong = await obtainEngine({ env, cacheDir, ways: ['build'] }).catch((thrown: unknown) => thrown);
    expect((wrong as EngineUnavailable).tried.at(-1)).toMatch(/^build: .* is v3\.1\.0, needed/);
    expect(await readdir(join(cacheDir, 'engine'))).toEqual([]);
  });

  it('gives up a download within seconds when the host cannot be reached', async () => {
    const unreachable = { ...env, NODE_USE_ENV_PROXY: '1', HTTPS_PROXY: 'http://127.0.0.1:9' };
    const startedAt = performance.now();
    const error = await obtainEngine({ env: unreachable, cacheDir, ways: ['download'] }).catch(
      (thrown: unknown) => thrown,
    );
    expect((error as EngineUnavailable).tried.at(-1)).toMatch(
      /^download: .*get\.pulumi\.com.* is not reachable within 5 s/,
    );
    expect(performance.now() - startedAt).toBeLessThan(15_000);
  });

  it('is built once by two that need it at the same time', async () => {
    await giveGo('sleep 0.3');
    const messages: string[] = [];
    const both = await Promise.all(
      [1, 2].map(() =>
        obtainEngine({ env, cacheDir, ways: ['build'], onProgress: (message) => messages.push(message) }),
      ),
    );
    expect(both.map(({ source }) => source).sort()).toEqual(['build', 'cache']);
    expect(messages.filter((message) => message.startsWith('Building'))).toHaveLength(1);
    expect(messages).toContain('Another process is fetching or building the engine; waiting for it');
  });

  it('is taken over when the process that builds it is killed', async () => {
    await giveGo('exec sleep 5');
    const script = `import { obtainEngine } from ${JSON.stringify(join(import.meta.dirname, '..', '..', 'engine', 'obtain.ts'))};
      await obtainEngine({ env: process.env, cacheDir: ${JSON.stringify(cacheDir)}, ways: ['build'], onProgress: (text) => console.log(text) });`;
    const builder = spawn(process.execPath, ['--input-type=module', '-e', script], {
      env,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await new Promise<void>((resolve) =>
      builder.stdout.on('data', (chunk: Buffer) => chunk.toString().includes('Building') && resolve()),
    );
    expect(await tryProcessLock(`engine:${engineRoot({ env, cacheDir })}`)).toBeNull();
    let isWaiting = (): void => {};
    const waiting = new Promise<void>((resolve) => (isWaiting = resolve));
    const second = obtainEngine({
      env,
      cacheDir,
      ways: ['build'],
      onProgress: (text) => text.includes('waiting') && isWaiting(),
    });
    await waiting;
    await giveGo('');
    builder.kill('SIGKILL');
    expect(await second).toMatchObject({ source: 'build' });
  });

  it('stops at once when aborted, and leaves nothing behind', async () => {
    await giveGo('sleep 60');
    const stopping = new AbortController();
    const onProgress = (text: string) =>
      text.startsWith('Building') && setImmediate(() => stopping.abort(new Error('stopped by the test')));
    await expect(obtainEngine({ env, cacheDir, ways: ['build'], signal: stopping.signal, onProgress })).rejects.toThrow(
      'stopped by the test',
    );
    expect(await readdir(join(cacheDir, 'engine'))).toEqual([]);
  });
});

describe('the pinned version', () => {
  it('is one in engine/version.ts, package.json, node_modules and engine/go.mod', async () => {
    const root = join(import.meta.dirname, '..', '..');
    const declared = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
    };
    expect(declared.dependencies['@pulumi/pulumi']).toBe(ENGINE_VERSION);
    expect(await readFile(join(root, 'engine', 'go.mod'), 'utf8')).toContain(
      `github.com/pulumi/pulumi/pkg/v3 v${ENGINE_VERSION}`,
    );
  });
});

async function giveProgram(into: string, name: string, script: string): Promise<string> {
  await mkdir(into, { recursive: true });
  const path = join(into, name);
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
  return path;
}

function giveCached(version: string): Promise<string> {
  return giveProgram(join(engineRoot({ env, cacheDir }), 'bin'), 'pulumi', `echo v${version}`);
}

/** A go that writes down how it is called and "builds" a program that tells its version. */
async function giveGo(during: string, version: string = ENGINE_VERSION): Promise<void> {
  await giveProgram(
    pathFolder,
    'go',
    `if [ "$1" = version ]; then echo "go version go1.26.0 test"; exit 0; fi
{ pwd; echo "$CGO_ENABLED"; for argument in "$@"; do echo "$argument"; done; } > ${join(folder, 'go.log')}
${during}
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\necho v${version}\\n' > "$2"; chmod 755 "$2"`,
  );
}
