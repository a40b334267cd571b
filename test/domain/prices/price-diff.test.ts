import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diffPrices, type PlannedStep, type StepOp } from '../../../domain/prices/price-diff.ts';
import { PRICE_TABLE, findPrice } from '../../../domain/prices/price-table.ts';
import { priceResource, worstPrice } from '../../../domain/prices/resource-price.ts';

const US = { region: 'us-east-1' };

function step(type: string, op: StepOp, oldInputs: object | null, newInputs: object | null): PlannedStep {
  const urn = `urn:pulumi:s::muster::${type}::${op}`;
  return {
    urn,
    name: op,
    type,
    op,
    changedInputs: [],
    oldInputs: oldInputs as PlannedStep['oldInputs'],
    newInputs: newInputs as PlannedStep['newInputs'],
  };
}

const nodeGroup = (desiredSize: number, more: object = {}) => ({
  instanceTypes: ['g5.xlarge'],
  diskSize: 100,
  scalingConfig: { desiredSize, minSize: 0, maxSize: 8 },
  ...more,
});

describe('the price of a preview', () => {
  it('is right to the cent for an EKS cluster with GPU nodes, computed by hand', () => {
    const diff = diffPrices(
      [
        step('aws:eks/cluster:Cluster', 'create', null, { name: 'c' }),
        step('aws:ec2/natGateway:NatGateway', 'create', null, {}),
        step('aws:ec2/eip:Eip', 'create', null, {}),
        step('aws:kms/key:Key', 'create', null, {}),
        step('aws:eks/nodeGroup:NodeGroup', 'create', null, nodeGroup(2)),
        step('aws:ec2/vpc:Vpc', 'create', null, {}),
        step('aws:cloudwatch/logGroup:LogGroup', 'create', null, {}),
      ],
      US,
    );
    // cluster 0.10, NAT 0.045, address 0.005, key 1.00 / 730 = 0.001370, nodes 2 × 1.006, disks 2 × 100 × 0.08 / 730 = 0.021918
    expect(diff.beforeMicroUsdPerHour).toBe(0n);
    expect(diff.afterMicroUsdPerHour).toBe(100_000n + 45_000n + 5_000n + 1_370n + 2_012_000n + 21_918n);
    // 2.185288 × 720 = 1573.407360
    expect(diff.afterMicroUsdPer30Days).toBe(1_573_407_360n);
    expect(diff.unpriced).toEqual([
      { urn: expect.stringContaining('LogGroup') as string, why: 'paid by use: log data that is taken in and kept' },
    ]);
  });

  it('is right to the cent for an AKS cluster whose GPU pool grows from one node to three', () => {
    const pool = (count: number) => ({ count, vmSize: 'Standard_NC4as_T4_v3', osDiskSizeGB: 128 });
    const cluster = {
      sku: { tier: 'Standard' },
      agentPoolProfiles: [{ name: 'system', count: 2, vmSize: 'Standard_D4s_v5', osDiskType: 'Ephemeral' }],
    };
    const diff = diffPrices(
      [
        step('azure-native:containerservice:ManagedCluster', 'same', cluster, cluster),
        step('azure-native:containerservice:AgentPool', 'update', pool(1), pool(3)),
      ],
      { region: 'East US' },
    );
    // tier 0.10 + 2 × 0.192; a node is 0.526 and a P10 disk 19.71 / 730 = 0.027
    expect(diff.beforeMicroUsdPerHour).toBe(100_000n + 384_000n + 526_000n + 27_000n);
    expect(diff.deltaMicroUsdPerHour).toBe(2n * (526_000n + 27_000n));
    expect(diff.deltaMicroUsdPer30Days).toBe(796_320_000n);
  });

  it('charges a stopped standby for its disk only, and a running one for its address too', () => {
    const vm = (desiredStatus: string) => ({
      zone: 'us-central1-a',
      machineType: 'e2-standard-4',
      desiredStatus,
      bootDisk: { initializeParams: { type: 'pd-balanced', size: 50 } },
      networkInterfaces: [{ network: 'n', accessConfigs: [{}] }],
    });
    const diff = diffPrices([step('gcp:compute/instance:Instance', 'update', vm('RUNNING'), vm('TERMINATED'))], {
      region: null,
    });
    // 50 × 0.10 / 730 = 0.006850 rounded up
    expect(diff.beforeMicroUsdPerHour).toBe(134_012n + 6_850n + 5_000n);
    expect(diff.afterMicroUsdPerHour).toBe(6_850n);
  });

  it('counts what is deleted no more, and what is replaced once', () => {
    const nat = step('aws:ec2/natGateway:NatGateway', 'delete', {}, null);
    const replaced = step(
      'aws:eks/nodeGroup:NodeGroup',
      'replace',
      nodeGroup(1),
      nodeGroup(1, { instanceTypes: ['g6.xlarge'] }),
    );
    const diff = diffPrices([nat, replaced], US);
    expect(diff.beforeMicroUsdPerHour).toBe(45_000n + 1_006_000n + 10_959n);
    expect(diff.afterMicroUsdPerHour).toBe(804_800n + 10_959n);
  });

  it.each([
    ['a spot price', 'aws:eks/nodeGroup:NodeGroup', nodeGroup(1, { capacityType: 'SPOT' }), /spot prices move/],
    [
      'a type that is not in the table',
      'aws:eks/nodeGroup:NodeGroup',
      nodeGroup(1, { instanceTypes: ['x9.huge'] }),
      /no price is known of x9.huge at aws in us-east-1/,
    ],
    ['a resource that nobody priced', 'aws:rds/instance:Instance', {}, /no price is known of aws:rds/],
    [
      'nodes that only the cloud knows',
      'aws:eks/nodeGroup:NodeGroup',
      nodeGroup(1, { scalingConfig: {} }),
      /number of nodes is not known/,
    ],
  ])('says unknown of %s, and never zero', (_what, type, inputs, why) => {
    const price = priceResource({ type, inputs }, US);
    expect(price.kind).toBe('unknown');
    expect((price as { why: string }).why).toMatch(why);
  });

  it('asks nothing for a group that is scaled to zero, whatever its type', () => {
    const price = priceResource(
      { type: 'aws:eks/nodeGroup:NodeGroup', inputs: nodeGroup(0, { instanceTypes: ['x9.huge'] }) },
      US,
    );
    expect(price).toEqual({ kind: 'amount', microUsdPerHour: 0n, parts: [] });
  });

  it('adds up: the sum of the resources is the sum of the plan, and a plan undone costs what it saved', () => {
    const priced = fc.record({
      size: fc.integer({ min: 0, max: 20 }),
      disk: fc.integer({ min: 1, max: 2_000 }),
      type: fc.constantFrom('g5.xlarge', 'g6.xlarge', 'p5.48xlarge'),
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(priced, priced), { maxLength: 12 }), (groups) => {
        const inputs = ({ size, disk, type }: { size: number; disk: number; type: string }) =>
          nodeGroup(size, { diskSize: disk, instanceTypes: [type] });
        const forth = diffPrices(
          groups.map(([from, to]) => step('aws:eks/nodeGroup:NodeGroup', 'update', inputs(from), inputs(to))),
          US,
        );
        const back = diffPrices(
          groups.map(([from, to]) => step('aws:eks/nodeGroup:NodeGroup', 'update', inputs(to), inputs(from))),
          US,
        );
        const sum = forth.resources.reduce(
          (total, { after }) => total + (after?.kind === 'amount' ? after.microUsdPerHour : 0n),
          0n,
        );
        expect(forth.afterMicroUsdPerHour).toBe(sum);
        expect(forth.deltaMicroUsdPerHour).toBe(-back.deltaMicroUsdPerHour);
      }),
    );
  });
});

