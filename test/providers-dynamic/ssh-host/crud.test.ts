/** Hosts behind Debian's own sshd, with the real install script and the real agent. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PartialFailure, type Properties } from '../../../providers-dynamic/dynamic-crud.ts';
import {
  createSshHostCrud,
  HOST_CRUD_TIMINGS,
  type HostCrudTimings,
} from '../../../providers-dynamic/ssh-host/crud.ts';
import { startAgentHome, type AgentHome } from '../../support/agent-home.ts';
import { until } from '../../support/fleet-database.ts';
import { SSH_KEY } from '../../support/ssh-machine.ts';
import { sshdMissing, startSshd, type SshdHost, type SshdOptions } from '../../support/sshd.ts';

const TIMINGS: HostCrudTimings = { ...HOST_CRUD_TIMINGS, registerSeconds: 30 };
/** Much of it is waiting for processes to start, on machines that have other things to do. */
const BOUND_MS = 60_000;
/** For hosts that are down on purpose. */
const IMPATIENT: HostCrudTimings = { ...TIMINGS, connectMs: 3_000, keepaliveMs: 700 };
let home: AgentHome;
const hosts: SshdHost[] = [];
beforeAll(async () => {
  if (sshdMissing !== null) process.stderr.write(`hosts over SSH are not tested: ${sshdMissing}\n`);
  home = await startAgentHome();
});
afterAll(async () => {
  await Promise.all(hosts.map((host) => host.close()));
  await home?.close();
});

async function makeHost(options: SshdOptions = {}, script: Parameters<AgentHome['runtime']>[0] = {}) {
  const host = await startSshd(options);
  hosts.push(host);
  const runtime = home.runtime({ privateKey: host.privateKey, ...script });
  const agentDir = join(host.dir, 'agent');
  const inputs: Properties = {
    host: 'box',
    address: host.address,
    port: host.port,
    user: host.user,
    hostKeySha256: host.hostKeySha256,
    credentialRef: 'dc-key',
    agentDir,
    nodePath: process.execPath,
  };
  return { host, runtime, agentDir, inputs, crud: createSshHostCrud(runtime, TIMINGS), id: `127.0.0.1:${host.port}` };
}

function processesOf(host: SshdHost): string[] {
  const all = execFileSync('ps', ['-eo', 'pid=,args='], { encoding: 'utf8' }).split('\n');
  return all.filter((line) => line.includes(`${host.dir}/`) && /agent\.mjs|keep\.sh/.test(line));
}

function killAgents(host: SshdHost): void {
  for (const line of processesOf(host).sort()) {
    try {
      process.kill(Number(line.trim().split(' ')[0]), 'SIGKILL');
    } catch {
      // ended meanwhile
    }
  }
}

/** A keeper may be starting one at this moment. */
function killAllAgents(host: SshdHost): Promise<unknown> {
  const isQuiet = (): boolean => {
    killAgents(host);
    return processesOf(host).length === 0;
  };
  return until(isQuiet, 'no agent is left', BOUND_MS);
}

interface Failure extends Error {
  kind?: string;
  cause?: { kind?: string };
}

const failureOf = (work: Promise<unknown>): Promise<Failure> =>
  work.then(
    () => Promise.reject(new Error('it did not fail')),
    (error: Failure) => error,
  );

