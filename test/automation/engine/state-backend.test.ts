import { spawn } from 'node:child_process';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chooseStateBackend, type StateBackend } from '../../../automation/engine/state-backend.ts';

const STACK = 'instance-op-test';
const TYPE = 'pulumi-nodejs:dynamic/vastai:VastaiInstance';

let dir: string;
let backend: StateBackend;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'state-backend-'));
  backend = await chooseStateBackend(null, dir);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

describe('a stack', () => {
  it('is not there before it is prepared, is empty then, and is prepared again without harm', async () => {
    expect(await backend.readState(STACK)).toBeNull();
    await backend.prepareStack(STACK);
    expect(await backend.readState(STACK)).toEqual({ resources: [], pendingCreates: [] });
    writeCheckpoint({ resources: [machine('att_a', { id: '1' })] });
    await backend.prepareStack(STACK);
    expect((await backend.readState(STACK))?.resources).toHaveLength(1);
  });

  it('shows our resources and pending creates, not the stack itself, providers or other pending operations', async () => {
    writeCheckpoint({
      resources: [
        { urn: urn('stack', 'pulumi:pulumi:Stack'), type: 'pulumi:pulumi:Stack', custom: false },
        {
          urn: urn('p', 'pulumi:providers:pulumi-nodejs'),
          type: 'pulumi:providers:pulumi-nodejs',
          custom: true,
          id: 'x',
        },
        machine('att_a', { id: '1', outputs: { machineId: 'm1' }, initErrors: ['no key'] }),
      ],
      pending_operations: [
        { resource: machine('att_b', {}), type: 'creating' },
        { resource: machine('att_c', { id: '3' }), type: 'deleting' },
        {
          resource: { urn: urn('c', 'muster:eks:GpuCluster'), type: 'muster:eks:GpuCluster', custom: false },
          type: 'creating',
        },
      ],
    });
    expect(await backend.readState(STACK)).toEqual({
      resources: [
        {
          urn: urn('att_a', TYPE),
          name: 'att_a',
          type: TYPE,
          id: '1',
          parent: null,
          provider: null,
          isProtected: false,
          inputs: { label: 'label-att_a' },
          outputs: { machineId: 'm1' },
          initErrors: ['no key'],
        },
      ],
      pendingCreates: [expect.objectContaining({ name: 'att_b', id: null })],
    });
  });

  it('with resources is not removed; an empty one is, with all that the engine keeps beside it', async () => {
    writeCheckpoint({ resources: [machine('att_a', { id: '1' })] });
    await expect(backend.removeStack(STACK)).rejects.toThrow(/still has 1 resources/);
    writeCheckpoint({ resources: [] });
    writeFileSync(stackFile('.json.attrs'), '{}');
    for (const part of ['history', 'backups']) mkdirSync(join(root(), part, 'muster', STACK), { recursive: true });
    await backend.prepareStack(`${STACK}-neighbour`);
    await backend.removeStack(STACK);
    await backend.removeStack(STACK);
    expect(await backend.readState(STACK)).toBeNull();
    expect(readdirSync(join(root(), 'stacks', 'muster'))).toEqual([`${STACK}-neighbour.json`]);
    expect(readdirSync(join(root(), 'history', 'muster'))).toEqual([]);
  });
});

describe('a checkpoint that a power cut tore', () => {
  it.each(['', '{"version": 3, "checkp'])('(%j) is read and restored from the backup of the engine', async (torn) => {
    writeCheckpoint({ resources: [machine('att_a', { id: '1' })] });
    copyFileSync(stackFile('.json'), stackFile('.json.bak'));
    writeFileSync(stackFile('.json'), torn);
    expect((await backend.readState(STACK))?.resources).toMatchObject([{ id: '1' }]);
    await backend.prepareStack(STACK);
    expect(readFileSync(stackFile('.json'), 'utf8')).toBe(readFileSync(stackFile('.json.bak'), 'utf8'));
  });

  it('does not hinder the next update by files that were cut off empty', async () => {
    writeCheckpoint({ resources: [] });
    writeFileSync(stackFile('.json.attrs'), '');
    writeFileSync(stackFile('.json.123.tmp'), '{"vers');
    await backend.prepareStack(STACK);
    expect(readdirSync(join(root(), 'stacks', 'muster'))).toEqual([`${STACK}.json`]);
  });
});

