/** The simulated engine, by the agent's own code, which is what talks to real ones. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEngine } from '../../agent/containers/engine.ts';
import { createPodLogOrder } from '../../agent/containers/pod-logs.ts';
import { createPods, type NodePods } from '../../agent/containers/pods.ts';
import { podSpec, type DesiredPod, type LogBatch } from '../../api/contract/pods.ts';
import { startSimulatedEngine, type SimulatedEngine } from '../../sandbox/docker/engine.ts';
import { programOf } from '../../sandbox/docker/program.ts';

let directory: string;
let engine: SimulatedEngine;
let pods: NodePods;
const boot = async (name: string) => {
  engine = await startSimulatedEngine({
    socket: join(directory, 'docker.sock'),
    file: join(directory, 'docker.json'),
    boot: name,
  });
};
const startAgent = () => {
  pods = createPods({
    engine: createEngine(join(directory, 'docker.sock')),
    directory,
    workspace: join(directory, 'workspace'),
    monotonicMs: () => performance.now(),
    changed: () => {},
    log: () => {},
    lookEveryMs: 50,
  });
};
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'muster-docker-'));
  await boot('1');
  startAgent();
});
afterEach(async () => {
  pods.stop();
  await engine.close();
  rmSync(directory, { recursive: true, force: true });
});

const ID = 'pod_aaaaaaaaaaaaaaaa';
const pod = (spec: object, change: Partial<DesiredPod> = {}): DesiredPod => ({
  podId: ID,
  run: 1,
  state: 'running',
  spec: podSpec.parse({ image: 'acme/server', ...spec }),
  gpus: [],
  registryLogin: null,
  ...change,
});
const report = () => pods.report()?.items[0];

async function until(isSo: () => boolean): Promise<void> {
  const end = performance.now() + 8_000;
  while (!isSo()) {
    if (performance.now() > end) throw new Error(`it did not come to be: ${JSON.stringify(report())}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('the simulated engine', () => {
  it('pulls, runs, publishes ports, and tells logs', async () => {
    pods.apply([pod({ ports: [{ containerPort: 80 }], args: ['echo', 'hello', 'there'], restartPolicy: 'never' })]);
    await until(() => report()?.status === 'exited');
    expect(report()).toMatchObject({ exitCode: 0, imageDigest: expect.stringMatching(/^sha256:/) });
    expect(pods.report()?.engine).toEqual({ name: 'docker', version: '28.1.0', problem: null });
    const batches: LogBatch[] = [];
    const ended = Promise.withResolvers<void>();
    const read = createPodLogOrder({
      engine: createEngine(join(directory, 'docker.sock')),
      pods,
      sleep: () => Promise.resolve(),
      send: async (batch) => {
        batches.push(batch);
        if (batch.isEnd) ended.resolve();
        return { isWanted: true, isTaken: true };
      },
    });
    const input = { podId: ID, follow: true, since: null, tail: 10 };
    const order = { id: 'ord_aaaaaaaaaaaaaaaa', kind: 'stream_pod_logs' as const, input, remainingMs: 1_000 };
    await read(order, { signal: new AbortController().signal, progress: () => {}, log: () => {} });
    await ended.promise;
    expect(batches.flatMap(({ lines }) => lines).map(({ text }) => text)).toEqual(['hello there']);
  });

  it('refuses images that are missing, and private ones without a login', async () => {
    pods.apply([pod({ image: 'acme/missing' })]);
    await until(() => report()?.status === 'failed');
    expect(report()?.reason).toMatch(/manifest unknown/);
    pods.apply([pod({ image: 'acme/private' }, { run: 2 })]);
    await until(() => report()?.run === 2 && report()?.status === 'failed');
    expect(report()?.reason).toMatch(/unauthorized/);
    const registryLogin = { registry: 'docker.io', username: 'me', password: 'secret' };
    pods.apply([pod({ image: 'acme/private' }, { run: 3, registryLogin })]);
    await until(() => report()?.run === 3 && report()?.status === 'running');
  });

  it('has lost what ran when its machine boots, and keeps what it had', async () => {
    pods.apply([
      pod({
        ports: [{ containerPort: 80 }],
        restartPolicy: 'never',
        mounts: [{ kind: 'volume', name: 'data', target: '/data' }],
      }),
    ]);
    await until(() => report()?.status === 'running');
    expect(report()?.ports).toEqual([{ containerPort: 80, hostPort: 49_152, protocol: 'tcp' }]);
    pods.stop();
    await engine.close();
    await boot('1');
    startAgent();
    pods.apply([pod({ restartPolicy: 'never' })]);
    await until(() => report()?.status === 'running');
    pods.stop();
    await engine.close();
    await boot('2');
    startAgent();
    pods.apply([pod({ restartPolicy: 'never' })]);
    await until(() => report()?.status === 'failed');
    expect(report()).toMatchObject({ exitCode: 137 });
    pods.apply([pod({}, { state: 'removed' })]);
    await until(() => report()?.status === 'removed');
  });

  it('says so while it is away, and its pods are found again', async () => {
    pods.apply([pod({})]);
    await until(() => report()?.status === 'running');
    await engine.close();
    await until(() => pods.report()?.engine.problem !== null);
    expect(report()?.status).toBe('running');
    await boot('1');
    await until(() => pods.report()?.engine.problem === null);
  });
});

describe('programs are told by image and command', () => {
  it.each<[string, string[], object]>([
    ['acme/exit-7', [], { exitCode: 7, endsAfterMs: 1_000 }],
    ['acme/run-5:latest', [], { exitCode: 0, endsAfterMs: 5_000 }],
    ['acme/crash@sha256:0', [], { exitCode: 1, endsAfterMs: 0 }],
    ['acme/server', [], { endsAfterMs: null }],
    ['busybox', ['sleep', '3'], { exitCode: 0, endsAfterMs: 3_000 }],
    ['busybox', ['sh', '-c', 'echo a; sleep 2; exit 4'], { exitCode: 4, endsAfterMs: 2_000 }],
    ['busybox', ['sh', '-c', 'exec sleep 1'], { endsAfterMs: 1_000 }],
    ['busybox', ['sh', '-c', 'nvidia-smi; exit 4'], { endsAfterMs: null }],
  ])('%s %j', (image, command, told) => {
    expect(programOf(image, command)).toMatchObject(told);
  });
});
