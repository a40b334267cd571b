import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { backoffMs } from '../../agent/backoff.ts';
import { CallError, type ControlPlane } from '../../agent/control-plane.ts';
import { createDeadMan } from '../../agent/dead-man.ts';
import { createDuties, type Pods } from '../../agent/duties.ts';
import { createKeyStore, type KeyStore } from '../../agent/key-store.ts';
import { runAgent, type AgentParts } from '../../agent/loop.ts';
import { createOrders } from '../../agent/orders.ts';
import { readSettings } from '../../agent/settings.ts';
import { createSystemReader, readBootId } from '../../agent/system-facts.ts';
import type { WorkspaceLock } from '../../agent/workspace-lock.ts';
import { createWriteAccess } from '../../agent/write-access.ts';
import type { Loose } from '../support/api-server.ts';
import {
  heartbeatBody,
  systemFacts,
  type DesiredReply,
  type GpuReading,
  type HeartbeatBody,
} from '../../api/contract/nodes.ts';

const READING: GpuReading = { verdict: 'healthy', reason: null, readAt: null, driverVersion: null, gpus: [] };

const noLock: WorkspaceLock = { putOn: () => Promise.resolve(false), takeOff: () => Promise.resolve() };

let directory: string;
let keys: KeyStore;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'muster-agent-'));
  keys = createKeyStore(join(directory, 'state'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

interface Call {
  nowMs: number;
  kind: 'register' | 'heartbeat' | 'report';
  credential: string;
  body: HeartbeatBody;
}

/** An agent whose time passes as fast as it sleeps, until `untilMs`; every call is written down with its time. */
async function live(untilMs: number, answer: (call: Call) => object | CallError, change: Partial<AgentParts> = {}) {
  const calls: { atMs: number; kind: string; credential: string; body: HeartbeatBody }[] = [];
  const logged: string[] = [];
  const stopping = new AbortController();
  let nowMs = 0;
  const call = (kind: Call['kind']) => (credential: string, body: unknown) => {
    calls.push({ atMs: nowMs, kind, credential, body: body as HeartbeatBody });
    const given = answer({ nowMs, kind, credential, body: body as HeartbeatBody });
    return given instanceof CallError ? Promise.reject(given) : Promise.resolve(given);
  };
  const parts: AgentParts = {
    controlPlane: {
      register: call('register'),
      heartbeat: call('heartbeat'),
      report: call('report'),
      desired: (_key: string, { signal }: { signal: AbortSignal }) =>
        new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new CallError('aborted')))),
    } as unknown as ControlPlane,
    work: (changed) => {
      const orders = createOrders({ directory, handlers: {}, changed, log: () => {} });
      const writes = createWriteAccess({ file: join(directory, 'writes'), lock: noLock, bootId: 'b', log: () => {} });
      return { orders, pods: null, duties: createDuties({ pods: null, orders, writes, log: () => {} }) };
    },
    deadMan: createDeadMan({
      file: join(directory, 'dead-man.json'),
      bootId: 'boot-one',
      uptimeMs: () => nowMs,
      own: null,
      log: () => {},
    }),
    updates: { consider: () => Promise.resolve(false), confirm: () => {}, complain: () => false, trouble: null },
    powerOff: () => Promise.reject(new Error('no such machine')),
    readActivity: () => undefined,
    keys,
    gpus: { read: () => Promise.resolve(READING) },
    token: 'mn_token',
    version: '1',
    bootId: 'boot-one',
    firstSequence: 500,
    readSystem: createSystemReader('/proc'),
    monotonicMs: () => nowMs,
    async sleep(ms, signal) {
      // A heartbeat's patience with a reading is no time of the loop's own: the reading is there at once.
      await new Promise((resolve) => setImmediate(resolve));
      if (signal.aborted) return;
      nowMs += ms;
      if (nowMs >= untilMs) stopping.abort();
    },
    random: () => 0.5,
    log: (message) => logged.push(message),
    ...change,
  };
  await runAgent(parts, stopping.signal);
  return { calls, logged, beats: calls.filter(({ kind }) => kind === 'heartbeat') };
}

const good = ({ kind }: { kind: string }) =>
  kind === 'register'
    ? { nodeId: 'nod_1', key: 'ma_first', intervalMs: 10_000 }
    : { accepted: true, intervalMs: 10_000 };

