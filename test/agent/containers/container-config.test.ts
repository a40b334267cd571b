import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { containerConfig, containerName } from '../../../agent/containers/container-config.ts';
import { podSpec, type DesiredPod } from '../../../api/contract/pods.ts';

const workspace = mkdtempSync(join(tmpdir(), 'muster-workspace-'));
afterAll(() => rmSync(workspace, { recursive: true, force: true }));

// oxlint-disable-next-line typescript/no-explicit-any
const config = (spec: object, change: Partial<DesiredPod> = {}, engine: 'docker' | 'podman' = 'docker'): any =>
  containerConfig(
    {
      podId: 'pod_aaaaaaaaaaaaaaaa',
      run: 3,
      state: 'running',
      spec: podSpec.parse({ image: 'acme/x', ...spec }),
      gpus: [],
      registryLogin: null,
      ...change,
    },
    { owner: '/var/lib/muster-agent', workspace, engine },
  );

describe('the container of a pod', () => {
  it('has no privilege and nothing of the host, is known by its labels, and is not started again by the engine', () => {
    const made = config({});
    expect(made.Labels).toEqual({
      'io.muster.pod': 'pod_aaaaaaaaaaaaaaaa',
      'io.muster.run': '3',
      'io.muster.agent': '/var/lib/muster-agent',
    });
    expect(made.HostConfig).toMatchObject({
      Privileged: false,
      SecurityOpt: ['no-new-privileges'],
      RestartPolicy: { Name: 'no' },
      Mounts: [],
      PidsLimit: 4_096,
    });
    for (const absent of ['NetworkMode', 'PidMode', 'IpcMode', 'CapAdd', 'Devices', 'DeviceRequests', 'Binds'])
      expect(made.HostConfig).not.toHaveProperty(absent);
  });

  it('has the GPUs that are its own, and no others', () => {
    const gpus = [
      { index: 1, uuid: 'GPU-b' },
      { index: 3, uuid: null },
    ];
    expect(config({}, { gpus }).HostConfig.DeviceRequests).toEqual([
      { Driver: 'nvidia', DeviceIDs: ['GPU-b', '3'], Capabilities: [['gpu']] },
    ]);
    expect(config({}, { gpus }, 'podman').HostConfig).not.toHaveProperty('DeviceRequests');
  });

  it('has limits, ports, mounts and a health check as they were asked for', () => {
    const made = config({
      command: ['/bin/serve'],
      resources: { cpus: 1.5, memoryMib: 256, shmMib: 64 },
      ports: [
        { containerPort: 80, hostPort: 8080 },
        { containerPort: 53, protocol: 'udp' },
      ],
      mounts: [
        { kind: 'workspace', path: 'a/b', target: '/data', isReadOnly: true },
        { kind: 'volume', name: 'cache', target: '/cache' },
      ],
      healthCheck: { probe: { kind: 'command', command: ['true'] }, intervalSeconds: 7 },
    });
    expect(made).toMatchObject({
      Entrypoint: ['/bin/serve'],
      Cmd: [],
      Healthcheck: { Test: ['CMD', 'true'], Interval: 7_000_000_000 },
    });
    expect(made.HostConfig).toMatchObject({
      NanoCpus: 1_500_000_000,
      Memory: 256 * 1024 * 1024,
      MemorySwap: 256 * 1024 * 1024,
      ShmSize: 64 * 1024 * 1024,
      PortBindings: { '80/tcp': [{ HostPort: '8080' }], '53/udp': [{ HostPort: '' }] },
    });
    expect(made.HostConfig.Mounts).toMatchObject([
      { Type: 'bind', Source: join(workspace, 'a/b'), Target: '/data', ReadOnly: true },
      {
        Type: 'volume',
        Source: expect.stringMatching(/^muster-pod_aaaaaaaaaaaaaaaa-[0-9a-f]{8}-cache$/),
        Target: '/cache',
        ReadOnly: false,
      },
    ]);
  });

  it('has another name for each run and each agent of a machine', () => {
    const pod = { podId: 'pod_a', run: 1 };
    const names = [containerName('/a', pod), containerName('/b', pod), containerName('/a', { ...pod, run: 2 })];
    expect(new Set(names).size).toBe(3);
  });
});
