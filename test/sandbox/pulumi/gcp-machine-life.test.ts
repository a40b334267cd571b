import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createClock, type SandboxClock } from '../../../sandbox/clock.ts';
import { openJournal } from '../../../sandbox/journal.ts';
import { listenClouds, type SimulatedClouds } from '../../../sandbox/pulumi/clouds.ts';
import type { RunningMachine } from '../../../sandbox/vendor.ts';
import { connectCloud, type CloudClient } from '../../support/cloud-client.ts';

const INSTANCE = 'gcp:compute/instance:Instance';
const DISK = 'gcp:compute/regionDisk:RegionDisk';
const SCRIPT =
  "#!/bin/sh\nexport MUSTER_AGENT_URL='http://127.0.0.1:1'\nexport MUSTER_AGENT_TOKEN='t-1'\nsh install.sh\n";

let dir: string;
let clock: SandboxClock;
let clouds: SimulatedClouds;
let gcp: CloudClient;
let told: { what: 'running' | 'gone'; machine: RunningMachine }[];

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'muster-gcp-life-'));
  clock = createClock('auto', { explicitMs: 0, offsetMs: 0 });
  clouds = await listenClouds(0);
  told = [];
  open();
  gcp = connectCloud(clouds.ports.gcp);
  await gcp.configure({ project: 'a-project', zone: 'europe-west4-a', region: 'europe-west4' });
});

afterEach(() => {
  gcp.close();
  clouds.close();
  clock.stop();
  rmSync(dir, { recursive: true, force: true });
});

function open(): void {
  clouds.open({
    seed: 1,
    clock,
    journal: openJournal(dir),
    timings: 'none',
    machineWatch: {
      onRunning: (machine) => void told.push({ what: 'running', machine }),
      onGone: (machine) => void told.push({ what: 'gone', machine }),
    },
  });
}

async function seen(): Promise<string[]> {
  await clock.settle();
  return told.map(({ what, machine }) => `${what} ${machine.boot}`);
}

async function makeMachine(zone: string, desiredStatus: string) {
  const disk = await gcp.make(DISK, 'data', {
    name: 'data',
    region: 'europe-west4',
    replicaZones: ['europe-west4-a', 'europe-west4-b'],
  });
  return makeOn(disk.id, zone, desiredStatus);
}

function makeOn(disk: string, zone: string, desiredStatus: string) {
  return gcp.make(INSTANCE, 'stand', {
    name: 'stand',
    zone,
    machineType: 'e2-standard-4',
    desiredStatus,
    bootDisk: { initializeParams: { image: 'debian-13' } },
    attachedDisks: [{ source: disk }],
    networkInterfaces: [{ network: 'default' }],
    metadata: { 'startup-script': SCRIPT },
  });
}

describe("the life of Google's simulated machine", () => {
  it('is told from its start to its end, with what its start-up script exports', async () => {
    const { id, inputs, properties } = await makeMachine('europe-west4-a', 'RUNNING');
    expect(await seen()).toEqual(['running 1']);
    expect(told[0]!.machine).toMatchObject({
      provider: 'gcp',
      instanceId: 'stand',
      env: { MUSTER_AGENT_URL: 'http://127.0.0.1:1', MUSTER_AGENT_TOKEN: 't-1' },
      gpus: null,
    });
    await gcp.update(INSTANCE, id, properties, { ...inputs, desiredStatus: 'TERMINATED' });
    expect(await seen()).toEqual(['running 1', 'gone 1']);
    await gcp.update(INSTANCE, id, properties, { ...inputs, desiredStatus: 'RUNNING' });
    await gcp.delete(INSTANCE, id);
    expect(await seen()).toEqual(['running 1', 'gone 1', 'running 2', 'gone 2']);
  });

  it('does not begin for one that is made stopped, and begins for one whose start is asked for', async () => {
    const { id, inputs, properties } = await makeMachine('europe-west4-a', 'TERMINATED');
    expect(await seen()).toEqual([]);
    await gcp.update(INSTANCE, id, properties, { ...inputs, desiredStatus: 'RUNNING' });
    expect(await seen()).toEqual(['running 1']);
  });

  it('does not begin while its zone has no room, and goes on in another zone with the files of its disk', async () => {
    const { id, inputs, properties } = await makeMachine('europe-west4-a', 'TERMINATED');
    clouds.fault({ kind: 'no_capacity', package: 'gcp', type: 'Instance', operation: 'start', times: 1 });
    const started = gcp.update(INSTANCE, id, properties, { ...inputs, desiredStatus: 'RUNNING' });
    await expect(started).rejects.toThrow('ZONE_RESOURCE_POOL_EXHAUSTED');
    expect(await seen()).toEqual([]);
    await gcp.delete(INSTANCE, id);
    const [disk] = clouds.resources('RegionDisk');
    await makeOn(disk!.id, 'europe-west4-b', 'RUNNING');
    expect(await seen()).toEqual(['running 1']);
    expect(told[0]!.machine.filesOf).toBe(disk!.properties.diskId);
  });

  it('ends with its world, and begins again for whoever opens it', async () => {
    await makeMachine('europe-west4-a', 'RUNNING');
    await seen();
    clouds.stop();
    expect(await seen()).toEqual(['running 1', 'gone 1']);
    open();
    expect(await seen()).toEqual(['running 1', 'gone 1', 'running 1']);
  });
});
