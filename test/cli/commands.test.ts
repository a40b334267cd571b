import { readFileSync, writeFileSync } from 'node:fs';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { makeInstance } from './contract-rows.ts';
import { API_KEY, startContractServer } from './contract-server.ts';
import type { ContractServer } from './contract-server.ts';
import { makeHome, runMuster } from './run-muster.ts';
import type { Home } from './run-muster.ts';

let server: ContractServer;
let home: Home;
beforeEach(async () => {
  server = await startContractServer();
  home = makeHome();
});
afterEach(async () => {
  home.remove();
  await server.close();
});

const READY = 'ins_bbbbbbbbbbbbbbbb';
const CREATE = ['instances', 'create', '--gpu', 'RTX 4090', '--max-price-usd-per-hour', '0.60'];

function run(...args: string[]) {
  return runMuster(home, args, { env: { MUSTER_API_KEY: API_KEY, MUSTER_URL: server.url } });
}
const posts = () => server.requests.filter(({ method }) => method === 'POST');

describe('lists', () => {
  it('are tables for people', async () => {
    server.instances.set(READY, makeInstance(READY, 'train-1', 'ready'));
    const instances = await run('instances', 'list');
    expect(instances.code).toBe(0);
    const [head, row] = instances.stdout.trimEnd().split('\n') as [string, string];
    expect(head).toMatch(/^INSTANCE +NAME +STATUS +PHASE +GPU +PROVIDER +USD\/HOUR +COST +AGE +SSH$/);
    expect(row).toMatch(
      /^ins_b{16} +train-1 +ready +active +1x RTX 4090 24 GiB +vastai +\$0\.345 +\$0\.02 .* root@203\.0\.113\.7:41022$/,
    );
    const inventory = await run('inventory', 'list', '--gpu', 'RTX 4090', '--max-price', '0.8');
    expect(inventory.stdout).toMatch(/off_a{15}b +vastai +RTX 4090 +1 +24 +\$0\.345 +\$248\.40 +SE +98\.7 % +512/);
    expect((await run('providers', 'list')).stdout).toMatch(/vastai +sandbox +yes +ok +240/);
    expect((await run('fleet')).stdout).toContain('burn          $2.07 an hour, $1490.40 in 30 days');
  });

  it("are the API's own JSON with --json, and nothing else", async () => {
    server.instances.set(READY, makeInstance(READY, 'train-1', 'ready'));
    const { stdout, stderr } = await run('instances', 'list', '--json');
    expect(JSON.parse(stdout)).toEqual({ items: [server.instances.get(READY)], nextCursor: null });
    expect(stderr).toBe('');
  });

  it('pass the filters on by the names of the API', async () => {
    const args = ['--gpu', 'H100', '--min-gpu-memory-gib', '80', '--interruptible', '--sort', '-price', '--limit', '5'];
    expect((await run('inventory', 'list', ...args)).code).toBe(0);
  });
});

describe('instances metrics', () => {
  it('shows what the agent measured, and a dash for what it could not', async () => {
    server.instances.set(READY, makeInstance(READY, 'train-1', 'ready'));
    const { code, stdout } = await run('instances', 'metrics', READY, '--minutes', '5');
    expect(code).toBe(0);
    const [line, head, row] = stdout.trimEnd().split('\n') as [string, string, string];
    expect(line).toBe('nod_aaaaaaaaaaaaaaaa online, GPUs failed: a GPU fell off the bus');
    expect(head).toMatch(/^AT +GPUS +GPU % +GPU MIB +C +W +LOAD +FREE MIB$/);
    expect(row).toMatch(/^2026-11-21T09:00:00.000Z +failed +- +- +41 +- +0\.50 +30000$/);
    expect((await run('instances', 'metrics', 'ins_cccccccccccccccc')).code).toBe(4);
  });
});

describe('instances get', () => {
  it('shows one instance with what may be done to it', async () => {
    server.instances.set(READY, makeInstance(READY, 'train-1', 'ready'));
    const { stdout } = await run('instances', 'get', READY);
    expect(stdout).toMatch(/^actions +destroy, ssh$/m);
  });
});

