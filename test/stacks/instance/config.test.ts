import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DEFAULT_IMAGE } from '../../../domain/provision-request.ts';
import { parseStackConfig } from '../../../stacks/config-values.ts';
import { instanceConfigSchema } from '../../../stacks/instance/config.ts';

const parseInstanceConfig = (values: Record<string, string>) =>
  parseStackConfig('instance', instanceConfigSchema, values);

const MINIMAL = { gpu: 'RTX 4090', maxPriceUsdPerHour: '0.60' };

describe('the configuration of the instance stack', () => {
  it('has the defaults of POST /instances', () => {
    expect(parseInstanceConfig(MINIMAL)).toEqual({
      ...MINIMAL,
      count: 1,
      gpuCount: 1,
      diskGib: 40,
      image: DEFAULT_IMAGE,
      provider: 'vastai',
      regions: [],
      interruptible: false,
      sshPublicKeys: [],
      env: {},
    });
  });

  it('reads numbers, lists and maps as Pulumi keeps them, and leaves texts alone', () => {
    const config = parseInstanceConfig({
      ...MINIMAL,
      gpu: '4090',
      count: '3',
      regions: '["SE","US"]',
      env: '{"A":"1"}',
      interruptible: 'true',
      bidUsdPerHour: '0.30',
    });
    expect(config).toMatchObject({
      gpu: '4090',
      count: 3,
      regions: ['SE', 'US'],
      env: { A: '1' },
      interruptible: true,
      bidUsdPerHour: '0.30',
    });
  });

  it('names every problem with its variable, and shows no value', () => {
    const values = {
      maxPriceUsdPerHour: '-1',
      count: '0',
      env: '{"TOKEN":5}',
      onStart: 'a-secret',
      gpus: '1',
    };
    const problem = () => parseInstanceConfig(values);
    for (const name of ['gpu', 'maxPriceUsdPerHour', 'count', 'env.TOKEN', 'gpus']) expect(problem).toThrow(name);
    expect(problem).not.toThrow('a-secret');
  });

  it('refuses a bid for an on-demand machine', () => {
    expect(() => parseInstanceConfig({ ...MINIMAL, bidUsdPerHour: '0.30' })).toThrow(/bidUsdPerHour: only with/);
  });

  it('accepts the example file, whose values are the defaults', () => {
    const text = readFileSync(join(import.meta.dirname, '../../../Pulumi.instance.example.yaml'), 'utf8');
    const lines = [...text.matchAll(/^ {2}muster:(\w+): '?(.*?)'?$/gm)];
    const values = Object.fromEntries(lines.map(([, name = '', value = '']) => [name, value]));
    expect(Object.keys(values).length).toBeGreaterThan(6);
    const { gpu, maxPriceUsdPerHour } = values as Record<string, string>;
    expect(parseInstanceConfig(values)).toEqual(
      parseInstanceConfig({ gpu: gpu ?? '', maxPriceUsdPerHour: maxPriceUsdPerHour ?? '' }),
    );
  });
});
