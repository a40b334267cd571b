/** The real script and the real agent, as processes of their own. */
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createBundleCache, type AgentBundle } from '../../agent/bundle-cache.ts';
import { bundleAgent } from '../../agent/bundle.ts';
import { listOffers, startApiServer, type ApiServer } from '../support/api-server.ts';
import { until } from '../support/fleet-database.ts';
import { recordMachine } from '../support/node-token.ts';

const BOUND_MS = 20_000;
const PLATFORM = `linux-${process.arch}`;

let root: string;
let directory: string;
let server: ApiServer;
let real: AgentBundle;
let served: Promise<AgentBundle>;
let programs: { file: string; sha256: string };
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'muster-install-'));
  directory = join(root, 'agent');
  real = await createBundleCache(join(root, 'cache'))();
  served = Promise.resolve(real);
  programs = { file: join(root, 'node.gz'), sha256: '' };
  // In place of 120 MB: a program that is this Node all the same.
  const program = `#!/bin/sh\nexec "${process.execPath}" "$@"\n`;
  writeFileSync(programs.file, gzipSync(program));
  programs.sha256 = createHash('sha256').update(program).digest('hex');
  server = await startApiServer({
    agents: {
      bundle: () => served,
      nodePrograms: {
        digests: () => Promise.resolve(programs.sha256 === '' ? {} : { [PLATFORM]: programs.sha256 }),
        compressed: () => Promise.resolve(programs.file),
      },
      intervalMs: 500,
      rotateKeyAfterMs: 86_400_000,
    },
  });
  await listOffers(server, [{}]);
});
afterAll(async () => {
  await install(['uninstall']);
  await server?.stop();
  rmSync(root, { recursive: true, force: true });
});

/** What a machine's start script does. */
function install(args: string[] = [], env: Record<string, string> = {}): Promise<{ code: number; output: string }> {
  const file = join(root, 'install.sh');
  return new Promise((resolve) => {
    const child = execFile(
      'sh',
      [file, ...args],
      {
        env: {
          PATH: process.env['PATH'] ?? '',
          MUSTER_AGENT_URL: server.url,
          MUSTER_AGENT_DIR: directory,
          MUSTER_AGENT_SERVICE: 'none',
          MUSTER_AGENT_NODE: process.execPath,
          ...env,
        },
      },
      (error, stdout, stderr) => resolve({ code: error ? Number(error.code ?? 1) : 0, output: `${stdout}${stderr}` }),
    );
    child.stdin?.end();
  });
}

async function fetchScript(): Promise<void> {
  const { body } = await server.call<string>('GET', '/api/v1/nodes/install.sh', { key: null });
  writeFileSync(join(root, 'install.sh'), body);
}

const pid = (name: string): number => Number(readFileSync(join(directory, name), 'utf8'));

function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch {
    return false;
  }
}

const heartbeat = (attemptId: string) =>
  server.database.kysely
    .selectFrom('nodes')
    .select(['heartbeat_at', 'agent_version', 'sequence'])
    .where('attempt_id', '=', attemptId)
    .executeTakeFirst();

describe('the bundle', () => {
  it('is the same bytes every time, imports Node only, and carries its version', async () => {
    expect(await bundleAgent(real.version)).toBe(real.text);
    expect(createHash('sha256').update(real.text).digest('hex')).toBe(real.sha256);
    const imports = [...real.text.matchAll(/^import .* from "([^"]+)";$/gm)].map(([, name]) => name);
    expect(imports.length).toBeGreaterThan(0);
    expect(imports.filter((name) => !name?.startsWith('node:'))).toEqual([]);
    expect(real.text).toContain(JSON.stringify(real.version));
  });
});

describe('the Node that is served', () => {
  it('is public, can be asked for in parts, and is not there for another platform', async () => {
    const path = `${server.url}/api/v1/nodes/runtime`;
    const whole = await fetch(`${path}/${PLATFORM}`);
    expect(whole.headers.get('content-type')).toBe('application/gzip');
    expect(whole.headers.get('content-encoding')).toBeNull();
    const bytes = Buffer.from(await whole.arrayBuffer());
    expect(createHash('sha256').update(gunzipSync(bytes)).digest('hex')).toBe(programs.sha256);
    const part = await fetch(`${path}/${PLATFORM}`, { headers: { range: 'bytes=10-19' } });
    expect([part.status, Buffer.from(await part.arrayBuffer())]).toEqual([206, bytes.subarray(10, 20)]);
    expect((await fetch(`${path}/windows-x64`)).status).toBe(404);
    expect((await fetch(`${path}/..%2f..%2fetc%2fpasswd`)).status).toBe(404);
  });
});