describe('instances create', () => {
  it('rents nothing where nobody can be asked and --yes was not said', async () => {
    const { code, stderr } = await run(...CREATE);
    expect(code).toBe(2);
    expect(stderr).toContain('say --yes, or --dry-run');
    expect(server.requests).toEqual([]);
  });

  it('needs a highest price there too', async () => {
    const { code, stderr } = await run('instances', 'create', '--gpu', 'RTX 4090', '--yes');
    expect(code).toBe(2);
    expect(stderr).toContain('--max-price-usd-per-hour');
    expect(server.requests).toEqual([]);
  });

  it('shows the plan with its price, for an hour, for 30 days and of the race, and buys nothing with --dry-run', async () => {
    const { code, stdout } = await run(...CREATE, '--dry-run');
    expect(code).toBe(0);
    expect(stdout).toMatch(/1 +vastai +1x RTX 4090 24 GiB +77 +SE +98\.7 % +\$0\.345 +\$248\.40 +80\.0 % +1m 35s/);
    expect(stdout).toContain('about $0.345 an hour, $248.40 in 30 days');
    expect(stdout).toContain('never more than $0.60 an hour');
    expect(stdout).toContain('the losers cost at most $0.25');
    expect(posts().map(({ body }) => (body as { dryRun: boolean }).dryRun)).toEqual([true]);
  });

  it('exits with 5 when nothing can be had', async () => {
    server.candidates = 0;
    const { code, stdout } = await run(...CREATE, '--dry-run');
    expect(code).toBe(5);
    expect(stdout).toContain('no RTX 4090 below');
  });

  it('sends what was said and the key of the user, and says who was accepted', async () => {
    mkdirSync(join(home.path, '.ssh'));
    const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGqL4l1cGmVgVZ2yQ9kkuKcUJhLxSmDdZf3Sz1T0b1cW ada';
    writeFileSync(join(home.path, '.ssh', 'id_ed25519.pub'), `${key}\n`);
    const args = [
      '--yes',
      '--name',
      'train-1',
      '--regions',
      'se,us',
      '--race-width',
      '2',
      '--env',
      'A=1',
      '--max-lifetime',
      '4 hours',
    ];
    const { code, stdout } = await run(...CREATE, ...args);
    expect(code).toBe(0);
    expect(posts().at(-1)?.body).toEqual({
      name: 'train-1',
      gpu: 'RTX 4090',
      maxPriceUsdPerHour: '0.60',
      regions: ['SE', 'US'],
      raceWidth: 2,
      sshPublicKeys: [key],
      env: { A: '1' },
      maxLifetime: '4 hours',
    });
    expect(stdout).toContain('Accepted as op_createcreatecrea. Watch it: muster operations watch op_createcreatecrea');
  });

  it('takes the value of a variable from the environment, so that a secret is no argument', async () => {
    const env = { MUSTER_API_KEY: API_KEY, MUSTER_URL: server.url, HF_TOKEN: 'hf-secret' };
    const { code, stdout, stderr } = await runMuster(home, [...CREATE, '--yes', '--env', 'HF_TOKEN'], { env });
    expect(code).toBe(0);
    expect(posts().at(-1)?.body).toMatchObject({ env: { HF_TOKEN: 'hf-secret' } });
    expect(`${stdout}${stderr}`).not.toContain('hf-secret');
  });

  it("prints the API's JSON and nothing else with --json", async () => {
    const { stdout } = await run(...CREATE, '--yes', '--json');
    expect(JSON.parse(stdout).operation).toEqual({
      id: 'op_createcreatecrea',
      kind: 'provision_instance',
      status: 'queued',
    });
    expect(posts()).toHaveLength(1);
  });

  it('sends a lost request again under the same idempotency key, so that it is rented once', async () => {
    server.loseAnswers.add('POST /instances');
    const { code } = await run(...CREATE, '--yes', '--json');
    expect(code).toBe(0);
    const keys = posts().map(({ idempotencyKey }) => idempotencyKey);
    expect(keys).toHaveLength(2);
    expect(keys[0]).toMatch(/^[0-9a-f-]{36}$/);
    expect(new Set(keys).size).toBe(1);
  });

  it('uses another key for another invocation', async () => {
    await run(...CREATE, '--yes', '--json');
    await run(...CREATE, '--yes', '--json');
    expect(new Set(posts().map(({ idempotencyKey }) => idempotencyKey)).size).toBe(2);
  });
});

describe('instances destroy', () => {
  it('destroys nothing where nobody can be asked and --yes was not said', async () => {
    server.instances.set(READY, makeInstance(READY, 'train-1', 'ready'));
    expect((await run('instances', 'destroy', READY)).code).toBe(2);
    expect(server.requests).toEqual([]);
  });

  it('sends an idempotency key and names the operation', async () => {
    server.instances.set(READY, makeInstance(READY, 'train-1', 'ready'));
    const { code, stdout } = await run('instances', 'destroy', READY, '--yes');
    expect(code).toBe(0);
    expect(stdout).toContain('op_destroydestroyde');
    expect(server.requests[0]).toMatchObject({ method: 'DELETE', path: `/instances/${READY}` });
    expect(server.requests[0]?.idempotencyKey).toBeDefined();
  });
});

