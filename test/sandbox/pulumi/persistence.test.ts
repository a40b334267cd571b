import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createClock } from '../../../sandbox/clock.ts';
import { startSimulatedClouds } from '../../../sandbox/pulumi/clouds.ts';
import { connectCloud } from '../../support/cloud-client.ts';

const BUCKET = 'aws:s3/bucket:Bucket';
let dir: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'muster-clouds-'));
});

afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  await rm(dir, { recursive: true, force: true });
});

interface Ready {
  urls: { control: string };
  cloudPorts: Record<string, number>;
}

async function startProcess(environment: Record<string, string> = {}): Promise<{ child: ChildProcess; ready: Ready }> {
  const child = fork(join(process.cwd(), 'sandbox/main.ts'), [], {
    env: { MUSTER_SANDBOX_PORT: '0', MUSTER_SANDBOX_DIR: dir, MUSTER_SANDBOX_CLOUD_TIME: 'none', ...environment },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  children.push(child);
  const [ready] = (await once(child, 'message')) as [Ready];
  return { child, ready };
}

async function askClouds({ urls }: Ready): Promise<{ ports: unknown; resources: { id: string }[]; faults: unknown[] }> {
  return (await (await fetch(`${urls.control}/__sandbox/clouds`)).json()) as never;
}

describe('the clouds of a sandbox that was killed', () => {
  it('have every resource whose creation was answered, and faults, when it is started again', async () => {
    const first = await startProcess();
    const aws = connectCloud(first.ready.cloudPorts.aws!);
    await aws.configure({ region: 'us-east-1' });
    const answered: string[] = [];
    const making = Array.from({ length: 200 }, async (_, index) => {
      const { id } = await aws.make(BUCKET, `b${index}`, { bucket: `bucket-${index}` });
      answered.push(id);
      if (answered.length === 60) first.child.kill('SIGKILL');
    });
    await fetch(`${first.ready.urls.control}/__sandbox/clouds/faults`, {
      method: 'POST',
      body: JSON.stringify({ kind: 'throttled', type: 'Vpc' }),
    });
    await Promise.allSettled(making);
    aws.close();
    expect(answered.length).toBeGreaterThanOrEqual(60);

    const second = await startProcess();
    const { ports, resources, faults } = await askClouds(second.ready);
    expect(ports).toEqual(second.ready.cloudPorts);
    const kept = new Set(resources.map(({ id }) => id));
    expect(answered.filter((id) => !kept.has(id))).toEqual([]);
    expect(faults).toMatchObject([{ kind: 'throttled', type: 'Vpc' }]);
  });

  it('finish by themselves what was under way', async () => {
    const clock = createClock('explicit', { explicitMs: 1_000_000, offsetMs: 0 });
    const first = await startSimulatedClouds({ dir, timings: 'real', clock });
    const aws = connectCloud(first.ports.aws);
    await aws.configure({ region: 'us-east-1' });
    const vpc = await aws.make('aws:ec2/vpc:Vpc', 'net', { cidrBlock: '10.0.0.0/16' });
    const subnet = await aws.make('aws:ec2/subnet:Subnet', 's', { vpcId: vpc.id, cidrBlock: '10.0.0.0/24' });
    await aws.make('aws:ec2/internetGateway:InternetGateway', 'igw', { vpcId: vpc.id });
    const making = aws.make('aws:ec2/natGateway:NatGateway', 'nat', { subnetId: subnet.id }).catch(() => 'cut off');
    await expect.poll(() => first.resources('NatGateway')).toMatchObject([{ transition: { operation: 'create' } }]);
    first.close();
    expect(await making).toBe('cut off');
    aws.close();

    const second = await startSimulatedClouds({ dir, timings: 'real', clock });
    expect(second.resources('NatGateway')).toMatchObject([{ transition: { operation: 'create' } }]);
    await clock.advance(120_000);
    expect(second.resources('NatGateway')).toMatchObject([{ transition: null }]);
    second.close();
    clock.stop();
  });
});
