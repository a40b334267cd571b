import { describe, expect, it } from 'vitest';
import { STACK_KINDS } from '../../domain/stack-kind.ts';
import { parseStackConfig } from '../../stacks/config-values.ts';
import { eksConfigSchema } from '../../stacks/eks/config.ts';
import { STACK_CONFIG_SCHEMAS } from '../../stacks/schemas.ts';
import { stackArgsFromConfig } from '../../stacks/stack-args.ts';
import { readExample } from '../support/example-config.ts';

const SHARED = { owner: 'platform', costCentre: 'cc-1' };
const argsOf = (values: Record<string, string>, stack = 'train') =>
  stackArgsFromConfig('eks', eksConfigSchema, values, stack);

describe('the arguments of a stack under plain pulumi up', () => {
  it('come from its configuration, its name from the Pulumi stack, protected unless told otherwise', () => {
    expect(argsOf({ kind: 'eks', ...SHARED, region: 'eu-west-1', kubernetesVersion: '1.34' })).toMatchObject({
      name: 'train',
      tags: { owner: 'platform', costCentre: 'cc-1', deployment: 'ext' },
      protect: true,
      ceilingMicroUsdPerHour: null,
      config: { region: 'eu-west-1', kubernetesVersion: '1.34' },
    });
    const more = { name: 'other', protect: 'false', ceilingUsdPerHour: '12.50' };
    expect(argsOf({ ...SHARED, region: 'eu-west-1', ...more })).toMatchObject({
      name: 'other',
      protect: false,
      ceilingMicroUsdPerHour: 12_500_000,
    });
  });

  it('are refused with every problem at once, of what all kinds share and of the kind', () => {
    const wrong = () => argsOf({ costCentre: '', region: 'nowhere', nat: 'twice' }, 'My_Stack');
    for (const name of ['muster:owner', 'muster:costCentre', 'muster:name', 'muster:region', 'muster:nat'])
      expect(wrong).toThrow(name);
  });

  it.each(STACK_KINDS.filter((kind) => kind !== 'instance'))(
    'are accepted of the example of %s, which is a stack of its kind',
    (kind) => {
      const values = readExample(kind);
      expect(values.kind).toBe(kind);
      expect(Object.keys(values)).toEqual(expect.arrayContaining(['owner', 'costCentre']));
      expect(() => stackArgsFromConfig(kind, STACK_CONFIG_SCHEMAS[kind], values, 'dev')).not.toThrow();
    },
  );

  it.each(['eks', 'aks', 'standby'] as const)('have in the example of %s the defaults where it says so', (kind) => {
    const values = readExample(kind);
    const { config } = stackArgsFromConfig(kind, STACK_CONFIG_SCHEMAS[kind], values, 'dev');
    const needed = ['region', 'location', 'project', 'zone', 'fallbackZone', 'gpuNodeGroups', 'gpuNodePools'];
    const minimal = Object.fromEntries(Object.entries(values).filter(([name]) => needed.includes(name)));
    expect(config).toEqual(parseStackConfig(kind, STACK_CONFIG_SCHEMAS[kind], minimal));
  });
});