describe('instances ssh', () => {
  function installSsh(exitCode: number): void {
    mkdirSync(join(home.path, 'bin'));
    const script = `#!/bin/sh\nprintf '%s\\n' "$@" > "$HOME/ssh-args"\nexit ${exitCode}\n`;
    writeFileSync(join(home.path, 'bin', 'ssh'), script, { mode: 0o755 });
  }
  function runWithSsh(...args: string[]) {
    const PATH = `${join(home.path, 'bin')}:${process.env['PATH']}`;
    return runMuster(home, args, { env: { MUSTER_API_KEY: API_KEY, MUSTER_URL: server.url, PATH } });
  }

  it("runs the system's ssh at the machine, with host keys by instance, and ends as the command did", async () => {
    installSsh(7);
    server.instances.set(READY, makeInstance(READY, 'train-1', 'ready'));
    const { code } = await runWithSsh('instances', 'ssh', READY, '-i', 'my-key', '--', 'nvidia-smi', '-L', '--json');
    expect(code).toBe(7);
    const args = readFileSync(join(home.path, 'ssh-args'), 'utf8').trimEnd().split('\n');
    expect(args).toContain(`HostKeyAlias=${READY}`);
    expect(args).toContain(`UserKnownHostsFile="${join(home.path, 'config', 'muster', 'known_hosts')}"`);
    expect(args).toContain('BatchMode=yes');
    expect(args.slice(-8)).toEqual(['-i', 'my-key', '-p', '41022', 'root@127.0.0.1', 'nvidia-smi', '-L', '--json']);
  });

  it('says so where there is no ssh', async () => {
    server.instances.set(READY, makeInstance(READY, 'train-1', 'ready'));
    const env = { MUSTER_API_KEY: API_KEY, MUSTER_URL: server.url, PATH: home.path };
    const { code, stderr } = await runMuster(home, ['instances', 'ssh', READY], { env });
    expect(code).toBe(1);
    expect(stderr).toContain('install OpenSSH');
  });
});

describe('errors', () => {
  it.each([
    ['unauthenticated', 3],
    ['forbidden', 3],
    ['not_found', 4],
    ['invalid_request', 2],
    ['conflict', 1],
    ['cap_exceeded', 5],
    ['no_capacity', 5],
    ['internal', 1],
  ] as const)('%s ends with %i and its detail', async (code, exitCode) => {
    server.refusals.set('GET /fleet', { code, detail: `because of ${code}` });
    const ended = await run('fleet');
    expect(ended.code).toBe(exitCode);
    expect(ended.stderr).toContain(`because of ${code} (${code})`);
    expect(ended.stdout).toBe('');
  });

  it('name every wrong field', async () => {
    const { code, stderr } = await run(...CREATE.slice(0, -1), '-5', '--yes', '--disk-gib', '1', '--image', 'no image');
    expect(code).toBe(2);
    expect(stderr).toMatch(/^ {2}maxPriceUsdPerHour: must be a decimal string/m);
    expect(stderr).toMatch(/^ {2}diskGib: /m);
    expect(stderr).toMatch(/^ {2}image: must be an image reference/m);
  });

  it('are the problem document on standard error with --json', async () => {
    const { code, stdout, stderr } = await run('instances', 'get', READY, '--json');
    expect({ code, stdout }).toEqual({ code: 4, stdout: '' });
    expect(JSON.parse(stderr)).toMatchObject({ code: 'not_found', status: 404, requestId: 'req-7' });
  });

  it('of a control plane that is not there are told at once', async () => {
    const { url } = server;
    await server.close();
    const env = { MUSTER_API_KEY: API_KEY, MUSTER_URL: url };
    const { code, stderr } = await runMuster(home, ['fleet'], { env });
    expect(code).toBe(1);
    expect(stderr).toContain(`${url} cannot be reached (ECONNREFUSED)`);
  });

  it.each([
    [['frobnicate']],
    [['instances', 'create']],
    [['instances', 'list', '--limit', 'x']],
    [['fleet', '--url', 'nonsense']],
  ])('%j is wrong use: 2', async (args) => {
    expect((await run(...args)).code).toBe(2);
  });

  it('never show the key', async () => {
    server.refusals.set('GET /fleet', { code: 'internal', detail: 'x' });
    const { stdout, stderr } = await run('fleet');
    expect(`${stdout}${stderr}`).not.toContain(API_KEY);
  });

  it('of the server cannot rewrite the terminal', async () => {
    const instance = { ...makeInstance(READY, 'train-1', 'ready'), note: 'fine\u001b[2J\u001b]0;owned\u0007' };
    server.instances.set(READY, instance);
    const { stdout } = await run('instances', 'get', READY);
    expect(stdout).toContain('fine');
    expect(stdout).not.toContain('\u001b');
  });
});
