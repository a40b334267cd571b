/** Two clients made for Lambda Cloud, one from its OpenAPI file, use the sandbox's Lambda without noticing. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it, type TestContext } from 'vitest';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import { installNpmTool } from './npm-tool.ts';
import { type CommandOutput, installPythonTool, runProgram } from './python-tool.ts';

const INSTALL_TIMEOUT_MS = 480_000;
const CLIENT_TIMEOUT_MS = 60_000;
const BOOTED_MS = 10_000;
const PUBLIC_KEY = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)} person@home`;

type Json = Record<string, unknown>;

let sandbox: Sandbox;
let home: string;
let npm: { folder: string } | { missing: string };
let python: { python: string } | { missing: string };
beforeAll(async () => {
  [npm, python] = await Promise.all([
    installNpmTool('lambda-cloud-node-api', '1.0.1'),
    installPythonTool('lambda-ai-cloud-api-client', '2.4.1'),
  ]);
  for (const tool of [npm, python]) {
    if ('missing' in tool) console.warn(`The tests with this client of the vendor are skipped: ${tool.missing}`);
  }
  home = mkdtempSync(join(tmpdir(), 'lambda-home-'));
  sandbox = await startSandbox({ dir: null, port: 0, time: 'explicit' });
}, INSTALL_TIMEOUT_MS);
afterAll(async () => {
  await sandbox?.close();
  rmSync(home, { recursive: true });
});
beforeEach(() => sandbox.reset());

it(
  'the npm client, which posts JSON as plain text, launches, lists, restarts and terminates',
  { timeout: CLIENT_TIMEOUT_MS },
  async (context) => {
    const seen = await runNode(context, NPM_PROGRAM);
    const states = seen.map((line) => [line['step'], line['seen']]);
    expect(Object.fromEntries(states)).toEqual({
      types: 'A10 (24 GB PCIe)',
      refused: 'global/object-does-not-exist',
      generated: 'private',
      launched: 1,
      booting: 'booting',
      lost: 'instance-operations/launch/insufficient-capacity',
      active: '127.0.0.1',
      restarted: 'booting',
      terminated: 'terminating',
      listed: ['active', 'active', 'active', 'terminated'],
      fileSystems: [],
      keys: [],
    });
    const own = sandbox.state().lambda.machines.filter(({ label }) => label === 'by-npm');
    expect(own).toMatchObject([{ destroyedAtMs: expect.any(Number) }]);
  },
);

it(
  'the Python CLI lists, launches, renames, restarts and terminates',
  { timeout: CLIENT_TIMEOUT_MS },
  async (context) => {
    const lai = useCli(context);
    const types = JSON.parse((await lai('types', '--available', '--gpu', 'RTX 4090', '--json')).stdout) as Json[];
    expect(JSON.stringify(types)).toContain('gpu_1x_rtx4090');
    const images = await lai('images', '--region', 'us-west-1', '--json');
    expect(JSON.parse(images.stdout)).toMatchObject([{ family: 'lambda-stack-24-04' }]);

    await post('/ssh-keys', { name: 'mine', public_key: PUBLIC_KEY });
    expect(JSON.parse((await lai('keys', '--json')).stdout)).toMatchObject([{ name: 'mine', public_key: PUBLIC_KEY }]);
    const userData = join(home, 'user-data');
    writeFileSync(userData, '#!/bin/bash\necho hello\n');
    const where = ['--instance-type', 'gpu_1x_a10', '--region', 'us-west-1'];
    const order = ['--ssh-key', 'mine', '--name', 'by-cli', '--tag', 'owner=me', '--user-data-file', userData];
    expect(await lai('start', ...where, ...order)).toMatchObject({ exitCode: 0 });
    const wrongKey = await lai('start', ...where, '--ssh-key', 'nobody', '--name', 'never');
    expect(wrongKey.stdout + wrongKey.stderr).toContain('global/object-does-not-exist');
    await sandbox.advance(BOOTED_MS);

    const [shown] = (JSON.parse((await lai('ls', '--json')).stdout) as Json[]).filter(({ name }) => name === 'by-cli');
    expect(shown).toMatchObject({ status: 'active', ip: '127.0.0.1', tags: [{ key: 'owner', value: 'me' }, {}] });
    const id = String(shown?.['id']);
    expect((await lai('ls')).stdout).toContain('research-notebook');
    expect((await lai('rename', id, 'renamed')).exitCode).toBe(0);
    expect((await lai('restart', 'renamed')).exitCode).toBe(0);
    await sandbox.advance(BOOTED_MS);
    expect((await lai('get', 'renamed')).stdout).toContain(id);
    expect((await lai('stop', 'renamed')).exitCode).toBe(0);
    await sandbox.advance(BOOTED_MS);
    expect(sandbox.state().lambda.machines.at(-1)).toMatchObject({ id, label: 'renamed', statusText: 'terminated' });
  },
);

const NPM_PROGRAM = `
const { LambdaCloudAPI } = require(process.argv[1]);
const api = new LambdaCloudAPI({ apiKey: 'sandbox', basePath: process.argv[2] + '/api/v1' });
const advance = () => fetch(process.argv[3] + '/__sandbox/clock', { method: 'POST', body: JSON.stringify({ advanceMs: 10000 }) });
const tell = (step, seen) => console.log(JSON.stringify({ step, seen }));
const codeOf = (work) => work.then(() => null, (problem) => problem.error.code);
(async () => {
  const types = await api.listInstanceTypes();
  tell('types', types.gpu_1x_a10.instance_type.gpu_description);
  const order = { region_name: 'us-west-1', instance_type_name: 'gpu_1x_a10', ssh_key_names: ['laptop'], quantity: 1, name: 'by-npm' };
  tell('refused', await codeOf(api.launchInstance(order)));
  const key = await api.addSSHKey({ name: 'laptop' });
  tell('generated', /PRIVATE KEY/.test(key.private_key) ? 'private' : key);
  const { instance_ids } = await api.launchInstance(order);
  tell('launched', instance_ids.length);
  tell('booting', (await api.getRunningInstance(instance_ids[0])).status);
  const sold = Object.values(types).find(({ regions_with_capacity_available: regions }) => !regions.some(({ name }) => name === 'me-west-1'));
  tell('lost', await codeOf(api.launchInstance({ ...order, region_name: 'me-west-1', instance_type_name: sold.instance_type.name })));
  await advance();
  tell('active', (await api.getRunningInstance(instance_ids[0])).ip);
  tell('restarted', (await api.restartInstances(instance_ids)).restarted_instances[0].status);
  await advance();
  tell('terminated', (await api.terminateInstances(instance_ids)).terminated_instances[0].status);
  await advance();
  tell('listed', (await api.listRunningInstances()).map(({ status }) => status));
  tell('fileSystems', await api.listFileSystems());
  await api.deleteSSHKey(key.id);
  tell('keys', await api.listSSHKeys());
})().catch((problem) => { console.error(problem); process.exit(1); });
`;

async function runNode(context: TestContext, program: string): Promise<Json[]> {
  if ('missing' in npm) return context.skip(npm.missing);
  const args = ['-e', program, npm.folder, sandbox.urls.lambda, sandbox.urls.control];
  const output = await runProgram(process.execPath, args, { PATH: process.env['PATH'] });
  expect(output).toMatchObject({ exitCode: 0, stderr: '' });
  return output.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Json);
}

function useCli(context: TestContext): (...args: string[]) => Promise<CommandOutput> {
  const tool = python;
  if ('missing' in tool) return context.skip(tool.missing);
  const env = {
    PATH: process.env['PATH'],
    LANG: 'C.UTF-8',
    HOME: home,
    NO_COLOR: '1',
    COLUMNS: '200',
    LAMBDA_CLOUD_TOKEN: sandbox.apiKey,
    LAMBDA_CLOUD_BASE_URL: sandbox.urls.lambda,
  };
  return (...args) => runProgram(tool.python, ['-m', 'lambda_ai_cloud_api_client', ...args], env);
}

async function post(path: string, body: Json): Promise<void> {
  const headers = { authorization: `Bearer ${sandbox.apiKey}` };
  const url = `${sandbox.urls.lambda}/api/v1${path}`;
  const answer = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  expect(answer.status).toBe(200);
}