describe("the agent's life", () => {
  it('registers once and then reports every interval, with a growing sequence', async () => {
    const { calls, beats } = await live(65_000, good);
    expect(calls[0]).toMatchObject({ kind: 'register', credential: 'mn_token' });
    expect(beats.map(({ atMs }) => atMs)).toEqual([0, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000]);
    expect(beats.map(({ body }) => body.sequence)).toEqual([500, 501, 502, 503, 504, 505, 506]);
    for (const { body, credential } of beats) {
      expect(credential).toBe('ma_first');
      expect(heartbeatBody.safeParse(body).error).toBeUndefined();
    }
  });

  it('does not register again after a restart', async () => {
    await live(15_000, good);
    const { calls } = await live(15_000, good, { token: null });
    expect(new Set(calls.map(({ kind }) => kind))).toEqual(new Set(['heartbeat']));
  });

  it('asks for its registration until it is answered, always with the same nonce', async () => {
    const { calls } = await live(120_000, (call) =>
      call.kind === 'register' && call.nowMs < 30_000 ? new CallError('cannot be reached (ECONNREFUSED)') : good(call),
    );
    const tries = calls.filter(({ kind }) => kind === 'register');
    expect(tries.length).toBeGreaterThan(3);
    expect(new Set(tries.map(({ body }) => (body as unknown as { nonce: string }).nonce)).size).toBe(1);
    expect(keys.read()).toEqual({ nodeId: 'nod_1', key: 'ma_first' });
  });

  it('cannot begin without a token and without a key', async () => {
    await expect(live(1, good, { token: null })).rejects.toThrow(/MUSTER_AGENT_TOKEN/);
  });

  it('survives an outage with growing pauses of at most 20 s, says so once, and goes on', async () => {
    const isOut = (nowMs: number) => nowMs > 20_000 && nowMs < 3_600_000;
    const { beats, logged } = await live(3_700_000, (call) =>
      isOut(call.nowMs) ? new CallError('answered 503 (unavailable)') : good(call),
    );
    const during = beats.filter(({ atMs }) => isOut(atMs));
    const gaps = during.slice(1).map(({ atMs }, index) => atMs - (during[index]?.atMs ?? 0));
    expect(Math.max(...gaps)).toBeLessThanOrEqual(20_000);
    expect(during.length).toBeLessThan(400);
    expect(beats.filter(({ atMs }) => atMs >= 3_600_000).length).toBeGreaterThan(5);
    expect(logged.filter((line) => line.includes('503'))).toHaveLength(1);
    expect(logged.filter((line) => line.includes('answers again'))).toHaveLength(1);
  });

  it('asks rarely where its key is refused, and never drops it', async () => {
    const { beats } = await live(3_600_000, (call) =>
      call.kind === 'heartbeat' ? new CallError('answered 401', { isRefused: true }) : good(call),
    );
    expect(beats.length).toBeLessThan(60);
    expect(keys.read()?.key).toBe('ma_first');
  });

  it('on a node of a cluster registers by both tokens as they are then, and again when its key is refused', async () => {
    let serial = 0;
    const { calls, beats } = await live(
      120_000,
      (call) => {
        if (call.kind === 'register') return { nodeId: 'nod_1', key: `ma_${serial}`, intervalMs: 10_000 };
        const isReplaced = call.credential === 'ma_1' && call.nowMs > 30_000;
        return isReplaced ? new CallError('answered 401', { isRefused: true }) : good(call);
      },
      { token: null, readClusterTokens: () => ({ token: `mn_${++serial}`, proof: `a.b.${serial}` }) },
    );
    const tries = calls.filter(({ kind }) => kind === 'register');
    expect(tries.map(({ credential, body }) => [credential, (body as Loose).kubernetesToken])).toEqual([
      ['mn_1', 'a.b.1'],
      ['mn_2', 'a.b.2'],
    ]);
    expect(new Set(tries.map(({ body }) => (body as Loose).nonce)).size).toBe(2);
    expect(beats.at(-1)?.credential).toBe('ma_2');
    expect(keys.read()?.key).toBe('ma_2');
  });

  it('waits for tokens of its cluster that cannot be read yet', async () => {
    let isThere = false;
    const { calls, logged } = await live(60_000, good, {
      token: null,
      readClusterTokens() {
        if (isThere) return { token: 'mn_x', proof: 'a.b.c' };
        isThere = true;
        throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
      },
    });
    expect(logged.join()).toContain('cannot be read (ENOENT)');
    expect(calls[0]).toMatchObject({ kind: 'register', credential: 'mn_x' });
  });

  it('takes a new key over when it is kept, and uses it with the next heartbeat', async () => {
    const { beats } = await live(35_000, (call) =>
      call.kind === 'heartbeat' && call.nowMs === 10_000 ? { ...good(call), key: 'ma_second' } : good(call),
    );
    expect(beats.map(({ credential }) => credential)).toEqual(['ma_first', 'ma_first', 'ma_second', 'ma_second']);
    expect(keys.read()?.key).toBe('ma_second');
  });

  it('goes on with the old key where the new one cannot be kept', async () => {
    let writes = 0;
    const failing: KeyStore = {
      ...keys,
      write(key) {
        if (writes++ > 0) throw Object.assign(new Error('disk full'), { code: 'ENOSPC' });
        keys.write(key);
      },
    };
    const { beats, logged } = await live(
      25_000,
      (call) => (call.kind === 'heartbeat' ? { ...good(call), key: 'ma_second' } : good(call)),
      { keys: failing },
    );
    expect(new Set(beats.map(({ credential }) => credential))).toEqual(new Set(['ma_first']));
    expect(logged.join()).toContain('ENOSPC');
  });

  it('asks what to do before the first reading of its GPUs is there', async () => {
    const did: string[] = [];
    let read = () => {};
    const reading = new Promise<GpuReading>((resolve) => (read = () => resolve(READING)));
    const controlPlane = {
      register: () => Promise.resolve({ nodeId: 'nod_1', key: 'ma_first', intervalMs: 10_000 }),
      heartbeat: () => Promise.resolve(did.push('heartbeat') && { accepted: true, intervalMs: 10_000 }),
      report: () => Promise.resolve({ acknowledgedOrders: [] }),
      desired: (_key: string, { signal }: { signal: AbortSignal }) => {
        if (did.push('desired') === 1) read();
        return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new CallError('x'))));
      },
    } as unknown as ControlPlane;
    await live(15_000, good, { controlPlane, gpus: { read: () => reading } });
    expect(did.slice(0, 2)).toEqual(['desired', 'heartbeat']);
  });

  it('is not silenced by a reading that never comes back', async () => {
    const { beats } = await live(60_000, good, { gpus: { read: () => new Promise(() => {}) } });
    expect(beats.length).toBeGreaterThan(4);
    expect(beats.at(-1)?.body.gpu).toMatchObject({ verdict: 'unknown', gpus: null });
  });

  it('never logs a credential', async () => {
    const { logged } = await live(100_000, (call) =>
      call.nowMs < 20_000 ? new CallError('answered 500 (internal)') : { ...good(call), key: 'ma_second' },
    );
    expect(logged.join('\n')).not.toMatch(/m[an]_/);
  });
});

