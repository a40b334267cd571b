import { output, type Output } from '@pulumi/pulumi/output.js';
import { setMocks, type MockResourceArgs } from '@pulumi/pulumi/runtime/mocks.js';
import { isRpcSecret } from '@pulumi/pulumi/runtime/rpc.js';
import { beforeEach, describe, expect, it } from 'vitest';
import { shimText } from '../../../providers-dynamic/shim.ts';
import { machineType } from '../../../providers-dynamic/machine-resource.ts';
import { VastaiInstance } from '../../../providers-dynamic/vastai/resource.ts';
import { loadStackProgram } from '../../../stacks/catalogue.ts';
import { instanceArgsFromConfig, instanceProgram, type InstanceAttempt } from '../../../stacks/instance/program.ts';

let registered: MockResourceArgs[];

async function mockEngine(project = 'muster', stack = 'dev'): Promise<void> {
  registered = [];
  await setMocks(
    {
      newResource(args) {
        registered.push(args);
        const seen = {
          status: 'running',
          machineId: 'm1',
          priceMicroUsdPerHour: 350_000,
          sshHost: '203.0.113.1',
          sshPort: 22,
          sshUser: 'root',
        };
        return {
          id: `id-of-${args.name}`,
          state: { label: `made-from-${String(args.inputs.resourceKey)}`, ...args.inputs, ...seen },
        };
      },
      call: () => ({}),
    },
    project,
    stack,
    false,
    'organization',
  );
}

beforeEach(() => mockEngine());

function valueOf<T>(from: Output<T>): Promise<T> {
  return new Promise((resolve) => output(from).apply((value) => resolve(value as T)));
}

const ATTEMPT: InstanceAttempt = {
  attemptId: 'att_aaaaaaaaaaaaaaaa',
  label: 'muster-sandbox-aaaaaaaaaaaaaaaa-signature',
  provider: 'vastai',
  requirements: {
    gpu: 'RTX 4090',
    gpuCount: 2,
    minGpuMemoryGib: null,
    diskGib: 60,
    maxPriceMicroUsdPerHour: 900_000,
    regions: ['SE'],
    minReliability: 0.9,
    interruptible: false,
  },
  image: 'an/image:1',
  env: { TOKEN: 'secret' },
  onStart: null,
  sshPublicKeys: ['ssh-ed25519 AAAA me'],
  bidMicroUsdPerHour: null,
};

describe('the instance program', () => {
  it('makes one resource per attempt, named by it, and outputs by attempt', async () => {
    const outputs = instanceProgram({ attempts: [ATTEMPT, { ...ATTEMPT, attemptId: 'att_b', label: 'muster-b' }] });
    expect(Object.keys(outputs)).toEqual([ATTEMPT.attemptId, 'att_b']);
    expect(await valueOf(outputs[ATTEMPT.attemptId] as Output<unknown>)).toEqual({
      provider: 'vastai',
      providerInstanceId: `id-of-${ATTEMPT.attemptId}`,
      label: ATTEMPT.label,
      status: 'running',
      machineId: 'm1',
      priceMicroUsdPerHour: 350_000,
      ssh: { host: '203.0.113.1', port: 22, user: 'root' },
    });
    await valueOf(outputs.att_b as Output<unknown>);
    expect(registered.map((resource) => [resource.type, resource.name])).toEqual([
      [machineType('vastai'), ATTEMPT.attemptId],
      [machineType('vastai'), 'att_b'],
    ]);
    expect(registered[0]?.inputs).toMatchObject({
      label: ATTEMPT.label,
      gpuCount: 2,
      diskGib: 60,
      maxPriceMicroUsdPerHour: 900_000,
      regions: ['SE'],
      image: 'an/image:1',
      __provider: shimText('vastai'),
    });
  });

  it('makes count resources of a configuration, without labels', async () => {
    const { run, argsFromConfig } = await loadStackProgram('instance');
    const args = argsFromConfig({ gpu: 'RTX 4090', maxPriceUsdPerHour: '0.60', count: '2' }, 'dev');
    const outputs = run(args) as Record<string, Output<unknown>>;
    await Promise.all(Object.values(outputs).map((each) => valueOf(each)));
    expect(registered.map((resource) => resource.name)).toEqual(['instance-1', 'instance-2']);
    expect(registered[0]?.inputs).toMatchObject({ maxPriceMicroUsdPerHour: 600_000, gpuCount: 1 });
    expect(registered[0]?.inputs).not.toHaveProperty('label');
    expect(new Set(registered.map((resource) => resource.inputs.resourceKey)).size).toBe(2);
  });

  it('bids what the configuration says', () => {
    const values = {
      kind: 'instance',
      gpu: 'x',
      maxPriceUsdPerHour: '0.60',
      interruptible: 'true',
      bidUsdPerHour: '0.25',
    };
    expect(instanceArgsFromConfig(values).attempts[0]).toMatchObject({ bidMicroUsdPerHour: 250_000 });
  });
});

describe('the Vast.ai resource', () => {
  const ARGS = { gpu: 'RTX 4090', maxPriceMicroUsdPerHour: 1, image: 'x' };
  const keyOf = async (name: string) => {
    await valueOf(new VastaiInstance(name, ARGS).urn);
    return String(registered.at(-1)?.inputs.resourceKey);
  };

  it('has a key of its place: the same for the same place, another for another name, stack or project', async () => {
    const key = await keyOf('a');
    expect(await keyOf('a')).toBe(key);
    const others = [await keyOf('b')];
    await mockEngine('muster', 'prod');
    others.push(await keyOf('a'));
    await mockEngine('other', 'dev');
    others.push(await keyOf('a'));
    expect(new Set([key, ...others]).size).toBe(4);
  });

  it('gives labels that fit every vendor, whatever the project is called', async () => {
    for (const project of ['muster', 'An_Odd.Project--name', 'x'.repeat(100), `${'a'.repeat(34)}-b`]) {
      await mockEngine(project);
      const label = `muster-ext-${await keyOf('a')}`;
      expect(label).toMatch(/^[a-z0-9][a-z0-9-]{2,62}$/);
      expect(label).not.toContain('--');
    }
  });

  it('keeps environment and script secret', async () => {
    const machine = new VastaiInstance('a', { ...ARGS, env: { TOKEN: 'x' }, onStart: 'echo' });
    await valueOf(machine.urn);
    expect([registered[0]?.inputs.env, registered[0]?.inputs.onStart].map((value) => isRpcSecret(value))).toEqual([
      true,
      true,
    ]);
  });
});

describe('the catalogue', () => {
  it('names the kinds there are when asked for another', async () => {
    await expect(loadStackProgram('cluster')).rejects.toThrow(/no stack kind "cluster".*instance/);
  });
});
