/** The real engine's CLI on our state service, as a platform engineer uses it: with an API key and nothing else. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Subnet } from '@pulumi/aws/ec2/subnet.js';
import { Vpc } from '@pulumi/aws/ec2/vpc.js';
import type { Stack } from '@pulumi/pulumi/automation/index.js';
import { secret } from '@pulumi/pulumi/output.js';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { readJournal } from '../../db/state-updates.ts';
import type { Deployment, VersionedDeployment } from '../../domain/state/deployment.ts';
import { startSimulatedClouds, type SimulatedClouds } from '../../sandbox/pulumi/clouds.ts';
import { comparable } from '../state/compare.ts';
import { loadProgram } from '../../stacks/catalogue.ts';
import { startGoReplayer } from '../state/go-replayer.ts';
import { startApiServer, type ApiServer } from '../support/api-server.ts';
import { compare, NEVER, openCloudCrashLab, QUIET_HOOKS } from '../support/cloud-crash.ts';
import { openEngineStack, PROJECT_NAME, runCli } from '../support/engine-stack.ts';
import { killEngines, listDoubled, runKilledCreates } from '../support/killed-creates.ts';

const BOUND_MS = 120_000;
const BUILD_MS = 15 * 60_000;

let folder: string;
let api: ApiServer;
let clouds: SimulatedClouds;
let key: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-state-'));
  api = await startApiServer();
  ({ key } = await api.makeKey('operator'));
  clouds = await startSimulatedClouds({ dir: null, timings: 'none' });
});
afterAll(async () => {
  clouds.close();
  await api.stop();
  await rm(folder, { recursive: true, force: true });
});

interface Wish {
  subnets: number;
  tag?: string;
  /** Of its network; what providers echo under another name is no secret to the engine. */
  secretCidr?: string;
}

/** The program makes what `wish` says at its run. */
function openStack(name: string, wish: Wish, backend: Record<string, string> = ours()): Promise<Stack> {
  const program = () => {
    const cidrBlock = wish.secretCidr === undefined ? '10.0.0.0/16' : secret(wish.secretCidr);
    const vpc = new Vpc(`${name}-vpc`, { cidrBlock, tags: { tag: wish.tag ?? 'none' } });
    for (let index = 0; index < wish.subnets; index++)
      new Subnet(`${name}-${index}`, {
        vpcId: vpc.id,
        cidrBlock: `10.0.${index}.0/24`,
        availabilityZone: 'us-east-1a',
      });
    return Promise.resolve({ vpcId: vpc.id, password: secret('swordfish') });
  };
  return openEngineStack({ folder, name, program, backend, cloudPorts: clouds.ports });
}

const ours = () => ({ PULUMI_BACKEND_URL: api.url, PULUMI_ACCESS_TOKEN: key });

/** As it is kept: the Automation API would show the secrets. */
async function exported(stack: Stack): Promise<Deployment> {
  const path = `stacks/organization/${PROJECT_NAME}/${stack.name}/export`;
  const reply = await fetch(`${api.url}/api/${path}`, { headers: { authorization: `token ${key}` } });
  return ((await reply.json()) as VersionedDeployment).deployment;
}

/** All that was kept of what its engine told, as text. */
async function eventsOf(name: string): Promise<string> {
  const { rows } = await api.database.pool.query<{ event: string }>(
    `select event from state_events e join state_updates u on u.id = e.update_id
     join state_stacks s on s.uuid = u.stack_uuid where s.name = $1 order by u.created_at, e.sequence`,
    [name],
  );
  return rows.map(({ event }) => event).join('\n');
}

const subnetsAt = (name: string) =>
  clouds
    .resources()
    .filter(({ type, logicalName }) => type === 'aws:ec2/subnet:Subnet' && logicalName.startsWith(`${name}-`));