/** As a control plane that knows orders answers. */
const knowing =
  (more: object = {}) =>
  ({ kind }: Pick<Call, 'kind'>) =>
    kind === 'heartbeat'
      ? {
          accepted: true,
          intervalMs: 10_000,
          desiredRevision: -1,
          acknowledgedOrders: [],
          deadManMs: null,
          isFenced: false,
          agentSha256: null,
          ...more,
        }
      : { nodeId: 'nod_1', key: 'ma_first', intervalMs: 10_000, acknowledgedOrders: [] };

/** What becomes of the node's work; `told` is what it is to be. */
function watchedWork(told: DesiredReply[] = []) {
  const did: string[] = [];
  const pods: Pods = {
    apply: (desired) => void did.push(`apply ${desired.length}`),
    report: () => undefined,
    stopAll: (reason) => Promise.resolve(void did.push(`stop: ${reason}`)),
  };
  const work: AgentParts['work'] = (changed) => {
    const orders = createOrders({ directory, handlers: {}, changed, log: () => {} });
    const lock: WorkspaceLock = {
      putOn: () => Promise.resolve(did.push('lock') > 0),
      takeOff: () => Promise.resolve(void did.push('unlock')),
    };
    const writes = createWriteAccess({ file: join(directory, 'writes'), lock, bootId: 'b', log: () => {} });
    const duties = createDuties({ pods, orders, writes, log: () => {} });
    for (const one of told) duties.apply(one);
    return { orders, pods, duties };
  };
  return { did, work };
}

