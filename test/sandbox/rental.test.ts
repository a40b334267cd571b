/** What all simulated vendors but Vast.ai share: machines, bills, faults, the journal, and who is told what runs. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { FaultInput } from '../../sandbox/faults.ts';
import { createWindowLimiter } from '../../sandbox/rental/window-limiter.ts';
import { startSandbox, type Sandbox, type SandboxOptions } from '../../sandbox/server.ts';
import type { SandboxState } from '../../sandbox/state-report.ts';
import type { RunningMachine } from '../../sandbox/vendor.ts';

type Json = Record<string, unknown>;

const PUBLIC_KEY = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)} me`;
const BOOTED_MS = 10_000;

let dir: string;
const open = new Set<Sandbox>();
const children = new Set<ChildProcess>();
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sandbox-rental-'));
});
afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await Promise.all([...open].map((sandbox) => sandbox.close()));
  open.clear();
  rmSync(dir, { recursive: true });
});

async function start(options: Partial<SandboxOptions> = {}): Promise<Sandbox> {
  const sandbox = await startSandbox({ dir, port: 0, time: 'explicit', offers: 20, ...options });
  open.add(sandbox);
  return sandbox;
}

async function stop(sandbox: Sandbox): Promise<void> {
  open.delete(sandbox);
  await sandbox.close();
}

async function post(url: string, path: string, body: Json): Promise<{ status: number; data: Json }> {
  const headers = { authorization: 'Bearer sandbox' };
  const answer = await fetch(`${url}/api/v1${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
  return { status: answer.status, data: ((await answer.json()) as { data: Json }).data };
}

/** Rents at the simulated Lambda, which stands for all. */
async function rent(url: string, name: string): Promise<string> {
  await post(url, '/ssh-keys', { name: 'mine', public_key: PUBLIC_KEY });
  const order = { region_name: 'us-west-1', instance_type_name: 'gpu_1x_a10', ssh_key_names: ['mine'], name };
  const { status, data } = await post(url, '/instance-operations/launch', order);
  if (status !== 200) throw new Error(`not rented: ${status}`);
  return (data['instance_ids'] as string[])[0]!;
}

const terminate = (url: string, id: string) => post(url, '/instance-operations/terminate', { instance_ids: [id] });
const find = (state: SandboxState, id: string) => state.lambda.machines.find((machine) => machine.id === id)!;
const machineFault = (kind: FaultInput['kind'], instanceId: string, more: Partial<FaultInput> = {}): FaultInput => ({
  provider: 'lambda',
  endpoint: 'machine',
  kind,
  match: { instanceId },
  ...more,
});

describe('every vendor', () => {
  it('has three foreign machines from the start, on the port that its place gives it', async () => {
    const sandbox = await start();
    const state = sandbox.state();
    expect(sandbox.vendors.map(({ name }) => name)).toEqual(['vastai', 'tensordock', 'runpod', 'lambda']);
    for (const { name } of sandbox.vendors) {
      const { machines } = state[name];
      expect(machines.map(({ origin, changeCalls }) => [origin, changeCalls])).toEqual(Array(3).fill(['foreign', 0]));
      expect((await fetch(sandbox.urls[name])).status).toBeGreaterThanOrEqual(400);
    }
    expect(new Set(Object.values(sandbox.ports)).size).toBe(5);
  });

  it('takes switches, machines and machine faults through the control server, each its own', async () => {
    const sandbox = await start();
    const admin = async (path: string, body: Json) => {
      const answer = await fetch(`${sandbox.urls.control}/__sandbox/${path}`, {
        method: 'POST',
        body: JSON.stringify(body),
      });
      return { status: answer.status, body: (await answer.json()) as Json };
    };
    for (const { name } of sandbox.vendors) {
      const made = await admin('machines', { provider: name, label: 'lost', origin: 'orphan' });
      expect(made.status, name).toBe(201);
      const instanceId = made.body['id'] as string;
      expect(sandbox.state()[name].machines.at(-1)).toMatchObject({ id: instanceId, label: 'lost', origin: 'orphan' });
      const lost = await admin('faults', {
        provider: name,
        endpoint: 'machine',
        kind: 'host_loss',
        match: { instanceId: String(instanceId) },
      });
      expect(lost).toMatchObject({ status: 201, body: { hits: 1 } });
      expect(sandbox.state()[name].machines.at(-1)).toMatchObject({ isHostLost: true });
      expect((await admin('switches', { provider: name, bootMs: [1, 2] })).body).toMatchObject({
        [name]: { bootMs: [1, 2] },
      });
    }
    expect(sandbox.listFaults()).toEqual([]);
    const wrong = await admin('switches', { provider: 'lambda', raceStatus: 410 });
    expect(wrong).toMatchObject({ status: 422, body: { message: expect.stringContaining('raceStatus') } });
    const bid = await admin('faults', { provider: 'lambda', endpoint: 'machine', kind: 'outbid' });
    expect(bid).toMatchObject({ status: 422, body: { message: expect.stringContaining('reclaim') } });
    const call = await admin('faults', { provider: 'lambda', endpoint: 'bid', kind: 'status' });
    expect(call).toMatchObject({ status: 422, body: { message: expect.stringContaining('create') } });
    const page = await (await fetch(sandbox.urls.control)).text();
    for (const { title } of sandbox.vendors) expect(page).toContain(`<h2>${title}</h2>`);
  });
});