describe('what a ceiling counts', () => {
  it('is the price on demand of what moves below it, and nothing of what nobody knows', () => {
    const spot = priceResource(
      { type: 'aws:eks/nodeGroup:NodeGroup', inputs: nodeGroup(2, { capacityType: 'SPOT' }) },
      US,
    );
    expect(spot).toMatchObject({ kind: 'unknown', why: 'spot prices move' });
    expect(worstPrice(spot)).toBe(2_012_000n + 21_918n);
    expect(worstPrice(priceResource({ type: 'aws:rds/instance:Instance', inputs: {} }, US))).toBeNull();
    expect(worstPrice(priceResource({ type: 'aws:s3/bucket:Bucket', inputs: {} }, US))).toBeNull();
  });
});

describe('the price table', () => {
  it('says of every entry from where and from when it is, and has each once', () => {
    const keys = PRICE_TABLE.map(({ cloud, region, sku }) => `${cloud}/${region}/${sku}`);
    expect(new Set(keys).size).toBe(keys.length);
    for (const entry of PRICE_TABLE) {
      expect(entry.source).toMatch(/^[a-z.]+\/[a-z0-9/-]+$/);
      expect(entry.date).toMatch(/^20\d\d-\d\d$/);
      expect(entry.microUsd).toBeGreaterThanOrEqual(0n);
    }
  });

  it('prefers the region over everywhere, and knows no other region', () => {
    expect(findPrice('aws', 'eu-west-1', 'vpc/nat-gateway')?.microUsd).toBe(48_000n);
    expect(findPrice('aws', 'eu-west-1', 'eks/cluster')?.region).toBe('*');
    expect(findPrice('aws', 'ap-south-1', 'g5.xlarge')).toBeNull();
  });
});