// Each has a host of its own, and mostly waits.
describe.skipIf(sshdMissing !== null).concurrent('a host of ours', { timeout: BOUND_MS }, () => {
  it('gets the agent, is left alone the second time, and keeps nothing of ours when it is removed', async () => {
    const { host, runtime, crud, inputs, id, agentDir } = await makeHost();
    const made = await crud.create(inputs);
    expect(made).toMatchObject({
      id,
      outs: { agentState: 'running', nodeId: runtime.nodeId, controlPlaneUrl: home.url, port: host.port },
    });
    expect(home.registered.size).toBeGreaterThan(0);
    const { facts } = made.outs as { facts: Record<string, unknown> };
    expect(facts).toMatchObject({ os: expect.any(String), architecture: 'x86_64', cpuCount: expect.any(Number) });
    expect(facts['memoryMib']).toBeGreaterThan(100);

    expect((await crud.diff(id, made.outs, inputs)).changed).toEqual([]);
    const read = await crud.read(id, made.outs);
    expect(read.props).toEqual(made.outs);
    const older = { ...made.outs, facts: { ...facts, memoryMib: 1 } };
    expect((await crud.read(id, older)).props).toEqual(made.outs);
    expect((await crud.diff(id, older, inputs)).changed).toEqual([]);
    const pid = readFileSync(join(agentDir, 'keeper.pid'), 'utf8');
    const again = await crud.update(id, made.outs, inputs);
    expect(again.outs).toEqual(made.outs);
    expect(readFileSync(join(agentDir, 'keeper.pid'), 'utf8')).toBe(pid);
    expect(runtime.tokens).toBe(1);

    const state = JSON.stringify(made.outs);
    for (const secret of home.secrets) expect(state).not.toContain(secret);
    const argv = execFileSync('ps', ['-eo', 'args='], { encoding: 'utf8' });
    for (const secret of home.secrets) expect(argv).not.toContain(secret);

    writeFileSync(join(agentDir, 'notes.txt'), "a user's own");
    await crud.delete(id, made.outs);
    expect(readdirSync(agentDir)).toEqual(['notes.txt']);
    expect(processesOf(host)).toEqual([]);
    expect(runtime.removedHosts).toEqual(['box']);
    await crud.delete(id, made.outs);
  });

  it('drifts when its agent is stopped or taken away, and an update heals it', async () => {
    const { host, crud, inputs, id, agentDir, runtime } = await makeHost({ user: 'root' });
    const { outs } = await crud.create(inputs);
    await killAllAgents(host);
    const stopped = (await crud.read(id, outs)).props as Properties;
    expect(stopped).toMatchObject({ agentState: 'stopped' });
    expect((await crud.diff(id, stopped, inputs)).changed).toEqual(['agentState']);
    const healed = (await crud.update(id, stopped, inputs)).outs;
    expect(healed).toEqual(outs);
    // It has its key: no second token.
    expect(runtime.tokens).toBe(1);

    execFileSync('rm', ['-f', join(agentDir, 'agent.mjs'), join(agentDir, 'agent.key')]);
    await killAllAgents(host);
    const broken = (await crud.read(id, healed)).props as Properties;
    expect(broken).toMatchObject({ agentState: 'unfinished' });
    expect((await crud.update(id, broken, inputs)).outs).toEqual(outs);
    expect(runtime.tokens).toBe(2);
  });

  it('with another host key than the pinned one gets no login and no command, whatever the type of its key', async () => {
    const { crud, inputs, agentDir, host } = await makeHost();
    const other = `SHA256:${'A'.repeat(43)}`;
    const failure = await failureOf(crud.create({ ...inputs, hostKeySha256: other }));
    expect(failure).toMatchObject({ kind: 'invalid' });
    expect(failure).not.toBeInstanceOf(PartialFailure);
    expect(failure.message).toContain(`another host key than the pinned ${other}: ${host.hostKeySha256}`);
    expect(failure.message).toContain('Nothing was sent');
    expect(existsSync(agentDir)).toBe(false);
    // The wrong key is no reason to believe it gone.
    expect(await failureOf(crud.delete('x', { ...inputs, hostKeySha256: other }))).toMatchObject({ kind: 'invalid' });
  });

  it('is known by its RSA key too', async () => {
    const { crud, inputs } = await makeHost({ hostKeyType: 'rsa' }, { isStandalone: true });
    expect((await crud.create(inputs)).outs).toMatchObject({ agentState: 'not_managed' });
  });

  it('that does not know our key says so, and shows no key in the error', async () => {
    const { inputs } = await makeHost();
    const crud = createSshHostCrud(home.runtime({ privateKey: SSH_KEY.private }), TIMINGS);
    const failure = await failureOf(crud.create(inputs));
    expect(failure).toMatchObject({ kind: 'auth', message: expect.stringContaining('does not let this key in') });
    const unreadable = createSshHostCrud(home.runtime({ privateKey: 'no key at all' }), TIMINGS);
    const second = await failureOf(unreadable.create(inputs));
    expect(second).toMatchObject({ kind: 'auth', message: expect.stringContaining('cannot be read') });
    expect(second.message).not.toContain('no key at all');
  });

  it('whose user may not become root is refused before anything is changed, but can be looked at', async () => {
    const { crud, inputs, agentDir } = await makeHost({ user: 'no_sudo' });
    const failure = await failureOf(crud.create(inputs));
    expect(failure).toMatchObject({
      kind: 'auth',
      message: expect.stringMatching(/may not become root .* without a password/),
    });
    expect(failure).not.toBeInstanceOf(PartialFailure);
    expect(existsSync(agentDir)).toBe(false);
    const { outs } = await crud.create({ ...inputs, agent: false });
    expect(outs).toMatchObject({ agentState: 'not_managed', facts: { architecture: 'x86_64' } });
  });

  it('whose installation was cut off is in the state, finished by the next up, or removed whole', async () => {
    const { crud, inputs, id, agentDir, runtime, host } = await makeHost();
    runtime.isDeaf = true;
    const quick = createSshHostCrud(runtime, { ...TIMINGS, registerSeconds: 1 });
    const failure = (await failureOf(quick.create(inputs))) as unknown as PartialFailure;
    expect(failure).toBeInstanceOf(PartialFailure);
    expect(failure.id).toBe(id);
    expect(failure.reasons[0]).toMatch(/did not register within 1 s/);
    expect(failure.properties).toMatchObject({ controlPlaneUrl: home.url, nodeId: runtime.nodeId });
    // As a kill in the middle of a download leaves it.
    writeFileSync(join(agentDir, 'agent.mjs.new'), 'half');
    mkdirSync(join(agentDir, '.install'), { recursive: true });
    await killAllAgents(host);
    runtime.isDeaf = false;
    const seen = (await crud.read(id, failure.properties)).props as Properties;
    expect(seen).toMatchObject({ agentState: 'unfinished' });
    expect((await crud.diff(id, seen, inputs)).changed).toEqual(['agentState']);
    expect((await crud.update(id, seen, inputs)).outs).toMatchObject({ agentState: 'running' });
    writeFileSync(join(agentDir, 'agent.mjs.new'), 'half');
    // Adopted state holds inputs only.
    await crud.delete(id, inputs);
    expect(existsSync(agentDir)).toBe(false);
    expect(processesOf(host)).toEqual([]);
  });

  it('that hangs in the middle is neither gone nor made: the next up goes on', async () => {
    const { crud, inputs, id, host, agentDir, runtime } = await makeHost();
    runtime.isDeaf = true; // so that the installation is still waiting
    const impatient = createSshHostCrud(runtime, IMPATIENT);
    const creating = failureOf(impatient.create(inputs));
    await until(() => existsSync(join(agentDir, 'keeper.pid')), 'the installation runs', BOUND_MS);
    host.freeze();
    const failure = await creating;
    expect(failure).toBeInstanceOf(PartialFailure);
    expect(failure.cause).toMatchObject({ kind: 'unknown' });
    const props = (failure as unknown as PartialFailure).properties;
    expect(await failureOf(impatient.read(id, props))).toMatchObject({ kind: 'retryable' });
    host.thaw();
    runtime.isDeaf = false;
    expect((await crud.update(id, props, inputs)).outs).toMatchObject({ agentState: 'running' });

    await host.kill();
    expect(await failureOf(crud.read(id, props))).toMatchObject({
      kind: 'retryable',
      message: expect.stringContaining('cannot be reached'),
    });
    expect(await failureOf(crud.delete(id, props))).toMatchObject({ kind: 'retryable' });
    expect(runtime.removedHosts).toEqual([]);
    runtime.forgotten = true;
    await crud.delete(id, props);
    expect(runtime.removedHosts).toEqual(['box']);
    expect(runtime.said.join()).toContain('it is forgotten, and what is on it stays');
  });

  it('that carries the agent of another node keeps it, unless that node is no more', async () => {
    const { crud, inputs, id, agentDir, host } = await makeHost();
    const { outs } = await crud.create(inputs);
    const second = home.runtime({ privateKey: host.privateKey, nodeId: 'nod_bbbbbbbbbbbbbbbb' });
    const other = createSshHostCrud(second, TIMINGS);
    expect(await failureOf(other.create(inputs))).toMatchObject({
      kind: 'invalid',
      message: expect.stringContaining('carries the agent of nod_aaaaaaaaaaaaaaaa'),
    });
    await other.delete(id, { ...outs, nodeId: second.nodeId });
    expect(existsSync(join(agentDir, 'agent.key'))).toBe(true);
    second.mayTakeOver = true;
    expect((await other.create(inputs)).outs).toMatchObject({ agentState: 'running', nodeId: second.nodeId });
    await other.delete(id, { ...outs, nodeId: second.nodeId });
  });

  it('is not touched any more by an update that was canceled', async () => {
    const { crud, inputs, runtime, agentDir } = await makeHost();
    runtime.abort.abort();
    expect(await failureOf(crud.create(inputs))).toMatchObject({ kind: 'canceled' });
    expect(existsSync(agentDir)).toBe(false);
  });
});
