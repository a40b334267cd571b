/** The stack of a stopped standby on the real engine, where its zone has no room: what a takeover asks of it, step by step. */
import { afterEach, describe, expect, it } from 'vitest';
import { summarizeEngineError } from '../../automation/engine/classify-error.ts';
import { isCapacityRefusal, restConfig, startConfig, type StandbyStackConfig } from '../../domain/standby.ts';
import { standbyConfigSchema } from '../../stacks/standby/config.ts';
import type { StackArgs } from '../../stacks/stack-args.ts';
import { openCloudStack, type CloudStack } from '../support/cloud-stack.ts';

let stack: CloudStack | null = null;
afterEach(async () => {
  await stack?.close();
  stack = null;
});

const argsOf = (config: StandbyStackConfig): StackArgs<unknown> => ({
  config: standbyConfigSchema.parse(config),
  name: 'stand',
  tags: { owner: 'platform', deployment: 'sandbox', costCentre: 'cc-1' },
  protect: false,
});

describe('a stopped standby whose zone has no room', () => {
  it('says so in words that are known, runs in the other zone on the same disk, and rests there', async () => {
    const declared: StandbyStackConfig = {
      project: 'a-project',
      zone: 'europe-west4-a',
      fallbackZone: 'europe-west4-b',
      state: 'stopped',
      maxRunHours: 168,
    };
    stack = await openCloudStack('standby', argsOf(declared));
    await stack.up();
    const machine = () => stack!.clouds.resources('Instance')[0]!.properties;
    const disk = stack.clouds.resources('RegionDisk')[0]!.properties['diskId'];
    expect(machine()).toMatchObject({ currentStatus: 'TERMINATED', zone: 'europe-west4-a' });

    stack.clouds.fault({ kind: 'no_capacity', package: 'gcp', type: 'Instance', operation: 'start' });
    stack.setArgs(argsOf(startConfig(declared, [])!));
    const refusal = await stack.up().then(
      ({ complaints }) => complaints.join('\n'),
      (error: Error) => error.message,
    );
    // As an operation on the stack would say it.
    const told = summarizeEngineError(refusal);
    expect(isCapacityRefusal(told), told).toBe(true);
    expect(machine()).toMatchObject({ currentStatus: 'TERMINATED', zone: 'europe-west4-a' });

    const elsewhere = startConfig(declared, ['zone'])!;
    stack.setArgs(argsOf(elsewhere));
    await stack.up();
    expect(machine()).toMatchObject({ currentStatus: 'RUNNING', zone: 'europe-west4-b' });
    expect(stack.clouds.resources('RegionDisk').map(({ properties }) => properties['diskId'])).toEqual([disk]);

    stack.setArgs(argsOf(restConfig(declared, elsewhere)));
    await stack.up();
    expect(machine()).toMatchObject({ currentStatus: 'TERMINATED', zone: 'europe-west4-b' });
    stack.clouds.clearFaults();
    await stack.destroy();
    expect(stack.clouds.resources('Instance')).toEqual([]);
  });
});