describe('pending creates', () => {
  beforeEach(() => {
    writeCheckpoint({
      resources: [machine('att_a', { id: '1' })],
      pending_operations: [
        { resource: machine('att_b', {}), type: 'creating' },
        { resource: machine('att_c', {}), type: 'creating' },
      ],
    });
  });

  it('that made something become resources which the next update makes whole; the others are dropped', async () => {
    await backend.resolvePendingCreates(STACK, { [urn('att_b', TYPE)]: { id: '77' } });
    const state = await backend.readState(STACK);
    expect(state?.pendingCreates).toEqual([]);
    expect(state?.resources.map(({ name, id }) => [name, id])).toEqual([
      ['att_a', '1'],
      ['att_b', '77'],
    ]);
    expect(state?.resources[1]).toMatchObject({ outputs: { label: 'label-att_b' } });
    expect(state?.resources[1]?.initErrors).not.toEqual([]);
  });

  it('are resolved once: again, or where there are none, nothing changes', async () => {
    await backend.resolvePendingCreates(STACK, { [urn('att_b', TYPE)]: { id: '77' } });
    const before = readFileSync(stackFile('.json'), 'utf8');
    await backend.resolvePendingCreates(STACK, { [urn('att_b', TYPE)]: { id: '77' } });
    expect(readFileSync(stackFile('.json'), 'utf8')).toBe(before);
  });

  it('whose resource is in the state already do not double it', async () => {
    writeCheckpoint({
      resources: [machine('att_b', { id: '77' })],
      pending_operations: [{ resource: machine('att_b', {}), type: 'creating' }],
    });
    await backend.resolvePendingCreates(STACK, { [urn('att_b', TYPE)]: { id: '77' } });
    expect((await backend.readState(STACK))?.resources).toHaveLength(1);
  });
});

describe('a look beside a stack', () => {
  const provider = {
    urn: urn('p', 'pulumi:providers:kubernetes'),
    type: 'pulumi:providers:kubernetes',
    custom: true,
    id: 'x',
  };

  it('holds its candidates with their provider and nothing by which they hang together, and leaves no trace', async () => {
    const inputs = { kubeconfig: { sealed: 'text' }, deleteUnreachable: 'true' };
    const pending = { ...machine('att_b', {}), provider: `${provider.urn}::x`, parent: urn('c', 'muster:Component') };
    writeCheckpoint({
      resources: [machine('att_a', { id: '1' }), { ...provider, inputs, parent: urn('s', 'pulumi:pulumi:Stack') }],
      pending_operations: [{ resource: pending, type: 'creating' }],
    });
    const before = readFileSync(stackFile('.json'), 'utf8');
    const beside = await backend.openLookUp(STACK, [
      { urn: pending.urn, id: '77' },
      { urn: pending.urn, id: '78' },
    ]);
    const { resources = [] } = (await backend.readState(beside)) ?? {};
    expect(resources.map(({ name, id, parent }) => [name, id, parent])).toEqual([
      ['att_b~0', '77', null],
      ['att_b~1', '78', null],
    ]);
    // What cannot be reached must not pass for gone.
    expect(await backend.readProvider(beside, `${provider.urn}::x`)).toEqual({ kubeconfig: { sealed: 'text' } });
    expect(await backend.readProvider(STACK, `${provider.urn}::x`)).toEqual(inputs);
    expect(await backend.readProvider(STACK, `${provider.urn}::y`)).toBeNull();
    await backend.closeLookUp(STACK);
    expect(await backend.readState(beside)).toBeNull();
    expect(readFileSync(stackFile('.json'), 'utf8')).toBe(before);
  });
});

describe('what is found of a pending create', () => {
  it('has the outputs that were read; what is of no use waits for its deletion instead', async () => {
    writeCheckpoint({
      resources: [],
      pending_operations: [
        { resource: machine('att_a', {}), type: 'creating' },
        { resource: machine('att_b', {}), type: 'creating' },
      ],
    });
    await backend.resolvePendingCreates(STACK, {
      [urn('att_a', TYPE)]: { id: '1', outputs: { arn: 'a' } },
      [urn('att_b', TYPE)]: { id: '2', outputs: {}, isUseless: true },
    });
    const { resources } = readCheckpoint();
    expect(resources[0]).toMatchObject({ id: '1', outputs: { arn: 'a' }, initErrors: [expect.any(String)] });
    expect(resources[1]).toMatchObject({ id: '2', delete: true });
    expect(resources[1]).not.toHaveProperty('initErrors');
  });
});

describe('a pending create that replaces', () => {
  const adopt = async (old: object) => {
    writeCheckpoint({
      resources: [{ ...machine('att_a', { id: '1' }), ...old }, machine('att_b', { id: '2' })],
      pending_operations: [{ resource: machine('att_a', {}), type: 'creating' }],
    });
    const before = await backend.readState(STACK);
    await backend.resolvePendingCreates(STACK, { [urn('att_a', TYPE)]: { id: '1b' } });
    const after = readCheckpoint().resources.map(({ id, delete: isOld }) => [id, isOld ?? false]);
    return { known: before?.resources.map(({ id }) => id), after };
  };

  it('comes before the old one, which then waits for its deletion', async () => {
    const { known, after } = await adopt({});
    expect(known).toEqual(['1', '2']);
    expect(after).toEqual([
      ['1b', false],
      ['1', true],
      ['2', false],
    ]);
  });

  it('takes the place of one that was deleted first, which is nowhere any more', async () => {
    const { known, after } = await adopt({ pendingReplacement: true });
    expect(known).toEqual(['2']);
    expect(after).toEqual([
      ['1b', false],
      ['2', false],
    ]);
  });
});

