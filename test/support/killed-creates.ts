/**
 * A person's update of many creates in whose middle something is killed, and what became of it: what the cloud's own book has is held
 * against the state and what is pending there. Then the person does as the CLI says, and the next update must make nothing twice.
 */
import { execFileSync } from 'node:child_process';
import { Subnet } from '@pulumi/aws/ec2/subnet.js';
import { Vpc } from '@pulumi/aws/ec2/vpc.js';
import type { Stack } from '@pulumi/pulumi/automation/index.js';
import type { Deployment, ResourceState, VersionedDeployment } from '../../domain/state/deployment.ts';
import type { CloudResourceReport, SimulatedClouds } from '../../sandbox/pulumi/clouds.ts';
import { openEngineStack, PROJECT_NAME, runCli } from './engine-stack.ts';

export interface KilledCreates {
  /** Empty: made = in the state + pending, and after the next update everything is there once. */
  problems: string[];
  /** Whether the update ended well over the kill. */
  isDone: boolean;
  /** At the cloud, in the state and pending, before anybody did anything. */
  made: number;
  known: number;
  pending: number;
}

export interface KilledCreatesOptions {
  /** Where its folders are made. */
  folder: string;
  url: string;
  /** Of the API. */
  key: string;
  clouds: SimulatedClouds;
  name: string;
  creates: number;
  /** How many have been made when `kill` is called. */
  killAt: number;
  kill: () => Promise<void> | void;
}

/** Each create takes that long, so that some are under way. */
const CREATE_MS = 40;

export async function runKilledCreates(options: KilledCreatesOptions): Promise<KilledCreates> {
  const { clouds, creates, name } = options;
  const stack = await openStack(options);
  const { id: fault } = clouds.fault({ kind: 'slow', operation: 'create', delayMs: CREATE_MS });
  let made = 0;
  let killing: Promise<void> | null = null;
  const onEvent = ({ resOutputsEvent }: { resOutputsEvent?: object }) => {
    if (resOutputsEvent && ++made >= options.killAt) killing ??= Promise.resolve(options.kill());
  };
  const isDone = await stack.up({ parallel: 8, onEvent }).then(
    () => true,
    () => false,
  );
  await (killing as Promise<void> | null);
  clouds.removeFault(fault);
  clouds.finish();
  const left = await exported(options);
  const atCloud = resourcesAt(clouds, name);
  const problems = [...(killing ? [] : ['nothing was killed']), ...account(atCloud, left)];
  const report = { isDone, made: atCloud.length, known: idsIn(left).length, pending: pendingOf(left).length };
  if (!isDone) await recover(stack, clouds, name, left);
  await stack.up({ parallel: 8 });
  const after = await exported(options);
  problems.push(...account(resourcesAt(clouds, name), after).map((problem) => `after the next update: ${problem}`));
  const names = resourcesAt(clouds, name).map(({ logicalName }) => logicalName);
  if (names.length !== creates + 1 || new Set(names).size !== names.length)
    problems.push(
      `after the next update ${names.length} of ${creates + 1} are there, ${new Set(names).size} different`,
    );
  if (pendingOf(after).length > 0) problems.push('after the next update creates are pending');
  return { problems, ...report };
}

/** The engines that this process started. */
export function killEngines(): void {
  const children = execFileSync('ps', ['-o', 'pid=,comm=', '--ppid', String(process.pid)], { encoding: 'utf8' });
  for (const line of children.split('\n')) {
    const [pid, command] = line.trim().split(/\s+/);
    if (command === 'pulumi') process.kill(Number(pid), 'SIGKILL');
  }
}

function openStack({ folder, url, key, clouds, name, creates }: KilledCreatesOptions): Promise<Stack> {
  const program = () => {
    const vpc = new Vpc(`${name}-vpc`, { cidrBlock: '10.0.0.0/16' });
    for (let index = 0; index < creates; index++)
      new Subnet(`${name}-${index}`, {
        vpcId: vpc.id,
        cidrBlock: `10.0.${index}.0/24`,
        availabilityZone: 'us-east-1a',
      });
    return Promise.resolve({});
  };
  const backend = { PULUMI_BACKEND_URL: url, PULUMI_ACCESS_TOKEN: key };
  return openEngineStack({ folder, name, program, backend, cloudPorts: clouds.ports });
}

/** As a person does: the lock is broken, what the cloud has of the pending creates is imported, the others are cleared. */
async function recover(stack: Stack, clouds: SimulatedClouds, name: string, left: Deployment): Promise<void> {
  await stack.cancel().catch(() => {}); // it may have ended itself
  const known = new Set(idsIn(left));
  const found = (left.pending_operations ?? []).flatMap(({ resource }) => {
    const own = nameOf(resource.urn);
    const made = resourcesAt(clouds, name).find(({ logicalName, id }) => logicalName === own && !known.has(id));
    return made ? ['--import-pending-creates', resource.urn, '--import-pending-creates', made.id] : [];
  });
  await runCli(stack, 'refresh', '--yes', '--skip-preview', ...found, '--clear-pending-creates');
}

async function exported({ url, key, name }: KilledCreatesOptions): Promise<Deployment> {
  const path = `stacks/organization/${PROJECT_NAME}/${name}/export`;
  const reply = await fetch(`${url}/api/${path}`, { headers: { authorization: `token ${key}` } });
  return ((await reply.json()) as VersionedDeployment).deployment;
}

/** What is at the cloud is in the state, or its create is pending; what is in the state is at the cloud, once. */
export function account(atCloud: readonly CloudResourceReport[], state: Deployment): string[] {
  const known = (state.resources ?? []).flatMap(({ type, id }) => (isOfCloud(type) && id ? [`${type} ${id}`] : []));
  const pending = new Set(pendingOf(state).map(({ type, urn }) => `${type} ${nameOf(urn)}`));
  const there = new Set(atCloud.map(({ type, id }) => `${type} ${id}`));
  return [
    ...atCloud
      .filter(({ type, id, logicalName }) => !known.includes(`${type} ${id}`) && !pending.has(`${type} ${logicalName}`))
      .map(({ type, id, logicalName }) => `lost: ${type} ${logicalName} (${id})`),
    ...known.filter((one) => !there.has(one)).map((one) => `not at the cloud: ${one}`),
    ...known.filter((one, index) => known.indexOf(one) !== index).map((one) => `twice in the state: ${one}`),
  ];
}

/** Of the stacks whose resources are called after it. */
export function resourcesAt(clouds: SimulatedClouds, name: string): CloudResourceReport[] {
  return clouds.resources().filter(({ logicalName }) => logicalName.startsWith(`${name}-`));
}

/** The same resource of the program, made more than once. */
export function listDoubled(atCloud: readonly CloudResourceReport[]): string[] {
  const names = atCloud.map(({ type, logicalName }) => `${type} ${logicalName}`);
  return names.filter((name, index) => names.indexOf(name) !== index).map((name) => `made twice: ${name}`);
}

function idsIn({ resources }: Deployment): string[] {
  return (resources ?? []).flatMap(({ id, type }) => (id && isOfCloud(type) ? [id] : []));
}

export function pendingOf({ pending_operations: pending }: Deployment): ResourceState[] {
  return (pending ?? []).flatMap(({ type, resource }) => (type === 'creating' ? [resource] : []));
}

function isOfCloud(type: string): boolean {
  return type.startsWith('aws:');
}

function nameOf(urn: string): string {
  return urn.split('::').at(-1) ?? '';
}