describe('a machine', () => {
  it('boots ten times longer, without SSH, or with other GPUs, as its fault says', async () => {
    const sandbox = await start({ switches: { lambda: { bootMs: [1_000, 1_000] } } });
    const { lambda: url } = sandbox.urls;
    await sandbox.addFault({ provider: 'lambda', endpoint: 'machine', kind: 'slow_boot', match: { label: 'slow' } });
    const [slow, normal] = [await rent(url, 'slow'), await rent(url, 'normal')];
    await sandbox.advance(9_999);
    expect(find(sandbox.state(), normal).status).toBe('running');
    expect(find(sandbox.state(), slow).status).toBe('booting');
    await sandbox.advance(1);
    expect(find(sandbox.state(), slow).status).toBe('running');
  });

  it('bills nothing while its host is lost, and comes back with it', async () => {
    const sandbox = await start();
    const id = await rent(sandbox.urls.lambda, 'a');
    await sandbox.advance(BOOTED_MS);
    await sandbox.addFault(machineFault('host_loss', id));
    const before = find(sandbox.state(), id).chargedMicroUsd;
    await sandbox.advance(3_600_000);
    expect(find(sandbox.state(), id)).toMatchObject({ isHostLost: true, chargedMicroUsd: before });
    await sandbox.addFault(machineFault('host_return', id));
    await sandbox.advance(BOOTED_MS);
    expect(find(sandbox.state(), id)).toMatchObject({ isHostLost: false, status: 'running' });
  });

  it('that switches itself off by its agent is billed on where the vendor does so', async () => {
    let off: (machine: RunningMachine) => void = () => {};
    const running: RunningMachine[] = [];
    const machineWatch = {
      onRunning: (machine: RunningMachine) => void running.push(machine),
      onGone: () => {},
      onPowerOff: (listener: typeof off) => void (off = listener),
    };
    const sandbox = await start({ machineWatch, hasForeignMachines: false });
    const id = await rent(sandbox.urls.lambda, 'a');
    await sandbox.advance(BOOTED_MS);
    off(running[0] as RunningMachine);
    await sandbox.advance(BOOTED_MS);
    const before = find(sandbox.state(), id);
    expect(before.status).toBe('stopped');
    await sandbox.advance(3_600_000);
    expect(find(sandbox.state(), id).chargedMicroUsd).toBeGreaterThan(before.chargedMicroUsd);
  });

  it('is told of each time it begins to run and each time it ends, once and in order', async () => {
    const heard: [string, number | string, number][] = [];
    const tell = (what: string) => (machine: RunningMachine) =>
      void heard.push([what, machine.instanceId, machine.boot]);
    const machineWatch = { onRunning: tell('running'), onGone: tell('gone') };
    const sandbox = await start({ machineWatch, hasForeignMachines: false });
    const id = await rent(sandbox.urls.lambda, 'a');
    await sandbox.advance(BOOTED_MS);
    await post(sandbox.urls.lambda, '/instance-operations/restart', { instance_ids: [id] });
    await sandbox.advance(BOOTED_MS);
    await sandbox.addFault(machineFault('host_loss', id));
    await sandbox.addFault(machineFault('host_return', id));
    await sandbox.advance(BOOTED_MS);
    await stop(sandbox);
    const again = await start({ machineWatch });
    await terminate(again.urls.lambda, id);
    await again.advance(BOOTED_MS);
    const lives = [1, 2, 3, 3].flatMap((boot) => [
      ['running', id, boot],
      ['gone', id, boot],
    ]);
    expect(heard).toEqual(lives);
  });
});

