import { describe, expect, it } from 'vitest';
import { onpremNodeConfigSchema } from '../../../stacks/onprem-node/config.ts';
import { stackArgsFromConfig } from '../../../stacks/stack-args.ts';
import { problemsOf } from '../../support/config-problems.ts';
import { readExample } from '../../support/example-config.ts';

const MINIMAL = { address: '10.0.0.1', hostKeySha256: `SHA256:${'A'.repeat(43)}`, credentialRef: 'dc-key' };
const problems = (config: object) => problemsOf(onpremNodeConfigSchema, { ...MINIMAL, ...config });

describe('the configuration of the onprem-node stack', () => {
  it('is the example', () => {
    const { kind, ...values } = readExample('onprem-node');
    expect(kind).toBe('onprem-node');
    const { config } = stackArgsFromConfig('onprem-node', onpremNodeConfigSchema, values, 'box');
    expect(config).toMatchObject({ port: 22, user: 'root', agent: true, labels: {} });
  });

  it('describes each field with its default or that there is none', () => {
    for (const [name, field] of Object.entries(onpremNodeConfigSchema.shape))
      expect(`${name}: ${(field as { description?: string }).description}`).toMatch(/default/i);
  });

  it.each([
    [{ address: 'a b' }, /^address: must be a host name/],
    [{ address: '-oProxyCommand=x' }, /^address: must be a host name/],
    [{ user: 'root; reboot' }, /^user: must be a user name/],
    [{ hostKeySha256: `SHA256:${'A'.repeat(44)}` }, /^hostKeySha256: must be the fingerprint/],
    [{ agentDir: '/var/../etc' }, /^agentDir: must be an absolute path/],
    [{ nodePath: 'node' }, /^nodePath: must be an absolute path/],
    [{ port: 0 }, /^port/],
  ])('refuses %j', (config, message) => {
    expect(problems(config)).toEqual([expect.stringMatching(message)]);
  });
});
