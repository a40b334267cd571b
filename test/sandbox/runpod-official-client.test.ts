/** RunPod's own MCP server, generated from its OpenAPI file, uses the sandbox's RunPod without noticing. */
import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, it, type TestContext } from 'vitest';
import { startSandbox, type Sandbox } from '../../sandbox/server.ts';
import { installNpmTool } from './npm-tool.ts';

const INSTALL_TIMEOUT_MS = 300_000;
const CLIENT_TIMEOUT_MS = 60_000;
const BOOTED_MS = 10_000;
const PUBLIC_KEY = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)} person@home`;

type Json = Record<string, unknown>;

let installed: { folder: string } | { missing: string };
let sandbox: Sandbox;
let server: ChildProcess | undefined;
beforeAll(async () => {
  installed = await installNpmTool('@runpod/mcp-server', '4.0.0');
  if ('missing' in installed) console.warn(`The tests with the vendor's own client are skipped: ${installed.missing}`);
  sandbox = await startSandbox({ dir: null, port: 0, time: 'explicit' });
}, INSTALL_TIMEOUT_MS);
afterAll(async () => {
  server?.stdin?.end();
  await sandbox?.close();
});

it('searches, rents, reads, renames, stops, starts and terminates', { timeout: CLIENT_TIMEOUT_MS }, async (context) => {
  const call = await openClient(context);
  const { gpus } = (await call('list-gpu-types', { include: ['AVAILABILITY'], product: ['POD'] })).answer as {
    gpus: Json[];
  };
  const rtx4090 = gpus.find((gpu) => gpu['name'] === 'RTX 4090') as Json;
  const [place] = rtx4090['dataCenters'] as Json[];
  expect(place).toMatchObject({ availability: expect.stringMatching(/LOW|MEDIUM|HIGH/) });
  expect((await call('list-data-centers', { include: ['GPU_AVAILABILITY'] })).answer).toMatchObject({
    dataCenters: expect.arrayContaining([expect.objectContaining({ id: place?.['id'] })]),
  });

  expect((await call('update-ssh-keys', { body: { keys: [PUBLIC_KEY] } })).answer).toEqual({ keys: [PUBLIC_KEY] });
  const order = {
    name: 'by-mcp',
    image: 'runpod/pytorch:2.8.0',
    gpu: { id: rtx4090['id'], count: 1 },
    dataCenterIds: [place?.['id']],
    ports: ['22/tcp'],
    startSsh: true,
  };
  const made = (await call('create-pod', { body: order })).answer;
  expect(made).toMatchObject({ status: 'PROVISIONING', env: { PUBLIC_KEY }, cost: 0.69 });
  const id = String(made['id']);
  await sandbox.advance(BOOTED_MS);
  expect((await call('get-pod', { id })).answer).toMatchObject({
    status: 'RUNNING',
    dataCenterId: place?.['id'],
    ssh: { direct: { host: '127.0.0.1', username: 'root' } },
  });
  expect(((await call('list-pods', {})).answer as { pods: Json[] }).pods).toHaveLength(4);

  expect((await call('update-pod', { id, body: { name: 'renamed' } })).answer).toMatchObject({ name: 'renamed' });
  expect((await call('pod-action', { id, body: { action: 'stop' } })).answer).toMatchObject({
    status: 'EXITED',
    cost: 0,
  });
  await sandbox.advance(BOOTED_MS);
  expect(await call('pod-action', { id, body: { action: 'stop' } })).toMatchObject({
    isError: true,
    answer: { status: 409 },
  });
  await call('pod-action', { id, body: { action: 'start' } });
  await sandbox.advance(BOOTED_MS);
  expect((await call('get-pod', { id })).answer).toMatchObject({ status: 'RUNNING' });
  expect((await call('stream-pod-logs', { podId: id, maxWaitMs: 500 })).answer).toMatchObject({ count: 2 });
  expect((await call('list-pod-billing', { podId: id })).answer).toMatchObject({ records: [{ podId: id }] });

  expect((await call('delete-pod', { id })).isError).toBe(false);
  expect(await call('get-pod', { id })).toMatchObject({
    isError: true,
    answer: { status: 404, detail: 'pod not found' },
  });
});

it('is told what is wrong in the vendor’s words', { timeout: CLIENT_TIMEOUT_MS }, async (context) => {
  const call = await openClient(context);
  const order = { name: 'wrong', image: 'a/b', gpu: { id: 'NVIDIA GeForce RTX 4090' } };
  expect(await call('create-pod', { body: { ...order, bogus: true } })).toMatchObject({
    isError: true,
    answer: { status: 422, errors: ["$: additional properties 'bogus' not allowed"] },
  });
  await sandbox.addFault({ provider: 'runpod', endpoint: 'create', kind: 'refuse', times: 1 });
  expect(await call('create-pod', { body: order })).toMatchObject({
    isError: true,
    answer: { status: 400, detail: expect.stringMatching(/no longer any instances/) },
  });
  expect(sandbox.state().runpod.purchases['wrong']).toMatchObject({ calls: 2, accepted: 0 });
});

type CallTool = (tool: string, args: Json) => Promise<{ isError: boolean; answer: Json }>;

/** One server for all tests here; ends the test as skipped, with the reason, where it cannot be had. */
let client: Promise<CallTool> | undefined;
function openClient(context: TestContext): Promise<CallTool> {
  if ('missing' in installed) return context.skip(installed.missing);
  return (client ??= startClient(installed.folder));
}

/** The Model Context Protocol over standard input and output: one JSON-RPC message a line. */
async function startClient(folder: string): Promise<CallTool> {
  const env = { PATH: process.env['PATH'], RUNPOD_API_KEY: sandbox.apiKey, RUNPOD_API_BASE_URL: sandbox.urls.runpod };
  const process_ = spawn(process.execPath, [join(folder, 'dist', 'stdio.mjs')], {
    env,
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  server = process_;
  const waiting = new Map<number, (message: Json) => void>();
  createInterface({ input: process_.stdout }).on('line', (line) => {
    const message = JSON.parse(line) as Json;
    waiting.get(message['id'] as number)?.(message);
  });
  let next = 1;
  const send = (message: Json): void =>
    void process_.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
  const ask = (method: string, params: Json): Promise<Json> =>
    new Promise((resolve) => {
      const id = next++;
      waiting.set(id, resolve);
      send({ id, method, params });
    });
  const clientInfo = { name: 'muster-test', version: '1' };
  await ask('initialize', { protocolVersion: '2025-03-26', capabilities: {}, clientInfo });
  send({ method: 'notifications/initialized' });
  return async (name, args) => {
    const { result } = (await ask('tools/call', { name, arguments: args })) as { result: Json };
    const [content] = result['content'] as { text: string }[];
    return { isError: result['isError'] === true, answer: JSON.parse(content?.text ?? '') as Json };
  };
}
