import { beforeEach, describe, expect, it } from 'vitest';
import { GcpStandby, type GcpStandbyArgs } from '../../components/gcp-standby.ts';
import { mockEngine, valueOf, type MockEngine } from '../support/mock-engine.ts';

const TAGS = { owner: 'Platform Team', deployment: 'sandbox', costCentre: 'cc-1' };
const MACHINE = 'gcp:compute/instance:Instance';

let engine: MockEngine;
beforeEach(async () => {
  engine = await mockEngine();
});

async function make(args: Partial<GcpStandbyArgs> = {}): Promise<GcpStandby> {
  const standby = new GcpStandby('stand', { tags: TAGS, project: 'a-project', zone: 'europe-west4-a', ...args });
  await engine.settle();
  return standby;
}

describe('a standby by default', () => {
  it('is stopped, has no public address, and is stopped by Google when it runs for a week', async () => {
    await make();
    const machine = engine.find(MACHINE);
    expect(machine).toMatchObject({
      desiredStatus: 'TERMINATED',
      machineType: 'e2-standard-4',
      zone: 'europe-west4-a',
      scheduling: {
        provisioningModel: 'STANDARD',
        maxRunDuration: { seconds: 168 * 3600 },
        instanceTerminationAction: 'STOP',
      },
      shieldedInstanceConfig: { enableSecureBoot: true },
      metadata: { 'enable-oslogin': 'TRUE', 'block-project-ssh-keys': 'TRUE' },
      labels: { 'muster-owner': 'platform-team', 'muster-cost-centre': 'cc-1', 'muster-deployment': 'sandbox' },
    });
    expect(machine.networkInterfaces[0]).not.toHaveProperty('accessConfigs');
    expect(engine.find('gcp:compute/firewall:Firewall').sourceRanges).toEqual(['35.235.240.0/20']);
    expect(engine.list('gcp:compute/routerNat:RouterNat')).toHaveLength(1);
  });

  it('keeps its data on a disk of its own in its zone', async () => {
    await make();
    expect(engine.find('gcp:compute/disk:Disk')).toMatchObject({
      name: 'stand-data',
      zone: 'europe-west4-a',
      size: 100,
    });
    expect(engine.find(MACHINE).attachedDisks).toEqual([
      { source: 'id-of-stand-data', deviceName: 'data', mode: 'READ_WRITE' },
    ]);
  });

  it('may write logs and metrics and nothing else', async () => {
    const standby = await make();
    const roles = engine.registered.filter(({ type }) => /iam/i.test(type)).map(({ inputs }) => inputs.role);
    expect(roles.toSorted((a, b) => (String(a) < String(b) ? -1 : 1))).toEqual([
      'roles/logging.logWriter',
      'roles/monitoring.metricWriter',
    ]);
    expect(engine.find(MACHINE).serviceAccount.email).toBe('stand-standby@a-project.iam.gserviceaccount.com');
    expect(await valueOf(standby.status)).toBe('TERMINATED');
  });
});