describe('a stack without protection', () => {
  it('has neither protected resources nor ones that the engine would forget instead of deleting', async () => {
    const kept = { protect: true, retainOnDelete: true };
    writeCheckpoint({ resources: [{ ...machine('att_a', { id: '1' }), ...kept }, machine('att_b', { id: '2' })] });
    await backend.unprotect(STACK);
    for (const resource of readCheckpoint().resources) {
      expect(resource).not.toHaveProperty('protect');
      expect(resource).not.toHaveProperty('retainOnDelete');
    }
  });
});

describe('locks', () => {
  it('that dead updates left are broken, whatever is in them; those of other stacks stay', async () => {
    writeLock(STACK, 'dead.json', JSON.stringify({ pid: 2 ** 22 + 1, hostname: hostname() }));
    writeLock(STACK, 'elsewhere.json', JSON.stringify({ pid: 1, hostname: 'another-host' }));
    writeLock(STACK, 'torn.json', '{"pid": 12');
    writeLock(STACK, 'empty.json', '');
    writeLock('other', 'theirs.json', JSON.stringify({ pid: process.pid, hostname: hostname() }));
    await backend.breakLocks(STACK);
    expect(readdirSync(lockFolder(STACK))).toEqual([]);
    expect(readdirSync(lockFolder('other'))).toEqual(['theirs.json']);
    await backend.breakLocks('never-locked');
  });

  it('of a living engine are broken by ending that engine, and of any other process without touching it', async () => {
    const engine = join(dir, 'pulumi');
    symlinkSync(process.execPath, engine);
    const wait = ['-e', 'process.stdout.write("up"); setInterval(() => {}, 1000)'];
    const children = [spawn(engine, wait), spawn(process.execPath, wait)] as const;
    await Promise.all(children.map((child) => new Promise((resolve) => child.stdout.once('data', resolve))));
    const [updating, bystander] = children;
    const ended = new Promise((resolve) => updating.once('exit', (_code, signal) => resolve(signal)));
    for (const child of children) {
      writeLock(STACK, `${child.pid}.json`, JSON.stringify({ pid: child.pid, hostname: hostname() }));
    }
    await backend.breakLocks(STACK);
    expect(await ended).toBe('SIGKILL');
    expect(bystander.exitCode ?? bystander.signalCode).toBeNull();
    expect(readdirSync(lockFolder(STACK))).toEqual([]);
    bystander.kill('SIGKILL');
  });
});

describe('the choice of a backend', () => {
  it('takes a file URL and refuses others by naming the variable', async () => {
    const url = pathToFileURL(join(dir, 'elsewhere')).href;
    expect((await chooseStateBackend(url, dir)).url).toBe(url);
    await expect(chooseStateBackend('s3://bucket', dir)).rejects.toThrow(/MUSTER_PULUMI_BACKEND_URL.*s3:\/\/bucket/);
  });
});

function machine(name: string, more: Record<string, unknown>) {
  return { urn: urn(name, TYPE), type: TYPE, custom: true, inputs: { label: `label-${name}` }, ...more };
}

function urn(name: string, type: string): string {
  return `urn:pulumi:${STACK}::muster::${type}::${name}`;
}

function root(): string {
  return join(dir, 'engine', 'state', '.pulumi');
}

function stackFile(ending: string): string {
  return join(root(), 'stacks', 'muster', `${STACK}${ending}`);
}

function writeCheckpoint(latest: Record<string, unknown>): void {
  const checkpoint = { stack: `organization/muster/${STACK}`, latest };
  writeFileSync(stackFile('.json'), JSON.stringify({ version: 3, checkpoint }));
}

function lockFolder(stack: string): string {
  return join(root(), 'locks', 'organization', 'muster', stack);
}

function writeLock(stack: string, file: string, text: string): void {
  mkdirSync(lockFolder(stack), { recursive: true });
  writeFileSync(join(lockFolder(stack), file), text);
}

function readCheckpoint(): { resources: Record<string, unknown>[] } {
  const file = JSON.parse(readFileSync(stackFile('.json'), 'utf8')) as { checkpoint: { latest: never } };
  return file.checkpoint.latest;
}