describe('an agent and a control plane of different age', () => {
  const NEW_MEMBERS = ['activity', 'gpuPeakPercent', 'orders', 'samples', 'desiredRevision'];

  it('an older control plane gets nothing that it does not know', async () => {
    const { beats } = await live(35_000, good, { readActivity: () => ({ declaredAgoMs: 5 }) });
    for (const { body } of beats) {
      for (const member of NEW_MEMBERS) expect(body).not.toHaveProperty(member);
      expect(body.system).not.toHaveProperty('cpuPercent');
    }
  });

  it('a newer one gets all from the second heartbeat on, and the old form again where it was set back', async () => {
    const { beats } = await live(
      75_000,
      (call) => {
        if (call.kind !== 'heartbeat' || call.nowMs < 30_000) return knowing()(call);
        return 'activity' in call.body ? new CallError('answered 422', { isMisunderstood: true }) : good(call);
      },
      { readActivity: () => ({ declaredAgoMs: 5 }) },
    );
    const isNew = beats.map(({ body }) => 'activity' in body);
    expect(isNew.slice(0, 3)).toEqual([false, true, true]);
    expect(isNew.lastIndexOf(true)).toBe(3);
    expect(beats.at(-1)?.atMs).toBeGreaterThan(60_000);
    for (const { body } of beats) expect(heartbeatBody.safeParse(body).error).toBeUndefined();
  });
});

describe('what was measured while nobody answered', () => {
  it('is told afterwards, a sample a minute, each once and with its age', async () => {
    const { beats } = await live(1_000_000, (call) =>
      call.nowMs > 100_000 && call.nowMs < 700_000 ? new CallError('answered 503') : knowing()(call),
    );
    const told = beats.flatMap(({ body, atMs }) => (body.samples ?? []).map(({ agoMs }) => atMs - agoMs));
    const arrived = told.filter((at, index) => told.indexOf(at) === index);
    expect(arrived.length).toBeGreaterThanOrEqual(8);
    expect(arrived.length).toBeLessThanOrEqual(11);
    for (const at of arrived) expect(at).toBeGreaterThan(100_000);
    for (const at of arrived) expect(at).toBeLessThan(700_000);
    const after = beats.filter(({ atMs }) => atMs >= 700_000);
    expect(after.slice(1).every(({ body }) => body.samples === undefined)).toBe(true);
  });
});