describe('the CLI with an API key', () => {
  it(
    'makes, updates, shows, tags, renames and removes a stack, with its secrets',
    async () => {
      const wish: Wish = { subnets: 2, secretCidr: '10.0.0.0/17' };
      const stack = await openStack('flow', wish);
      expect((await stack.up()).summary.resourceChanges).toEqual({ create: 4 });
      expect((await stack.up()).summary.resourceChanges).toEqual({ same: 4 });
      expect(JSON.stringify(await exported(stack))).not.toContain('swordfish');
      const told = await eventsOf('flow');
      expect(told).toMatch(/"cidrBlock":\{[^}]*"ciphertext":"\[secret\]"/);
      for (const value of ['swordfish', '10.0.0.0/17']) expect(told).not.toContain(value);
      expect((await stack.outputs())['password']).toEqual({ value: 'swordfish', secret: true });
      await runCli(stack, 'stack', 'tag', 'set', 'team', 'search');
      expect(await runCli(stack, 'stack', 'tag', 'get', 'team')).toBe('search');
      await runCli(stack, 'stack', 'rename', 'flow-renamed');
      expect(await runCli(stack, 'stack', 'ls', '--json')).toContain('"flow-renamed"');
      const history = JSON.parse(
        await runCli(stack, 'stack', 'history', '--json', '--stack', 'flow-renamed'),
      ) as object[];
      expect(history).toMatchObject([
        { kind: 'update', result: 'succeeded', resourceChanges: { same: 4 } },
        { kind: 'update', result: 'succeeded', resourceChanges: { create: 4 } },
      ]);
      const shown = await runCli(stack, 'stack', 'output', 'password', '--show-secrets', '--stack', 'flow-renamed');
      expect(shown).toBe('swordfish');
      await runCli(stack, 'destroy', '--yes', '--skip-preview', '--stack', 'flow-renamed');
      expect(subnetsAt('flow')).toEqual([]);
      await runCli(stack, 'stack', 'rm', '--yes', '--stack', 'flow-renamed');
      expect(await runCli(stack, 'stack', 'ls', '--json')).not.toContain('flow-renamed');
    },
    BOUND_MS,
  );

  it(
    'moves a stack in from a folder and out to one again, its secrets with it, and nothing changes',
    async () => {
      const files = (part: string) => ({
        PULUMI_BACKEND_URL: `file://${join(folder, part)}`,
        PULUMI_CONFIG_PASSPHRASE: part,
      });
      for (const part of ['before', 'after']) await mkdir(join(folder, part));
      const wish: Wish = { subnets: 1 };
      const old = await openStack('moved', wish, files('before'));
      await old.up();
      const state = join(folder, 'moved.json');
      await writeFile(state, await runCli(old, 'stack', 'export', '--show-secrets'));
      // The CLI opens what the folder's passphrase sealed, and seals it anew.
      const here = await openStack('moved', wish, { ...ours(), PULUMI_CONFIG_PASSPHRASE: 'before' });
      await runCli(here, 'stack', 'import', '--file', state);
      expect((await here.preview()).changeSummary).toEqual({ same: 3 });
      // An import keeps the key that it came with; the first up puts ours in its place.
      await here.up();
      const kept = await exported(here);
      expect(kept.secrets_providers?.type).toBe('service');
      expect(JSON.stringify(kept)).not.toContain('swordfish');
      expect((await here.outputs())['password']).toEqual({ value: 'swordfish', secret: true });
      await writeFile(state, await runCli(here, 'stack', 'export', '--show-secrets'));
      // Logged in to both: what was sealed here is opened here.
      const { PULUMI_HOME = '' } = here.workspace.envVars;
      const out = await openStack('moved', wish, { ...files('after'), PULUMI_HOME });
      await runCli(out, 'stack', 'import', '--file', state);
      expect((await out.preview()).changeSummary).toEqual({ same: 3 });
      await out.up();
      expect((await out.outputs())['password']).toEqual({ value: 'swordfish', secret: true });
      await out.destroy();
    },
    BOUND_MS,
  );
});

describe('an engine that is killed in the middle of its creates', () => {
  it(
    'has told of each before it began: what is at the cloud is in the state or pending, and the next update makes nothing twice',
    async () => {
      const killed = { folder, url: api.url, key, clouds, name: 'killed', creates: 60, killAt: 20, kill: killEngines };
      const report = await runKilledCreates(killed);
      expect(report.problems).toEqual([]);
      expect(report).toMatchObject({ isDone: false });
      expect(report.known).toBeGreaterThan(5);
      expect(report.pending).toBeGreaterThan(0);
    },
    BOUND_MS,
  );
});