describe('after a kill -9', () => {
  it('every machine whose purchase was answered exists, with its label', { timeout: 20_000 }, async () => {
    const first = await launchProcess();
    const gone = once(first.child, 'exit');
    const answered = new Map<string, string>();
    const buyers = Array.from({ length: 4 }, async (_unused, buyer) => {
      for (let i = buyer; first.child.exitCode === null && !first.child.killed; i += 4) {
        const region = ['us-west-1', 'us-east-1', 'us-south-1', 'asia-south-1'][buyer]!;
        const id = await rentIn(first.url, region, `label-${i}`).catch(() => null);
        if (id !== null) answered.set(id, `label-${i}`);
        if (answered.size >= 40) first.child.kill('SIGKILL');
      }
    });
    await Promise.all(buyers);
    await gone;
    const second = await start({ time: 'auto' });
    expect(answered.size).toBeGreaterThanOrEqual(40);
    const { machines, purchases } = second.state().lambda;
    for (const [id, label] of answered) {
      expect(find(second.state(), id)).toMatchObject({ label, origin: 'bought', destroyedAtMs: null });
    }
    for (const [label, { machineIds }] of Object.entries(purchases)) {
      expect(machines.filter((machine) => machine.label === label).map(({ id }) => id)).toEqual(machineIds);
    }
  });

  it('bills, keys, faults, ports and what was sold are as before', async () => {
    const first = await start();
    const [kept, ended] = [await rent(first.urls.lambda, 'kept'), await rent(first.urls.lambda, 'ended')];
    await first.advance(BOOTED_MS);
    await terminate(first.urls.lambda, ended);
    await first.advance(BOOTED_MS);
    await first.addFault({ provider: 'lambda', endpoint: 'create', kind: 'stale_offer', times: 1 });
    await rent(first.urls.lambda, 'stale').catch(() => null);
    first.setSwitches('lambda', { listLagMs: 7 });
    const before = first.state().lambda;
    await stop(first);
    const second = await start();
    const withoutCalls = ({ machines, offersListed, purchases }: SandboxState['lambda']) => ({
      machines: machines.map(({ changeCalls: _calls, ...machine }) => machine),
      offersListed,
      purchases,
    });
    expect(withoutCalls(second.state().lambda)).toEqual(withoutCalls(before));
    expect(second.switches('lambda')).toMatchObject({ listLagMs: 7 });
    await terminate(second.urls.lambda, kept);
    expect(find(second.state(), kept)).toMatchObject({ status: 'terminating' });
    await second.reset();
    expect(second.state().lambda.machines).toHaveLength(3);
  });

  async function rentIn(url: string, region: string, name: string): Promise<string | null> {
    const order = { region_name: region, instance_type_name: 'gpu_1x_a10', ssh_key_names: ['mine'], name };
    const { status, data } = await post(url, '/instance-operations/launch', order);
    return status === 200 ? (data['instance_ids'] as string[])[0]! : null;
  }

  async function launchProcess(): Promise<{ child: ChildProcess; url: string }> {
    const child = fork('sandbox/main.ts', {
      env: { PATH: process.env['PATH'], MUSTER_SANDBOX_PORT: '0', MUSTER_SANDBOX_DIR: dir },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    children.add(child);
    child.once('exit', () => children.delete(child));
    const [message] = (await once(child, 'message')) as [{ urls: { lambda: string; control: string } }];
    const { lambda: url, control } = message.urls;
    await post(url, '/ssh-keys', { name: 'mine', public_key: PUBLIC_KEY });
    const body = JSON.stringify({ provider: 'lambda', capacity: 1_000 });
    await fetch(`${control}/__sandbox/switches`, { method: 'POST', body });
    return { child, url };
  }
});

it('a window counts what passed only, and says when there is room again', () => {
  let nowMs = 0;
  const limiter = createWindowLimiter(() => nowMs);
  const quotas = [
    { calls: 2, windowMs: 1_000 },
    { calls: 3, windowMs: 10_000 },
  ];
  expect([limiter.take('a', quotas), limiter.take('a', quotas), limiter.take('a', quotas)]).toEqual([
    true,
    true,
    false,
  ]);
  expect(limiter.look('a', quotas)).toMatchObject([
    { left: 0, resetMs: 1_000 },
    { left: 1, resetMs: 10_000 },
  ]);
  expect(limiter.take('b', quotas)).toBe(true);
  nowMs = 1_000;
  expect([limiter.take('a', quotas), limiter.take('a', quotas)]).toEqual([true, false]);
  nowMs = 10_000;
  expect(limiter.look('a', quotas)[1]).toMatchObject({ left: 2, resetMs: 1_000 });
});