describe("the dead man's switch", () => {
  const declared = knowing({ deadManMs: 600_000 });
  const silentFrom = (fromMs: number) => (call: Call) =>
    call.nowMs >= fromMs ? new CallError('cannot be reached (ECONNREFUSED)') : declared(call);

  it('stops the pods, ends the writes and switches off once nothing was heard for the declared time', async () => {
    const { did, work } = watchedWork();
    const { beats } = await live(1_500_000, silentFrom(95_000), {
      work,
      powerOff: () => Promise.resolve(void (did.at(-1) !== 'off' && did.push('off'))),
    });
    expect(did).toEqual(['stop: no sign of life from the control plane', 'lock', 'off']);
    const last = beats.at(-1)?.atMs ?? 0;
    expect(last).toBeGreaterThan(650_000);
    expect(last).toBeLessThanOrEqual(690_000 + 1);
  });

  it('tries again where the machine cannot be switched off, and tells whoever hears it', async () => {
    let tries = 0;
    const { calls } = await live(1_000_000, silentFrom(0), {
      deadMan: createDeadMan({ file: join(directory, 'd'), bootId: 'b', uptimeMs: () => 0, own: 5_000, log: () => {} }),
    });
    expect(calls.length).toBeGreaterThan(0);
    const { calls: more } = await live(1_000_000, silentFrom(30_000), {
      powerOff: () => Promise.reject(new Error(`try ${++tries}`)),
    });
    expect(tries).toBeGreaterThan(3);
    const told = more.filter(({ kind }) => kind === 'report');
    expect(told.length).toBe(tries);
    expect(told[0]?.body).toEqual({ poweringOff: { reason: 'no sign of life from the control plane' } });
  });

  it('never switches off where nothing was declared, and not in an outage shorter than declared', async () => {
    for (const answer of [
      (call: Call) => (call.nowMs > 50_000 ? new CallError('answered 503') : knowing()(call)),
      (call: Call) => (call.nowMs > 50_000 && call.nowMs < 620_000 ? new CallError('answered 503') : declared(call)),
    ]) {
      const { did, work } = watchedWork();
      await live(1_500_000, answer, { work, powerOff: () => Promise.resolve(void did.push('off')) });
      expect(did).toEqual([]);
    }
  });

  it('counts a refused key and an unreadable answer as silence: nobody who knows us lives there', async () => {
    const { did, work } = watchedWork();
    await live(
      2_000_000,
      (call) => (call.nowMs > 50_000 ? new CallError('answered 401', { isRefused: true }) : declared(call)),
      { work, powerOff: () => Promise.resolve(void did.push('off')) },
    );
    expect(did).toContain('off');
  });

  it('asks once before it ends an agent that did not run for so long, and goes on where it is answered', async () => {
    const options = { file: join(directory, 'kept.json'), bootId: 'boot-one', own: null, log: () => {} };
    for (const [answer, ends] of [
      [declared, []],
      [silentFrom(0), ['off']],
    ] as const) {
      const before = createDeadMan({ ...options, uptimeMs: () => 0 });
      before.declare(600_000);
      before.sign();
      const { did, work } = watchedWork();
      keys.write({ nodeId: 'nod_1', key: 'ma_first' });
      const nowMs = 5_000_000;
      const { beats } = await live(120_000, answer, {
        work,
        deadMan: createDeadMan({ ...options, uptimeMs: () => nowMs }),
        powerOff: () => Promise.resolve(void did.push('off')),
      });
      expect(beats.length).toBeGreaterThan(0);
      expect(did.filter((one) => one === 'off').slice(0, 1)).toEqual(ends);
    }
  });
});

describe('the kept sign of life', () => {
  const open = (uptimeMs: number, change: object = {}) =>
    createDeadMan({
      file: join(directory, 'dead-man.json'),
      bootId: 'boot-one',
      uptimeMs: () => uptimeMs,
      own: null,
      log: () => {},
      ...change,
    });

  it('goes on over a restart of the agent, and counts anew after one of the machine, by what was declared', () => {
    const before = open(1_000_000);
    before.declare(600_000);
    before.sign();
    expect(open(1_200_000).remainingMs()).toBe(400_000);
    expect(open(2_000_000).remainingMs()).toBe(0);
    // Nobody may be left to declare it again.
    expect(open(50_000, { bootId: 'boot-two' }).remainingMs()).toBe(600_000);
    // An uptime that went back is no silence.
    expect(open(500_000).remainingMs()).toBe(600_000);
  });

  it('of whoever owns the machine goes before what the control plane declares', () => {
    const off = open(0, { own: 'off' });
    off.declare(5_000);
    expect(off.remainingMs()).toBe(Infinity);
    expect(open(0, { own: 60_000 }).remainingMs()).toBe(60_000);
  });

  it('survives a damaged file and a disk that is full', () => {
    writeFileSync(join(directory, 'dead-man.json'), '{');
    expect(open(5).remainingMs()).toBe(Infinity);
    const logged: string[] = [];
    const full = open(5, { file: join(directory, 'dead-man.json', 'x'), log: (line: string) => logged.push(line) });
    full.declare(10_000);
    expect(full.remainingMs()).toBe(10_000);
    expect(logged).toHaveLength(1);
  });
});

describe('a fenced node', () => {
  const told: DesiredReply = { revision: 3, isFenced: false, orders: [], pods: [] };

  it('stops its pods and its writes once, goes on reporting, and works again when it may', async () => {
    const { did, work } = watchedWork([told]);
    const { beats } = await live(
      95_000,
      (call) => knowing({ isFenced: call.nowMs >= 20_000 && call.nowMs < 60_000 })(call),
      { work },
    );
    expect(did).toEqual(['apply 0', 'stop: the node is fenced', 'lock', 'unlock', 'apply 0']);
    expect(beats.length).toBe(10);
  });
});