describe('a CLI that is killed in the middle of an update of a stack of ours', () => {
  it(
    'leaves it with its lease: then the next operation looks up what was begun, and nothing is doubled or left',
    async () => {
      const lab = await openCloudCrashLab(api.databaseUrl, { envelope: api.deps.envelope });
      onTestFinished(() => lab.close());
      const wish = { name: 'shared', kind: 'snapshots', config: buckets('a'), costCentre: 'x' };
      const { id } = (await api.call('POST', '/api/v1/stacks', { key, body: wish })).body;
      const name = `snapshots-${id.slice('stk_'.length)}`;
      await lab.runner.up(lab.request(name, 'snapshots', buckets('a')), QUIET_HOOKS, NEVER);
      const wanted = lab.request(name, 'snapshots', buckets('a', 'b', 'c'));
      const run = await loadProgram('snapshots');
      const program = async () => run(wanted.program?.args);
      const backend = ours();
      const cli = await openEngineStack({
        folder,
        name,
        project: 'muster',
        program,
        backend,
        cloudPorts: lab.clouds.ports,
      });
      const row = async () => (await api.call('GET', `/api/v1/stacks/${id}`, { key })).body;

      lab.clouds.fault({ kind: 'slow', operation: 'create', delayMs: 150 });
      await expect(cli.up({ parallel: 3, onEvent: killAfter(6) })).rejects.toThrow();
      lab.clouds.clearFaults();
      lab.clouds.finish();
      await expect(lab.runner.up(wanted, QUIET_HOOKS, NEVER)).rejects.toThrow(/held by an update of key_/);
      expect((await lab.runner.readState(name))?.pendingCreates.length).toBeGreaterThan(0);
      await endLeases();
      const whole = await lab.runner.up(wanted, QUIET_HOOKS, NEVER);
      expect(whole.error).toBeNull();
      expect(compare(lab.clouds, whole)).toEqual([]);
      expect(listDoubled(lab.clouds.resources())).toEqual([]);
      expect((await row()).resourceCount).toBe(whole.state?.resources.length);

      lab.clouds.fault({ kind: 'slow', operation: 'delete', delayMs: 150 });
      await expect(cli.destroy({ parallel: 3, onEvent: killAfter(4) })).rejects.toThrow();
      lab.clouds.clearFaults();
      lab.clouds.finish();
      await expect(lab.runner.destroy(wanted, QUIET_HOOKS, NEVER)).rejects.toThrow(/held by a destroy of key_/);
      await endLeases();
      expect(await lab.runner.destroy(wanted, QUIET_HOOKS, NEVER)).toMatchObject({
        error: null,
        state: { resources: [] },
      });
      expect(lab.clouds.resources()).toEqual([]);
      expect((await row()).resourceCount).toBe(0);
    },
    BOUND_MS,
  );

  const buckets = (...names: string[]) => ({
    buckets: names.map((name) => ({ name, region: 'eu-west-1', user: true })),
  });

  /** When so many resources have been made or deleted. */
  function killAfter(count: number) {
    let done = 0;
    return ({ resOutputsEvent }: { resOutputsEvent?: { metadata: { op: string } } }) => {
      if (resOutputsEvent && resOutputsEvent.metadata.op !== 'same' && ++done === count) killEngines();
    };
  }

  /** Five minutes without a word of the CLI's. */
  async function endLeases(): Promise<void> {
    await api.database.pool.query("update state_updates set lease_expires_at = now() where status = 'running'");
  }
});

describe('recorded journals', () => {
  it(
    "replayed by the engine's own replayer give the states that we keep",
    async ({ skip }) => {
      const go = await startGoReplayer();
      if (go === null) return skip('the replayer of the engine cannot be built here');
      const wish: Wish = { subnets: 3 };
      const stack = await openStack('recorded', wish);
      await stack.up();
      wish.subnets = 1;
      wish.tag = 'changed';
      await stack.up();
      await stack.refresh();
      await stack.destroy();
      const { kysely, pool } = api.database;
      const { rows } = await pool.query<{ id: string; base_version: number; version: number; stack_uuid: string }>(
        `select u.id, base_version, u.version, stack_uuid from state_updates u join state_stacks s on s.uuid = stack_uuid
         where s.name = 'recorded' and kind <> 'preview' and not is_dry_run order by u.version`,
      );
      expect(rows).toHaveLength(4);
      for (const { id, base_version: base, version, stack_uuid: uuid } of rows) {
        const entries = await readJournal(kysely, id);
        expect(entries.length).toBeGreaterThan(0);
        const versions = await pool.query<{ version: number; deployment: string }>(
          'select version, deployment from state_versions where stack_uuid = $1 and version in ($2, $3)',
          [uuid, base, version],
        );
        const at = (number: number) => {
          const found = versions.rows.find((row) => row.version === number);
          return found ? (JSON.parse(found.deployment) as VersionedDeployment) : { version: 3, deployment: {} };
        };
        const theirs = await go.replay(at(base).deployment, entries);
        expect(theirs).not.toHaveProperty('error');
        expect(comparable(at(version))).toEqual(comparable(theirs as VersionedDeployment));
      }
      go.close();
    },
    BUILD_MS,
  );
});