describe('an option of a standby', () => {
  it('state: warm runs it without an end', async () => {
    await make({ state: 'warm' });
    expect(engine.find(MACHINE).desiredStatus).toBe('RUNNING');
    expect(engine.find(MACHINE).scheduling).not.toHaveProperty('maxRunDuration');
    expect(engine.find(MACHINE).scheduling).not.toHaveProperty('instanceTerminationAction');
  });

  it('maxRunHours and stopAt guard the money, one or the other', async () => {
    await make({ state: 'warm', maxRunHours: 10 });
    expect(engine.find(MACHINE).scheduling.maxRunDuration).toEqual({ seconds: 36_000 });
    engine = await mockEngine();
    await make({ stopAt: '2027-01-01T00:00:00Z' });
    expect(engine.find(MACHINE).scheduling).toMatchObject({
      terminationTime: '2027-01-01T00:00:00Z',
      instanceTerminationAction: 'STOP',
    });
    expect(engine.find(MACHINE).scheduling).not.toHaveProperty('maxRunDuration');
    engine = await mockEngine();
    await make({ maxRunHours: null });
    expect(engine.find(MACHINE).scheduling).not.toHaveProperty('maxRunDuration');
  });

  it('fallbackZone keeps the disk in both zones; runIn says in which the machine is', async () => {
    await make({ fallbackZone: 'europe-west4-b' });
    expect(engine.find('gcp:compute/regionDisk:RegionDisk')).toMatchObject({
      region: 'europe-west4',
      replicaZones: ['europe-west4-a', 'europe-west4-b'],
    });
    expect(engine.list('gcp:compute/disk:Disk')).toEqual([]);
    expect(engine.find(MACHINE)).toMatchObject({ zone: 'europe-west4-a', attachedDisks: [{ forceAttach: true }] });
    engine = await mockEngine();
    await make({ fallbackZone: 'europe-west4-b', runIn: 'fallback_zone' });
    expect(engine.find(MACHINE).zone).toBe('europe-west4-b');
  });

  it('spot is cheaper, stops, and never moves', async () => {
    await make({ spot: true, state: 'warm' });
    expect(engine.find(MACHINE).scheduling).toEqual({
      provisioningModel: 'SPOT',
      preemptible: true,
      automaticRestart: false,
      onHostMaintenance: 'TERMINATE',
      instanceTerminationAction: 'STOP',
    });
  });

  it('sshCidrs lets them in, by a public address, and needs no gateway', async () => {
    await make({ sshCidrs: ['203.0.113.0/24'], sshPublicKeys: ['ssh-ed25519 AAAA me'] });
    expect(engine.find('gcp:compute/firewall:Firewall').sourceRanges).toEqual(['203.0.113.0/24']);
    expect(engine.find(MACHINE).networkInterfaces[0].accessConfigs).toHaveLength(1);
    expect(engine.list('gcp:compute/routerNat:RouterNat')).toEqual([]);
    expect(engine.find(MACHINE).metadata).toMatchObject({
      'enable-oslogin': 'FALSE',
      'ssh-keys': 'muster:ssh-ed25519 AAAA me',
    });
  });

  it('snapshotBucket lets it read and write that bucket', async () => {
    await make({ snapshotBucket: 'snaps' });
    expect(engine.find('gcp:storage/bucketIAMMember:BucketIAMMember')).toMatchObject({
      bucket: 'snaps',
      role: 'roles/storage.objectUser',
    });
  });

  it('sizes, image, machine type and network are as asked', async () => {
    await make({
      bootDiskGib: 50,
      dataDiskGib: 500,
      image: 'i/j',
      machineType: 'n2-standard-8',
      subnetCidr: '10.1.0.0/24',
    });
    expect(engine.find(MACHINE)).toMatchObject({
      machineType: 'n2-standard-8',
      bootDisk: { initializeParams: { size: 50, image: 'i/j' } },
    });
    expect(engine.find('gcp:compute/disk:Disk').size).toBe(500);
    expect(engine.find('gcp:compute/subnetwork:Subnetwork').ipCidrRange).toBe('10.1.0.0/24');
  });
});

describe("a standby's agent", () => {
  const agent = { controlPlaneUrl: 'https://muster.example' };

  it('is installed by each boot, with its key and the workspace on the data disk', async () => {
    await make({ agent });
    const script = String(engine.find(MACHINE).metadata['startup-script']);
    expect(script).toContain('/nodes/install.sh');
    expect(script).toContain("export MUSTER_AGENT_URL='https://muster.example'");
    expect(script).toContain("export MUSTER_AGENT_TOKEN='a-secret-token'");
    expect(script).toContain('export MUSTER_AGENT_DIR=/mnt/muster/agent');
    expect(script).toContain('/dev/disk/by-id/google-data');
  });

  it('joins as the node that keeps its key on that disk', async () => {
    await make({ agent });
    const join = engine.find('pulumi-nodejs:dynamic/standby-agent:Join');
    expect(join).toMatchObject({ disk: 'id-of-stand-data', controlPlaneUrl: 'https://muster.example' });
  });

  it('is not there without a control plane', async () => {
    await make();
    expect(engine.find(MACHINE).metadata).not.toHaveProperty('startup-script');
  });
});