describe('the pause after a failure', () => {
  it('is within its bounds for every number of failures and every draw', () => {
    fc.assert(
      fc.property(
        fc.nat(1_000),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.boolean(),
        (failures, draw, isRefused) => {
          const ms = backoffMs(failures, draw, { isRefused, askedMs: 0 });
          expect(ms).toBeGreaterThanOrEqual(250);
          expect(ms).toBeLessThanOrEqual(isRefused ? 300_000 : 20_000);
        },
      ),
    );
  });

  it('is at least what the answer asked for', () => {
    expect(backoffMs(0, 0, { isRefused: false, askedMs: 7_000 })).toBe(7_000);
  });
});

describe('the kept key', () => {
  it('is a file of mode 600 in a directory of mode 700, and the nonce is gone with it', () => {
    const state = join(directory, 'state');
    const nonce = keys.readNonce();
    expect(keys.readNonce()).toBe(nonce);
    keys.write({ nodeId: 'nod_1', key: 'ma_x' });
    expect(statSync(state).mode & 0o777).toBe(0o700);
    expect(statSync(join(state, 'agent.key')).mode & 0o777).toBe(0o600);
    expect(keys.readNonce()).not.toBe(nonce);
  });

  it('that is damaged counts as none', () => {
    keys.write({ nodeId: 'nod_1', key: 'ma_x' });
    const file = join(directory, 'state', 'agent.key');
    for (const text of ['', '{', '{"nodeId":1}', readFileSync(file, 'utf8').slice(0, 12)]) {
      writeFileSync(file, text);
      expect(keys.read()).toBeNull();
    }
  });
});

describe('what the machine says', () => {
  it('names a boot: another after a restart of the machine, and of the container', () => {
    const proc = (bootId: string, startTime: number): string => {
      const root = mkdtempSync(join(directory, 'proc-'));
      mkdirSync(join(root, 'sys/kernel/random'), { recursive: true });
      mkdirSync(join(root, '1'));
      writeFileSync(join(root, 'sys/kernel/random/boot_id'), `${bootId}\n`);
      writeFileSync(join(root, '1/stat'), `1 (a) b) S ${'0 '.repeat(18)}${startTime} 0 0\n`);
      return root;
    };
    const ids = [proc('aaaaaaaa-1', 5), proc('bbbbbbbb-1', 5), proc('aaaaaaaa-1', 6), proc('aaaaaaaa-1', 5)].map(
      readBootId,
    );
    expect(new Set(ids).size).toBe(3);
    expect(ids[0]).toBe(ids[3]);
    expect(readBootId(join(directory, 'nothing'))).toBeNull();
  });

  it('has null for what the kernel does not tell', () => {
    const facts = createSystemReader(join(directory, 'nothing'))();
    expect(facts).toMatchObject({ memoryTotalMib: null, memoryAvailableMib: null, uptimeSeconds: null });
    expect(systemFacts.safeParse(facts).success).toBe(true);
  });
});

describe('the settings', () => {
  const env = { MUSTER_AGENT_URL: 'http://127.0.0.1:8080/', MUSTER_AGENT_TOKEN: 'mn_abcdefghijklmnopqrstuvwxyz' };

  it('pass nothing of ours on to nvidia-smi', () => {
    const { url, programEnvironment } = readSettings({ ...env, PATH: '/bin', SECRET: 'x' });
    expect(url).toBe('http://127.0.0.1:8080');
    expect(programEnvironment).toEqual({ PATH: '/bin', LC_ALL: 'C' });
  });

  it.each([
    [{ ...env, MUSTER_AGENT_URL: '' }, /MUSTER_AGENT_URL/],
    [{ ...env, MUSTER_AGENT_URL: 'ftp://x' }, /MUSTER_AGENT_URL/],
    [{ ...env, MUSTER_AGENT_URL: 'https://user:pass@x' }, /MUSTER_AGENT_URL/],
    [{ ...env, MUSTER_AGENT_DIR: 'here' }, /MUSTER_AGENT_DIR/],
    [{ ...env, MUSTER_AGENT_TOKEN: 'has blanks in it, sadly' }, /not shown/],
    [{ ...env, MUSTER_AGENT_TOKEN_FILE: 'token' }, /MUSTER_AGENT_TOKEN_FILE: got "token"; allowed: an absolute path/],
    [{ ...env, MUSTER_AGENT_KUBERNETES_TOKEN_FILE: '/a' }, /one needs the other/],
  ])('that are wrong are named: %#', (wrong, message) => {
    expect(() => readSettings(wrong)).toThrow(message);
  });
});
