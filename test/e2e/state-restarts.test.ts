/** Updates that go on while what serves their state is restarted under them, or is two. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Subnet } from '@pulumi/aws/ec2/subnet.js';
import { Vpc } from '@pulumi/aws/ec2/vpc.js';
import type { Stack } from '@pulumi/pulumi/automation/index.js';
import { secret } from '@pulumi/pulumi/output.js';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { VersionedDeployment } from '../../domain/state/deployment.ts';
import { startSimulatedClouds, type SimulatedClouds } from '../../sandbox/pulumi/clouds.ts';
import { startApiReplica, type ApiReplica } from '../support/api-replica.ts';
import { startApiServer, type ApiServer } from '../support/api-server.ts';
import { NEVER, openCloudCrashLab, QUIET_HOOKS } from '../support/cloud-crash.ts';
import { openCutLine } from '../support/cut-line.ts';
import { openEngineStack, PROJECT_NAME } from '../support/engine-stack.ts';
import { startRoundRobin } from '../support/round-robin.ts';
import { openScratchDatabase } from '../support/scratch-database.ts';

const BOUND_MS = 120_000;
/** Of the restart that an update must bear. */
const OUTAGE_MS = 4_000;

let folder: string;
let api: ApiServer;
let clouds: SimulatedClouds;
let key: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-restarts-'));
  api = await startApiServer();
  ({ key } = await api.makeKey('operator'));
  clouds = await startSimulatedClouds({ dir: null, timings: 'none' });
});
afterAll(async () => {
  clouds.close();
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

function openStack(url: string, name: string, subnets: number): Promise<Stack> {
  const program = () => {
    const vpc = new Vpc(`${name}-vpc`, { cidrBlock: '10.0.0.0/16', tags: { token: secret(`vpc of ${name}`) } });
    for (let index = 0; index < subnets; index++)
      new Subnet(`${name}-${index}`, {
        vpcId: vpc.id,
        cidrBlock: `10.0.${index}.0/24`,
        availabilityZone: 'us-east-1a',
        tags: { token: secret(`${name} ${index}`) },
      });
    return Promise.resolve({ vpcId: vpc.id, password: secret('swordfish') });
  };
  const backend = { PULUMI_BACKEND_URL: url, PULUMI_ACCESS_TOKEN: key };
  return openEngineStack({ folder, name, program, backend, cloudPorts: clouds.ports });
}

async function exported(url: string, name: string): Promise<VersionedDeployment> {
  const reply = await fetch(`${url}/api/stacks/organization/${PROJECT_NAME}/${name}/export`, {
    headers: { authorization: `token ${key}` },
  });
  return (await reply.json()) as VersionedDeployment;
}

const idsAt = (name: string) =>
  clouds
    .resources()
    .filter(({ logicalName }) => logicalName.startsWith(`${name}-`))
    .map(({ id }) => id)
    .sort();
const idsIn = ({ deployment }: VersionedDeployment) =>
  (deployment.resources ?? []).flatMap(({ id, type }) => (id && type.startsWith('aws:') ? [id] : [])).sort();

describe("a person's update", () => {
  it(
    'goes on over an API that is away for 4 s and another process then, and over a database that is',
    async () => {
      const url = new URL(api.databaseUrl);
      const line = await openCutLine(Number(url.port));
      url.port = String(line.port);
      let replica: ApiReplica = await startApiReplica(api, url.href);
      const stack = await openStack(replica.url, 'restarted', 24);
      clouds.fault({ kind: 'slow', operation: 'create', delayMs: 100 });
      let made = 0;
      let restarts: Promise<void>[] = [];
      const restartApi = async () => {
        await replica.stop();
        await delay(OUTAGE_MS);
        replica = await startApiReplica(api, url.href, replica.port);
      };
      const restartDatabase = async () => {
        await line.cut();
        await delay(OUTAGE_MS);
        await line.mend();
      };
      const onEvent = ({ resOutputsEvent }: { resOutputsEvent?: object }) => {
        if (!resOutputsEvent) return;
        made++;
        if (made === 8) restarts = [...restarts, restartApi()];
        if (made === 16) restarts = [...restarts, restartDatabase()];
      };
      const { summary } = await stack.up({ parallel: 4, onEvent });
      await Promise.all(restarts);
      clouds.clearFaults();
      expect(restarts).toHaveLength(2);
      expect(summary.result).toBe('succeeded');
      const state = await exported(replica.url, 'restarted');
      expect(state.deployment.pending_operations ?? []).toEqual([]);
      expect(idsIn(state)).toEqual(idsAt('restarted'));
      expect(idsAt('restarted')).toHaveLength(25);
      await replica.stop();
      await line.close();
    },
    BOUND_MS,
  );

  it(
    'is served by two replicas, request by request, and is the same at both',
    async () => {
      const replicas = await Promise.all([startApiReplica(api), startApiReplica(api)]);
      const balancer = await startRoundRobin(replicas.map(({ port }) => port));
      const stack = await openStack(balancer.url, 'balanced', 50);
      expect((await stack.up({ parallel: 16 })).summary.resourceChanges).toEqual({ create: 52 });
      const [less = 0, more = 0] = balancer.counts.toSorted((a, b) => a - b);
      expect(less).toBeGreaterThan(20);
      expect(more - less).toBeLessThanOrEqual(1);
      const states = await Promise.all(
        replicas.map(async ({ url }) => {
          // Each names itself as the keeper of the secrets, by the address that it was asked at.
          const { secrets_providers: _, ...rest } = (await exported(url, 'balanced')).deployment;
          return rest;
        }),
      );
      expect(states[0]).toEqual(states[1]);
      expect(idsIn({ version: 3, deployment: states[0] ?? {} })).toEqual(idsAt('balanced'));
      expect(JSON.stringify(states[0])).not.toContain('swordfish');
      expect((await stack.up()).summary.resourceChanges).toEqual({ same: 52 });
      expect((await stack.outputs())['password']).toEqual({ value: 'swordfish', secret: true });
      await balancer.close();
      await Promise.all(replicas.map((replica) => replica.stop()));
    },
    BOUND_MS,
  );
});

describe('an update of our own runner', () => {
  it(
    'goes on over the SIGKILL of the embedded Postgres, and loses nothing',
    async () => {
      // As a user's: one that does not wait for the disk forgets at a kill what it had promised.
      const database = await openScratchDatabase();
      const lab = await openCloudCrashLab(database.url);
      onTestFinished(async () => {
        await lab.close();
        await database.close();
      });
      lab.clouds.fault({ kind: 'slow', operation: 'create', delayMs: 60 });
      const wanted = lab.request('kept', 'eks', { region: 'eu-west-1', gpuNodeGroups: [] });
      let killed = 0;
      const watch = setInterval(() => {
        if (killed > 0 || lab.clouds.resources().length < 10) return;
        killed++;
        database.kill();
      }, 5);
      const outcome = await lab.runner.up(wanted, QUIET_HOOKS, NEVER);
      clearInterval(watch);
      expect(killed).toBe(1);
      expect(outcome.error).toBeNull();
      expect(outcome.state?.pendingCreates).toEqual([]);
      const known = (outcome.state?.resources ?? []).map(({ id }) => id ?? '').sort();
      expect(known).toEqual(
        lab.clouds
          .resources()
          .map(({ id }) => id)
          .sort(),
      );
      expect(known.length).toBeGreaterThan(20);
    },
    BOUND_MS,
  );
});
