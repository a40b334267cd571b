import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { deriveTable } from '../../../sandbox/pulumi/tables/derive.ts';
import { CLOUD_PACKAGES } from '../../../sandbox/pulumi/tables/simulated-types.ts';
import { loadTable, tablePath } from '../../../sandbox/pulumi/tables/table.ts';

describe('the committed tables of inputs', () => {
  it.each(CLOUD_PACKAGES)('are what the installed SDK declares: %s', { timeout: 60_000 }, (name) => {
    expect(deriveTable(name)).toBe(readFileSync(tablePath(name), 'utf8'));
  });

  it('tell required inputs, lists, maps, shapes and closed enums apart', () => {
    const aws = loadTable('aws');
    const group = aws.resources['aws:eks/nodeGroup:NodeGroup']!;
    expect(group.in).toMatchObject({
      'clusterName!': 'string',
      'subnetIds!': '[string]',
      labels: '{string}',
      'scalingConfig!': '#eks.NodeGroupScalingConfig',
      diskSize: 'number',
    });
    expect(group.out).toMatchObject({ 'arn!': 'string', 'status!': 'string', 'resources!': '[object]' });
    expect(aws.shapes['eks.NodeGroupScalingConfig']).toEqual({
      'desiredSize!': 'number',
      'maxSize!': 'number',
      'minSize!': 'number',
    });
    expect(loadTable('kubernetes').resources['kubernetes:core/v1:Service']!.in.kind).toBe("'Service'");
    expect(loadTable('azure-native').shapes['containerservice.ManagedClusterIdentityArgs']!.type).toContain(
      "'SystemAssigned'",
    );
  });
});