describe('on a machine without Node, the install script', () => {
  const served = (sha256: string, token: string) => {
    const good = programs.sha256;
    programs.sha256 = sha256;
    return fetchScript()
      .then(() => install([], { MUSTER_AGENT_NODE: 'served', MUSTER_AGENT_TOKEN: token }))
      .finally(() => (programs.sha256 = good));
  };

  it('says so where the control plane has none for it, and refuses one with another checksum', async () => {
    const { token } = await recordMachine(server);
    const none = await served('', token);
    expect(none.code).not.toBe(0);
    expect(none.output).toMatch(/the control plane has none for Linux \w+: install one/);
    const other = await served('0'.repeat(64), token);
    expect(other.code).not.toBe(0);
    expect(other.output).toMatch(/the downloaded Node has the checksum [0-9a-f]{64} instead of 0{64}/);
    expect(existsSync(join(directory, 'node'))).toBe(false);
    expect(existsSync(join(directory, 'agent.mjs'))).toBe(false);
  });

  it("downloads the control plane's once, runs the agent with it, and removes it with everything else", async () => {
    const { token, attemptId } = await recordMachine(server);
    const first = await served(programs.sha256, token);
    expect(first).toMatchObject({ code: 0, output: expect.stringMatching(/downloading the control plane's/) });
    await until(async () => (await heartbeat(attemptId))?.heartbeat_at != null, 'a heartbeat', BOUND_MS);
    expect(readFileSync(join(directory, 'start.sh'), 'utf8')).toContain(`"${directory}/node"`);
    expect((await served(programs.sha256, token)).output).not.toMatch(/downloading/);
    expect((await install(['uninstall'])).code).toBe(0);
    expect(existsSync(directory)).toBe(false);
  });
});

describe('the install script', () => {
  it('refuses a download with another checksum, and leaves nothing to run', async () => {
    await fetchScript();
    served = Promise.resolve({ ...real, text: `${real.text}// changed on the way\n` });
    const { token } = await recordMachine(server);
    const run = await install([], { MUSTER_AGENT_TOKEN: token });
    served = Promise.resolve(real);
    expect(run.code).not.toBe(0);
    expect(run.output).toMatch(/has the checksum [0-9a-f]{64} instead of [0-9a-f]{64}/);
    expect(existsSync(join(directory, 'agent.mjs'))).toBe(false);
  });

  it('says what is missing: the address, the token', async () => {
    await fetchScript();
    expect((await install([], { MUSTER_AGENT_URL: '' })).output).toMatch(/MUSTER_AGENT_URL is not set/);
    expect((await install()).output).toMatch(/MUSTER_AGENT_TOKEN is not set/);
    expect((await install(['remove'])).output).toMatch(/unknown argument remove; allowed: run, uninstall/);
  });

  it('runs in the foreground as the entry point of a container, keeps its settings, and ends when it is told to', async () => {
    await fetchScript();
    const { token, attemptId } = await recordMachine(server);
    const child = spawn('sh', [join(root, 'install.sh'), 'run'], {
      env: {
        PATH: process.env['PATH'] ?? '',
        MUSTER_AGENT_URL: server.url,
        MUSTER_AGENT_DIR: directory,
        MUSTER_AGENT_NODE: process.execPath,
        MUSTER_AGENT_TOKEN: token,
        MUSTER_AGENT_WORKSPACE: `${root}/a workspace`,
        MUSTER_AGENT_POWEROFF: 'touch /tmp/it is off',
      },
      stdio: 'ignore',
    });
    const ended = new Promise<number | null>((resolve) => child.once('exit', resolve));
    await until(async () => (await heartbeat(attemptId))?.heartbeat_at != null, 'a heartbeat', BOUND_MS);
    // The keeper is the very process that was started: a container ends with it.
    expect(pid('keeper.pid')).toBe(child.pid);
    const agent = pid('agent.pid');
    const environment = readFileSync(`/proc/${agent}/environ`, 'utf8').split('\0');
    expect(environment).toContain(`MUSTER_AGENT_WORKSPACE=${root}/a workspace`);
    expect(environment).toContain('MUSTER_AGENT_POWEROFF=touch /tmp/it is off');
    // Also where it is started again without them.
    expect(readFileSync(join(directory, 'agent.env'), 'utf8')).toContain(
      `MUSTER_AGENT_WORKSPACE="${root}/a workspace"\nMUSTER_AGENT_POWEROFF="touch /tmp/it is off"\n`,
    );
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    await until(() => !isAlive(agent), 'the agent gone', BOUND_MS);
    const wrong = await install(['run'], { MUSTER_AGENT_POWEROFF: 'echo "$HOME"' });
    expect(wrong.output).toMatch(/MUSTER_AGENT_POWEROFF may have letters/);
    await install(['uninstall']);
    expect(existsSync(directory)).toBe(false);
  });

  it('installs, starts, does nothing the second time, starts what died, and uninstalls', async () => {
    await fetchScript();
    const { token, attemptId } = await recordMachine(server);
    const first = await install([], { MUSTER_AGENT_TOKEN: token });
    expect(first).toMatchObject({ code: 0, output: expect.stringMatching(/installed in .* and started/) });
    const node = await until(
      async () => {
        const row = await heartbeat(attemptId);
        return row?.heartbeat_at != null && row;
      },
      'a heartbeat',
      BOUND_MS,
    );
    expect(node.agent_version).toBe(real.version);
    expect(statSync(join(directory, 'agent.key')).mode & 0o777).toBe(0o600);
    expect(statSync(join(directory, 'agent.env')).mode & 0o777).toBe(0o600);

    const keeper = pid('keeper.pid');
    const again = await install([], { MUSTER_AGENT_TOKEN: token });
    expect(again).toMatchObject({ code: 0, output: expect.stringMatching(/up to date and running/) });
    expect(pid('keeper.pid')).toBe(keeper);

    const agent = pid('agent.pid');
    // Neither token nor key is in its arguments, which everybody on the machine may read.
    const key = (JSON.parse(readFileSync(join(directory, 'agent.key'), 'utf8')) as { key: string }).key;
    const argv = readFileSync(`/proc/${agent}/cmdline`, 'utf8');
    expect(argv).toContain('agent.mjs');
    expect(argv).not.toContain(key);
    expect(argv).not.toContain(token);
    expect(readFileSync(join(directory, 'agent.log'), 'utf8')).not.toContain(key);

    process.kill(agent, 'SIGKILL');
    await until(
      () => existsSync(join(directory, 'agent.pid')) && pid('agent.pid') !== agent,
      'another agent',
      BOUND_MS,
    );
    const { sequence } = (await heartbeat(attemptId)) ?? { sequence: 0n };
    await until(async () => ((await heartbeat(attemptId))?.sequence ?? 0n) > sequence, 'its heartbeat', BOUND_MS);

    const successor = pid('agent.pid');
    const removed = await install(['uninstall']);
    expect(removed).toMatchObject({ code: 0, output: expect.stringMatching(/removed/) });
    await until(() => !isAlive(successor) && !isAlive(keeper), 'both processes gone', BOUND_MS);
    expect(existsSync(directory)).toBe(false);
    expect((await install(['uninstall'])).code).toBe(0);
  });

  it('takes the containers of its pods away with it, and no others', async () => {
    await fetchScript();
    const bin = join(root, 'engine-bin');
    const said = join(root, 'engine-said');
    mkdirSync(bin, { recursive: true });
    const docker = `#!/bin/sh\necho "$*" >> '${said}'\n[ "$1" = rm ] || printf 'aaa\\nbbb\\n'\n`;
    writeFileSync(join(bin, 'docker'), docker, { mode: 0o755 });
    writeFileSync(join(bin, 'podman'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    expect((await install(['uninstall'], { PATH: `${bin}:${process.env['PATH']}` })).code).toBe(0);
    expect(readFileSync(said, 'utf8')).toBe(`ps -aq --filter label=io.muster.agent=${directory}\nrm -f aaa bbb\n`);
  });
});
