/** The agent's pods on a real engine: Podman with runc. Where there is none, the suite says so and runs nothing. */
import { existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createPodLogOrder } from '../../agent/containers/pod-logs.ts';
import { createPods, type NodePods } from '../../agent/containers/pods.ts';
import { podSpec, type DesiredPod, type LogBatch, type PodReport } from '../../api/contract/pods.ts';
import { BUSYBOX_IMAGE, findPodman, startPodman, type PodmanService } from '../support/podman.ts';

const missing = findPodman();
if (missing !== null) console.warn(`test/e2e/podman.test.ts: not run: ${missing}`);

let podman: PodmanService;
let directory: string;
let workspace: string;
let pods: NodePods;
const log: string[] = [];

describe.skipIf(missing !== null)('pods on Podman', () => {
  beforeAll(async () => {
    podman = await startPodman();
  }, 60_000);
  afterAll(() => podman?.stop(), 60_000);
  beforeEach(({ task }) => {
    directory = join(podman.directory, `agent-${task.id.replace(/\W/g, '')}`);
    workspace = join(directory, 'workspace');
    pods = startAgent();
  });
  afterEach(async () => {
    pods.apply([]);
    await until(async () => (await ours()).length === 0);
    pods.stop();
  }, 30_000);

  function startAgent(): NodePods {
    return createPods({
      engine: podman.engine,
      directory,
      workspace,
      monotonicMs: () => performance.now(),
      changed: () => {},
      log: (message) => void log.push(message),
      lookEveryMs: 100,
    });
  }

  async function ours(): Promise<{ Names: string[]; Id: string }[]> {
    const filters = encodeURIComponent(JSON.stringify({ label: [`io.muster.agent=${directory}`] }));
    return (await podman.engine.call('GET', `/containers/json?all=1&filters=${filters}`)) as {
      Names: string[];
      Id: string;
    }[];
  }

  const reportOf = (podId: string): PodReport | undefined => pods.report()?.items.find((one) => one.podId === podId);
  const reaches = (podId: string, status: PodReport['status']) =>
    until(
      () => Promise.resolve(reportOf(podId)?.status === status),
      () => JSON.stringify(reportOf(podId)),
    );

  async function readLog(podId: string, change: { follow?: boolean; since?: string; tail?: number } = {}) {
    const batches: LogBatch[] = [];
    const ended = Promise.withResolvers<void>();
    const handler = createPodLogOrder({
      engine: podman.engine,
      pods,
      sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
      send: async (batch) => {
        batches.push(batch);
        if (batch.isEnd) ended.resolve();
        return { isWanted: true, isTaken: true };
      },
    });
    const input = { podId, follow: change.follow ?? false, since: change.since ?? null, tail: change.tail ?? 200 };
    const order = { id: 'ord_aaaaaaaaaaaaaaaa', kind: 'stream_pod_logs' as const, input, remainingMs: 30_000 };
    await handler(order, { signal: new AbortController().signal, progress: () => {}, log: () => {} });
    await ended.promise;
    return { lines: batches.flatMap((batch) => batch.lines), error: batches.at(-1)?.error };
  }

  it('run with what they were given and nothing else of the host, and end with their exit code and log', async () => {
    const id = podId();
    const script = 'echo "$SECRET $(cat /data/in)"; echo warn >&2; id -u; touch /data/out; exit 3';
    mkdirSync(join(workspace, 'set'), { recursive: true });
    writeFileSync(join(workspace, 'set', 'in'), 'from the workspace');
    pods.apply([
      pod(id, {
        args: ['sh', '-c', script],
        env: { SECRET: 'hush' },
        restartPolicy: 'never',
        resources: { memoryMib: 64, cpus: 0.5 },
        mounts: [{ kind: 'workspace', path: 'set', target: '/data' }],
      }),
    ]);
    await reaches(id, 'failed');
    expect(reportOf(id)).toMatchObject({ exitCode: 3, reason: 'it ended with 3', restarts: 0, run: 1 });
    expect(reportOf(id)?.imageDigest).toMatch(/^sha256:/);
    expect(existsSync(join(workspace, 'set', 'out'))).toBe(true);
    const { lines } = await readLog(id);
    expect(lines.map(({ text, stream }) => `${stream}: ${text}`).sort()).toEqual([
      'stderr: warn',
      'stdout: 0',
      'stdout: hush from the workspace',
    ]);
    const [container] = await ours();
    const facts = (await podman.engine.call('GET', `/containers/${container?.Id}/json`)) as {
      HostConfig: Record<string, unknown>;
    };
    expect(facts.HostConfig).toMatchObject({ Privileged: false, Memory: 64 * 1024 * 1024, NanoCpus: 500_000_000 });
    expect(log.join('\n')).not.toContain('hush');
  }, 30_000);

  it('have the GPUs that they were promised, as devices of the Container Device Interface, or do not run', async () => {
    const file = '/var/run/cdi/muster-test.json';
    mkdirSync('/var/run/cdi', { recursive: true });
    const device = (name: string) => ({ name, containerEdits: { env: [`SEEN_${name.replace('-', '_')}=yes`] } });
    writeFileSync(
      file,
      JSON.stringify({ cdiVersion: '0.3.0', kind: 'nvidia.com/gpu', devices: [device('GPU-a'), device('GPU-b')] }),
    );
    try {
      const [one, none] = [podId(), podId()];
      const resources = { memoryMib: 64, cpus: 0.5, shmMib: 32 };
      const mounts: Loose[] = [
        { kind: 'workspace', path: 'set', target: '/data' },
        { kind: 'volume', name: 'v', target: '/v' },
      ];
      const args = ['sh', '-c', 'echo "$OWN $SEEN_GPU_a $SEEN_GPU_b"; touch /data/out /v/out'];
      const spec = { args, env: { OWN: 'a=b' }, restartPolicy: 'never', resources, mounts };
      pods.apply([
        { ...pod(one, spec), gpus: [{ index: 1, uuid: 'GPU-b' }] },
        { ...pod(none, spec), gpus: [{ index: 7, uuid: 'GPU-none' }] },
      ]);
      await reaches(one, 'exited');
      expect((await readLog(one)).lines.map(({ text }) => text)).toEqual(['a=b  yes']);
      expect(existsSync(join(workspace, 'set', 'out'))).toBe(true);
      await until(
        () => Promise.resolve(/GPU-none/.test(reportOf(none)?.reason ?? '')),
        () => JSON.stringify(reportOf(none)),
      );
    } finally {
      rmSync(file, { force: true });
    }
  }, 40_000);

  it('are started again by their policy, later each time, up to their maximum', async () => {
    const id = podId();
    pods.apply([pod(id, { args: ['false'], restartPolicy: 'on_failure', maxRestarts: 1 })]);
    await reaches(id, 'restarting');
    expect(reportOf(id)?.reason).toMatch(/^it ended with 1; started again after 1 s$/);
    await reaches(id, 'failed');
    expect(reportOf(id)).toMatchObject({ restarts: 1, exitCode: 1 });
  }, 30_000);

  it('that end well are at rest with "on_failure"', async () => {
    const id = podId();
    pods.apply([pod(id, { args: ['true'] })]);
    await reaches(id, 'exited');
    expect(reportOf(id)).toMatchObject({ exitCode: 0, reason: null });
  }, 30_000);

  it('go on under an agent that was started anew, and are taken away by it when they shall not be', async () => {
    const id = podId();
    const desired = pod(id, { args: IDLE });
    pods.apply([desired]);
    await reaches(id, 'running');
    const [before] = await ours();
    pods.stop();
    pods = startAgent();
    pods.apply([desired]);
    await reaches(id, 'running');
    expect(await ours()).toMatchObject([{ Id: before?.Id }]);
    pods.stop();
    pods = startAgent();
    pods.apply([]);
    await until(async () => (await ours()).length === 0);
  }, 60_000);

  it('are stopped, and made anew by another run; their volumes stay until they are removed', async () => {
    const id = podId();
    const mounts: Loose[] = [{ kind: 'volume', name: 'data', target: '/data' }];
    const script = 'echo run >> /data/runs; cat /data/runs; exec sleep 1000';
    const desired = pod(id, { args: ['sh', '-c', script], mounts, stopGraceSeconds: 0 });
    pods.apply([desired]);
    await reaches(id, 'running');
    pods.apply([{ ...desired, state: 'stopped' }]);
    await reaches(id, 'stopped');
    pods.apply([{ ...desired, run: 2 }]);
    await until(() => Promise.resolve(reportOf(id)?.run === 2 && reportOf(id)?.status === 'running'));
    await until(async () => (await readLog(id)).lines.length === 2);
    expect(await ours()).toHaveLength(1);
    pods.apply([{ ...desired, run: 2, state: 'removed' }]);
    await reaches(id, 'removed');
    expect(await ours()).toEqual([]);
    const volumes = (await podman.engine.call('GET', '/volumes')) as { Volumes: { Name: string }[] | null };
    expect((volumes.Volumes ?? []).filter(({ Name: name }) => name.includes(id))).toEqual([]);
  }, 60_000);

  it('never touch a container that is not ours', async () => {
    const made = (await podman.engine.call('POST', '/containers/create?name=somebody-elses', {
      body: {
        Image: BUSYBOX_IMAGE,
        Cmd: ['sleep', '1000'],
        Labels: { 'io.muster.pod': podId(), 'io.muster.run': '1', 'io.muster.agent': '/another/agent' },
      },
    })) as { Id: string };
    await podman.engine.call('POST', `/containers/${made.Id}/start`);
    const id = podId();
    pods.apply([pod(id, { args: ['true'] })]);
    await reaches(id, 'exited');
    await pods.stopAll('a test');
    const theirs = (await podman.engine.call('GET', `/containers/${made.Id}/json`)) as { State: { Running: boolean } };
    expect(theirs.State.Running).toBe(true);
    await podman.engine.call('DELETE', `/containers/${made.Id}?force=1`);
  }, 30_000);

  it('cannot mount what a link in the workspace leads to', async () => {
    mkdirSync(workspace, { recursive: true });
    symlinkSync('/etc', join(workspace, 'link'));
    const [one, two] = [podId(), podId()];
    pods.apply([
      pod(one, { args: ['true'], mounts: [{ kind: 'workspace', path: 'link', target: '/data' }] as Loose }),
      pod(two, { args: ['true'], mounts: [{ kind: 'workspace', path: 'link/new', target: '/data' }] as Loose }),
    ]);
    await reaches(one, 'failed');
    await reaches(two, 'failed');
    expect(reportOf(one)?.reason).toBe('link leads out of the workspace');
    expect(existsSync('/etc/new')).toBe(false);
    expect(await ours()).toEqual([]);
  }, 30_000);

  it('fail with the reason where the image is not to be had or the command is not in it', async () => {
    const [image, command] = [podId(), podId()];
    pods.apply([
      pod(image, { image: 'localhost:1/no/such:1', restartPolicy: 'never' }),
      pod(command, { command: ['/no/such'], restartPolicy: 'never' }),
    ]);
    await reaches(command, 'failed');
    expect(reportOf(command)?.reason).toMatch(/no such file|not found/i);
    await until(
      () => Promise.resolve(/try 1 of 5 failed/.test(reportOf(image)?.reason ?? '')),
      () => JSON.stringify(reportOf(image)),
    );
    expect(reportOf(image)?.status).toBe('pulling');
  }, 30_000);

  it('are unhealthy when their port does not answer, and started again', async () => {
    const id = podId();
    const port = 18_000 + Math.floor(Math.random() * 2_000);
    const script = `httpd -p ${port} -h /www; sleep 4; exec sleep 1000`;
    const healthCheck = {
      probe: { kind: 'http' as const, port, path: '/missing' },
      intervalSeconds: 1,
      timeoutSeconds: 1,
      retries: 2,
      startPeriodSeconds: 0,
    };
    pods.apply([
      pod(id, {
        args: ['sh', '-c', script],
        ports: [{ containerPort: port, hostPort: port, protocol: 'tcp' }],
        healthCheck,
        stopGraceSeconds: 0,
        maxRestarts: 1,
      }),
    ]);
    await reaches(id, 'restarting');
    expect(reportOf(id)).toMatchObject({ restarts: 0 });
    expect(reportOf(id)?.reason).toMatch(/answered 404/);
  }, 60_000);

  it('are held while the node is fenced, and go on after it', async () => {
    const id = podId();
    const desired = pod(id, { args: IDLE, stopGraceSeconds: 0 });
    pods.apply([desired]);
    await reaches(id, 'running');
    await pods.stopAll('the node is fenced');
    expect(reportOf(id)?.status).toBe('stopped');
    expect(await running()).toBe(0);
    pods.apply([desired]);
    await reaches(id, 'running');
    expect(reportOf(id)?.restarts).toBe(0);
  }, 60_000);

  it('have logs that are followed to their end, from a time on, and by their last lines', async () => {
    const id = podId();
    pods.apply([pod(id, { args: ['sh', '-c', 'seq 1 300; sleep 2; echo last'], restartPolicy: 'never' })]);
    await reaches(id, 'running');
    const { lines, error } = await readLog(id, { follow: true, tail: 5_000 });
    expect(error).toBeNull();
    expect(lines.map(({ text }) => text)).toEqual([...Array.from({ length: 300 }, (_, n) => String(n + 1)), 'last']);
    expect((await readLog(id, { tail: 2 })).lines.map(({ text }) => text)).toEqual(['300', 'last']);
    const later = await readLog(id, { since: lines.at(-1)?.at ?? '' });
    expect(later.lines.map(({ text }) => text)).toEqual(['last']);
    expect((await readLog(podId())).error).toBe('it has no container on its node yet');
  }, 60_000);

  async function running(): Promise<number> {
    const filters = encodeURIComponent(JSON.stringify({ label: [`io.muster.agent=${directory}`] }));
    return ((await podman.engine.call('GET', `/containers/json?filters=${filters}`)) as unknown[]).length;
  }

  it('tell of the engine', async () => {
    await until(() => Promise.resolve(pods.report() !== undefined));
    expect(pods.report()?.engine).toEqual({ name: 'podman', version: expect.stringMatching(/^\d+\./), problem: null });
  });
});

/** Ends when it is told to, which a bare `sleep` as first process does not. */
const IDLE = ['sh', '-c', 'trap "exit 0" TERM; while :; do sleep 0.1; done'];

// oxlint-disable-next-line typescript/no-explicit-any
type Loose = any;

let serial = 0;
function podId(): string {
  serial += 1;
  return `pod_${serial.toString(2).replaceAll('0', 'a').replaceAll('1', 'b').padStart(16, 'c')}`;
}

function pod(id: string, spec: Loose): DesiredPod {
  const whole = podSpec.parse({ image: BUSYBOX_IMAGE, stopGraceSeconds: 1, ...spec });
  return { podId: id, run: 1, state: 'running', spec: whole, gpus: [], registryLogin: null };
}

async function until(isSo: () => Promise<boolean>, tell: () => string = () => ''): Promise<void> {
  const end = performance.now() + 20_000;
  while (!(await isSo())) {
    if (performance.now() > end) throw new Error(`it did not come to be: ${tell()}\n${log.slice(-10).join('\n')}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
