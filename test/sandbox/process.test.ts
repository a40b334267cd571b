/** The sandbox as a process of its own: what it tells its parent, how it leaves, and what survives a kill -9. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { SandboxState } from '../../sandbox/state-report.ts';
import { startSandbox } from '../../sandbox/server.ts';
import { asVendor, callVastai, type Json, ORDER, SINGLE_4090 } from './vendor.ts';

interface Running {
  child: ChildProcess;
  urls: { control: string; vastai: string };
}

let dir: string;
const children = new Set<ChildProcess>();
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sandbox-process-'));
});
afterEach(async () => {
  await Promise.all([...children].map((child) => kill(child, 'SIGKILL')));
  rmSync(dir, { recursive: true });
});

describe('the process', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)('says where it listens and leaves cleanly on %s', async (signal) => {
    const { child, urls } = await start();
    expect((await fetch(urls.control)).status).toBe(200);
    expect(await kill(child, signal)).toEqual([0, null]);
  });

  it('leaves when its parent is gone', async () => {
    const { child } = await start();
    const gone = once(child, 'exit');
    child.disconnect();
    expect(await gone).toEqual([0, null]);
  });

  it('says with exit 2 that a port is in use, and which', async () => {
    const blocker = createServer().listen(0, '127.0.0.1');
    await once(blocker, 'listening');
    const { port } = blocker.address() as AddressInfo;
    const { code, stderr } = await startAndFail({ MUSTER_SANDBOX_PORT: String(port) });
    blocker.close();
    expect(code).toBe(2);
    expect(stderr).toContain(`port ${port} on 127.0.0.1 is in use`);
  });

  it('names every bad setting, with exit 2', async () => {
    const { code, stderr } = await startAndFail({ MUSTER_SANDBOX_TIME: 'slow', MUSTER_SANDBOX_OFFERS: '-1' });
    expect(code).toBe(2);
    expect(stderr).toContain('MUSTER_SANDBOX_TIME');
    expect(stderr).toContain('MUSTER_SANDBOX_OFFERS');
  });
});

describe('after a kill -9', () => {
  it('every machine whose purchase was answered exists, with its label, its bill and its SSH port', async () => {
    const first = await start();
    const offers = await searchOffers(first.urls.vastai);
    const answered = new Map<number, string>();
    const gone = once(first.child, 'exit');
    let isKilled = false;
    // Eight buyers at work while the kill comes.
    const buyers = Array.from({ length: 8 }, async (_unused, buyer) => {
      for (let i = buyer; i < offers.length && !isKilled; i += 8) {
        const label = `label-${i}`;
        const answer = await buy(first.urls.vastai, offers[i]!, label).catch(() => null);
        if (answer?.status === 200) answered.set(answer.body['new_contract'] as number, label);
        if (answered.size >= 60 && !isKilled) {
          isKilled = true;
          first.child.kill('SIGKILL');
        }
      }
    });
    await Promise.all(buyers);
    await gone;

    const second = await start();
    const state = await readState(second);
    const byId = new Map(state.vastai.machines.map((machine) => [machine.id, machine]));
    expect(answered.size).toBeGreaterThanOrEqual(60);
    for (const [id, label] of answered)
      expect(byId.get(id)).toMatchObject({ label, origin: 'bought', destroyedAtMs: null });
    for (const [label, purchase] of Object.entries(state.vastai.purchases)) {
      const own = state.vastai.machines.filter((machine) => machine.label === label);
      expect(own.map((machine) => machine.id)).toEqual(purchase.machineIds);
    }
    const listed = await searchOffers(second.urls.vastai);
    const taken = new Set(state.vastai.machines.map((machine) => machine.machineId));
    expect(listed.filter((offer) => offer['gpu_frac'] === 1 && taken.has(offer['machine_id'] as number))).toEqual([]);
  });

  it('machines go on booting, destroyed ones stay destroyed, and keys, faults and switches are still there', async () => {
    const explicit = { MUSTER_SANDBOX_TIME: 'explicit' };
    const first = await start(explicit);
    const [one, two] = await searchOffers(first.urls.vastai);
    const kept = (await buy(first.urls.vastai, one!, 'kept')).body['new_contract'] as number;
    const gone = (await buy(first.urls.vastai, two!, 'gone')).body['new_contract'] as number;
    await callVastai(first.urls.vastai, 'DELETE', `/api/v0/instances/${gone}/`, {});
    await callVastai(first.urls.vastai, 'POST', '/api/v0/ssh/', { ssh_key: `ssh-ed25519 ${'A'.repeat(68)}` });
    await admin(first, 'faults', { provider: 'vastai', endpoint: 'destroy', kind: 'status', times: 2 });
    await callVastai(first.urls.vastai, 'DELETE', `/api/v0/instances/${kept}/`, {});
    await admin(first, 'switches', { provider: 'vastai', listLagMs: 7 });
    await admin(first, 'clock', { advanceMs: 1500 });
    const before = await readState(first);
    await kill(first.child, 'SIGKILL');

    const second = await start(explicit);
    const after = await readState(second);
    expect(after.nowMs).toBe(before.nowMs);
    expect(after.vastai.machines.map(({ changeCalls: _calls, ...machine }) => machine)).toEqual(
      before.vastai.machines.map(({ changeCalls: _calls, ...machine }) => machine),
    );
    await admin(second, 'clock', { advanceMs: 10_000 });
    const read = await callVastai(second.urls.vastai, 'GET', `/api/v0/instances/${kept}/`);
    expect(read.body['instances']).toMatchObject({ actual_status: 'running' });
    expect((await callVastai(second.urls.vastai, 'GET', '/api/v0/ssh/')).body).toHaveLength(1);
    const destroy = (): ReturnType<typeof callVastai> =>
      callVastai(second.urls.vastai, 'DELETE', `/api/v0/instances/${kept}/`, {});
    expect((await destroy()).status).toBe(503);
    expect((await destroy()).status).toBe(200);
    const switches = (await (await fetch(`${second.urls.control}/__sandbox/switches`)).json()) as { vastai: Json };
    expect(switches.vastai['listLagMs']).toBe(7);
  });

  it('a line that was cut in the middle is forgotten, and nothing else', async () => {
    const first = asVendor(await startSandbox({ dir, port: 0, time: 'explicit', offers: 20 }));
    const whole = await first.rent({ label: 'whole' });
    await first.rent({ label: 'torn' });
    await first.close();
    const path = join(dir, 'journal.jsonl');
    const lines = readFileSync(path, 'utf8').split('\n');
    const torn = lines.findIndex((line) => line.includes('"label":"torn"'));
    truncateSync(path, Buffer.byteLength(lines.slice(0, torn).join('\n')) + 100);
    const second = asVendor(await startSandbox({ dir, port: 0, time: 'explicit', offers: 20 }));
    expect((await second.read(whole))['label']).toBe('whole');
    expect(second.state().vastai.machines.some(({ label }) => label === 'torn')).toBe(false);
    await second.rent({ label: 'next' });
    await second.close();
    const third = await startSandbox({ dir, port: 0, time: 'explicit', offers: 20 });
    expect(third.state().vastai.machines.map(({ label }) => label)).toContain('next');
    await third.close();
    expect(readdirSync(dir).toSorted()).toEqual(['journal.jsonl', 'ssh_host_ed25519_key']);
  });

  it('a GPU that went to a machine waiting for it is not for sale', async () => {
    const options = { dir, port: 0, time: 'explicit', offers: 20, switches: { vastai: { listLagMs: 0 } } } as const;
    const first = asVendor(await startSandbox(options));
    const waiting = await first.rent();
    await first.advance(10_000);
    await first.call('PUT', `/api/v0/instances/${waiting}/`, { state: 'stopped' });
    await first.advance(10_000);
    const { machine_id: machineId } = await first.read(waiting);
    const [offer] = await first.search({ machine_id: { eq: machineId } });
    const rival = await buy(first.urls.vastai, offer!, 'rival');
    await first.call('PUT', `/api/v0/instances/${waiting}/`, { state: 'running' });
    await first.call('DELETE', `/api/v0/instances/${String(rival.body['new_contract'])}/`, {});
    await first.advance(10_000);
    expect(await first.read(waiting)).toMatchObject({ actual_status: 'running' });
    await first.close();
    const second = asVendor(await startSandbox(options));
    expect(await second.search({ machine_id: { eq: machineId } })).toEqual([]);
    expect(await second.read(waiting)).toMatchObject({ actual_status: 'running' });
    await second.close();
  });

  it('running machines answer SSH on the port they had', async () => {
    const first = asVendor(await startSandbox({ dir, port: 0, time: 'explicit', offers: 20 }));
    await first.rent();
    await first.advance(10_000);
    const ports = (one: { state(): SandboxState }): (number | null)[] =>
      one.state().vastai.machines.map((machine) => machine.sshPort);
    const before = ports(first);
    await first.close();
    const second = await startSandbox({ dir, port: 0, time: 'explicit', offers: 20 });
    expect(ports(second)).toEqual(before);
    await second.close();
  });
});

async function start(env: Record<string, string> = {}): Promise<Running> {
  const child = launch(env);
  const [message] = (await once(child, 'message')) as [{ type: string; urls: Running['urls'] }];
  expect(message.type).toBe('ready');
  return { child, urls: message.urls };
}

function launch(env: Record<string, string>): ChildProcess {
  const child = fork('sandbox/main.ts', {
    env: { PATH: process.env['PATH'], MUSTER_SANDBOX_PORT: '0', MUSTER_SANDBOX_DIR: dir, ...env },
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  return child;
}

async function startAndFail(env: Record<string, string>): Promise<{ code: number; stderr: string }> {
  const child = launch(env);
  let stderr = '';
  child.stderr!.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number];
  return { code, stderr };
}

async function kill(child: ChildProcess, signal: NodeJS.Signals): Promise<unknown[]> {
  if (child.exitCode !== null || child.signalCode !== null) return [child.exitCode, child.signalCode];
  const gone = once(child, 'exit');
  child.kill(signal);
  return gone;
}

async function searchOffers(url: string): Promise<Json[]> {
  const { body } = await callVastai(url, 'POST', '/api/v0/bundles/', { ...SINGLE_4090, limit: 1000 });
  return body['offers'] as Json[];
}

function buy(url: string, offer: Json, label: string): ReturnType<typeof callVastai> {
  return callVastai(url, 'PUT', `/api/v0/asks/${String(offer['id'])}/`, { ...ORDER, label });
}

async function admin({ urls }: Running, route: string, body: Json): Promise<void> {
  const answer = await fetch(`${urls.control}/__sandbox/${route}`, { method: 'POST', body: JSON.stringify(body) });
  expect(answer.ok).toBe(true);
}

async function readState({ urls }: Running): Promise<SandboxState> {
  return (await (await fetch(`${urls.control}/__sandbox/state`)).json()) as SandboxState;
}
