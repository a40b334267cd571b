/**
 * One program with many resources, in a process of its own as an operation child is (the state service is its parent's, the clouds are
 * another's). Forked by bench/stacks.ts, which says what to measure.
 */
import { Subnet } from '@pulumi/aws/ec2/subnet.js';
import { Vpc } from '@pulumi/aws/ec2/vpc.js';
import type { Stack } from '@pulumi/pulumi/automation/index.js';
import { makeSdkLean } from '../automation/engine/child/lean-sdk.ts';
import { openStack, type StackOpening } from '../automation/engine/child/open-stack.ts';
import { readProcessorMs } from './processor-time.ts';

export interface ManyResources {
  resources: number;
  opening: Omit<StackOpening, 'program' | 'stackSettings'>;
  /** The stack is not there yet. */
  isNew: boolean;
  updates: UpdateName[];
}

export type UpdateName = 'up' | 'no-op preview' | 'no-op up' | 'refresh' | 'destroy';

export interface UpdateTime {
  update: UpdateName;
  ms: number;
  /** Processor time of this process and of the engine. */
  programMs: number;
  engineMs: number;
}

const options = { parallel: 64, onEvent: () => {} };
const UPDATES: Record<UpdateName, (stack: Stack) => Promise<unknown>> = {
  up: (stack) => stack.up(options),
  'no-op preview': (stack) => stack.preview(options),
  'no-op up': (stack) => stack.up(options),
  refresh: (stack) => stack.refresh(options),
  destroy: (stack) => stack.destroy(options),
};

makeSdkLean();
process.once('message', (asked: ManyResources) => void measure(asked));

async function measure({ resources, opening, isNew, updates }: ManyResources): Promise<void> {
  const stack = await openStack({
    ...opening,
    stackSettings: { config: { 'aws:region': 'us-east-1' } },
    program: () => Promise.resolve(makeSubnets(resources)),
  });
  if (isNew) await stack.workspace.createStack(stack.name);
  for (const update of updates) {
    const before = readProcessorMs('self');
    const startedAt = performance.now();
    await UPDATES[update](stack);
    const ms = performance.now() - startedAt;
    const after = readProcessorMs('self');
    const time: UpdateTime = {
      update,
      ms,
      programMs: after.own - before.own,
      engineMs: after.children - before.children,
    };
    process.send?.(time);
  }
  process.disconnect();
}

function makeSubnets(resources: number): Record<string, unknown> {
  const vpc = new Vpc('many', { cidrBlock: '10.0.0.0/16' });
  for (let index = 0; index < resources; index++) {
    const cidrBlock = `10.0.${Math.floor(index / 4)}.${(index % 4) * 64}/26`;
    new Subnet(`subnet-${index}`, { vpcId: vpc.id, cidrBlock, availabilityZone: 'us-east-1a' });
  }
  return {};
}
